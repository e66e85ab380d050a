"""Errors that a user can fix.

The command line prints a `CharlmError` as one line and exits with status 2. It treats some errors
of the operating system in the same way, such as a full disk (see `charlm.cli`). An unexpected
exception is a bug and is printed with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class CharlmError(Exception):
    """An error that a user can fix: the message is one line that says what is wrong and what to do.

    The message names a setting in backquotes by its dotted name (`model.hidden`); the command line
    prints it as an option (`--model.hidden`).
    """


class Diverged(CharlmError):  # noqa: N818 (an event, not a mistake)
    """A training was given up because its weights diverged for a second time.

    After the first time, the training went on from its last checkpoint with a lower learning rate.
    The run keeps its last good weights. Usually a lower learning rate helps; a program that
    compares several learning rates goes on with the other rates.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint that proposes the most similar of several names, to append to a message.

    The hint is empty if no name is similar.

    >>> nearest("lsmt", ["lstm", "gru"])
    "; did you mean 'lstm'?"
    """
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def count(number: int, noun: str) -> str:
    """Return a number with a noun, which is in the plural unless the number is 1.

    >>> count(1, "label"), count(2500, "label")
    ('1 label', '2,500 labels')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message.

    If the message is empty, return the name of the error's class.
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Interrupted(Exception):  # noqa: N818 (an event, not an error)
    """A signal (Ctrl-C or SIGTERM) has stopped a training.

    Attributes:
        signal: Number of the signal.
        run: Directory of the training, which can be resumed.
    """

    def __init__(self, signal: int, run: Path) -> None:
        super().__init__(f"interrupted by signal {signal}; {run} can be resumed")
        self.signal = signal
        self.run = run
