"""Conversion of settings from and to nested dictionaries, with a check of every value.

The dictionaries come from a YAML file, the command line or Python, and have basic types only.
"""

from __future__ import annotations

import re
import typing
from dataclasses import asdict, fields
from typing import Any, Literal, TypeVar

import msgspec

from charlm.config.fields import is_group, range_in_words
from charlm.errors import CharlmError, nearest

T = TypeVar("T")

RANGES = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}
TYPES = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "array": "a list of texts",
    "object": "a group of settings",
}  # fmt: skip
"""What the messages of msgspec call a type, and what ours call it."""


def from_plain(cls: type[T], values: Any, name: str = "") -> T:
    """Make an instance of a settings class from nested dictionaries, and check every value.

    A value of any type may also be given as text ("3").

    Args:
        cls: A dataclass of settings.
        values: A dictionary of values by name; missing settings keep their defaults.
        name: Dotted name of the group, for messages.

    Raises:
        CharlmError: an unknown name, a value of the wrong type or out of its range.
    """
    tidied = _tidied(cls, values, name)
    try:
        return msgspec.convert(tidied, cls, strict=False)
    except msgspec.ValidationError as error:
        match = re.search(r" - at `\$\.?([\w.]*)", str(error))
        value, hint = tidied, cls
        for key in match[1].split(".") if match and match[1] else ():
            value, hint, name = (
                value[key],
                typing.get_type_hints(hint, include_extras=True)[key],
                f"{name}.{key}" if name else key,
            )
        raise _explained(str(error), name, hint, value) from None


def checked(name: str, hint: Any, value: Any) -> Any:
    """Convert the value of a setting to the type of the setting, and return it.

    Args:
        name: Dotted name of the setting, for messages.
        hint: The type.
        value: The value, which may also be text ("3").

    Raises:
        CharlmError: the value is of the wrong type or out of its range, or has bytes that are not
            UTF-8.
    """
    _check_unicode(name, value)
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error), name, hint, value) from None


def to_plain(config: Any) -> dict[str, Any]:
    """Return settings as nested dictionaries of basic types, in the order of their definitions."""
    values = asdict(config)  # msgspec alone leaves out the defaults of what it has converted itself
    plain: dict[str, Any] = msgspec.to_builtins(values)
    return plain


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries into one with dotted names: {"a": {"b": 1}} becomes {"a.b": 1}."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        named |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return named


def nest(named: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted names into nested dictionaries: {"a.b": 1} becomes {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for name, value in named.items():
        *groups, key = name.split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[key] = value
    return nested


def merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings in which the values of `upper` replace those of `lower`."""
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _tidied(cls: type, values: Any, name: str) -> dict[str, Any]:
    """Check every name, and return the values in a form that msgspec can convert.

    Where the class has a list, a single text becomes a list; where it has text, a number becomes
    text.

    Args:
        cls: The settings class.
        values: A dictionary of values by name.
        name: Dotted name of the group, for messages.
    """
    if not isinstance(values, dict):
        raise CharlmError(f"{f'`{name}`' if name else 'the settings'} must be a group of settings, not {values!r}")
    definitions = {definition.name: definition for definition in fields(cls)}
    hints = typing.get_type_hints(cls)
    tidied: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{name}.{key}" if name else str(key)
        if key not in definitions:
            choices = [f"{name}.{key}" if name else key for key in definitions]
            raise CharlmError(f"there is no setting {full!r}{nearest(full, choices)}")
        if is_group(definitions[key]):
            tidied[key] = _tidied(typing.cast(type, definitions[key].default_factory), value, full)
        elif typing.get_origin(hints[key]) is tuple and isinstance(value, str):
            tidied[key] = [value]
        elif type(value) in (int, float) and (hints[key] is str or str(value) in typing.get_args(hints[key])):
            tidied[key] = str(value)
        else:
            if hints[key] is not str:  # the name of a file may have any bytes
                _check_unicode(full, value)
            tidied[key] = value
    return tidied


def _check_unicode(name: str, value: Any) -> None:
    """Raise CharlmError if the value of a setting is a text with bytes that are not UTF-8.

    Python puts lone surrogates in place of such bytes of the command line.
    """
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
        raise CharlmError(f"`{name}` is {_short(value)}, with bytes that are not UTF-8; type it again")


def _explained(problem: str, name: str, hint: Any, value: Any) -> CharlmError:
    """Turn an error of msgspec ("Expected `int` >= 1 - at `$.model.hidden`") into one for users.

    Args:
        problem: The message of msgspec.
        name, hint, value: Dotted name, type and wrong value of the setting.
    """
    options = [str(option) for option in _literals(hint)]
    if problem.startswith("Invalid enum value"):
        wanted = f"one of {', '.join(options)}"
    elif re.match(r"Expected `(?:int|float)", problem) and " or " in range_in_words(hint):
        wanted = f"a number {range_in_words(hint)}"
    elif match := re.match(r"Expected `(?:int|float)[^`]*` (>=|<=|>|<) (\S+)", problem):
        wanted = f"{RANGES[match[1]]} {float(match[2]):g}"
    else:
        match = re.match(r"Expected `(\w+)", problem)
        wanted = TYPES.get(match[1], match[1]) if match else "something else"
        wanted = ", ".join([wanted, *options[:-1]]) + f" or {options[-1]}" if options else wanted
    if str(value).lower() == "nan":
        wanted = "a number"
    elif str(value).lower().lstrip("+-") in ("inf", "infinity") or problem.startswith("Number out of range"):
        wanted = "a finite number"
    said = _short(value)
    if isinstance(value, str) and wanted.startswith(tuple(RANGES.values())) and len(said) < len(value) + 3:
        said = value
    return CharlmError(f"`{name}` must be {wanted}, not {said}{nearest(str(value), options)}")


def _literals(hint: Any) -> tuple[Any, ...]:
    """Return all values of the `Literal` types that a type consists of."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return tuple(value for option in typing.get_args(hint) for value in _literals(option))


def _short(value: Any, most: int = 200) -> str:
    """Return a value as it is shown in a message, cut after `most` characters."""
    said = repr(value)
    return said if len(said) <= most else f"{said[:most]}..."
