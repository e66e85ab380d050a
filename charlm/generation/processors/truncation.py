"""Processors that exclude tokens by their probabilities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import NonNegativeInteger, NonNegativeNumber, Probability
from charlm.generation.processors import Logits, keep_probable, log_probabilities, parameter, processor

LOWEST = np.finfo(np.float64).min


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

    As few tokens as possible are kept, and with them all others that are as probable as the least
    probable of them.
    """
    falling = np.sort(logits)[:, ::-1]
    sums = np.exp(falling - falling[:, :1]).cumsum(-1)
    last = (sums >= value * sums[:, -1:]).argmax(-1)  # the place of the least probable token that is kept
    threshold = falling[np.arange(len(logits)), last, None]
    return np.where(logits >= threshold, logits, -np.inf)


@processor(40, 0.0, "drop tokens less probable than this fraction of the most probable one", Probability)
def min_p(logits: Logits, value: float) -> Logits:
    """Keep tokens at least p times as probable as the most probable one (Nguyen et al. 2024)."""
    return np.where(logits >= logits.max(-1, keepdims=True) + math.log(value), logits, -np.inf)


@processor(50, 1.0, "draw from the most typical tokens that together reach this probability", Probability)
def typical_p(logits: Logits, value: float) -> Logits:
    """Keep the most typical tokens whose probabilities together reach p (Meister et al. 2023).

    A token is the more typical, the nearer its information -log p is to the entropy of the
    distribution. As few tokens as possible are kept, and at least one.
    """
    log_p = np.maximum(log_probabilities(logits), LOWEST)  # finite, because 0 times -inf is not 0
    p = np.exp(log_p)
    mean = (p * log_p).sum(-1, keepdims=True)  # minus the entropy
    order, rows = np.abs(log_p - mean).argsort(-1, kind="stable"), np.arange(len(logits))[:, None]
    sorted_p = p[rows, order]
    sorted_kept = sorted_p.cumsum(-1) - sorted_p < value  # the sum of all more typical tokens
    sorted_kept[:, 0] = True
    kept = np.empty(logits.shape, bool)
    kept[rows, order] = sorted_kept
    return np.where(kept, logits, -np.inf)


@processor(60, 0.0, "drop tokens with a probability below this", Probability)
def epsilon_cutoff(logits: Logits, value: float) -> Logits:
    """Keep tokens with at least this probability, and the most probable token (Hewitt et al. 2022)."""
    return keep_probable(logits, math.log(value))


@processor(15, 0.0, "drop tokens whose logit is more than N standard deviations below the highest", NonNegativeNumber)
def top_n_sigma(logits: Logits, value: float) -> Logits:
    """Keep logits at most n standard deviations below the highest (Tang et al. 2024).

    The standard deviation is that of all finite logits of the row.
    """
    below = logits - logits.max(-1, keepdims=True)  # at most 0; the standard deviation is the same
    possible = below > -np.inf
    finite, count = np.where(possible, below, 0.0), possible.sum(-1)
    variance = (finite * finite).sum(-1) / count - (finite.sum(-1) / count) ** 2
    least = -value * np.sqrt(np.maximum(variance, 0.0))  # rounding can make a variance of 0 negative
    return np.where(below >= least[:, None], logits, -np.inf)


parameter(
    "xtc_threshold", 0.1, "the probability from which xtc_probability takes a token for a top choice", Probability
)


@processor(70, 0.0, "how often to drop all top choices except the least probable of them", Probability)
def xtc_probability(logits: Logits, value: float, *, draws: NDArray[np.float64], xtc_threshold: float) -> Logits:
    """Exclude the top choices, the tokens that are likely anyway, at some steps (XTC, p-e-w 2024).

    The value is the probability of such a step. Top choices are the tokens with a probability
    of at least `xtc_threshold`. The least probable of them stays, so that a likely token is left.
    """
    chosen = draws < value
    if not chosen.any():
        return logits
    log_p = log_probabilities(logits)
    top = log_p >= (math.log(xtc_threshold) if xtc_threshold > 0 else LOWEST)
    least = np.where(top, log_p, np.inf).min(-1, keepdims=True)
    return np.where((log_p > least) & chosen[:, None], -np.inf, logits)
