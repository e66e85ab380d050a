"""`charlm play` in a terminal: what it shows, how it ends, and that it restores the terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Charlm

pytest.importorskip("prompt_toolkit")
tmux_path = shutil.which("tmux")
needs_tmux = pytest.mark.skipif(tmux_path is None, reason="tmux is not installed")
WAIT = 60  # seconds after which a test gives up
FAULTY = """
import charlm.views.play as play
from charlm.cli import main

def broken(composition, unread, width):
    if "x" in composition.text:
        raise ZeroDivisionError("on purpose")
    return "title"

play.title = broken
main()
"""


class Screen:
    """A terminal of tmux, in which one command runs between two calls of stty."""

    def __init__(self, folder: Path, size: tuple[int, int], code: list[str], arguments: list[object]) -> None:
        self.folder, self._socket = folder, f"charlm-{os.getpid()}-{time.monotonic_ns()}"
        program = shlex.join([sys.executable, *code, "play", *map(str, arguments)])
        script = f"stty -g > before; {program} 2> errors; echo $? > status; stty -g > after; echo; echo ended; exec cat"
        root = str(Path(__file__).parents[2])
        environment = {"PYTHONPATH": root, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        given = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), *given, script)

    def tmux(self, *arguments: str) -> str:
        command = [str(tmux_path), "-u", "-L", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=self.folder).stdout

    def keys(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def shows(self, *texts: str) -> str:
        """Wait until the screen has all these texts, and return it."""
        until = time.monotonic() + WAIT
        while True:
            screen = self.tmux("capture-pane", "-p")
            if all(text in screen for text in texts):
                return screen
            assert time.monotonic() < until, f"{texts} did not appear:\n{screen}\n{self.read('errors')}"
            time.sleep(0.05)

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def ended(self) -> int:
        """Wait until the command has ended and the terminal is as before, and return its exit status."""
        self.shows("ended")
        assert self.read("before") == self.read("after") != ""
        assert self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}") == "0 1\n"
        return int(self.read("status"))

    def close(self) -> None:
        subprocess.run([str(tmux_path), "-L", self._socket, "kill-server"], capture_output=True, check=False)


Start = Callable[..., Screen]


@pytest.fixture
def start(tmp_path: Path, tiny_run: Path) -> Iterator[Start]:
    """A function that starts `charlm play` with `tiny_run` in a terminal of 80 x 24."""
    screens = []

    def started(*arguments: object, size: tuple[int, int] = (80, 24), code: str = "") -> Screen:
        program = ["-c", code] if code else ["-m", "charlm"]
        screens.append(Screen(tmp_path, size, program, [tiny_run, *arguments]))
        return screens[-1]

    yield started
    for screen in screens:
        screen.close()


@needs_tmux
def test_a_text_is_written_together_and_saved(start: Start, tmp_path: Path) -> None:
    screen = start("--prompt", "The cat", "--length", "5", "--temperature", "0", "--seed", "3")
    first = screen.shows("The cat", "token 7", "temperature 0", "seed 3", "after 't'", "1  100% ")
    guess = first.split("1  100% '")[1][0]
    screen.keys("Tab")
    screen.shows("token 12", f"The cat{guess}".rstrip())
    screen.keys("C-z")
    screen.shows("token 7 ")
    screen.keys("C-y")
    screen.shows("token 12")
    screen.keys("C-t")
    screen.shows(": temperature")
    screen.type("1")
    screen.keys("Enter")
    screen.shows("temperature 1 ", "9 ")
    screen.keys("M-2")
    screen.shows("token 13")
    screen.keys("Down", "Down", "Down", "Enter")
    screen.shows("token 14")
    screen.keys("BSpace")
    screen.shows("token 13")
    screen.type("QQ")
    screen.shows("not in the vocabulary: 'Q'", "token 15")
    screen.keys("Left", "Left")
    screen.shows("token 13 of 15")
    screen.keys("End", "C-s")
    screen.shows(": save")
    screen.type("my text.txt")
    screen.keys("Enter")
    screen.shows("write: save FILE")
    screen.keys("C-s")
    screen.type("text.txt")
    screen.keys("Enter")
    screen.shows("saved 15 characters to text.txt")
    screen.keys("C-d")
    assert screen.ended() == 0
    assert screen.read("text.txt").startswith("The cat")
    assert screen.read("text.txt").endswith("QQ")
    assert screen.read("errors") == ""


@needs_tmux
def test_the_help_and_the_command_line_open_and_close(start: Start) -> None:
    screen = start("--temperature", "0.5", size=(40, 12))
    screen.shows("at the beginning", "F1 help")
    screen.keys("F1")
    screen.shows("Keys", "let the model write")
    screen.keys(*["PPage"] * 2, *["NPage"] * 30)
    screen.shows("surprise VALUE")
    screen.keys("q")
    screen.shows("at the beginning")
    screen.keys("C-p")
    screen.type("tem")
    screen.keys("Tab")
    screen.shows(": temperature")
    screen.keys("C-c")
    screen.type("ab")
    screen.shows("after 'b'", "token 2")
    screen.tmux("resize-window", "-x", "100", "-y", "30")
    screen.shows("temperature 0.5 · token 2 · seed 1 · typed", "^C leave")
    screen.tmux("resize-window", "-x", "20", "-y", "6")
    screen.shows("after")
    screen.keys("C-c")
    assert screen.ended() == 0


@needs_tmux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_the_terminal_is_restored_and_the_text_printed(start: Start, number: signal.Signals | None) -> None:
    screen = start()
    screen.shows("at the beginning")
    screen.type("the sea")
    screen.shows("token 7")
    screen.keys("Tab")
    if number is None:
        screen.keys("C-d")
    else:
        pane = screen.tmux("display-message", "-p", "#{pane_pid}").strip()
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", pane], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout), number)
    assert screen.ended() == (0 if number is None else 128 + number)
    assert "the sea" in screen.shows("the sea")
    assert screen.read("errors") == "charlm: the text above was not saved\n"


@needs_tmux
def test_the_text_is_saved_when_the_terminal_is_closed(start: Start) -> None:
    screen = start()
    screen.shows("at the beginning")
    screen.type("the sea")
    screen.shows("token 7")
    screen.close()
    until = time.monotonic() + WAIT
    while screen.read("charlm-play.txt") != "the sea":
        assert time.monotonic() < until
        time.sleep(0.05)


@needs_tmux
def test_a_bug_restores_the_terminal_and_loses_no_text(start: Start) -> None:
    screen = start(code=FAULTY)
    screen.shows("title")
    screen.type("abx")
    assert screen.ended() == 1
    screen.shows("abx")
    assert "the text above was not saved" in screen.read("errors")
    assert screen.read("errors").endswith("ZeroDivisionError: on purpose\n")


@needs_tmux
def test_characters_of_all_widths_and_controls_are_shown(start: Start, tmp_path: Path) -> None:
    (tmp_path / "start.txt").write_text("e\u0301 中文 😀\tx\x1b[31m\x07\x9b\u202e\n\n", encoding="utf-8")
    screen = start("--prompt_file", "start.txt")
    text = screen.shows("token 18")
    assert text.splitlines()[0] == "e\u0301 中文 😀    x␛[31m␇\\x9b\\u202e"
    screen.keys("C-d")
    assert screen.ended() == 0


# -- without a terminal


def test_it_needs_a_terminal(charlm: Charlm, tiny_run: Path) -> None:
    message = charlm("play", tiny_run).mistake
    assert message == "play needs a terminal that can place its cursor; in a pipe, use charlm generate"


def test_it_needs_prompt_toolkit(charlm: Charlm, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    for name in [name for name in sys.modules if name.startswith(("prompt_toolkit.", "charlm.views.play"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    message = charlm("play", tiny_run).mistake
    assert message == "play needs prompt_toolkit; install it with: pip install 'charlm-rnn[play]'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a", "--prompt_file", "b"], "--prompt and --prompt_file exclude each other"),
        (["--prompt_file", "missing.txt"], "no file missing.txt"),
        (["--length", "0"], "--length must be at least 1"),
        (["--top_p", "2"], "--top_p must be at most 1"),
        (["--topk", "2"], "did you mean --top_k?"),
    ],
)
def test_mistakes_are_told_in_one_line(charlm: Charlm, tiny_run: Path, options: list[str], message: str) -> None:
    assert message in charlm("play", tiny_run, *options).mistake
