"""When a run is validated, and how much of the validation text is read: `trainer.val_check_interval` auto.

A run of 8 to 20 epochs is validated after each of them, a longer one at 20 points, a shorter one at 8 or more within
its epochs. Where the whole validation text would take too much of the time, its beginning is read: as much of it at
each point as takes about `COST` of the time.
"""

from __future__ import annotations

import math

import numpy as np

from charlm.text.stream import Counts, TokenStream
from charlm.training.progress import Progress

FEWEST, MOST, USUAL = 8, 20, 12
"""Points of a run: the fewest and the most of one bound by epochs, and those of a run bound by steps or by time."""

COST = 0.03
"""Fraction of the time that validation takes."""

SPEED = 1.4
"""Tokens that validation reads while training reads one, at least."""

LEAST_TOKENS = 2000
"""Fewest tokens that are read: fewer would say little, and take no time worth mentioning."""

MOST_OF_IT = 0.8
"""Fraction of the validation text from which all of it is read."""


class ValidationPoints:
    """Says after which steps a run is validated.

    In a run that is bound by steps or epochs the points follow from the number of the step alone, so that an
    interrupted and resumed run has the validations of one that never stopped.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._tokens = 0

    def start(self, progress: Progress) -> None:
        """Training begins or resumes."""
        self._before, self._tokens = progress.fraction, progress.tokens

    def reached(self, progress: Progress) -> bool:
        """Whether the run is validated after the step that has just ended; to be asked after every step."""
        count, steps = _points(progress), _steps(progress)
        if math.isinf(progress.limits.seconds):
            if math.isinf(steps):  # the run has no end
                return progress.epoch_ended
            return progress.step * count // int(steps) > (progress.step - 1) * count // int(steps)
        before, self._before = self._before, progress.fraction
        reached = int(self._before * count) > int(before * count)
        # A point that is passed before training has warmed up says nothing, not even how fast it is.
        return reached and _trained(progress) >= progress.limits.seconds / count / 2

    def tokens(self, progress: Progress) -> int:
        """How many tokens of the validation text are read at each point, asked at the first one."""
        between = float(progress.tokens)
        if math.isfinite(progress.limits.seconds):
            speed = (progress.tokens - self._tokens) / max(1e-9, _trained(progress))
            between = speed * progress.limits.seconds / _points(progress)
        return max(LEAST_TOKENS, int(COST * SPEED * between))


def _points(progress: Progress) -> int:
    """The number of validations of a run."""
    epochs, limits = progress.limits.epochs, progress.limits
    if math.isinf(epochs) or math.isfinite(limits.seconds) or limits.steps < epochs * progress.steps_per_epoch:
        return USUAL
    if epochs > MOST:
        return MOST
    return int(epochs) * math.ceil(FEWEST / epochs)  # at the ends of all epochs


def _steps(progress: Progress) -> float:
    """The optimiser steps of the whole run; infinite if it is bound by neither steps nor epochs."""
    return min(progress.limits.steps, progress.limits.epochs * progress.steps_per_epoch)


def _trained(progress: Progress) -> float:
    """Seconds that this process has trained, without what happens between the steps."""
    return progress.elapsed - progress.elapsed_before - progress.paused


def halved(length: int, most: int) -> int:
    """A length halved until it is at most `most`: runs that differ a little in speed read the same part of a text."""
    while length > most and length // 2 >= LEAST_TOKENS:
        length //= 2
    return length


def parts(stream: TokenStream) -> list[TokenStream]:
    """Every part of a validation text that a run may read, the longest first."""
    length, found = len(stream), [stream]
    while length // 2 >= LEAST_TOKENS:
        length //= 2
        found.append(beginning(stream, length))
    return found


def beginning(stream: TokenStream, tokens: int) -> TokenStream:
    """The first tokens of a text, or all of it if that is little more.

    Items are taken whole. The characters of the beginning are counted in proportion to its tokens.
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
