"""The commands, a module each. They import what they need when they run, so that `charlm --help` is there at once."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from charlm.cli import cells, evaluate, generate, report, samples, train
from charlm.errors import CharlmError, Interrupted, nearest
from charlm.files import trouble

COMMANDS = {
    "train": train,
    "generate": generate,
    "evaluate": evaluate,
    "samples": samples,
    "cells": cells,
    "report": report,
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 when it went well, 2 with one line when a user can fix it, 130 after Ctrl-C."""
    threading.excepthook = _thread_failed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":  # characters the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except CharlmError as error:
        status = _fail(str(error))
    except Interrupted as interrupted:
        status = 128 + interrupted.signal
    except KeyboardInterrupt:
        _fail("interrupted")
        status = 130
    except BrokenPipeError:
        # Whoever read our output has gone; what is left in the buffer must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        words = trouble(error)
        if words is None:
            raise
        status = _fail(words)
    sys.exit(status)


def _fail(message: str) -> int:
    print(f"charlm: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread; a full disk there is raised again where the next number is logged."""
    if not (isinstance(failure.exc_value, OSError) and trouble(failure.exc_value)):
        threading.__excepthook__(failure)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        from charlm import __version__

        print(f"charlm {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise CharlmError(f"there is no command {name!r}; choose from {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    return COMMANDS[name].run(rest)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {command.ABOUT}" for name, command in COMMANDS.items())
    return (
        "usage: charlm COMMAND ...\n\n"
        "Recurrent language models: train on your own text, watch it learn to write, generate.\n\n"
        f"{lines}\n\n"
        "charlm COMMAND --help lists a command's options. First steps:\n\n"
        "  charlm train input.txt --run runs/first\n"
        "  charlm generate runs/first --prompt 'Once upon'\n"
    )
