"""How commands end when something outside of them goes wrong: one line and the usual exit status, no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Charlm

CHARLM = f"{sys.executable} -m charlm"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=folder)


def test_output_whose_reader_has_gone(tiny_run: Path, tmp_path: Path) -> None:
    for command in (f"samples {tiny_run}", f"evaluate {tiny_run}", f"report {tiny_run} --output -"):
        done = shell(f"{CHARLM} {command} 2>errors | sleep 0; echo ${{PIPESTATUS[0]}}", tmp_path)
        assert done.stdout == "141\n", command
        errors = (tmp_path / "errors").read_text()
        assert "Traceback" not in errors and "ignored" not in errors  # noqa: PT018


def test_training_whose_progress_nobody_reads_any_more(text: Path, tmp_path: Path) -> None:
    line = f"{CHARLM} train {text} --run run {' '.join(SMALL)} 2>&1 | sleep 0; echo ${{PIPESTATUS[0]}}"
    done = shell(line, tmp_path)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_closed_standard_output(tiny_run: Path, text: Path, tmp_path: Path) -> None:
    line = "charlm: standard output is closed; send it to a file, or to /dev/null\n"
    for command in (f"generate {tiny_run}", "cells", "--help"):
        done = shell(f"{CHARLM} {command} >&-", tmp_path)
        assert (done.returncode, done.stderr) == (2, line), command
    done = shell(f"{CHARLM} generate {tiny_run} --length 5 --seed 1 2>&- <&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = shell(f"{CHARLM} report {tiny_run} --output page.html >&-", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "page.html").read_text().startswith("<!")


def test_a_full_memory(tiny_run: Path, tmp_path: Path) -> None:
    for size in (60_000, 120_000, 300_000):
        done = shell(f"ulimit -v {size}; OPENBLAS_NUM_THREADS=1 {CHARLM} evaluate {tiny_run}", tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 2
        assert done.stderr.startswith("charlm: the memory is full; ")


SLOW = """
import time, signal, sys
from charlm.cli import main
from charlm.text.tokenization import tokenizer_kinds

def train(blocks, size, min_frequency, lowercase):  # as the compiled code: no signal is handled meanwhile
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    print("learning", file=sys.stderr, flush=True)
    time.sleep(60)

tokenizer_kinds["unigram"].train = train
main(["train", *sys.argv[1:]])
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_vocabulary_is_learned(text: Path, tmp_path: Path, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(text), "--tokenizer.kind", "unigram", "--run", str(tmp_path / "run")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "learning" not in process.stderr.readline():
        assert process.poll() is None
    began = time.monotonic()
    process.send_signal(number)
    rest = process.communicate()[1]
    assert process.returncode == status
    assert time.monotonic() - began < 30
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == ["text.txt"]


def test_ctrl_c_while_python_exits(tmp_path: Path) -> None:
    code = (
        "import atexit, os, signal, sys\nfrom charlm.cli import main\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "main(['presets'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_bias_that_no_weight_can_have(charlm: Charlm, text: Path) -> None:
    mistake = charlm("train", text, "--model.forget_bias", "1e39").mistake
    assert mistake == "--model.forget_bias must be at most 3.40282e+38, not 1e39"


def test_a_device_without_memory(charlm: Charlm, tiny_run: Path) -> None:
    for command in ("generate", "evaluate"):
        assert "there is no device 'meta' here" in charlm(command, tiny_run, "--device", "meta").mistake


@pytest.mark.parametrize(
    "arguments",
    [
        ["{long}"], ["generate", "{long}"], ["generate", "{run}", "--prompt", "{long}\u2028"],
        ["generate", "{run}", "--length", "{long}"], ["generate", "{run}", "--{long}"],
        ["train", "{text}", "--model.cell", "{long}"], ["train", "{long}/{long}"], ["train", "--config", "{long}"],
        ["evaluate", "{run}", "{text}", "--encoding", "{long}"], ["report", "{run}", "--output", "{long}/x"],
    ],
    ids=str,
)  # fmt: skip
def test_a_message_repeats_at_most_200_characters_of_a_value(
    charlm: Charlm, tiny_run: Path, text: Path, arguments: list[str]
) -> None:
    for long in ("x" * 3000, "wide word " * 300):
        places: dict[str, Any] = {"long": long, "run": tiny_run, "text": text}
        done = charlm(*(argument.format(**places) for argument in arguments))
        assert done.status == 2
        assert "Traceback" not in done.err
        assert long[:201] not in done.err
        assert len(done.err) < 900


def test_output_into_a_device(charlm: Charlm, tiny_run: Path) -> None:
    before = Path(os.devnull).stat()
    assert charlm("report", tiny_run, "--output", os.devnull).status == 0
    assert Path(os.devnull).stat().st_rdev == before.st_rdev


def test_damaged_lines_are_said_by_what_shows_them(charlm: Charlm, run: Path) -> None:
    for name in ("metrics.csv", "samples.jsonl"):
        with (run / name).open("a") as file:
            file.write("damage\n")
    said = [f"warning: left 1 damaged {what} of {run / name} out"
            for what, name in (("row", "metrics.csv"), ("line", "samples.jsonl"))]  # fmt: skip
    assert charlm("samples", run).err.splitlines() == said[1:]
    assert charlm("report", run).err.splitlines()[:2] == said
    resumed = charlm("train", "--resume", run, "--trainer.max_epochs", "3")
    assert resumed.status == 0
    assert set(said) <= set(resumed.err.splitlines())
    assert "damage" not in (run / "metrics.csv").read_text() + (run / "samples.jsonl").read_text()


@pytest.mark.parametrize("place", [["generate", "{run}", "*"], ["cells", "*"], ["samples", "{run}", "*"]])
def test_a_star_that_the_shell_left(charlm: Charlm, tiny_run: Path, place: list[str]) -> None:
    assert charlm(*(word.format(run=tiny_run) for word in place)).mistake


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "{run}", "--temperature"],
        ["generate", "{run}", "--ban"],
        ["train", "{text}", "--model.hidden"],
        ["cells", "--hidden"],
    ],
)
def test_a_number_with_bytes_that_are_not_utf_8(
    charlm: Charlm, tiny_run: Path, text: Path, arguments: list[str]
) -> None:
    named = [word.format(run=tiny_run, text=text) for word in arguments]
    assert f"{named[-1]} is '\\udc80', with bytes that are not UTF-8" in charlm(*named, "\udc80").mistake


def test_a_message_cannot_control_a_terminal(charlm: Charlm, tiny_run: Path) -> None:
    for arguments in (["samples", "\x1b]0;x\x07"], ["samples", tiny_run, "--\x1b[31m"], ["\x9b31m"]):
        mistake = charlm(*arguments).mistake
        assert not [character for character in mistake if ord(character) < 32 or 0x7F <= ord(character) < 0xA0]


def test_texts_side_by_side_cannot_control_a_terminal(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    definition = json.loads((run / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["\x1b"] = vocabulary.pop("e")
    (run / "tokenizer.json").write_text(json.dumps(definition))
    (run / "checksums.json").unlink()
    for options, harmless in ((["--samples", "2"], "␛"), (["--json"], "u001b")):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "charlm", "generate", str(run), "--seed", "1", "--length", "200", *options]
        subprocess.run(command, stdout=slave, check=True)
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is closed
            while data := os.read(master, 1 << 16):
                shown += data
        os.close(master)
        assert "\x1b" not in shown.decode()
        assert harmless in shown.decode()
