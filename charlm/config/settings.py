"""A setting: one typed definition with its default, its range and its line of help, and what reads and checks it."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from typing import Any, Literal, NamedTuple

from charlm.errors import CharlmError, nearest


def setting(default: Any, help: str, **bounds: float) -> Any:
    """A dataclass field with its default, its one line of help and its range (see `bounds_of`)."""
    metadata = {"help": help, "bounds": bounds_of(**bounds)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def bounds_of(
    *, low: float | None = None, high: float | None = None, above: float | None = None, below: float | None = None
) -> dict[str, float]:
    """A range, low <= value <= high and above < value < below, as signs and numbers."""
    bounds = {">=": low, "<=": high, ">": above, "<": below}
    return {sign: bound for sign, bound in bounds.items() if bound is not None}


class Setting(NamedTuple):
    """One setting: its dotted name, value, type, line of help and range."""

    name: str
    value: Any
    type: Any
    help: str
    bounds: dict[str, float]


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a config, or of a config class: then with its default."""
    cls = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(cls)
    for definition in fields(cls):
        name = f"{prefix}{definition.name}"
        group = definition.default_factory
        if isinstance(config, type):
            value = definition.default if group is dataclasses.MISSING else group()
        else:
            value = getattr(config, definition.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{name}.")
        else:
            yield Setting(name, value, hints[definition.name], **definition.metadata)


def build(cls: Any, values: Any, prefix: str = "") -> Any:
    """An instance of a settings class from nested plain values or their texts.

    Raises:
        CharlmError: an unknown key or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise CharlmError(f"{prefix.rstrip('.') or 'the settings'} must be a group of settings, not {values!r}")
    known = {definition.name: definition for definition in fields(cls)}
    hints = typing.get_type_hints(cls)
    made = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise CharlmError(f"there is no setting {name!r}{nearest(str(key), known)}")
        group = known[key].default_factory
        if dataclasses.is_dataclass(group):
            made[key] = build(group, value, f"{name}.")
        else:
            made[key] = convert(name, hints[key], value)
    return cls(**made)


def convert(name: str, hint: Any, value: Any) -> Any:
    """`value`, or what its text stands for, as the type `hint`, for the few types that settings have."""
    options = typing.get_args(hint)
    if type(None) in options:
        if value is None or value == "null":
            return None
        hint = next(option for option in options if option is not type(None))
        options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if value in options:
            return value
        raise CharlmError(
            f"--{name} must be one of {', '.join(map(str, options))}, not {value!r}{nearest(str(value), options)}"
        )
    if typing.get_origin(hint) is list:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list | tuple) and all(isinstance(item, str) for item in values):
            return list(values)
    elif hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    elif hint is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    elif hint in (int, float) and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
            if math.isfinite(number) and (hint is float or number == int(number)):
                exact = isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value))
                return hint(value if exact else number)  # a large whole number does not fit a float
        except ValueError:
            pass
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise CharlmError(f"--{name} must be {words.get(hint, 'a list of texts')}, not {value!r}")


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted names to nested dictionaries: {"model.hidden": 1} to {"model": {"hidden": 1}}."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, key = name.split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[key] = value
    return nested


def merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Nested settings in which `upper` wins over `lower`."""
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def check_ranges(config: Any) -> None:
    """Raise CharlmError for the first value out of its range."""
    for setting in settings(config):
        check_range(setting.name, setting.bounds, setting.value)


def check_range(name: str, bounds: Mapping[str, float], value: Any) -> None:
    """Raise CharlmError if the value of the option `name` is not within its bounds; None is within any."""
    compare = {
        ">=": (operator.ge, "at least"),
        "<=": (operator.le, "at most"),
        ">": (operator.gt, "above"),
        "<": (operator.lt, "below"),
    }
    for sign, bound in bounds.items():
        holds, words = compare[sign]
        if value is not None and not holds(value, bound):
            raise CharlmError(f"--{name} must be {words} {bound}, not {value}")


def seconds(text: str | None) -> float | None:
    """A length of time in seconds from `90s`, `3m`, `1h30m`, a plain number or Lightning's `DD:HH:MM:SS`.

    Raises:
        CharlmError: the text is none of these, or no time at all.
    """
    if text is None:
        return None
    text = text.strip()
    total = None
    if re.fullmatch(r"\d+(:\d+){1,3}", text):
        total = 0.0
        for part, unit in zip(reversed(text.split(":")), (1, 60, 3600, 86400), strict=False):
            total += int(part) * unit
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        total = float(text)
    elif text and re.fullmatch(r"(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?", text):
        units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
        total = sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))
    if total == 0:
        raise CharlmError(f"--trainer.max_time must be longer than {text!r}")
    if total is None:
        raise CharlmError(f"--trainer.max_time is not a time: {text!r}; write 90s, 3m, 1h30m or 00:00:03:00")
    return total


def duration(seconds: float) -> str:
    """A length of time as people write it: 45s, 3m, 1m30s, 2h05m; what the function `seconds` reads."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m" if minutes else f"{hours}h"
    return f"{rest}s" if not minutes else f"{minutes}m{rest:02}s" if rest else f"{minutes}m"
