"""Run charlm commands in forked child processes with limits, and check how they end.

A child is forked from a parent that has imported everything, so that a command takes a fraction of a second. It gets
its own process group, working directory, standard streams and a limit of memory. `interpreter` starts a new Python
instead, for what happens while a command imports its modules.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

MEMORY = 1 << 30  # most bytes of memory of a command
SECONDS = 60.0  # after which a command counts as hanging
REPEATED = 600  # most characters of output in the report of a failure

TINY = (
    "--data.batch_size 4 --data.seq_length 32 --model.layers 2 --model.hidden 16 --model.embedding 8 "
    "--trainer.accelerator cpu --trainer.precision 32 --trainer.log_every_n_steps 2 --samples.length 20 "
    "--inspect.images false"
).split()
"""Options of a training that takes a second."""

WORDS = "the cat sat on the mat and the dog ran to the old house by the sea where nobody was at home".split()


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: Its exit status; negative: the signal that ended it.
        out, err: What it wrote; on a terminal, both are in `out`.
        memory: Most bytes that it held; 0 if unknown.
        hung: Whether it had to be killed because its time was over.
    """

    status: int
    out: str
    err: str
    memory: int = 0
    hung: bool = False


class Running:
    """A command that runs.

    Args:
        arguments: What follows `charlm` on a command line.
        folder: Its working directory; its output goes to files there.
        terminal: Whether its output goes to a terminal.
        interpreter: Whether it runs in a new Python instead of a fork of this one.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, *, terminal: bool = False, interpreter: bool = False
    ) -> None:
        self.out, self.err = (folder / ".out").open("w+b"), (folder / ".err").open("w+b")
        self.master = -1
        self.text = b""
        if interpreter:
            command = [sys.executable, "-m", "charlm", *arguments]
            null = subprocess.DEVNULL
            self.popen = subprocess.Popen(
                command, cwd=folder, stdin=null, stdout=self.out, stderr=self.err, start_new_session=True
            )
            self.pid = self.popen.pid
            return
        slave = -1
        if terminal:
            self.master, slave = pty.openpty()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _child(arguments, folder, (slave, slave) if terminal else (self.out.fileno(), self.err.fileno()))
        if terminal:
            os.close(slave)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if the command has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> Ended | None:
        """Wait for the command and return how it ended; None if it runs for longer."""
        until = time.monotonic() + seconds
        while True:
            self._read()
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                return self._ended(status, usage.ru_maxrss * 1024)
            if time.monotonic() >= until:
                return None
            time.sleep(0.003)

    def kill(self) -> Ended:
        """End the command and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.send(signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        return self._ended(status, usage.ru_maxrss * 1024, hung=True)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is closed
            while self.master >= 0 and select.select([self.master], [], [], 0)[0]:
                if not (data := os.read(self.master, 1 << 16)):
                    break
                self.text += data

    def _ended(self, status: int, memory: int, hung: bool = False) -> Ended:
        self._read()
        if self.master >= 0:
            os.close(self.master)
        return Ended(
            os.waitstatus_to_exitcode(status), (self.text or _content(self.out)).decode(errors="replace"),
            _content(self.err).decode(errors="replace"), memory, hung,
        )  # fmt: skip


def charlm(arguments: Sequence[str], folder: Path, *, seconds: float = SECONDS, terminal: bool = False) -> Ended:
    """Run a command to its end; one that hangs is killed."""
    running = Running(arguments, folder, terminal=terminal)
    return running.wait(seconds) or running.kill()


def problems(ended: Ended, allowed: Sequence[int] = (0, 2)) -> list[str]:
    """What is wrong with the way a command ended, whatever its arguments were; empty if nothing is.

    Args:
        ended: How it ended.
        allowed: The exit statuses that are right.
    """
    errors = ended.err or ended.out
    found = []
    if ended.hung:
        found.append("it hung")
    elif ended.status not in allowed:
        found.append(f"exit status {ended.status}")
    if "Traceback (most recent call last)" in errors or "Fatal Python error" in errors:
        found.append("a traceback")
    if re.search(r"^\S+:\d+: \w*Warning: ", errors, re.M):
        found.append("a warning of Python")
    lines = [line for line in errors.splitlines() if line.startswith("charlm: ")]
    if ended.status == 2 and (len(lines) != 1 or not errors.rstrip("\r\n").splitlines()[-1].startswith("charlm: ")):
        found.append("exit status 2 without one line that says why")
    if ended.memory > MEMORY:
        found.append(f"{ended.memory / 1e6:,.0f} MB of memory")
    return [f"{', '.join(found)}: {said(ended)}"] if found else []


def said(ended: Ended) -> str:
    """The end of what a command wrote, for a report of a failure."""
    return repr((ended.err or ended.out)[-REPEATED:])


def warm_up() -> None:
    """Import everything that commands import, so that children need not."""
    import charlm

    for module in pkgutil.walk_packages(charlm.__path__, "charlm."):
        if module.name != "charlm.__main__":
            importlib.import_module(module.name)
    import torch
    from torch.utils.tensorboard import SummaryWriter, summary  # noqa: F401

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a collection in a child would copy the pages of the parent


def sentences(draw: Any, lines: int) -> str:
    """A text of random sentences, from which a small network can learn."""
    return "".join(" ".join(draw.choices(WORDS, k=6)) + ".\n" for _ in range(lines))


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    content = file.read()
    file.close()
    return content


def _child(arguments: Sequence[str], folder: Path, outputs: tuple[int, int]) -> NoReturn:
    """Run a command in this newly forked process, and exit as a Python of its own would."""
    status: Any = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL if number != signal.SIGPIPE else signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        read, write = os.pipe()  # an empty standard input
        os.close(write)
        for source, target in ((read, 0), (outputs[0], 1), (outputs[1], 2)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["charlm", *arguments]
        from charlm.cli import main

        main(arguments)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)
