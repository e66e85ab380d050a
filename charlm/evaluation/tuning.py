"""Tuning of the settings of an evaluation protocol on the validation text.

1. The softmax temperature is tuned without a cache and without training the weights on the text.
2. For dynamic evaluation, the learning rate is tuned first, then the decay at the best rate, then
   the rate again.
3. For the neural cache, all pairs of a grid of flatness and weight are tried at once.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from charlm.config.protocols import SMALL_VOCABULARY, Protocol
from charlm.errors import CharlmError
from charlm.evaluation.likelihood import evaluate
from charlm.evaluation.scores import score
from charlm.network.model import LanguageModel
from charlm.text.corpus import Progress, no_progress
from charlm.text.stream import Counts, TokenStream

MOST_TOKENS = 100_000
"""Tokens of the validation text on which temperature and cache are tuned: the first ones."""

MOST_DYNAMIC = 20_000
"""The same for dynamic evaluation, which reads them once for each value that is tried."""

SEGMENT, SHORT_SEGMENT = 20, 5
"""Tokens of a segment for a small and for a large vocabulary, as Krause et al. (2018) have for characters and words."""

TEMPERATURES = np.geomspace(0.25, 4.0, 57)
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
DECAYS = (0.0, 1e-3, 3e-3, 1e-2, 3e-2)
FLATNESSES = (0.0, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
WEIGHTS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)


def tuned(
    protocol: Protocol,
    model: LanguageModel,
    train: TokenStream | None,
    validation: TokenStream | None,
    progress: Progress = no_progress,
) -> Protocol:
    """Tune the settings that a protocol uses and that are None; return the protocol with the values found.

    If `dynamic.segment` is None, it is not tuned but chosen by the size of the vocabulary.

    Args:
        protocol: The protocol; settings that are None are to be tuned.
        model: The model.
        train: The training text, for dynamic evaluation.
        validation: The validation text of the run; None if there is none.
        progress: A function that is told how much of each evaluation is done.

    Raises:
        CharlmError: a setting must be tuned, and there is no validation text of two tokens or more.
    """
    if protocol.name == "dynamic" and protocol.dynamic.segment is None:
        segment = SEGMENT if model.vocab_size <= SMALL_VOCABULARY else SHORT_SEGMENT
        protocol = replace(protocol, dynamic=replace(protocol.dynamic, segment=segment))
    if not protocol.untuned:
        return protocol
    progress = _called_tuning(progress)
    if validation is None or len(validation) < 2:
        names = " and ".join(f"`{name}`" for name in protocol.untuned)
        raise CharlmError(f"the run has no validation text to tune {names} on; name values")
    most = MOST_DYNAMIC if protocol.name == "dynamic" else MOST_TOKENS
    text = first_tokens(validation, most)
    words = f"the first {len(text):,} tokens of the validation split"
    protocol = replace(protocol, tuned_on="the validation split" if len(text) == len(validation) else words)
    if protocol.temperature is None:
        plain = replace(protocol, name="carried") if protocol.name in ("cache", "dynamic") else protocol
        protocol = replace(protocol, temperature=best_temperature(model, text, plain, progress))
    if protocol.name == "dynamic":
        return _tune_dynamic(protocol, model, train, text, progress)
    if protocol.name == "cache":
        return _tune_cache(protocol, model, text, progress)
    return protocol


def _called_tuning(progress: Progress) -> Progress:
    """Return a function that passes on the progress of evaluations under the name of the tuning."""
    return lambda what, done, total: progress("tuning on the validation split", done, total)


def first_tokens(stream: TokenStream, most: int) -> TokenStream:
    """Return the first `most` tokens of a text.

    If this shortens the text, the counts of the result hold only the number of tokens; the numbers
    of characters, bytes and words are 0.
    """
    if len(stream) <= most:
        return stream
    starts = None if stream.starts is None else stream.starts[stream.starts < most - 1]
    return TokenStream(stream.ids[:most], starts, Counts(most), Counts(most - 1))


def best_temperature(
    model: LanguageModel, text: TokenStream, protocol: Protocol, progress: Progress = no_progress
) -> float:
    """Return the softmax temperature with which a model has the smallest loss on a text.

    The temperature is between 0.25 and 4, and exact to about a thousandth.

    Args:
        model: The model.
        text: The text.
        protocol: How the text is read; its own temperature is ignored.
        progress: A function that is told how many tokens have been read, and of how many.
    """
    ids = torch.from_numpy(np.asarray(text.ids).astype(np.int64))
    nats = np.zeros((len(TEMPERATURES), len(text)))

    def look(positions: np.ndarray, log_probabilities: Tensor) -> None:
        logits, targets = log_probabilities.double().cpu(), ids[positions][:, None]
        for row, temperature in zip(nats, TEMPERATURES, strict=True):
            scaled = logits / temperature
            row[positions] = (scaled.logsumexp(1) - scaled.gather(1, targets)[:, 0]).numpy()

    evaluate(model, text, replace(protocol, temperature=1.0), look=look, progress=progress)
    losses = nats.sum(1)
    best = int(np.clip(losses.argmin(), 1, len(losses) - 2))
    below, least, above = losses[best - 1 : best + 2]
    curvature = below - 2 * least + above
    shift = 0.5 * (below - above) / curvature if curvature > 0 else 0.0
    step = math.log(TEMPERATURES[1] / TEMPERATURES[0])
    return float(TEMPERATURES[best] * math.exp(step * np.clip(shift, -1, 1)))


def _tune_dynamic(
    protocol: Protocol, model: LanguageModel, train: TokenStream | None, text: TokenStream, progress: Progress
) -> Protocol:
    tried: dict[tuple[float, float], float] = {}

    def nats(rate: float, decay: float) -> float:
        if (rate, decay) not in tried:
            trial = replace(protocol, dynamic=replace(protocol.dynamic, rate=rate, decay=decay))
            try:
                tried[rate, decay] = evaluate(model, text, trial, train=train, progress=progress).nats
            except CharlmError:  # the weights diverge
                tried[rate, decay] = math.inf
        return tried[rate, decay]

    config = protocol.dynamic
    rate, decay = config.rate or RATES[1], DECAYS[2] if config.decay is None else config.decay
    for setting in ("rate", "decay", "rate"):
        if setting == "rate" and config.rate is None:
            rate = min(RATES, key=lambda value: nats(value, decay))
        elif setting == "decay" and config.decay is None:
            decay = min(DECAYS, key=lambda value: nats(rate, value))
    return replace(protocol, dynamic=replace(config, rate=rate, decay=decay))


def _tune_cache(protocol: Protocol, model: LanguageModel, text: TokenStream, progress: Progress) -> Protocol:
    """Find the best flatness and weight of the neural cache by trying all pairs of a grid.

    The text is read once with weight 0, which gives the probabilities of the model, and once for
    each flatness with weight 0.5. From these two, the probabilities of the cache alone follow; they
    are then mixed with those of the model at every weight.
    """
    config = protocol.cache
    flatnesses = FLATNESSES if config.flatness is None else (config.flatness,)
    weights = np.array(WEIGHTS if config.weight is None else (config.weight,))[:, None]

    def probabilities(flatness: float, weight: float) -> np.ndarray:
        trial = replace(protocol, cache=replace(config, flatness=flatness, weight=weight))
        return np.exp(-score(model, text, trial, progress=progress).nats[1:])

    by_model = probabilities(0.0, 0.0)
    losses: dict[tuple[float, float], float] = {}
    for flatness in flatnesses:
        by_cache = 2 * probabilities(flatness, 0.5) - by_model
        nats = -np.log(np.maximum((1 - weights) * by_model + weights * by_cache, np.finfo(float).tiny)).sum(1)
        losses |= {(flatness, float(weight)): float(loss) for weight, loss in zip(weights[:, 0], nats, strict=True)}
    flatness, weight = min(losses, key=lambda pair: losses[pair])
    return replace(protocol, cache=replace(config, flatness=flatness, weight=weight))
