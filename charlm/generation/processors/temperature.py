"""The temperature of the softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charlm.config.fields import NonNegativeNumber
from charlm.generation.processors import Logits, processor


@processor(
    10,
    (1.0,),
    "below 1: more probable tokens; above 1: less probable ones; 0: always the most probable; several: one after the "
    "other, token by token",
    tuple[NonNegativeNumber, ...],
)
def temperature(logits: Logits, value: Sequence[float], *, step: int) -> Logits:
    """Divide the logits by the temperature.

    At temperature 0 only the most probable token is kept (the first one of equals). If several
    temperatures are given, they are used in turn, one for each token, again and again.
    """
    now = value[step % len(value)]
    if now == 0:
        most_probable = np.arange(logits.shape[-1]) == logits.argmax(-1)[:, None]
        return np.where(most_probable, logits, -np.inf)
    # The highest logit is moved to 0 first, so that a tiny temperature cannot overflow.
    shifted = logits - logits.max(-1, keepdims=True)
    if now >= 1e-99:
        return shifted / now
    with np.errstate(over="ignore"):
        return shifted / now
