"""What the keys of `charlm play` do, without a terminal: keys come from a pipe, and nothing is displayed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("prompt_toolkit")

from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from charlm.generation.composition import Composition
from charlm.run import Run
from charlm.views.play import Play
from charlm.views.play_screen import KEYS, help_text, hints, shape, shortened, status, style, title
from charlm.views.play_session import COMMANDS, Session

LEFT, DOWN, HOME, END = "\x1b[D", "\x1b[B", "\x1b[H", "\x1b[F"
UNDO, REDO, COMMAND, LEAVE = "\x1a", "\x19", "\x10", "\x04"
Until = Callable[[Composition], bool]


@pytest.fixture
def session(tiny_run: Path) -> Session:
    run = Run(tiny_run)
    return Session(Composition(run.load_stepper(), run.tokenizer, temperature=0.8), 6, "The ")


def play(session: Session, *steps: str | Until, leave: str = LEAVE) -> int:
    """Press keys; a function is called until it returns True. Then leave."""
    composition = session.composition

    def press() -> None:
        for step in steps:
            if isinstance(step, str):
                pipe.send_text(step)
                continue
            until = time.monotonic() + 60
            while not step(composition) and time.monotonic() < until:
                time.sleep(0.005)
        pipe.send_text(leave)

    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pressing = threading.Thread(target=press)
        pressing.start()
        ended = Play(session).run()
        pressing.join()
    return ended


def has(tokens: int) -> Until:
    return lambda composition: len(composition.path) == tokens


def test_typed_text_is_added_and_removed(session: Session) -> None:
    assert play(session, "cat\rsat\x7f\x7f", "\x1b[200~ a\r\nb\rc\x1b[201~") == 0
    assert session.composition.text == "The cat\ns a\nb\nc"


def test_keys_that_mean_nothing_add_nothing(session: Session) -> None:
    play(session, "\x1b[15~\x01\x0b", "x")
    assert session.composition.text == "The x"


def test_tab_lets_the_model_write_and_the_next_key_stops_it(session: Session) -> None:
    session.length = 10**9
    play(session, "\t", lambda composition: len(composition.path) > 20, "x")
    text = session.composition.text
    assert text.endswith("x")
    assert len(text) > 20
    session.composition.undo()
    session.composition.undo()
    assert session.composition.text == "The "


def test_guesses_are_taken_by_number_or_selected(session: Session) -> None:
    second, fifth = (session.composition.guesses(5)[rank - 1].text for rank in (2, 5))
    play(session, "\x1b2", has(5), UNDO, has(4), DOWN * 5, "\r")
    assert session.composition.text == f"The {fifth}"
    session.composition.undo()
    session.composition.redo()
    session.composition.undo()
    play(session, DOWN * 3, "\x1b[A", "\r")
    assert session.composition.text == f"The {second}"


def test_the_cursor_moves_and_undo_brings_back(session: Session) -> None:
    play(session, "cat", LEFT * 2, "o", UNDO, REDO, UNDO)
    assert session.composition.text == "The cat"
    play(session, HOME, "A", END, "b")
    assert session.composition.text == "Ab"


def test_commands_are_typed(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = f"{COMMAND}top_k 3\r{COMMAND}bookmark a\rcat{COMMAND}bookmark b\r{COMMAND}mix a b 0.3\r\x13my.txt\r"
    play(session, keys, "!", "\x13", f"{COMMAND}topk 3\r", f"{COMMAND}temperature \x10", "?")
    assert session.composition.values == {"temperature": (0.8,), "top_k": 3}
    assert sorted(session.composition.bookmarks) == ["a", "b"]
    assert session.composition.path[6].mixed is not None
    assert (tmp_path / "my.txt").read_text() == "The cat!"
    assert session.unsaved == "The cat!?"


def test_a_signal_ends_it(session: Session) -> None:
    def send(_: Composition) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    assert play(session, "cat", has(7), send, leave="") == signal.SIGTERM
    assert session.unsaved == "The cat"


def test_the_help_has_every_key_and_command() -> None:
    for width in (20, 40, 80, 200):
        text = "".join(part[1] for part in help_text(width))
        assert all(name in text for name in (*KEYS, *COMMANDS, "temperature VALUE", "ban VALUE"))
        assert max(map(len, text.splitlines())) <= max(width, 40)
    assert style()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((80, 24), (3, 3)), ((40, 20), (2, 5)), ((20, 8), (1, 2)), ((10, 3), (1, 1)), ((300, 90), (3, 3))],
)
def test_guesses_fit_on_the_screen(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shape(*size) == expected


def test_lines_fit_into_the_width(session: Session) -> None:
    session.composition.change(ban=["x" * 60, "\n"], repetition_penalty=1.2)
    session.composition.guesses(1)
    for width in (10, 20, 40, 80, 200):
        lines = [*status(session, width), title(session.composition, 0, width), hints(("F1 help", "^C leave"), width)]
        assert all(len(line) <= width for line in lines)
        assert len(status(session, width)) <= 2
    assert "temperature 0.8" in " ".join(status(session, 200))
    assert title(session.composition, 1234, 60).startswith("── reading: 1,234 tokens left ──")
    assert shortened("中文中文", 5) == "中文…"
