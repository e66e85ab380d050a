"""Commands as a person types them into a shell, for messages that say what to do next."""

from __future__ import annotations

import shlex


def command(name: str, *arguments: object, **options: object) -> str:
    """Return a `charlm` command line, quoted for a shell.

    Args:
        name: The name of the command, such as "train".
        arguments: The arguments of the command.
        options: The options; a double underscore in a keyword stands for the dot of a dotted name.
    """
    words = ["charlm", name, *map(str, arguments)]
    for option, value in options.items():
        words += [f"--{option.replace('__', '.')}", str(value)]
    return shlex.join(words)
