"""The command line: each command is a function in a module of its own.

The module of a command is imported only when the command runs or shows its help, and it imports
slow libraries only where it uses them. Therefore help is fast.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import ROUNDED, Box
from rich.console import Console

from charlm import __version__
from charlm.cli.options import (
    explained,
    group_names,
    names_as_options,
    option_names,
    spelled,
    take_imports,
    unknown_option,
)
from charlm.errors import CharlmError, Interrupted
from charlm.files import describe_os_error
from charlm.interruptible import abandoned
from charlm.views.text import visible

GROUPS = {
    "Train": ["train", "race", "sweep"],
    "Generate": ["generate", "play", "fill"],
    "Evaluate": ["evaluate", "score", "attribute", "doctor"],
    "Inspect": ["samples", "report", "cells"],
    "Settings": ["presets"],
}
"""The commands in the groups of the help."""

FRAMED, PLAIN = PanelSpec(box=ROUNDED, padding=(0, 1)), PanelSpec(box=Box("    \n" * 8), padding=0)
"""The frames around the parts of the help: drawn on a terminal, blank in a pipe."""

PIPED_WIDTH = 120
"""Width of the help, in columns, when standard output is not a terminal."""

PARAMETER = Parameter(name_transform=lambda name: name, negative=(), allow_repeating=True, show_default=False)
"""What holds for every option: its name keeps underscores, and there is no `--no-NAME` for it.

An option may be repeated. Then the last value counts, or all values if the option takes several.
"""

IMPORT = "With every command, --import FILE first runs a Python file of yours, such as one that registers a cell."
LONGEST = 200
"""Characters of a value that a message repeats."""

WRITING = ("train", "report")
"""Commands whose result is a file; that of the others is what they print."""

EPILOGUE = f"charlm COMMAND --help lists the options of a command. {IMPORT}"


def build_app(arguments: Sequence[str] = ()) -> App:
    """Build the command line.

    A command is the function of the same name in the module of the same name: `train` is
    `charlm.cli.train.train`.

    Args:
        arguments: What the user typed. If a command is named there, its summary comes from its
            function. The summaries of the other commands are read from their source, which is
            faster than importing them.
    """
    live = sys.stdout is not None and sys.stdout.isatty()
    app = App(
        name="charlm",
        help="Recurrent language models: train on your own text, see it improve, generate.",
        help_epilogue=EPILOGUE,
        version=f"charlm {__version__}",
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        help_formatter=DefaultFormatter(panel_spec=FRAMED if live else PLAIN),
        console=None if live else Console(width=PIPED_WIDTH),
        default_parameter=PARAMETER,
        group_parameters=Group("Options", sort_key=1),
        result_action="return_value",
    )
    groups = {title: Group(title, sort_key=number) for number, title in enumerate(GROUPS)}
    for title, names in GROUPS.items():
        for name in names:
            summary = {} if arguments and arguments[0] == name else {"help": _summary(name)}
            app.command(
                f"charlm.cli.{name}:{name}",
                name=name, group=groups[title], help_epilogue="", default_parameter=PARAMETER, **summary,
            )  # fmt: skip
    app.register_install_completion_command(group=groups["Settings"], help="Install completion for your shell.")
    return app


def _summary(name: str) -> str:
    """Return the first line of a command's docstring, read from the source of its module.

    Reading the source is faster than importing the modules of all commands to show the help.
    """
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return (ast.get_docstring(next(functions)) or "").partition("\n")[0]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit the process.

    The exit status is 0 on success; 2 for an error that a user can fix, with one line on standard
    error; 130 after Ctrl-C; 143 after SIGTERM; 141 if the program that reads the output has ended.

    Args:
        argv: What the user typed after `charlm`; None: the arguments of this process.
    """
    threading.excepthook = _thread_failed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":  # characters the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    closed = _open_standard_streams()
    Console.on_broken_pipe = _reader_gone  # type: ignore[method-assign,assignment]
    try:
        status = _status(arguments, closed)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python exits: at once and without a traceback
    if abandoned():
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status(arguments: list[str], closed: bool) -> int:
    """Run a command and return its exit status; if it fails, print one line that says why.

    Args:
        arguments: What the user typed after `charlm`.
        closed: Whether standard output was closed when the process began.
    """
    command: App | None = None
    try:
        if closed and arguments[:1] not in [[name] for name in WRITING]:
            raise CharlmError("standard output is closed; send it to a file, or to /dev/null")
        arguments = take_imports(arguments)
        app = build_app(arguments)
        command = app[arguments[0]] if arguments and arguments[0] in app and arguments[0][0] != "-" else None
        _run(app, command, arguments)
        sys.stdout.flush()
        return 0
    except CharlmError as error:
        message = _shortened(str(error), arguments)
        return _fail(names_as_options(message, [*option_names(command), "import"] if command else ()))
    except Interrupted as interrupted:
        return 128 + interrupted.signal
    except KeyboardInterrupt:
        _fail("interrupted")
        return 130
    except SystemExit as end:  # SIGTERM while a training is prepared
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        # The reader of our output has gone; what is left in the buffers must not fail at exit.
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                os.fstat(descriptor)
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        return 141
    except (MemoryError, ImportError, RuntimeError, OSError) as error:
        if (description := _explain_system(error)) is None:
            raise
        return _fail(_shortened(description, arguments))


def _reader_gone(console: Console) -> NoReturn:
    """Raise again the BrokenPipeError that rich is handling, so that `_status` ends the command."""
    raise


def _open_standard_streams() -> bool:
    """Open the standard streams that are closed, and return whether standard output was closed.

    They are opened on the null device. Otherwise the next file that is opened would get the file
    descriptor of a standard stream, and output would be written into it.
    """
    closed = sys.stdout is None
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
        sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    return closed


def _explain_system(error: BaseException) -> str | None:
    """Return in one line what the system refused and what to do; None if the error is a bug."""
    if isinstance(error, OSError) and (description := describe_os_error(error)):
        return description
    full = ("allocate", "failed to map segment", "can't start new thread", "not enough memory", "libgomp")
    if isinstance(error, MemoryError) or any(part in str(error) for part in full):
        return "the memory is full; close other programs, raise the limit (ulimit -v), or take a smaller network"
    return None


def _shortened(message: str, arguments: Sequence[str]) -> str:
    """Return a message in which long values are cut.

    A value that was typed is cut to `LONGEST` characters, and so is any word of at least twice that
    length.

    Args:
        message: The message.
        arguments: What the user typed.
    """
    values = [text for argument in arguments for text in (argument, argument.partition("=")[2])]
    for text in sorted((text for text in values if len(text) > LONGEST), key=len, reverse=True):
        for shown in (text, repr(text)[1:-1]):
            message = message.replace(shown, f"{shown[:LONGEST]}...")
    return re.sub(rf"(\S{{{LONGEST}}})\S{{{LONGEST}}}\S*", r"\1...", message)


def _run(app: App, command: App | None, arguments: list[str]) -> None:
    """Parse the arguments and call the function of the command.

    Args:
        app: The command line.
        command: The command that the arguments name; None if they name none, as with `--help`.
        arguments: What was typed, the name of the command included.
    """
    if command is not None:
        arguments = [arguments[0], *spelled(command, arguments[1:])]
        groups = group_names(command)
        for word in arguments:  # the parser would give the value of a group to the first setting of the group
            if word.split("=")[0] in groups:
                raise unknown_option(command, word)
    try:
        function, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise explained(app, error) from None
    if command is not None:
        for text in bound.arguments.get("text", ()):  # the parser lets any text begin with -
            if text.startswith("-") and text != "-":
                raise unknown_option(command, text)
    function(*bound.args, **bound.kwargs)


def _fail(message: str) -> int:
    print(f"charlm: {visible(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread that failed, unless a user can fix the error.

    TensorBoard writes in a thread, which fails with an OSError when the disk is full. The same
    error is raised in the main thread when the next number is logged, and reported there.
    """
    if not (isinstance(failure.exc_value, OSError) and describe_os_error(failure.exc_value)):
        threading.__excepthook__(failure)
