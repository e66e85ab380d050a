"""Calls into compiled code that a signal can end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

NAME = "charlm interruptible"
"""Name of the threads of `interruptible`."""


def interruptible(work: Callable[[], T]) -> T:
    """The result of `work`, which may spend minutes in compiled code where Python handles no signal.

    It runs in a thread while this one waits, so that Ctrl-C and SIGTERM take effect at once. Then the thread is left
    alone: it ends with the process (see `abandoned`).
    """
    if threading.current_thread() is not threading.main_thread():  # which gets all signals
        return work()
    result: list[T] = []
    failure: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, name=NAME, daemon=True).start()
    ended.wait()
    if failure:
        raise failure[0]
    return result[0]


def abandoned() -> bool:
    """Whether such a thread still works; Python would wait seconds for its memory at exit."""
    return any(thread.name == NAME for thread in threading.enumerate())
