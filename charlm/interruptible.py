"""Calls of compiled code that Ctrl-C and SIGTERM can interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

NAME = "charlm interruptible"
"""Name of the threads of `interruptible`."""


def interruptible(work: Callable[[], T]) -> T:
    """Call `work`, which may run compiled code for minutes, and return its result.

    Python handles no signal while the main thread runs compiled code. If this function is called
    from the main thread, it therefore runs `work` in a second thread and waits for it, so that
    Ctrl-C and SIGTERM take effect at once. After a signal the second thread goes on until `work`
    returns or the process ends (see `abandoned`).
    """
    if threading.current_thread() is not threading.main_thread():  # only the main one gets signals
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
    """Return whether a thread that `interruptible` started still runs.

    If so, a normal exit of Python would take seconds, because it would free the memory of the
    thread.
    """
    return any(thread.name == NAME for thread in threading.enumerate())
