"""What `charlm race` and `charlm sweep` share: many trainings, which may be interrupted, and their result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from charlm.errors import Interrupted
from charlm.reporter import Reporter
from charlm.views.text import json_line, visible


class Directory(Protocol):
    """The directory of a race or a sweep: where its page is, and the command that continues it."""

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
    """Start or open an experiment, train what is not finished, and show the result.

    Args:
        begin: Returns the directory.
        train: Trains what is not finished.
        result: Returns the result.
        write_page: Writes the page of the result into the directory.
        show: Prints the result.
        json: Print the result as JSON instead.
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
