"""The merging of settings from files and presets, environment variables and options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charlm.cli.options import read_text
from charlm.config import Config, settings
from charlm.config.plain import merge, nest
from charlm.config.presets import find_preset
from charlm.errors import CharlmError, nearest

PREFIX = "CHARLM_"
OTHER_VARIABLES = ("CHARLM_CACHE", "CHARLM_RUN")
"""Environment variables that charlm reads and that are not settings."""


def given_settings(text: Sequence[str], files: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    """Merge all settings that a user gave into nested dictionaries.

    Later sources win over earlier ones: files in their order, then environment variables, then
    options.

    Args:
        text: The texts that the command line names.
        files: Names of presets and files.
        options: The options of the command line, as nested dictionaries; they are not checked.

    Raises:
        CharlmError: a file or a preset cannot be used (see `from_file`), an environment variable is
            wrong (see `from_environment`), or the option `samples.prompts` has taken the text.
    """
    if text:
        options = merge(options, {"data": {"text": list(text)}})
    elif taken := [prompt for prompt in options.get("samples", {}).get("prompts", ()) if Path(prompt).is_file()]:
        raise CharlmError(f"`samples.prompts` took {taken[0]} for a prompt; name the text before the options")
    layers: dict[str, Any] = {}
    for name in files:
        layers = merge(layers, from_file(name))
    return merge(merge(layers, from_environment()), options)


def from_file(name: str) -> dict[str, Any]:
    """Read settings from a YAML file, or from a preset by its name, into nested dictionaries.

    Raises:
        CharlmError: there is neither such a file nor such a preset, the file is not YAML, or it has
            an unknown key or a value that does not fit.
    """
    import yaml

    path = find_preset(name)
    try:
        values = yaml.safe_load(read_text(path)) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CharlmError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise CharlmError(f"{name} must hold settings such as model: {{hidden: 256}}")
    return _checked(name, values)


def from_environment() -> dict[str, Any]:
    """Read settings from variables such as CHARLM_MODEL__HIDDEN and CHARLM_SEED.

    The result has nested dictionaries, such as {"model": {"hidden": "256"}}.

    Raises:
        CharlmError: a variable with the prefix CHARLM_ is no setting, or its value does not fit.
    """
    known = {setting.name: f"{PREFIX}{setting.name.upper().replace('.', '__')}" for setting in settings(Config)}
    strangers = {name for name in os.environ if name.startswith(PREFIX)} - {*known.values(), *OTHER_VARIABLES}
    if strangers:
        first = min(strangers)
        hint = nearest(first, known.values()) or "; unset it"
        raise CharlmError(f"the environment variable {first} is not a setting{hint}")
    values = nest({name: os.environ[variable] for name, variable in known.items() if variable in os.environ})
    for name, variable in known.items():
        if variable in os.environ:
            _checked(variable, nest({name: os.environ[variable]}))
    return _checked("environment", values)


def _checked(source: str, values: dict[str, Any]) -> dict[str, Any]:
    try:
        Config.from_dict(values)
    except CharlmError as error:
        raise CharlmError(f"{source}: {error}") from None
    return values
