"""Logits processors: functions that change the logits of the next token before it is drawn.

A processor is a pure function of logits (batch, vocab_size) and the value of its setting. It may
also read, as keyword arguments:

- `ids`: the tokens so far, prompt included, (batch, time); -1 stands before the first token of a
  prompt that is shorter than others;
- `bits`: the information of each generated token under the network's own distribution,
  -log2 p, (batch, generated);
- `step`: the number of tokens generated so far;
- `draws`: a random number in [0, 1) for each row, (batch,);
- `tokenizer`: the vocabulary;
- `training_text`: the text that the network was trained on, a `charlm.text.spans.TrainingText`;
- any registered `Parameter`, by its name.

To add a processor, decorate a function with `@processor(...)` in any file of this package. It is
then an option of `charlm generate` and an argument of `run.generate`, and is tested; nothing else
needs to be edited.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.plain import checked
from charlm.errors import CharlmError
from charlm.registry import Registry

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """A setting that processors read besides their own values, such as the window of the penalties.

    Args:
        name: Name of the setting on the command line and of the argument in Python.
        default: The value if the user gives none.
        help: One line of help.
        type: Type and range of the setting; a tuple for a setting with several values.
    """

    name: str
    default: Any
    help: str
    type: Any

    def parse(self, value: Any) -> Any:
        """Return the value of the setting in the right type.

        Args:
            value: A value of this type, or the text of one. A setting with several values takes one
                of them, or a sequence.

        Raises:
            CharlmError: the value has the wrong type, or is out of range.
        """
        if typing.get_origin(self.type) is not tuple:
            return checked(self.name, self.type, value)
        element = typing.get_args(self.type)[0]
        values = value if isinstance(value, list | tuple) else (value,)
        return tuple(checked(self.name, element, one) for one in values)


@dataclass(frozen=True)
class Processor(Parameter):
    """A function that changes the logits, and the setting whose value is its argument.

    The default is the value that changes nothing.

    Args:
        function: A function (logits, value, **needed) -> logits, with logits (batch, vocab_size). A
            token that it excludes gets -inf.
        order: Place in the order of application: processors are applied in ascending order.
        convert: A function that returns the value in the right type, where `type` only says how the
            value is typed on the command line; None if `type` is the type of the value.
    """

    function: Callable[..., Logits]
    order: int
    convert: Callable[[Any], Any] | None = None

    def parse(self, value: Any) -> Any:
        """Return the value of the setting in the right type; see `Parameter.parse`."""
        return super().parse(value) if self.convert is None else self.convert(value)

    @cached_property
    def needs(self) -> list[str]:
        """The names of the keyword arguments that the function reads."""
        return list(inspect.signature(self.function).parameters)[2:]

    def __call__(self, logits: Logits, value: Any, **available: Any) -> Logits:
        """Return the changed logits.

        Args:
            logits: The logits, (batch, vocab_size).
            value: The value of the setting, as `parse` returns it.
            available: What processors may read, by name; see the module.
        """
        if value == self.default:
            return logits
        return self.function(logits, value, **{name: available[name] for name in self.needs})


PACKAGE = "charlm.generation.processors"
processors: Registry[Processor] = Registry("logits processor", PACKAGE)
parameters: dict[str, Parameter] = {}
"""The settings that processors share; they are complete once `processors` has been read."""


def processor(
    order: int, default: Any, help: str, type: Any, convert: Callable[[Any], Any] | None = None
) -> Callable[[Callable[..., Logits]], Processor]:
    """Return a decorator that makes a function a registered `Processor` with the name of the function.

    Args:
        order, default, help, type, convert: As for `Processor`.
    """

    def register(function: Callable[..., Logits]) -> Processor:
        name = function.__name__
        return processors.register(name)(Processor(name, default, help, type, function, order, convert))

    return register


def parameter(name: str, default: Any, help: str, type: Any) -> Parameter:
    """Register a setting that processors read as a keyword argument; for the arguments see `Parameter`."""
    parameters[name] = Parameter(name, default, help, type)
    return parameters[name]


def generation_settings() -> dict[str, Parameter]:
    """Return all processors in the order of application, each followed by the parameters it reads.

    A parameter that several processors read follows only the first of them.
    """
    found: dict[str, Parameter] = {}
    for one in sorted(processors.values(), key=lambda one: one.order):
        found[one.name] = one
        found |= {name: parameters[name] for name in one.needs if name in parameters and name not in found}
    return found


def check_read(values: Mapping[str, Any]) -> None:
    """Raise CharlmError for a parameter that no processor in use reads.

    Args:
        values: Parsed values of processors and parameters by name.
    """
    for name in values.keys() & parameters.keys():
        readers = [one.name for one in processors.values() if name in one.needs]
        if not any(reader in values and values[reader] != processors[reader].default for reader in readers):
            named = " or ".join(f"`{reader}`" for reader in sorted(readers, key=lambda one: processors[one].order))
            raise CharlmError(f"`{name}` changes nothing without {named}; name one of them, or leave it out")


def keep(logits: Logits, kept: NDArray[np.bool_]) -> Logits:
    """Return the logits with -inf for every token that is not kept, (batch, vocab_size).

    A row in which no possible token would be left stays as it is.
    """
    result = np.where(kept, logits, -np.inf)
    highest = result.max(-1)
    if highest.min() == -np.inf:
        empty = np.isneginf(highest)
        result[empty] = logits[empty]
    return result


def keep_probable(logits: Logits, least: float | NDArray[np.float64]) -> Logits:
    """Return the logits with -inf for every token that is improbable, (batch, vocab_size).

    Args:
        logits: The logits, (batch, vocab_size).
        least: The lowest natural log probability of a token that is kept, one number or (batch, 1).
            The most probable token is kept in any case, and so are its equals.
    """
    highest = logits.max(-1, keepdims=True)
    log_total = np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    return np.where(logits >= highest + np.minimum(least + log_total, 0.0), logits, -np.inf)


def log_probabilities(logits: Logits) -> Logits:
    """Return the natural logarithm of the softmax of each row, (batch, vocab_size)."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
