"""The definition of a setting: a type that holds its range, a default, and a line of help."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import field, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional, TypeVar

from msgspec import Meta

T = TypeVar("T")

if TYPE_CHECKING:
    Auto = Annotated[T, "chosen by `resolve`"]  # what a setting is after `resolve`, for the type checker
else:
    Auto = Optional[T]  # noqa: UP045 - a generic alias
"""The type of a setting that the user may leave out: it is None until charlm chooses a value (for a setting of a
run, `charlm.config.resolve` does)."""

FINITE = float.fromhex("0x1.fffffep127")  # largest finite float32, the type of weights
Number = Annotated[float, Meta(ge=-FINITE, le=FINITE)]
PositiveNumber = Annotated[float, Meta(gt=0, le=FINITE)]
NonNegativeNumber = Annotated[float, Meta(ge=0, le=FINITE)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
PositiveInteger = Annotated[int, Meta(ge=1)]
NonNegativeInteger = Annotated[int, Meta(ge=0)]
StepLimit = Annotated[int, Meta(ge=-1)]
"""A number of steps or epochs as Lightning has it: -1 is no limit."""
BeamCount = Annotated[int, Meta(ge=0, le=4096)]
SampleCount = Annotated[int, Meta(ge=1, le=100_000)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]

Direction = Literal["forward", "backward"]
"""The order in which a network reads the tokens of a text: from its start, or from its end."""

Role = Literal["shapes weights", "starts weights", "regularises"]
"""What a setting of the network decides: the shapes of its weights, their first values, or only how it is trained."""


def setting(default: Any, help: str, *, role: Role | None = None, choices: str = "") -> Any:
    """Return a dataclass field that defines a setting.

    Args:
        default: The value if the user gives none. If it is None, the help says what happens then;
            for a setting of a run, `charlm.config.resolve` chooses the value.
        help: One line for the command line and the documentation.
        role: For a setting of the network, what it decides about the weights.
        choices: The registry that has the possible values: "cells" or "tokenizers"; empty: none.
    """
    return field(default=default, metadata={"help": help, "role": role, "choices": choices})


class Setting(NamedTuple):
    """A setting of a group or of a whole config.

    Attributes:
        name: The dotted name, such as `model.hidden`.
        value: The value of the setting in a config, or the default.
        type: The annotated type.
        help, role, choices: See `setting`.
    """

    name: str
    value: Any
    type: Any
    help: str
    role: Role | None
    choices: str


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Yield every setting of a config with its value, or of a config class with its default."""
    cls = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(cls, include_extras=True)
    for definition in fields(cls):
        name = f"{prefix}{definition.name}"
        if is_group(definition):
            group = definition.default_factory if isinstance(config, type) else getattr(config, definition.name)
            yield from settings(group, f"{name}.")
        else:
            value = definition.default if isinstance(config, type) else getattr(config, definition.name)
            yield Setting(name, value, hints[definition.name], **definition.metadata)


def is_group(definition: dataclasses.Field[Any]) -> bool:
    """Whether a field of a config is a group of settings."""
    return dataclasses.is_dataclass(definition.default_factory)


def range_in_words(hint: Any) -> str:
    """Return the range of a type as help shows it, such as ">=0, <1"; empty if there is no range.

    The ranges of alternative types are joined: ">=1 or >0, <=1". Bounds of 1e15 or more are left
    out.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(filter(None, map(range_in_words, typing.get_args(hint))))
    return ", ".join(f"{sign}{bound:g}" for sign, bound in bounds(hint).items() if abs(bound) < 1e15)


def bounds(hint: Any) -> dict[str, float]:
    """Return the range of a type by comparison operator, such as {">=": 0, "<": 1}.

    The dictionary is empty if the type has no range. The bound `FINITE` is left out.
    """
    found: dict[str, float] = {}
    for part in typing.get_args(hint):
        if isinstance(part, Meta):
            signs = {">=": part.ge, ">": part.gt, "<=": part.le, "<": part.lt}
            found |= {sign: bound for sign, bound in signs.items() if bound is not None and abs(bound) != FINITE}
        else:
            found |= bounds(part)
    return found
