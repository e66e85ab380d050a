"""Settings as options of the command line: cyclopts parses them and msgspec converts them.

Cyclopts also prints help and completes options in the shell.

Most options of a command are declared as a dataclass of settings, like `Config` (see
`charlm.config.fields.setting`). A command's function has a parameter of type `Options[cls]`, where
`cls` is this dataclass. The parameter collects the options that the user gave; `read` converts and
checks them and returns an instance of `cls`.
"""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import inspect
import sys
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

from cyclopts import App, CycloptsError, Group, Parameter, Token
from cyclopts.exceptions import (
    CoercionError,
    ConsumeMultipleError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from charlm.config.fields import is_group, range_in_words
from charlm.config.plain import from_plain
from charlm.errors import CharlmError, nearest
from charlm.files import standard_input

T = TypeVar("T")

UNNAMED: Any = object()
"""The value of an option that the user did not give."""

FAMILIAR = {
    "rnn_size": "model.hidden", "hidden_size": "model.hidden", "nhid": "model.hidden", "n_embd": "model.embedding",
    "emsize": "model.embedding", "wordvec_size": "model.embedding", "num_layers": "model.layers",
    "nlayers": "model.layers", "n_layer": "model.layers", "model_type": "model.cell", "rnn_type": "model.cell",
    "tied": "model.tie", "bptt": "data.seq_length", "block_size": "data.seq_length", "chunk_len": "data.seq_length",
    "epochs": "trainer.max_epochs", "num_epochs": "trainer.max_epochs", "n_epochs": "trainer.max_epochs",
    "max_iters": "trainer.max_steps", "learning_rate": "optimizer.lr", "grad_clip": "trainer.gradient_clip_val",
    "clip": "trainer.gradient_clip_val", "val_frac": "data.val_fraction", "test_frac": "data.test_fraction",
    "out_dir": "run", "checkpoint_dir": "run", "input_txt": "data.text", "data_dir": "data.text", "input": "data.text",
    "primetext": "prompt", "start_text": "prompt", "start": "prompt", "prefix": "prompt", "max_new_tokens": "length",
    "num_samples": "samples", "words": "length", "level": "tokenizer.kind", "vocab_size": "tokenizer.size",
    "gpu": "trainer.accelerator", "gpuid": "trainer.accelerator", "cuda": "trainer.accelerator",
}  # fmt: skip
"""What other programs call an option, so that the error message can name ours."""

_headings: dict[str, Group] = {}
"""The groups that `_heading` names, by their titles."""

ANSWERS = ("true", "false", "yes", "no", "on", "off", "1", "0")
"""What may follow a switch as a word of its own."""

Texts = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""A text on the command line: a file, a folder, a glob, or - for standard input."""


if TYPE_CHECKING:
    Options = Optional[T]  # noqa: UP045 - a generic alias
else:

    class Options:
        """`Options[cls]`: a parameter of this type has an option for each setting of `cls`."""

        def __class_getitem__(cls, settings: type) -> Any:
            return Annotated[_option_class(settings), Parameter(name="*")]


def read(cls: type[T], options: Any) -> T:
    """Convert and check the options of a command, and return them as an instance of `cls`.

    Args:
        cls: A dataclass of settings, one for each option.
        options: What the user typed; options that are not given keep their defaults.

    Raises:
        CharlmError: a value of the wrong type or out of its range.
    """
    return from_plain(cls, named(options))


def named(options: Any) -> dict[str, Any]:
    """Return nested dictionaries with the options that the user gave, not converted or checked.

    A value is the text that was typed, a list of texts for an option that takes several, True for a
    switch without a value, or None if "none" or "null" was typed for an option that may be None.
    """
    values: dict[str, Any] = {}
    for definition in dataclasses.fields(options) if options is not None else ():
        value = getattr(options, definition.name)
        if dataclasses.is_dataclass(value):
            if group := named(value):
                values[definition.name] = group
        elif value is not UNNAMED:
            values[definition.name] = value
    return values


def _option_class(cls: type) -> Any:
    """Make a dataclass for cyclopts with an option for each setting of `cls`.

    Its values stay as they were typed.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    options: list[Any] = []
    for definition in dataclasses.fields(cls):
        if is_group(definition):
            inner = _option_class(typing.cast(type, definition.default_factory))
            group = Group(definition.name, help=inspect.getdoc(definition.default_factory) or "")
            options.append((definition.name, Annotated[inner, Parameter(group=group)], _default(inner)))
        else:
            option = _option(definition, hints[definition.name])
            if heading := _heading(cls, definition.name):
                # Headings come after the group of options without one, in the order of their first use. A class that
                # several commands use has a fixed place, so that the order does not depend on which is used first.
                place = getattr(cls, "HEADING_PLACE", 2 + len(_headings))
                group = _headings.setdefault(heading, Group(heading, sort_key=place))
                option = Annotated[option, Parameter(group=group)]
            options.append((definition.name, option, _default(UNNAMED)))
    # Without `__module__` the class may belong to `types`, and cyclopts would take it for a plain
    # value, like every class of the standard library.
    return dataclasses.make_dataclass(f"{cls.__name__}Options", options, namespace={"__module__": __name__})


def _heading(cls: type, name: str) -> str:
    """Return the heading in the help above an option: `HEADING` of the class that first defines the setting."""
    owner = next(base for base in reversed(cls.__mro__) if name in vars(base).get("__annotations__", {}))
    return str(vars(owner).get("HEADING", ""))


def _default(value: Any) -> Any:
    return dataclasses.field(default_factory=value) if isinstance(value, type) else dataclasses.field(default=value)


def _option(definition: dataclasses.Field[Any], hint: Any) -> Any:
    """Return the type of an option, annotated with what help and completion show.

    Args:
        definition: The dataclass field that defines the setting.
        hint: The type of the setting.
    """
    choices = _choices(definition.metadata["choices"])
    several = typing.get_origin(hint) is tuple
    shown: Any = Literal[choices] if choices else typing.get_args(hint)[0] if several else hint
    shown = list[shown] if several else shown
    notes = [limits] if (limits := range_in_words(hint)) else []
    default = definition.default
    if default not in (None, "", (), ("",)):
        plain = str(default).lower() if isinstance(default, bool) else default
        notes.append(f"default: {' '.join(map(repr, default)) if isinstance(default, tuple) else plain}")
    converter = _texts if several else _text_or_none if type(None) in typing.get_args(hint) else _text
    words = definition.metadata["help"] + (f" [{', '.join(notes)}]" if notes else "")
    return Annotated[
        shown,
        Parameter(
            help=words, converter=converter, consume_multiple=1 if several else False, negative=(),
            allow_leading_hyphen=str in (hint, *typing.get_args(hint)) and not several, show_default=False,
        ),
    ]  # fmt: skip


def _choices(registry: str) -> tuple[str, ...]:
    if registry == "cells":
        from charlm.network.cells import cells

        return tuple(cells)
    if registry == "tokenizers":
        from charlm.text.tokenization import tokenizer_kinds

        return tuple(tokenizer_kinds)
    return ()


def _text(hint: Any, tokens: Sequence[Token]) -> Any:
    """Return the value of an option as it was typed; True for a switch without a value."""
    return tokens[-1].implicit_value if isinstance(tokens[-1].implicit_value, bool) else tokens[-1].value


def _text_or_none(hint: Any, tokens: Sequence[Token]) -> Any:
    """Return the value of an option as `_text` does, but None if "none" or "null" was typed."""
    value = _text(hint, tokens)
    return None if str(value).lower() in ("none", "null") else value


def _texts(hint: Any, tokens: Sequence[Token]) -> list[str]:
    return [token.value for token in tokens]


# -- what was typed


def spelled(app: App, arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the value of each switch joined to the switch.

    `--model.tie false` becomes `--model.tie=false`.

    Args:
        app: The command.
        arguments: What the user typed after the name of the command.

    Raises:
        CharlmError: a switch is followed by letters that are neither one of `ANSWERS` nor an existing
            path.
    """
    switches = {
        name for argument in app.assemble_argument_collection() if _is_switch(argument) for name in argument.names
    }
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in switches and word.lower() in ANSWERS:
            joined[-1] += f"={word}"
        elif joined and joined[-1] in switches and word.isalpha() and not Path(word).exists():
            raise CharlmError(f"{joined[-1]} must be true or false, not {word!r}; see charlm {app.name[0]} --help")
        else:
            joined.append(word)
    return joined


def take_imports(arguments: Sequence[str]) -> list[str]:
    """Import the file of each `--import FILE`, and return the other arguments.

    The files may register cells and other extensions.

    Raises:
        CharlmError: a file is missing, or importing it raises an error.
    """
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, path = word.partition("=")
        if name != "--import":
            kept.append(word)
            continue
        path = path if equals else next(words, "")
        if not Path(path).is_file():
            raise CharlmError(f"--import {path}: there is no such file; name a Python file that registers a cell")
        import_file(Path(path).resolve())
    return kept


def import_file(path: Path) -> None:
    """Import a Python file, unless it has been imported before.

    Raises:
        CharlmError: importing the file raises an error.
    """
    name = f"charlm imports {path}"
    if name in sys.modules:
        return
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=str(path)))
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise CharlmError(f"--import {path} fails: {type(error).__name__}: {error}; correct the file") from error


def _is_switch(argument: Any) -> bool:
    return bool in (argument.hint, *typing.get_args(argument.hint))


def option_names(app: App) -> list[str]:
    """Return the names of the options of a command, without the leading hyphens."""
    arguments = [argument for argument in app.assemble_argument_collection() if not argument.children]
    return [name[2:] for argument in arguments for name in argument.names if name.startswith("--")]


def group_names(app: App) -> list[str]:
    """Return the names of the groups of options of a command, with hyphens, such as `--model`."""
    names = [name for argument in app.assemble_argument_collection() if argument.children for name in argument.names]
    return [name for name in names if name.startswith("--")]  # a collection of options is called *


def unknown_option(app: App, word: str) -> CharlmError:
    """Return the error for a word that looks like an option of a command but is none.

    The message suggests the option that other programs call by this word, or else one with a
    similar name, if there is one. If the word is the name of a group of options, the message names
    an option of the group instead.

    Args:
        app: The command.
        word: The word, which may be joined to a value (`--model.cel=gru`).
    """
    options = option_names(app)
    first = word.split("=")[0]
    name = first.lstrip("-").replace("-", "_")
    tails = [option for option in options if option.rpartition(".")[2] == name]
    if FAMILIAR.get(name) in options:
        tails = [FAMILIAR[name]]
    tails = tails or [option for option in options if len(name) > 2 and option.rpartition(".")[2].startswith(name)]
    if first in group_names(app):
        member = next(option for option in options if option.startswith(f"{name}."))
        return CharlmError(f"{first} is a group of options; name one of its settings, such as --{member}")
    similar = nearest(f"--{name}", [f"--{option}" for option in options]).replace("'", "")
    hint = f"; did you mean --{tails[0]}?" if tails else similar
    return CharlmError(f"there is no option {first}{hint}; see charlm {app.name[0]} --help")


def explained(app: App, error: CycloptsError) -> CharlmError:
    """Turn an error of the parser into a CharlmError of one line that says what to do."""
    names = [name for name in app if not name.startswith("-")]
    if isinstance(error, UnknownCommandError):
        name = error.unused_tokens[0] if error.unused_tokens else ""
        if name.startswith("-"):
            return CharlmError(f"there is no option {name}; see charlm --help")
        return CharlmError(f"there is no command {name!r}; choose from {', '.join(names)}{nearest(name, names)}")
    command = app
    for name in error.command_chain or ():
        command = command[name]
    if isinstance(error, UnknownOptionError):
        return unknown_option(command, error.token.keyword or error.token.value)
    see = " ".join(["see charlm", *(error.command_chain or ()), "--help"])
    if isinstance(error, UnusedCliTokensError):
        return CharlmError(f"{(error.unused_tokens or [see])[0]!r} is one argument too many; {see}")
    if isinstance(error, MissingArgumentError | ConsumeMultipleError) and error.argument is not None:
        name = error.argument.name
        what = f"{name} needs a value" if name.startswith("--") else f"name {name}, {error.argument.parameter.help}"
        return CharlmError(f"{what}; {see}")
    if isinstance(error, CoercionError) and error.token is not None and error.argument is not None:
        return CharlmError(f"{error.argument.name} must be true or false, not {error.token.value!r}; {see}")
    return CharlmError(f"{str(error).strip().rstrip('.')}; {see}")


def names_as_options(message: str, options: Iterable[str]) -> str:
    """Return a message in which names of settings are replaced by options of a command.

    Settings in backquotes, such as `model.hidden`, become options such as --model.hidden.

    Args:
        message: The message.
        options: The names of the command's options, without hyphens.
    """
    known = {option: option for option in options}
    tails = {option.rpartition(".")[2]: option for option in known}
    parts = message.split("`")
    for index in range(1, len(parts) - 1, 2):
        name = parts[index]
        option = known.get(name) or (tails.get(name.rpartition(".")[2]) if "." in name else None)
        parts[index] = f"--{option}" if option else f"`{name}`"
    return "".join(parts)


def output_path(name: str | Path) -> Path:
    """Return the path of a file that a command is going to write, after a check of the path.

    Raises:
        CharlmError: the path is a folder, or its folder does not exist.
    """
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise CharlmError(f"cannot write {path}: it needs a folder that exists, and the name of a file in it")
    return path


def read_text(path: Path) -> str:
    """Read a small UTF-8 file without changing its newlines; the path - is standard input.

    Raises:
        CharlmError: the file cannot be read, or is not UTF-8.
    """
    try:
        if str(path) == "-":
            return standard_input().read().decode("utf-8")
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        name = "standard input" if str(path) == "-" else path
        raise CharlmError(f"{name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except FileNotFoundError:
        raise CharlmError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise CharlmError(f"cannot read {path}: {error.strerror}; check the path") from None
