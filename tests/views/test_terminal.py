"""What a person sees: a bar on a terminal, plain lines elsewhere, and never a text that steers the terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from charlm.measure.evaluation import Evaluation
from charlm.run import Run, Sample
from charlm.text.stream import Counts
from charlm.views import terminal
from charlm.views.reel import heading, print_reel, visible
from charlm.views.terminal import Terminal

SAMPLE = Sample(
    1.5, 30, "The ", 7, 0.8, "\x1b[31mred\x07 \u202eright\u202c 海辺 [bold]no[/bold]\x9b1m\r\nend\x7f\x00\tx"
)
EVALUATION = Evaluation(nats=20.0, predicted=Counts(10, 10, 10, 2), unknown=0, lanes=1)


def said(view: Terminal) -> list[str]:
    """Everything a view can tell, told once."""
    view.say("text: 1 file")
    view.say("warning: odd")
    view.progress("reading", 1, 2)
    view.progress("reading", 2, 2)
    view.trained(0.25, 10, 0.5, 30.0, 2.5, 12_345.0)
    view.validated(10, 1.0, EVALUATION, True)
    view.sampled(SAMPLE)
    view.table([("embedding", "3 x 4", 12), ("output", "4 -> 3", 15)])
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
        "epoch 1: validation 2.0000 nats a token, 2.8854 bits a character, perplexity 7.389 (best so far)",
        "── epoch 1.5 (step 30, prompt 'The ', seed 7, temperature 0.8) ──",
        "The ␛[31mred␇ \u202eright\u202c 海辺 [bold]no[/bold]\\x9b1m",
        "end␡␀   x",
    ]
    assert [line.split() for line in lines[8:]] == [
        ["layer", "shape", "count"],
        ["embedding", "3", "x", "4", "12"],
        ["output", "4", "->", "3", "15"],
        ["parameters", "27"],
    ]


def test_piped_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plain(monkeypatch, 1000.0)
    assert not any(line.startswith(("reading", "epoch 0.50")) for line in lines)


def test_nothing_steers_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "".join(plain(monkeypatch, -1.0)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\x7f\x80\x9b", "␡\\x80\\x9b"),
        ("e\u0301 שלום 👩‍👩‍👧", "e\u0301 שלום 👩‍👩‍👧"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_heading_of_the_first_sample() -> None:
    first = Sample(0.0, 0, "", 1, 1.0, "x")
    assert heading(first) == "── initialisation (step 0, seed 1, temperature 1) ──"


def test_a_reel_is_plain_when_piped() -> None:
    out = io.StringIO()
    print_reel([SAMPLE, Sample(2.0, 40, "", 7, 0.8, "later")], Console(file=out, soft_wrap=True, highlight=False))
    assert out.getvalue().endswith("\n\n── epoch 2 (step 40, seed 7, temperature 0.8) ──\nlater\n")
    assert "\x1b" not in out.getvalue()


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
from charlm.run import Sample
from charlm.views.terminal import Terminal
view = Terminal()
view.say("text: 1 file")
view.progress("reading", 1, 2); time.sleep(0.4)
view.progress("reading", 2, 2)
view.trained(0.25, 10, 0.5, 30.0, 2.5, 12345.0); time.sleep(0.4)
view.sampled(Sample(1.0, 30, "The ", 7, 0.8, "\\x1b[31mred"))
view.close()
"""


def test_a_terminal_has_a_bar_that_goes_away() -> None:
    shown = in_a_terminal(TRAINING)
    assert "━" in shown
    assert " 25%" in shown
    assert "loss 2.500" in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while the bar moves"
    assert shown.rstrip().endswith(("\x1b[?25h", "\x1b[2K")), "and comes back"
    assert "\x1b[31mred" not in shown
    assert "␛[31mred" in shown
    assert shown.index("text: 1 file") < shown.index("━")


def test_no_color_keeps_the_bar_and_drops_colours() -> None:
    shown = in_a_terminal(TRAINING, NO_COLOR="1")
    assert "25%" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", shown)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    shown = in_a_terminal(TRAINING, TERM="dumb")
    assert "\x1b" not in shown
    assert "25%" not in shown
    assert shown.splitlines()[0] == "text: 1 file"


def test_generated_text_cannot_steer_a_terminal(tiny_run: Path) -> None:
    code = """
import sys
from charlm.cli import main
from charlm.run import Run
Run.write = lambda *arguments, **options: iter([["\\x1b[31mred"], ["\\x07 done"]])
main(["generate", sys.argv[1], "--seed", "1", "--prompt", "\\x1b[2J"])
"""
    assert in_a_terminal(code, str(tiny_run)) == "␛[2J␛[31mred␇ done\n"
    piped = subprocess.run([sys.executable, "-c", code, str(tiny_run)], capture_output=True, text=True, check=True)
    assert piped.stdout == "\x1b[2J\x1b[31mred\x07 done\n"
    assert Run(tiny_run).generate(length=3, seed=1)
