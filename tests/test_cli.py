"""Every command as a person types it: what it prints where, and the one line that a mistake earns."""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from charlm.cli import main
from charlm.network.cells import cells
from charlm.run import Run
from conftest import small_text

SMALL = (
    "--data.batch_size 4 --data.seq_length 16 --model.layers 1 --model.hidden 8 --model.embedding 4 "
    "--trainer.max_steps 3 --trainer.accelerator cpu --trainer.precision 32 --samples.length 10 "
    "--samples.scored 0 --inspect.images false"
).split()


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line of a mistake; whatever stands before it is progress."""
        *progress, last = self.err.splitlines()
        assert self.status == 2, self.err
        assert last.startswith("charlm: ")
        assert not any(line.startswith("charlm: ") or "Traceback" in line for line in progress), self.err
        assert re.search("[;,:?] .|[(]", last.removeprefix("charlm: ")), "it says what to do"
        assert self.out == ""
        return last.removeprefix("charlm: ")


Charlm = Callable[..., Done]


@pytest.fixture
def charlm(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Charlm]:
    """Runs a command in this process, in an empty directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.delenv("CHARLM_RUN", raising=False)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(small_text(600), encoding="utf-8")
    return path


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def mistaken_training(charlm: Charlm, *arguments: object) -> str:
    """The line of a mistake, after which the directory holds what it held before."""
    before = sorted(Path.cwd().rglob("*"))
    mistake = charlm("train", *arguments, "--run", "made").mistake
    assert sorted(Path.cwd().rglob("*")) == before
    return mistake


# -- texts that cannot be learnt


def test_a_missing_file(charlm: Charlm, text: Path) -> None:
    assert mistaken_training(charlm, "text.tx") == (
        "there is no file text.tx; did you mean 'text.txt'?; check the path"
    )
    assert "no file fits 'a*.txt'" in mistaken_training(charlm, "a*.txt")
    assert "there is no file other.txt" in mistaken_training(charlm, text, "--data.val", "other.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file(charlm: Charlm, text: Path) -> None:
    text.chmod(0)
    assert "cannot read" in mistaken_training(charlm, text)


def test_a_folder_without_text(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert (
        mistaken_training(charlm, "folder") == "the folder folder has no file *.txt; name the files with --data.pattern"
    )


def test_a_file_that_is_not_utf8(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    assert mistaken_training(charlm, "latin.txt") == (
        "latin.txt is not utf-8: the byte at offset 3 cannot be decoded; "
        "name its encoding with --data.encoding (latin-1, cp1252, utf-16, ...)"
    )
    assert "no encoding 'latin-x'" in mistaken_training(charlm, "latin.txt", "--data.encoding", "latin-x")
    assert charlm("train", "latin.txt", "--data.encoding", "latin-1", *SMALL, "--run", "run").status == 0
    assert "é" in Run("run").tokenizer.tokens


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "the text is empty"),
        ("a", [], "too short to be split: nothing is left to train on"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaa", [], "fewer than two different tokens; give a longer text"),
        ("ab", ["--data.val_fraction", "0.5"], "fewer than two different tokens"),
        ("ab" * 10, ["--data.val_fraction", "0.05"], "the validation text has 1 tokens.*--data.val_fraction"),
        ("ab" * 10, ["--data.test_fraction", "0.05"], "the test text has 1 tokens.*--data.test_fraction"),
        ("ab" * 10, ["--data.val_fraction", "0.99"], "nothing is left to train on|too short|fewer than two"),
    ],
)
def test_a_text_that_is_too_short(
    charlm: Charlm, tmp_path: Path, content: str, options: list[str], message: str
) -> None:
    (tmp_path / "short.txt").write_text(content, encoding="utf-8")
    assert re.search(message, mistaken_training(charlm, "short.txt", *options))


def test_windows_are_lowered_to_a_short_text(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("abcdefgh" * 5, encoding="utf-8")
    done = charlm("train", "short.txt", "--run", "run", "--trainer.max_steps", "2", "--samples.length", "5")
    assert done.status == 0
    assert re.search(r"the training text has only 36 tokens: lowered --data\.batch_size \d+ to", done.err)


# -- settings that cannot be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--modle.hidden 5", "there is no option --modle.hidden; did you mean '--model.hidden'?"),
        ("--hidden 5", "there is no option --hidden; did you mean --model.hidden?"),
        ("--rnn_size 5", "there is no option --rnn_size; did you mean --model.hidden?"),
        ("--rnn-size=5", "there is no option --rnn-size; did you mean --model.hidden?"),
        ("--learning_rate 5", "there is no option --learning_rate; did you mean --optimizer.lr?"),
        ("--model.cell lsmt", "there is no cell 'lsmt'; choose from "),
        ("--tokenizer.kind chr", "did you mean 'char'?"),
        ("--optimizer.name adamm", "did you mean 'adam'?"),
        ("--optimizer.schedule cosin", "did you mean 'cosine'?"),
        ("--data.unit lines", "did you mean 'line'?"),
        ("--model.hidden 0", "--model.hidden must be at least 1, not 0"),
        ("--model.hidden many", "--model.hidden must be a whole number, not 'many'"),
        ("--model.hidden", "argument --model.hidden: expected one argument; see charlm train --help"),
        ("--model.dropout 1", "--model.dropout must be below 1, not 1.0"),
        ("--model.tie yes", "--model.tie must be true or false, not 'yes'"),
        ("--seed -1", "--seed must be at least 0, not -1"),
        ("--seed 1e30", "--seed must be below"),
        ("--optimizer.lr inf", "--optimizer.lr must be a number, not 'inf'"),
        ("--trainer.max_time soon", "--trainer.max_time is not a time: 'soon'; write 90s"),
        ("--trainer.devices 3", "--data.batch_size 4 cannot be shared by 3 devices; take a multiple of it"),
        ("--trainer.devices none", "this machine cannot train so"),
        ("--trainer.strategy dp2", "this machine cannot train so"),
        ("--trainer.accelerator abacus", "this machine cannot train so"),
        ("--trainer.precision 17", "this machine cannot train so"),
        ("--samples.prompts 日本", "--samples.prompts has '日', '本', which the training text never has"),
        ("--init_from nowhere", "there is no run at nowhere"),
        ("--config nowhere.yaml", "cannot read nowhere.yaml: No such file or directory; check the path"),
    ],
)
def test_a_setting_that_cannot_be(charlm: Charlm, text: Path, arguments: str, message: str) -> None:
    devices = [] if "devices" not in arguments else ["--trainer.strategy", "ddp"]
    assert message in mistaken_training(charlm, text, *SMALL, *devices, *arguments.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {hiden: 5}", "there is no setting 'model.hiden'; did you mean 'hidden'?"),
        ("modle: {hidden: 5}", "there is no setting 'modle'; did you mean 'model'?"),
        ("model: {hidden: 0}", "--model.hidden must be at least 1, not 0"),
        ("model: {hidden: [1]}", "--model.hidden must be a whole number, not [1]"),
        ("model: {hidden: 2020-12-12}", "--model.hidden must be a whole number, not datetime.date"),
        ("model: 5", "model must be a group of settings, not 5"),
        ("- 5", "must hold settings such as `model: {hidden: 256}`"),
        ("model: {hidden: 5", "is not valid YAML"),
        ("!!python/object/apply:os.mkdir [made]", "is not valid YAML"),
        ("seed: 2020-13-13", "is not valid YAML: month must be in 1..12"),
        ("a: \x00", "is not valid YAML"),
        (b"\xff", "is not UTF-8 (byte 0); save it as UTF-8"),
    ],
)
def test_a_config_by_hand_with_a_mistake(
    charlm: Charlm, text: Path, tmp_path: Path, content: str | bytes, message: str
) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "mine.yaml").write_bytes(data)
    mistake = mistaken_training(charlm, text, "--config", "mine.yaml")
    assert mistake.startswith("mine.yaml")
    assert message in mistake


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CHARLM_MODEL__HIDEN", "5", "CHARLM_MODEL__HIDEN is no setting; did you mean 'CHARLM_MODEL__HIDDEN'?"),
        ("CHARLM_SED", "5", "CHARLM_SED is no setting; did you mean 'CHARLM_SEED'?"),
        ("CHARLM_MODEL__HIDDEN", "0", "environment: --model.hidden must be at least 1, not 0"),
    ],
)
def test_a_mistake_in_the_environment(
    charlm: Charlm, text: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert message in mistaken_training(charlm, text)


def test_an_unknown_command(charlm: Charlm) -> None:
    assert charlm("trian").mistake == (
        "there is no command 'trian'; choose from train, generate, evaluate, samples, cells, report; "
        "did you mean 'train'?"
    )


def test_a_prompt_that_swallowed_the_text(charlm: Charlm, text: Path) -> None:
    assert mistaken_training(charlm, "--samples.prompts", "The", text) == (
        f"--samples.prompts took {text} for a prompt; name the text before the options"
    )


# -- runs that cannot be used


def test_a_run_that_exists_is_never_overwritten(charlm: Charlm, text: Path, run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    mistake = charlm("train", text, "--run", run).mistake
    assert mistake == f"{run} exists already; choose another --run, or go on with --resume {run}"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_place_where_no_run_can_be(charlm: Charlm, text: Path) -> None:
    assert "cannot use" in charlm("train", text, *SMALL, "--run", text / "run").mistake


COMMANDS = (["generate"], ["evaluate"], ["samples"], ["report"], ["train", "--resume"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_no_run(charlm: Charlm, text: Path, tmp_path: Path, command: list[str]) -> None:
    assert charlm(*command, "nowhere").mistake == "there is no run at nowhere; `ls runs` shows what there is"
    assert "(it is a file)" in charlm(*command, text).mistake
    assert "is not a run: it has no config.yaml" in charlm(*command, tmp_path).mistake


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", ["model.json", "tokenizer.json"])
def test_a_half_written_run(charlm: Charlm, run: Path, command: list[str], name: str) -> None:
    (run / name).unlink()
    assert charlm(*command, run).mistake == (
        f"the run {run} is half-written: it has no {name}; delete it and train again"
    )


@pytest.mark.parametrize("command", [["generate"], ["evaluate"]], ids=" ".join)
def test_a_run_without_weights(charlm: Charlm, run: Path, command: list[str]) -> None:
    (run / "model.safetensors").unlink()
    assert charlm(*command, run).mistake == (
        f"the run {run} has no weights yet (model.safetensors); go on with charlm train --resume {run}"
    )


GARBAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "noise": lambda data: bytes(range(256)) * 4,
    "another": lambda data: b'["something", "else"]',
}


@pytest.mark.parametrize("damage", GARBAGE)
@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("config.yaml", [["train", "--resume"]]),
        ("model.json", [["generate"], ["evaluate"], ["train", "--resume"]]),
        ("tokenizer.json", [["generate"], ["train", "--resume"]]),
        ("model.safetensors", [["generate"], ["evaluate"], ["train", "SMALL", "--init_from"]]),
        ("checkpoints/last.ckpt", [["train", "--resume"]]),
        ("tokens/train.npy", [["train", "--trainer.max_epochs", "3", "--resume"]]),
        ("tokens/val.npy", [["evaluate"]]),
        ("tokens/streams.json", [["evaluate"], ["train", "--trainer.max_epochs", "3", "--resume"]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_is_named(
    charlm: Charlm, run: Path, text: Path, name: str, commands: list[list[str]], damage: str
) -> None:
    path = run / name
    data = GARBAGE[damage](path.read_bytes())
    path.unlink()  # tokens are links into the cache
    path.write_bytes(data)
    if name == "config.yaml" and damage == "truncated":
        data = data[: data.index(b"hidden:") + 4]
        path.write_bytes(data)
    for command in commands:
        spelled = [str(text) if part == "SMALL" else part for part in command]
        mistake = charlm(*spelled, run).mistake
        assert re.search("damaged|missing|must be|must hold|there is no setting", mistake)
        assert path.name in mistake or name.startswith("tokens")


def test_weights_of_another_network(charlm: Charlm, run: Path) -> None:
    shape = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(shape | {"hidden": shape["hidden"] + 1}))
    for command in (["generate", run], ["evaluate", run]):
        assert f"the weights of {run} do not fit its model.json" in charlm(*command).mistake


class Trap:
    """What a pickle of it does when it is read carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_a_checkpoint_is_read_without_running_what_it_holds(charlm: Charlm, run: Path) -> None:
    torch.save({"state_dict": {}, "global_step": Trap(), "language": {}}, run / "checkpoints" / "last.ckpt")
    mistake = charlm("train", "--resume", run).mistake
    assert "last.ckpt is damaged" in mistake
    (run / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(Trap()))
    assert "last.ckpt is damaged" in charlm("train", "--resume", run).mistake
    assert not Path("sprung").exists()


def test_last_lines_cut_off_by_a_kill_are_left_out(charlm: Charlm, run: Path) -> None:
    whole = charlm("samples", run).out
    with (run / "samples.jsonl").open("ab") as file:
        file.write('{"epoch": 3, "text": "海'.encode()[:-1])
    with (run / "metrics.csv").open("ab") as file:
        file.write(b"99,3.0,1.")
    assert charlm("samples", run).out == whole
    assert charlm("train", "--resume", run, "--trainer.max_epochs", "3").status == 0
    assert [sample.epoch for sample in Run(run).samples if sample.epoch % 1 == 0] == [0, 1, 2, 3]
    assert "99,3.0" not in (run / "metrics.csv").read_text()


# -- going on


def test_resume_brings_its_own_settings(charlm: Charlm, run: Path, text: Path) -> None:
    for extra in (["--run", "other"], ["--config", "a.yaml"], [text]):
        assert charlm("train", "--resume", run, *extra).mistake.startswith("--resume goes on in the run's own")
    assert (
        "--model.hidden cannot change when a run goes on"
        in charlm("train", "--resume", run, "--model.hidden", "5").mistake
    )
    assert "--samples.prompts has 'ß'" in charlm("train", "--resume", run, "--samples.prompts", "ß").mistake


def test_a_change_that_cannot_be_is_not_kept(charlm: Charlm, run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    assert charlm("train", "--resume", run, "--trainer.max_epochs", "3", "--trainer.strategy", "dp2").mistake
    assert (run / "config.yaml").read_bytes() == before


def test_a_run_stopped_before_its_first_checkpoint_starts_anew(charlm: Charlm, run: Path, tiny_run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    assert "there is no checkpoint" in charlm("train", "--resume", run).mistake
    (run / "checkpoints").mkdir()
    for name in ("metrics.csv", "model.safetensors"):
        (run / name).unlink()
    done = charlm("train", "--resume", run)
    assert "it starts from the beginning" in done.err
    assert Run(run).samples == Run(tiny_run).samples
    assert (run / "model.safetensors").read_bytes() == (tiny_run / "model.safetensors").read_bytes()


# -- settings from several places


def test_the_order_of_precedence(charlm: Charlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("model: {hidden: 10, layers: 10, embedding: 10, dropout: 0.1}\nseed: 10\n")
    (tmp_path / "b.yaml").write_text("model: {layers: 20, embedding: 20, dropout: 0.2}")
    monkeypatch.setenv("CHARLM_MODEL__EMBEDDING", "30")
    monkeypatch.setenv("CHARLM_MODEL__DROPOUT", "0.3")
    options = ["--model.dropout", "0.4"]
    for arguments in (
        [*options, "--config", "a.yaml", "--config", "b.yaml"],
        ["--config", "a.yaml", *options, "--config", "b.yaml"],
        ["--config", "a.yaml", "--config", "b.yaml", *options],
    ):
        config = yaml.safe_load(charlm("train", *arguments, "--print_config").out)
        model = config["model"]
        assert (model["hidden"], model["layers"], model["embedding"], model["dropout"]) == (10, 20, 30, 0.4)
        assert (config["seed"], config["optimizer"]["name"]) == (10, "adamw")


def test_a_printed_config_is_a_config(charlm: Charlm, tmp_path: Path) -> None:
    texts = ["a.txt", "--data.encoding", "latin-1", "--samples.prompts", "yes", "5", "[x", "é\n", "--model.tie"]
    printed = charlm("train", *texts, "--print_config").out
    (tmp_path / "printed.yaml").write_text(printed, encoding="utf-8")
    assert charlm("train", "--config", "printed.yaml", "--print_config").out == printed
    assert yaml.safe_load(printed)["samples"]["prompts"] == ["yes", "5", "[x", "é\n"]


def test_the_config_of_a_run_repeats_it(charlm: Charlm, tiny_run: Path) -> None:
    assert charlm("train", "--config", tiny_run / "config.yaml", "--run", "again").out == "again\n"
    assert Run("again").config == Run(tiny_run).config
    assert Path("again/last.safetensors").read_bytes() == (tiny_run / "last.safetensors").read_bytes()


def test_switches_may_stand_before_other_words(charlm: Charlm, tiny_run: Path) -> None:
    for spelled in (["--json", tiny_run], [tiny_run, "--json", "true"], ["--json=true", tiny_run]):
        lines = charlm("samples", *spelled).out.splitlines()
        assert json.loads(lines[0])["step"] == 0
    assert "initialisation" in charlm("samples", "--json", "false", tiny_run).out


# -- what is printed where


def test_train_prints_the_path_of_the_run_and_no_more(charlm: Charlm, text: Path) -> None:
    done = charlm("train", text, *SMALL)
    assert (done.status, done.out) == (0, "runs/text\n")
    assert "done; generate with: charlm generate runs/text" in done.err
    assert charlm("train", text, *SMALL).out == "runs/text-2\n"
    assert sorted(path.name for path in Path("runs").iterdir()) == ["text", "text-2"]


def test_standard_input_is_a_text(charlm: Charlm, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.read_bytes())))
    assert charlm("train", "-", *SMALL, "--run", "piped").out == "piped\n"
    assert charlm("train", text, *SMALL, "--run", "named").status == 0
    assert Path("piped/last.safetensors").read_bytes() == Path("named/last.safetensors").read_bytes()


def test_generate_prints_the_prompt_and_the_text(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    done = charlm("generate", tiny_run, "--prompt", "The ", "--length", "50", "--seed", "3")
    expected = Run(tiny_run).generate("The ", length=50, seed=3)
    assert (done.status, done.out, done.err) == (0, f"The {expected}\n", "")
    (tmp_path / "prompt.txt").write_text("The ")
    same = charlm("generate", tiny_run, "--prompt_file", "prompt.txt", "--length", "50", "--seed", "3")
    assert same.out == done.out
    stopped = charlm(
        "generate", tiny_run, "--prompt", "The ", "--length", "50", "--seed", "3", "--stop", expected[9:12]
    )
    assert stopped.out == f"The {expected[: expected.index(expected[9:12])]}\n"


def test_a_seed_that_was_not_named_is_told(charlm: Charlm, tiny_run: Path) -> None:
    done = charlm("generate", tiny_run, "--length", "40")
    told = re.fullmatch(r"charlm: --seed (\d+) writes this again\n", done.err)
    assert told
    assert charlm("generate", tiny_run, "--length", "40", "--seed", told[1]).out == done.out


def test_several_texts(charlm: Charlm, tiny_run: Path) -> None:
    options = [tiny_run, "--samples", "3", "--length", "20", "--seed", "5"]
    plain = charlm("generate", *options).out
    rows = [json.loads(line) for line in charlm("generate", *options, "--json").out.splitlines()]
    assert [row["sample"] for row in rows] == [0, 1, 2]
    assert {(row["seed"], row["prompt"]) for row in rows} == {(5, "")}
    assert plain == "".join(f"--- {number}\n{row['text']}\n" for number, row in enumerate(rows, 1))
    assert rows[0]["text"] == Run(tiny_run).generate(length=20, seed=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "Ünder"], "the prompt has 'Ü', which the vocabulary of the model lacks; write"),
        (["--stop", ""], "a stop string must not be empty"),
        (["--temperature", "-1"], "--temperature must be at least 0, not -1.0"),
        (["--temperature", "warm"], "--temperature must be a number, not 'warm'"),
        (["--top_p", "1.5"], "--top_p must be at most 1, not 1.5"),
        (["--top_k", "0.5"], "--top_k must be a whole number, not '0.5'"),
        (["--min_p", "nan"], "--min_p must be a number, not 'nan'"),
        (["--length", "0"], "--length must be at least 1, not 0"),
        (["--samples", "0"], "--samples must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--prompt", "The", "--prompt_file", "x"], "--prompt and --prompt_file exclude each other"),
        (["--prompt_file", "x"], "cannot read x: No such file or directory; check the path"),
        (["--checkpoint", "newest"], "--checkpoint must be one of best, last, not 'newest'"),
        (["--device", "abacus"], "there is no device 'abacus' here"),
        (["--temprature", "1"], "there is no option --temprature; did you mean '--temperature'?"),
        (["--primetext", "The"], "there is no option --primetext; did you mean --prompt?"),
    ],
)
def test_what_cannot_be_generated(charlm: Charlm, tiny_run: Path, arguments: list[str], message: str) -> None:
    assert message in charlm("generate", tiny_run, *arguments).mistake


def test_generate_writes_as_it_goes(tiny_run: Path) -> None:
    """The reader of a pipe may leave; that is not an accident."""
    command = [sys.executable, "-m", "charlm", "generate", str(tiny_run), "--length", "1000000000", "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(1000)) == 1000
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# -- evaluate and samples


def test_evaluate_of_a_file_reads_it_to_its_last_token(charlm: Charlm, tiny_run: Path, text: Path) -> None:
    row = json.loads(charlm("evaluate", tiny_run, text, "--json").out)
    content = text.read_text()
    assert (row["tokens"], row["characters"], row["bytes"]) == (len(content) - 1,) * 3
    assert row["words"] == len(content[1:].split()) + content.count("\n")
    assert (row["unknown_tokens"], row["lanes"], row["exact"]) == (0, 1, True)
    nats = row["nats_per_token"]
    for unit in ("token", "character", "byte"):
        assert row[f"bits_per_{unit}"] == pytest.approx(nats / math.log(2), rel=1e-12)
    assert row["perplexity_per_token"] == pytest.approx(math.exp(nats))
    assert row["perplexity_per_word"] == pytest.approx(math.exp(nats * row["tokens"] / row["words"]))
    shown = charlm("evaluate", tiny_run, text).out
    assert f"{nats:.4f}" in shown
    assert "exact: the text was read once" in shown
    model, ids = Run(tiny_run).load_model(), torch.from_numpy(Run(tiny_run).tokenizer.encode(content)).long()
    logits, _ = model(ids[None, :-1])
    expected = torch.nn.functional.cross_entropy(logits[0], ids[1:]).item()
    assert nats == pytest.approx(expected, rel=1e-5)


def test_evaluate_of_a_split_and_in_lanes(charlm: Charlm, tiny_run: Path) -> None:
    row = json.loads(charlm("evaluate", tiny_run, "--json").out)
    assert row["tokens"] == 299
    several = json.loads(charlm("evaluate", tiny_run, "--json", "--lanes", "3").out)
    assert (several["tokens"], several["lanes"], several["exact"]) == (299, 3, False)
    assert several["nats_per_token"] == pytest.approx(row["nats_per_token"], rel=0.05)
    assert "an approximation: 3 lanes" in charlm("evaluate", tiny_run, "--lanes", "3").out


def test_evaluate_counts_what_the_vocabulary_lacks(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("the ß at é\n", encoding="utf-8")
    row = json.loads(charlm("evaluate", tiny_run, "new.txt", "--json").out)
    assert (row["unknown_tokens"], row["bytes"], row["characters"]) == (2, 12, 10)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, ["--split", "test"], "has no test split"),
        (None, ["--split", "trian"], "--split must be one of train, val, test, not 'trian'; did you mean 'train'?"),
        (None, ["nowhere.txt"], "there is no file nowhere.txt"),
        ("", [], "the text is empty"),
        ("a", [], "too short to evaluate: it needs at least two tokens"),
        ("caf\xe9", [], "offset 3 cannot be decoded; name its encoding with --encoding"),
        (None, ["--lanes", "0"], "--lanes must be at least 1"),
    ],
)
def test_what_cannot_be_evaluated(
    charlm: Charlm, tiny_run: Path, tmp_path: Path, content: str | None, options: list[str], message: str
) -> None:
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content.encode("latin-1"))
        options = ["mine.txt"]
    assert message in charlm("evaluate", tiny_run, *options).mistake


def test_samples_can_be_picked(charlm: Charlm, text: Path) -> None:
    options = ["--samples.prompts", "The", "", "--samples.count", "2"]
    assert charlm("train", text, *SMALL, *options, "--run", "run").status == 0
    rows = [json.loads(line) for line in charlm("samples", "run", "--json").out.splitlines()]
    epochs = sorted({row["epoch"] for row in rows})
    assert len(epochs) == 4  # 3 steps: a point at 1/8 and 1/4 of them, one at 1/2, one at the end
    assert [(row["prompt"], row["seed"], row["epoch"]) for row in rows] == [
        (prompt, seed, epoch) for epoch in epochs for prompt in ("The", "") for seed in (1, 2)
    ]
    picked = charlm("samples", "run", "--json", "--prompt", "The", "--epoch", "0").out.splitlines()
    assert [json.loads(line) for line in picked] == rows[:2]
    named = ", ".join(f"{epoch:g}" for epoch in epochs)
    assert f"it has prompts '', 'The' at epochs {named}" in charlm("samples", "run", "--epoch", "7").mistake
    shown = charlm("samples", "run").out
    assert shown.index("initialisation (step 0, prompt 'The', seed 1") < shown.index("(step 3, prompt 'The', seed 2")


# -- help


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "samples", "cells"])
def test_help_names_every_option(charlm: Charlm, command: str) -> None:
    done = charlm(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: charlm {command}")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "charlm", "trian"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("charlm: there is no command 'trian'")


@pytest.mark.parametrize("cell", cells)
def test_every_cell_trains_with_every_option_and_writes(charlm: Charlm, text: Path, cell: str) -> None:
    options = "--model.residual --model.layer_norm --model.layers 2 --model.zoneout 0.1 --model.recurrent_dropout 0.1"
    more = "--model.weight_drop 0.1 --model.chrono 20 --model.gate_scale 0.5 --model.recurrent_init normal --run r"
    width = [] if cells[cell].gates else ["--model.embedding", "8"]
    done = charlm("train", str(text), *SMALL, "--model.cell", cell, *options.split(), *more.split(), *width)
    assert done.status == 0, done.err
    assert f"recurrence: {cell}, the cell's own step, once a token" in done.err
    idle = cell in ("rnn", "rnn_relu", "min_gru", "min_lstm", "rglru")  # no gates, or no recurrent product
    assert ("warning: a setting changes nothing here: " in done.err) == idle
    plain = charlm("train", str(text), *SMALL, "--model.cell", cell, *width)
    assert plain.status == 0, plain.err
    for run in ("r", plain.out.strip()):
        written = charlm("generate", run, "--length", "20", "--seed", "1")
        assert written.status == 0
        assert len(written.out) == 21


def test_cells_are_listed_with_their_equations(charlm: Charlm) -> None:
    done = charlm("cells")
    assert done.status == 0
    for name, cell in cells.items():
        assert f"\n{name}  " in f"\n{done.out}"
        assert (inspect.getdoc(cell) or "?").splitlines()[0] in done.out
    assert "4 nm + 4 n^2 + 4 n = 525,312 parameters (m = 256, n = 256)" in done.out
    assert "of lstm" not in done.out
    one = charlm("cells", "gru", "--hidden", "10", "--embedding", "4")
    assert "3 nm + 3 n^2 + 4 n = 460 parameters (m = 4, n = 10)" in one.out
    assert one.out.startswith("gru  fused\n")
    assert charlm("cells", "gru", "--hidden", "512").out.startswith("gru  stepped on a CPU, fused on a GPU\n")
    assert "lstm" not in one.out
    assert "did you mean 'gru'" in charlm("cells", "grv").mistake


def test_cells_can_be_timed(charlm: Charlm) -> None:
    done = charlm("cells", "min_gru", "--time", "--hidden", "8")
    assert re.search(r"^min_gru  scan  [\d.]+[kM]? tokens/s, [\d.]+ of lstm$", done.out, re.MULTILINE)
