"""The search space of a sweep: which settings the sweep tries, and which values of each."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from charlm.config import Config, settings
from charlm.config.plain import nest
from charlm.errors import CharlmError, nearest

KEYS = {"low", "high", "log"}
"""The keys of a range in a space file."""

LIMITS = ("trainer.max_time", "trainer.max_steps", "trainer.max_epochs")
"""Settings that limit the length of a trial; they must be the same for all trials."""


@dataclass(frozen=True)
class Range:
    """A range of values that a sweep tries for one setting.

    Args:
        low, high: The lowest and the highest value, both included.
        integer: Whether the values are whole numbers.
        log: Whether the values are distributed evenly on a logarithmic scale.
    """

    low: float
    high: float
    integer: bool
    log: bool = False


Space = dict[str, Range | list[Any]]
"""The values of each setting by its dotted name: a range, or choices."""


def read_space(path: str | Path) -> Space:
    """Read the search space of a sweep from a YAML file.

    The file names settings and their values: `optimizer.lr: {low: 0.001, high: 0.02, log: true}`,
    `model.cell: [lstm, gru]`. Settings may also be nested in groups (`model:`, then `cell:`).

    Raises:
        CharlmError: The file cannot be read, is not valid YAML or names no settings; a name is no
            setting or is in `LIMITS`; or the values of a setting are wrong.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CharlmError(f"cannot read the space {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CharlmError(f"the space {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not values:
        raise CharlmError(f"the space {path} must name settings, such as model.hidden: {{low: 64, high: 512}}")
    try:
        return {name: _values(name, value) for name, value in _flat(values).items()}
    except CharlmError as error:
        raise CharlmError(f"{path}: {error}") from None


def _flat(values: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of settings by dotted name, from dicts that may be nested.

    A dict with a key in `KEYS` is a range of values, not a group of settings.

    Args:
        values: Settings or groups of settings.
        prefix: The text before the names of these settings, such as "model.".
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        group = isinstance(value, dict) and not value.keys() & KEYS
        found |= _flat(value, f"{name}.") if group else {name: value}
    return found


def _values(name: str, given: Any) -> Range | list[Any]:
    """Return the values that a sweep tries of the setting `name`: a range, or a list of choices.

    Args:
        name: Dotted name of the setting.
        given: What the YAML file has for this setting.

    Raises:
        CharlmError: The name is no setting or is in `LIMITS`; or `given` is neither a range nor a
            list of choices, or does not fit the setting.
    """
    known = {setting.name: setting for setting in settings(Config)}
    if name not in known:
        raise CharlmError(
            f"there is no setting {name!r}{nearest(name, known) or '; the help of charlm train lists them'}"
        )
    if name in LIMITS:
        raise CharlmError(f"`{name}` must be the same for all trials, so that they can be compared; leave it out")
    if isinstance(given, list):
        if len(given) < 2 or any(isinstance(one, list | dict) for one in given):
            raise CharlmError(f"`{name}` needs two or more choices that are plain values, not {given!r}")
        for one in given:
            _check(name, one)
        return given
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= KEYS:
        raise CharlmError(f"`{name}` must be a list of choices, or {{low: ..., high: ..., log: true}}, not {given!r}")
    low, high, log = given["low"], given["high"], given.get("log", False)
    types = _types(known[name].type)
    numbers = all(type(bound) in (int, float) for bound in (low, high))
    if not numbers or not types & {int, float} or not isinstance(log, bool):
        raise CharlmError(f"`{name}` cannot have a range from {low!r} to {high!r}; name its values as a list")
    if not low < high:
        raise CharlmError(f"the range of `{name}` must rise from low to high, not from {low} to {high}")
    if log and low <= 0:
        raise CharlmError(f"the range of `{name}` must begin above 0 if it is logarithmic, not at {low}")
    _check(name, low)
    _check(name, high)
    return Range(low, high, float not in types, log)


def _check(name: str, value: Any) -> None:
    """Raise CharlmError if the setting `name` cannot have this value."""
    Config.from_dict(nest({name: value}))


def _types(hint: Any) -> set[type]:
    """Return the classes in a type hint, such as `int` and `NoneType` in `int | None`."""
    parts = typing.get_args(hint)
    return {hint} if isinstance(hint, type) and not parts else {one for part in parts for one in _types(part)}
