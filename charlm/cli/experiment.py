"""The steps that `charlm race` and `charlm sweep` share: train many runs, and show their result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from charlm.errors import Interrupted
from charlm.reporter import Reporter
from charlm.views.text import json_line, visible


class Directory(Protocol):
    """The directory of a race or a sweep: the path of its page, and the command to continue."""

    @property
    def page(self) -> Path: ...

    @property
    def resume(self) -> str: ...


D = TypeVar("D", bound=Directory)
R = TypeVar("R")


def run_experiment(
    begin: Callable[[Reporter], D],
    train: Callable[[D, Reporter], None],
    result: Callable[[D], R],
    write_page: Callable[[D, R], None],
    show: Callable[[R], None],
    *,
    json: bool,
) -> None:
    """Start or continue a race or a sweep: train what is not finished, and show the result.

    If the user interrupts it, say how to continue.

    Args:
        begin: Creates or opens the directory of the race or sweep, and returns it.
        train: Trains the runs of the directory that are not finished.
        result: Computes the result from the directory.
        write_page: Writes the result into the directory as an HTML page.
        show: Prints the result as a table.
        json: Whether to print the result as JSON instead.
    """
    from charlm.views.terminal import Terminal

    reporter, directory = Terminal(), None
    try:
        reporter.say("loading torch and lightning")
        directory = begin(reporter)
        train(directory, reporter)
    except (Interrupted, KeyboardInterrupt):
        if directory is not None:
            reporter.say(f"interrupted and saved; continue with: {directory.resume}")
        raise
    finally:
        reporter.close()
    found: Any = result(directory)
    write_page(directory, found)
    if json:
        print(json_line(found.to_dict()))
    else:
        show(found)
    print(f"wrote {visible(str(directory.page.resolve()))}; open it in a browser", file=sys.stderr)
