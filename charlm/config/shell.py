"""A command as a person types it into a shell, for advice and for messages that say what to do next."""

from __future__ import annotations

import shlex


def command(name: str, *arguments: object, **options: object) -> str:
    """A `charlm` command line, quoted for a shell.

    Args:
        name: The command.
        arguments: Its arguments.
        options: Its options; a double underscore in a keyword stands for the dot of a dotted name.
    """
    words = ["charlm", name, *map(str, arguments)]
    for option, value in options.items():
        words += [f"--{option.replace('__', '.')}", str(value)]
    return shlex.join(words)
