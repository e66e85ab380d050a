"""Logits processors: functions that change the logits of the next token before it is drawn.

Each is a pure function of logits (batch, vocab_size) and one number. It is registered with the
range of this number and a line of help. Every function that is registered here becomes an option of
`charlm generate` and is tested; nothing else needs to be edited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import NonNegativeInteger, NonNegativeNumber, Probability
from charlm.config.plain import checked
from charlm.registry import Registry

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Processor:
    """A function that changes the logits, and the setting that is its argument.

    Args:
        name: Name of the processor, of its setting on the command line and of the argument in
            Python.
        function: A function (logits, value) -> logits, with logits (batch, vocab_size). A token
            that it excludes gets -inf; at least one token of each row keeps a finite logit.
        default: The value of the setting that changes nothing.
        help: One line of help.
        type: Type and range of the setting.
        order: Place in the order of application: processors are applied in ascending order.
    """

    name: str
    function: Callable[[Logits, Any], Logits]
    default: float
    help: str
    type: Any
    order: int

    def parse(self, value: float | str) -> float:
        """Return the value of the setting as a number of the right type.

        Args:
            value: A number, or the text of a number.

        Raises:
            CharlmError: the value is not such a number, or is out of range.
        """
        number: float = checked(self.name, self.type, value)
        return number

    def __call__(self, logits: Logits, value: float) -> Logits:
        return logits if value == self.default else self.function(logits, value)


processors: Registry[Processor] = Registry("logits processor")


def processor(
    order: int, default: float, help: str, type: Any
) -> Callable[[Callable[[Logits, Any], Logits]], Processor]:
    """Return a decorator that makes a function of (logits, value) a registered `Processor`.

    The processor has the name of the function. For the arguments see `Processor`.
    """

    def register(function: Callable[[Logits, Any], Logits]) -> Processor:
        name = function.__name__
        return processors.register(name)(Processor(name, function, default, help, type, order))

    return register


@processor(
    10,
    1.0,
    "below 1: more probable tokens; above 1: less probable ones; 0: always the most probable",
    NonNegativeNumber,
)
def temperature(logits: Logits, value: float) -> Logits:
    """Divide the logits by the temperature.

    At temperature 0 only the most probable token is kept (the first one of equals).
    """
    if value == 0:
        most_probable = np.arange(logits.shape[-1]) == logits.argmax(-1)[:, None]
        return np.where(most_probable, logits, -np.inf)
    # The highest logit is moved to 0 first, so that a tiny temperature cannot overflow.
    with np.errstate(over="ignore"):
        return (logits - logits.max(-1, keepdims=True)) / value


@processor(20, 0, "draw from the K most probable tokens only (0: from all)", NonNegativeInteger)
def top_k(logits: Logits, value: int) -> Logits:
    """Keep the k highest logits, and all that equal the lowest of them (Fan et al. 2018)."""
    if value >= logits.shape[-1]:
        return logits
    threshold = np.partition(logits, -value)[:, -value, None]
    return np.where(logits >= threshold, logits, -np.inf)


@processor(30, 1.0, "draw from the most probable tokens that together reach this probability", Probability)
def top_p(logits: Logits, value: float) -> Logits:
    """Keep the most probable tokens whose probabilities together reach p (Holtzman et al. 2020).

    As few tokens as possible are kept, and besides them all tokens that are as probable as the
    last.
    """
    falling = -np.sort(-logits)
    probability = np.exp(falling - falling[:, :1])
    probability /= probability.sum(-1, keepdims=True)
    before = probability.cumsum(-1) - probability  # of all more probable tokens
    kept = np.maximum(1, (before < value).sum(-1, keepdims=True))
    threshold = np.take_along_axis(falling, kept - 1, -1)
    return np.where(logits >= threshold, logits, -np.inf)


@processor(40, 0.0, "drop tokens less probable than this fraction of the most probable one", Probability)
def min_p(logits: Logits, value: float) -> Logits:
    """Keep tokens at least p times as probable as the most probable one (Nguyen et al. 2024)."""
    return np.where(logits >= logits.max(-1, keepdims=True) + np.log(value), logits, -np.inf)
