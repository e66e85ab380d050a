"""Mirostat: the information of the generated tokens is held at a target by feedback."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import NonNegativeNumber
from charlm.generation.processors import Logits, keep_probable, processor

RATE = 0.1
"""Learning rate of the feedback, as in the paper."""


@processor(
    80,
    0.0,
    "hold the mean information of the tokens at this many bits by feedback (mirostat; 0: off)",
    NonNegativeNumber,
)
def surprise(logits: Logits, value: float, *, bits: NDArray[np.float64]) -> Logits:
    """Exclude tokens with more information than a limit that feedback adjusts (Mirostat 2, Basu et al. 2021).

    The limit starts at twice the target. If a token has more bits of information than the target,
    the limit then falls by `RATE` times the excess; if it has fewer, the limit rises accordingly:
    limit = 2 target - RATE sum(bits - target). The most probable token is always kept.
    """
    limit = 2 * value - RATE * (bits.sum(-1, keepdims=True) - value * bits.shape[-1])
    return keep_probable(logits, -limit * math.log(2))
