"""A live display on a terminal, plain lines elsewhere, and no text that controls the terminal."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from example_run import example_run
from rich.console import Console

from charlm.config.protocols import Protocol
from charlm.evaluation.likelihood import Evaluation
from charlm.run import Run
from charlm.run_directory import Sample
from charlm.text.stream import Counts
from charlm.views import terminal
from charlm.views.terminal import HISTORY, History, Terminal, cautions, print_evaluation, sparkline

SAMPLE = Sample(
    1.5, 30, "The ", 7, 0.8, "\x1b[31mred\x07 \u202eright\u202c 海辺 [bold]no[/bold]\x9b1m\r\nend\x7f\x00\tx"
)
EVALUATION = Evaluation(nats=20.0, predicted=Counts(10, 10, 10, 2), unknown=0)


def said(view: Terminal) -> list[str]:
    """The lines of a terminal that receives each event once."""
    view.say("text: 1 file")
    view.say("warning: odd")
    view.progress("reading", 1, 2)
    view.progress("reading", 2, 2)
    view.on_step(0.25, 10, 0.5, 30.0, 2.5, 12_345.0)
    view.on_validation(10, 1.0, EVALUATION, True)
    view.on_sample(SAMPLE)
    view.parameter_table([("embedding", "3 x 4", 12), ("output", "4 -> 3", 15)])
    view.close()
    out = view.console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue().splitlines()


def plain(monkeypatch: pytest.MonkeyPatch, every: float) -> list[str]:
    monkeypatch.setattr(terminal, "PLAIN_EVERY", every)
    return said(Terminal(Console(file=io.StringIO(), highlight=False, soft_wrap=True, width=40)))


def test_piped_it_is_a_line_for_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plain(monkeypatch, -1.0)
    assert lines[:8] == [
        "text: 1 file",
        "warning: odd",
        "reading: 50%",
        "epoch 0.50  1m30s left  loss 2.500  step 10  12.3k tokens/s",
        "epoch 1: validation 2.0000 nats per token, 2.8854 bits per character, perplexity 7.389 (best so far)",
        "── epoch 1.5 (step 30, prompt 'The ', seed 7, temperature 0.8) ──",
        "The ␛[31mred␇ \u202eright\u202c 海辺 [bold]no[/bold]\\x9b1m",
        "end␡␀   x",
    ]
    assert [line.split() for line in lines[8:]] == [
        ["part", "shape", "parameters"],
        ["embedding", "3", "x", "4", "12"],
        ["output", "4", "->", "3", "15"],
        ["total", "27"],
    ]


def test_a_sample_point_has_one_line_of_scores() -> None:
    scores = {"words_in_training_text": 0.5, "ngram_bits": 2.25, "compression_ratio": 2.0, "zipf_exponent": 1.0}
    view = Terminal(Console(file=io.StringIO(), highlight=False, soft_wrap=True))
    for step, seed in ((1, 1), (1, 2), (2, 1)):
        view.on_sample(Sample(1.0, step, "", seed, 0.8, "text", scores))
    out = view.console.file
    assert isinstance(out, io.StringIO)
    said = "50% of the generated words occur in the training text."
    lines = [line for line in out.getvalue().splitlines() if not line.startswith("──")]
    assert lines == [said, "text", "text", said, "text"]


def test_at_the_end_there_is_a_verdict(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    view = Terminal(Console(file=io.StringIO(), highlight=False, soft_wrap=True, width=40))
    view.on_end(run)
    out = view.console.file
    assert isinstance(out, io.StringIO)
    lines = out.getvalue().splitlines()
    assert lines[0] == "── verdict ──"
    assert lines[1].startswith("Still improving: ")
    assert lines[-1] == f"  charlm train --resume {run.path} --trainer.max_epochs 6"


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([1.0], 5, "▁"),
        ([2.0, 2.0, 2.0], 5, "▁▁▁"),
        ([1, 2, 3, 4, 5, 6, 7, 8], 8, "▁▂▃▄▅▆▇█"),
        ([8, 4.5, 1], 24, "█▅▁"),
        ([1, 1, 8, 8], 2, "▁█"),
        ([100, 9, 8, 7, 6, 5, 4, 3, 2, 1], 10, "██▇▆▅▅▄▃▂▁"),
    ],
)
def test_sparkline(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@pytest.mark.parametrize(
    ("speed", "shown"),
    [
        (999.0, "999"),
        (1000.0, "1.0k"),
        (12_345.0, "12.3k"),
        (999_499.0, "999.5k"),
        (999_500.0, "1.00M"),
        (25e6, "25.00M"),
    ],
)
def test_speeds_are_short(monkeypatch: pytest.MonkeyPatch, speed: float, shown: str) -> None:
    monkeypatch.setattr(terminal, "PLAIN_EVERY", -1.0)
    view = Terminal(Console(file=io.StringIO(), soft_wrap=True))
    view.on_step(1.0, 10, 0.5, 30.0, None, speed)
    assert isinstance(view.console.file, io.StringIO)
    assert view.console.file.getvalue() == f"epoch 0.50  0s left  step 10  {shown} tokens/s\n"


def test_an_evaluation_has_every_number_in_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(Evaluation(nats=20.0, predicted=Counts(10, 2000, 4000, 5), unknown=0), 8)
    assert capsys.readouterr().out.splitlines() == [
        "nats per token         2.0000",
        "bits per token         2.8854",  # 2 / ln 2
        "bits per character     0.0144",
        "bits per byte          0.0072",
        "perplexity per token   7.3891",  # exp(2)
        "perplexity per word    54.6",  # exp(4)
        "tokens predicted       10 (2,000 characters, 5 words)",
        "unknown tokens         0",
        "the state is carried from the first token to the last",
    ]


def test_an_evaluation_says_what_to_beware_of() -> None:
    unknown, worse = Evaluation(nats=20.0, predicted=Counts(10, 20, 20, 5), unknown=7), Protocol(name="dynamic")
    (sentence,) = cautions(unknown, 8)  # 2 nats per token; a guess has 2.08
    assert sentence.startswith("7 tokens (70.0%) unknown: one symbol is predicted in place of each")
    (sentence,) = cautions(replace(unknown, unknown=0, protocol=worse), 7)
    assert (
        sentence
        == "this is worse than a guess among the 7 tokens of the vocabulary, 2.81 bits per token; lower dynamic.rate"
    )


def test_history_keeps_few_losses_and_the_newest() -> None:
    history = History()
    for loss in range(10 * HISTORY):
        history.add(float(loss))
    history.add(math.nan)
    assert history.last == 10 * HISTORY - 1
    assert HISTORY // 2 <= len(history.values) < HISTORY
    steps = {b - a for a, b in zip(history.values, history.values[1:], strict=False)}
    assert len(steps) == 1, "each stands for as many losses as any other"
    assert history.values[0] == (steps.pop() - 1) / 2, "and is their mean"


def test_piped_progress_is_reported_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plain(monkeypatch, 1000.0)
    assert not any(line.startswith(("reading", "epoch 0.50")) for line in lines)


def test_no_control_characters_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "".join(plain(monkeypatch, -1.0)))


def in_a_terminal(code: str, *arguments: str, **environment: str) -> str:
    """What a program writes to a terminal that it believes to be one."""
    keeper, end = pty.openpty()
    names = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=end, stdout=end, stderr=end,
        env=names | {"TERM": "xterm-256color", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"} | environment,
    )  # fmt: skip
    os.close(end)
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(keeper, 65536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            shown.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(60) == 0
    reader.join()
    os.close(keeper)
    return b"".join(shown).decode().replace("\r\n", "\n")


TRAINING = """
import time
from charlm.evaluation.likelihood import Evaluation
from charlm.run_directory import Sample
from charlm.text.stream import Counts
from charlm.views.terminal import Terminal
view = Terminal()
view.say("text: 1 file")
view.progress("reading", 1, 2); time.sleep(0.4)
view.progress("reading", 2, 2)
view.on_step(0.125, 5, 0.25, 15.0, 3.5, 12345.0); time.sleep(0.2)
counts = Counts(10, 10, 10, 2)
view.on_validation(5, 0.25, Evaluation(30.0, counts, 0), True)
view.on_validation(10, 0.5, Evaluation(20.0, counts, 0), True)
view.on_step(0.25, 10, 0.5, 30.0, 2.5, 12345.0); time.sleep(0.2)
view.on_sample(Sample(1.0, 30, "The ", 7, 0.8, "\\x1b[31mred"))
view.close()
"""


def test_a_terminal_has_a_bar_that_goes_away() -> None:
    shown = in_a_terminal(TRAINING)
    assert "━" in shown
    assert " 25%" in shown
    assert "loss 2.500 █▁  bits per character 2.885 █▁  best 2.885 at epoch 0.5" in shown
    assert "epoch 0.50  1m30s left  step 10  12.3k tokens/s" in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while the bar moves"
    assert shown.rstrip().endswith(("\x1b[?25h", "\x1b[2K")), "and comes back"
    assert "\x1b[31mred" not in shown
    assert "␛[31mred" in shown
    assert shown.index("text: 1 file") < shown.index("━")


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_a_narrow_terminal_has_narrow_lines(columns: int) -> None:
    shown = in_a_terminal(TRAINING, COLUMNS=str(columns))
    live = [
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", shown) if "━" in line or "▁" in line
    ]
    assert any("loss 2.500" in line for line in live)
    assert max(map(len, live)) <= columns


def test_letters_that_a_terminal_lacks_are_not_drawn() -> None:
    shown = in_a_terminal(TRAINING, PYTHONIOENCODING="ascii:replace")
    assert "loss 2.500  bits per character 2.885  best" in shown


def test_no_color_keeps_the_bar_and_drops_colours() -> None:
    shown = in_a_terminal(TRAINING, NO_COLOR="1")
    assert "25%" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", shown)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    shown = in_a_terminal(TRAINING, TERM="dumb")
    assert "\x1b" not in shown
    assert "25%" not in shown
    assert shown.splitlines()[0] == "text: 1 file"


def test_generated_text_cannot_control_a_terminal(tiny_run: Path) -> None:
    code = """
import sys
from charlm.cli import main
from charlm.generation.generated_text import GeneratedText
from charlm.run import Run
class Generation:
    texts = [GeneratedText("\\x1b[2J", 1)]
    def __iter__(self):
        return iter([["\\x1b[31mred"], ["\\x07 done"]])
Run.generation = lambda *arguments, **options: Generation()
main(["generate", sys.argv[1], "--seed", "1"])
"""
    assert in_a_terminal(code, str(tiny_run)) == "␛[2J␛[31mred␇ done\n"
    piped = subprocess.run([sys.executable, "-c", code, str(tiny_run)], capture_output=True, text=True, check=True)
    assert piped.stdout == "\x1b[2J\x1b[31mred\x07 done\n"
    assert Run(tiny_run).generate(length=3, seed=1)
