"""A setting becomes an option: of the command line, of a variable in the environment, of a YAML file."""

from __future__ import annotations

import argparse
import dataclasses
import os
import typing
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from charlm.config import Config
from charlm.config.settings import Setting, build, check_ranges, nest, settings
from charlm.errors import CharlmError, nearest
from charlm.files import standard_input

ENVIRONMENT = "CHARLM_"
ANSWERS = ("true", "false", "null", "yes", "no", "on", "off", "1", "0")  # what may follow a switch
OTHER_VARIABLES = ("CHARLM_CACHE", "CHARLM_RUN")  # that are no settings

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CharlmError(f"{message}; see charlm {self.prog.split()[-1]} --help")


def parser_of(command: str, about: str, more: str = "") -> argparse.ArgumentParser:
    """The parser of a command, still without options."""
    return _Parser(prog=f"charlm {command}", description=about, epilog=more, allow_abbrev=False)


def add_settings(parser: argparse.ArgumentParser, cls: type, skip: Sequence[str] = ()) -> None:
    """An option for each setting of a class; values stay text, for `build` to read and check."""
    groups: dict[str, Any] = {"": parser}
    for definition in fields(cls):
        if dataclasses.is_dataclass(definition.default_factory):
            about = definition.default_factory.__doc__
            groups[definition.name] = parser.add_argument_group(definition.name, about)
    for setting in settings(cls):
        if setting.name not in skip:
            group = groups[setting.name.rpartition(".")[0]]
            group.add_argument(f"--{setting.name}", default=argparse.SUPPRESS, **_option(setting))


def _option(setting: Setting) -> dict[str, Any]:
    """What argparse wants to know of a setting."""
    words = setting.help
    if "{cells}" in words:
        from charlm.network.cells import cells

        words = words.format(cells=", ".join(cells))
    if "{tokenizers}" in words:
        from charlm.text.tokenization import tokenizers

        words = words.format(tokenizers=", ".join(tokenizers))
    if isinstance(setting.value, int | float | str) and setting.value not in (False, ""):
        words += f" (default: {setting.value})"
    words = words.replace("%", "%%")
    if setting.type is bool or setting.type == (bool | None):
        return {"help": words, "nargs": "?", "const": "true", "metavar": "true|false"}
    if typing.get_origin(setting.type) is list:
        return {"help": words, "nargs": "+", "action": "extend", "metavar": "TEXT"}
    kinds = typing.get_args(setting.type) or (setting.type,)
    choice = next((kind for kind in (setting.type, *kinds) if typing.get_origin(kind) is typing.Literal), None)
    if choice is not None:
        return {"help": words, "metavar": "|".join(typing.get_args(choice))}
    name = setting.name.rpartition(".")[2].upper()
    return {"help": words, "metavar": "N" if int in kinds else "X" if float in kinds else name}


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    """What was named on the command line, as text.

    Raises:
        CharlmError: an option that there is not (the nearest is suggested), or one without its value.
    """
    switches = {flag for action in parser._actions if action.const == "true" for flag in action.option_strings}
    following = [*arguments[1:], ""]
    spelled = [
        f"{one}=true" if one in switches and after.lower() not in ANSWERS else one
        for one, after in zip(arguments, following, strict=False)
    ]
    known, unknown = parser.parse_known_intermixed_args(spelled)
    options = [flag[2:] for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    if unknown:
        first = unknown[0].split("=")[0]
        name = first.lstrip("-").replace("-", "_")
        hint = _other_name(name, options) or nearest(f"--{name}", [f"--{option}" for option in options])
        raise CharlmError(f"there is no option {first}{hint}; see {parser.prog} --help")
    return vars(known)


def read(parser: argparse.ArgumentParser, cls: type, arguments: list[str]) -> tuple[dict[str, Any], Any]:
    """A command line as (what the parser itself asks for, the settings of a class), the settings checked.

    Raises:
        CharlmError: an unknown option, or a value of the wrong type or out of its range.
    """
    add_settings(parser, cls)
    named = parse(parser, arguments)
    values = {setting.name: named.pop(setting.name) for setting in settings(cls) if setting.name in named}
    config = build(cls, values)
    check_ranges(config)
    return named, config


def _other_name(name: str, options: list[str]) -> str:
    """A hint for a name that other programs use, or one that was abbreviated or whose group was left out."""
    tails = [option for option in options if option.rpartition(".")[2] == name]
    if FAMILIAR.get(name) in options:
        tails = [FAMILIAR[name]]
    tails = tails or [option for option in options if len(name) > 2 and option.rpartition(".")[2].startswith(name)]
    return f"; did you mean --{tails[0]}?" if tails else ""


def from_environment() -> dict[str, Any]:
    """Nested settings from variables such as CHARLM_MODEL__HIDDEN and CHARLM_SEED.

    Raises:
        CharlmError: a variable that is no setting, or a value that does not fit.
    """
    names = [setting.name for setting in settings(Config)]
    known = {name: f"{ENVIRONMENT}{name.upper().replace('.', '__')}" for name in names}
    strangers = {name for name in os.environ if name.startswith(ENVIRONMENT)} - {*known.values(), *OTHER_VARIABLES}
    if strangers:
        first = min(strangers)
        raise CharlmError(
            f"the environment variable {first} is no setting{nearest(first, known.values()) or '; unset it'}"
        )
    values = nest({name: os.environ[variable] for name, variable in known.items() if variable in os.environ})
    try:
        check_ranges(build(Config, values))
    except CharlmError as error:
        raise CharlmError(f"environment: {error}") from None
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Nested settings from a file written by hand.

    Raises:
        CharlmError: not YAML, an unknown key, or a value that does not fit; the file is named.
    """
    import yaml

    try:
        values = yaml.safe_load(read_text(path)) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CharlmError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise CharlmError(f"{path} must hold settings such as `model: {{hidden: 256}}`")
    try:
        check_ranges(build(Config, values))
    except CharlmError as error:
        raise CharlmError(f"{path}: {error}") from None
    return values


def read_text(path: Path) -> str:
    """A small UTF-8 file, its newlines kept; - is standard input.

    Raises:
        CharlmError: it cannot be read.
    """
    try:
        if str(path) == "-":
            return standard_input().read().decode("utf-8")
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        name = "standard input" if str(path) == "-" else path
        raise CharlmError(f"{name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise CharlmError(f"cannot read {path}: {error.strerror}; check the path") from None
