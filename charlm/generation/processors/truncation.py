"""Processors that exclude tokens by their probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import NonNegativeInteger, NonNegativeNumber, Probability
from charlm.generation.processors import Logits, keep, log_probabilities, parameter, processor


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


@processor(50, 1.0, "draw from the most typical tokens that together reach this probability", Probability)
def typical_p(logits: Logits, value: float) -> Logits:
    """Keep the most typical tokens whose probabilities together reach p (Meister et al. 2023).

    A token is the more typical, the nearer its information -log p is to the entropy of the
    distribution. As few tokens as possible are kept, and at least one.
    """
    log_p = log_probabilities(logits)
    p = np.exp(log_p)
    entropy = -(p * np.where(p > 0, log_p, 0)).sum(-1, keepdims=True)
    order = np.argsort(np.abs(-log_p - entropy), -1, kind="stable")
    sorted_p = np.take_along_axis(p, order, -1)
    before = sorted_p.cumsum(-1) - sorted_p  # of all more typical tokens
    kept = np.zeros_like(p, bool)
    np.put_along_axis(kept, order, (before < value) | (np.arange(p.shape[-1]) == 0), -1)
    return np.where(kept, logits, -np.inf)


@processor(60, 0.0, "drop tokens with a probability below this", Probability)
def epsilon_cutoff(logits: Logits, value: float) -> Logits:
    """Keep tokens with at least this probability, and the most probable token (Hewitt et al. 2022)."""
    log_p = log_probabilities(logits)
    return np.where((log_p >= np.log(value)) | (log_p == log_p.max(-1, keepdims=True)), logits, -np.inf)


@processor(15, 0.0, "drop tokens whose logit is more than N standard deviations below the highest", NonNegativeNumber)
def top_n_sigma(logits: Logits, value: float) -> Logits:
    """Keep logits at most n standard deviations below the highest (Tang et al. 2024).

    The standard deviation is that of all finite logits of the row.
    """
    possible = np.isfinite(logits)
    count = possible.sum(-1, keepdims=True)
    mean = np.where(possible, logits, 0.0).sum(-1, keepdims=True) / count
    variance = np.where(possible, (np.where(possible, logits, mean) - mean) ** 2, 0.0).sum(-1, keepdims=True) / count
    return np.where(logits >= logits.max(-1, keepdims=True) - value * np.sqrt(variance), logits, -np.inf)


parameter(
    "xtc_threshold", 0.1, "the probability from which xtc_probability takes a token for a top choice", Probability
)


@processor(70, 0.0, "how often to drop all top choices except the least probable of them", Probability)
def xtc_probability(logits: Logits, value: float, *, draws: NDArray[np.float64], xtc_threshold: float) -> Logits:
    """Exclude the top choices, the tokens that are likely anyway, at some steps (XTC, p-e-w 2024).

    The value is the probability of such a step. Top choices are the tokens with a probability
    of at least `xtc_threshold`. The least probable of them stays, so that a likely token is left.
    """
    log_p = log_probabilities(logits)
    top = log_p >= (np.log(xtc_threshold) if xtc_threshold > 0 else -np.inf)
    top &= np.isfinite(logits)
    least = np.where(top, log_p, np.inf).min(-1, keepdims=True)
    dropped = top & (log_p > least) & (draws < value)[:, None]
    return keep(logits, ~dropped)
