"""When to validate, and how much text to read, if `trainer.val_check_interval` is "auto".

A run limited to 8 to 20 epochs is validated after each epoch, a longer one 20 times, and a shorter
one several times per epoch, at least 8 times in all. A run limited by steps or time is validated
about 12 times, and a run without any limit after each epoch. If reading all of the validation text
would take more than about `COST` of the time, only its beginning is read.
"""

from __future__ import annotations

import math

import numpy as np

from charlm.text.stream import Counts, TokenStream
from charlm.training.progress import Progress

FEWEST, MOST, USUAL = 8, 20, 12
"""Validations of a run: fewest and most if epochs limit it; number if steps or time limit it."""

COST = 0.03
"""Fraction of the time that validation may take."""

SPEED = 1.4
"""Speed of validation relative to training, both in tokens per second; a lower bound."""

LEAST_TOKENS = 2000
"""Fewest tokens of a part to read: fewer give a noisy loss and save hardly any time."""

MOST_OF_IT = 0.8
"""All of the validation text is read if the part to read is at least this fraction of it."""


class ValidationPoints:
    """The schedule that says after which steps a run is validated.

    In a run limited by steps or epochs, the schedule depends on the step number only. Therefore a
    resumed run has the same validations as an uninterrupted one.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._tokens = 0

    def start(self, progress: Progress) -> None:
        """Set the position in the schedule when training begins or resumes."""
        self._before, self._tokens = progress.fraction, progress.tokens

    def reached(self, progress: Progress) -> bool:
        """Return whether to validate after the newest step; call this after every step."""
        count, steps = _points(progress), _steps(progress)
        if math.isinf(progress.limits.seconds):
            if math.isinf(steps):  # the run has no end
                return progress.epoch_ended
            return progress.step * count // int(steps) > (progress.step - 1) * count // int(steps)
        before, self._before = self._before, progress.fraction
        reached = int(self._before * count) > int(before * count)
        # Skip a point soon after this process began to train: its speed is not known well yet.
        return reached and _trained(progress) >= progress.limits.seconds / count / 2

    def tokens(self, progress: Progress) -> int:
        """Return how many tokens of the validation text each validation can afford to read.

        Call this at the first validation. The result is the number of tokens that a validation
        reads in the fraction `COST` of the time between two validations, and at least
        `LEAST_TOKENS`.
        """
        between = float(progress.tokens)
        if math.isfinite(progress.limits.seconds):
            speed = (progress.tokens - self._tokens) / max(1e-9, _trained(progress))
            between = speed * progress.limits.seconds / _points(progress)
        return max(LEAST_TOKENS, int(COST * SPEED * between))


def _points(progress: Progress) -> int:
    """Return the number of validations of a run."""
    epochs, limits = progress.limits.epochs, progress.limits
    if math.isinf(epochs) or math.isfinite(limits.seconds) or limits.steps < epochs * progress.steps_per_epoch:
        return USUAL
    if epochs > MOST:
        return MOST
    return int(epochs) * math.ceil(FEWEST / epochs)  # at the ends of all epochs


def _steps(progress: Progress) -> float:
    """Return the optimiser steps of the whole run; infinite if only time limits it, or nothing."""
    return min(progress.limits.steps, progress.limits.epochs * progress.steps_per_epoch)


def _trained(progress: Progress) -> float:
    """Return how many seconds this process has trained, without validation, samples and saving."""
    return progress.elapsed - progress.elapsed_before - progress.paused


def halved(length: int, most: int) -> int:
    """Halve a length in tokens until it is at most `most`, but not below `LEAST_TOKENS`.

    `most` depends on the speed of a run. Because of the halving, runs that differ a little in speed
    still read the same part of a text.
    """
    while length > most and length // 2 >= LEAST_TOKENS:
        length //= 2
    return length


def parts(stream: TokenStream) -> list[TokenStream]:
    """Return every part of a validation text that validations may read, the longest first.

    The part that a number in `trainer.limit_val_batches` selects is not among them.
    """
    length, found = len(stream), [stream]
    while length // 2 >= LEAST_TOKENS:
        length //= 2
        found.append(beginning(stream, length))
    return found


def beginning(stream: TokenStream, tokens: int) -> TokenStream:
    """Return about the first `tokens` tokens of a text.

    If they are at least the fraction `MOST_OF_IT` of the text, return all of it. A text of items is
    cut only at the end of an item, so the result may be longer than `tokens`. The counts of
    characters, bytes and words are estimated in proportion to the tokens.
    """
    if tokens >= MOST_OF_IT * len(stream):
        return stream
    starts = None
    if stream.starts is not None:
        items = max(1, int(np.searchsorted(stream.starts, tokens)))
        if items >= len(stream.starts):
            return stream
        tokens, starts = int(stream.starts[items]) + 1, stream.starts[:items]
    predicted = stream.predicted
    part = (tokens - 1) / predicted.tokens
    counts = (round(part * count) for count in (predicted.characters, predicted.bytes, predicted.words))
    return TokenStream(stream.ids[:tokens], starts, stream.counts, Counts(tokens - 1, *counts))
