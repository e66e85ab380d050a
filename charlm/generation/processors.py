"""Logits processors: what reshapes the scores of the next token before one is drawn.

Each is a pure function of scores (batch, vocabulary) and one number, registered with what the command line
needs to offer it: a new one registered here is an option of `charlm generate` and under test by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.settings import bounds_of, check_range, convert
from charlm.registry import Registry

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Processor:
    """A change of the scores together with the setting that governs it.

    Args:
        name: Of the processor, of its option and of the argument in Python.
        function: (logits (batch, vocabulary), value) to logits. What it rules out becomes -inf; at least one
            token of each row stays.
        default: The value that changes nothing.
        help: One line for the command line.
        bounds: Range of the value, as `charlm.config.bounds_of` makes it.
        order: Processors are applied from the lowest to the highest.
    """

    name: str
    function: Callable[[Logits, Any], Logits]
    default: float
    help: str
    bounds: dict[str, float]
    order: int

    @property
    def type(self) -> type:
        """Type of the value: int or float."""
        return type(self.default)

    def parse(self, value: float | str) -> float:
        """The value as a number of the right type, from a number or its text.

        Raises:
            CharlmError: not such a number, or out of range.
        """
        number: float = convert(self.name, self.type, value)
        check_range(self.name, self.bounds, number)
        return number

    def __call__(self, logits: Logits, value: float) -> Logits:
        return logits if value == self.default else self.function(logits, value)


processors: Registry[Processor] = Registry("logits processor")


def processor(
    order: int, default: float, help: str, **bounds: float
) -> Callable[[Callable[[Logits, Any], Logits]], Processor]:
    """A decorator that registers a function of (logits, value) under its own name as a Processor."""

    def enter(function: Callable[[Logits, Any], Logits]) -> Processor:
        name = function.__name__
        return processors.register(name)(Processor(name, function, default, help, bounds_of(**bounds), order))

    return enter


@processor(10, 1.0, "below 1 bolder, above 1 more surprising, 0 always the likeliest", low=0)
def temperature(logits: Logits, value: float) -> Logits:
    """Scores divided by the temperature; at 0 only the likeliest token (the first of equals) stays."""
    if value == 0:
        likeliest = np.arange(logits.shape[-1]) == logits.argmax(-1)[:, None]
        return np.where(likeliest, logits, -np.inf)
    # The highest score is moved to 0 first, so that a tiny temperature cannot overflow.
    with np.errstate(over="ignore"):
        return (logits - logits.max(-1, keepdims=True)) / value


@processor(20, 0, "draw from the K likeliest tokens only (0: from all)", low=0)
def top_k(logits: Logits, value: int) -> Logits:
    """The k highest scores stay, and whatever equals the lowest of them (Fan et al. 2018)."""
    if value >= logits.shape[-1]:
        return logits
    threshold = np.partition(logits, -value)[:, -value, None]
    return np.where(logits >= threshold, logits, -np.inf)


@processor(30, 1.0, "draw from the likeliest tokens that together reach this probability", low=0, high=1)
def top_p(logits: Logits, value: float) -> Logits:
    """The fewest likeliest tokens that together reach p, and equals of the last (Holtzman et al. 2020)."""
    falling = -np.sort(-logits)
    probability = np.exp(falling - falling[:, :1])
    probability /= probability.sum(-1, keepdims=True)
    before = probability.cumsum(-1) - probability  # of all that are likelier
    kept = np.maximum(1, (before < value).sum(-1, keepdims=True))
    threshold = np.take_along_axis(falling, kept - 1, -1)
    return np.where(logits >= threshold, logits, -np.inf)


@processor(40, 0.0, "drop tokens less likely than this share of the likeliest", low=0, high=1)
def min_p(logits: Logits, value: float) -> Logits:
    """Tokens at least p times as likely as the likeliest stay (Nguyen et al. 2024)."""
    return np.where(logits >= logits.max(-1, keepdims=True) + np.log(value), logits, -np.inf)
