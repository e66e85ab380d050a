"""How well n-gram models predict a text along its length: whether one part of it is harder than the others.

The training text is cut into blocks. The blocks with an even number are predicted by a model of those with an odd
number and the other way round, and the validation blocks by both models. So no model has read what it predicts, and all
blocks are predicted by models of equally much text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.ngram import NGramCounts, NGramModel, total_nats
from charlm.evaluation.text_statistics import Alphabet

ORDER = 5  # of the models along the text
ORDERS = 8  # tokens of the longest n-gram in `held_out_bits`
BLOCKS = 40  # of training and validation text together
SMALLEST = 500  # characters of a block: its bits vary too much if it is shorter
EXPLAINED = 0.5  # part of the variance of the blocks that a jump must explain
JUMP = 0.05  # smallest relative difference between the blocks before and after a jump


@dataclass(frozen=True)
class Jump:
    """A place from which on a text is harder or easier to predict.

    Attributes:
        block: The first block after it.
        before, after: Mean bits per character of the blocks before it and from it on.
    """

    block: int
    before: float
    after: float


@dataclass(frozen=True)
class Drift:
    """Bits per character of consecutive blocks of a text by a model that has not read them.

    Attributes:
        training, validation: Those of each block.
    """

    training: list[float]
    validation: list[float]

    @property
    def difference(self) -> float:
        """How much harder the validation text is than the training text, relative to it; NaN without one."""
        return float(np.mean(self.validation) / np.mean(self.training) - 1) if self.validation else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation of the training blocks, relative to their mean."""
        return float(np.std(self.training) / np.mean(self.training))

    @property
    def jump(self) -> Jump | None:
        """The place that divides the blocks into two parts with the smallest variance within the parts, if it is clear.

        It is clear if the division explains more than half of the variance of all blocks, and the means of the parts
        differ by more than 5 %.
        """
        bits = np.array([*self.training, *self.validation])
        if len(bits) < 4 or not np.var(bits):
            return None
        within = [np.var(bits[:k]) * k + np.var(bits[k:]) * (len(bits) - k) for k in range(1, len(bits))]
        place = int(np.argmin(within)) + 1
        before, after = float(bits[:place].mean()), float(bits[place:].mean())
        clear = within[place - 1] < (1 - EXPLAINED) * np.var(bits) * len(bits) and abs(after / before - 1) > JUMP
        return Jump(place, before, after) if clear else None


def drift(training: Sequence[str], validation: Sequence[str], alphabet: Alphabet) -> Drift | None:
    """The bits per character of the blocks of a text; None for fewer than two blocks of training text."""
    if len(training) < 2:
        return None
    halves = (alphabet.encode("".join(training[parity::2])) for parity in (0, 1))
    models = [NGramModel(NGramCounts(half, ORDER, len(alphabet))) for half in halves]
    own = [_bits(models[(number + 1) % 2], alphabet.encode(block)) for number, block in enumerate(training)]
    return Drift(own, [sum(_bits(model, alphabet.encode(block)) for model in models) / 2 for block in validation])


def _bits(model: NGramModel, ids: NDArray[Any]) -> float:
    return model.cross_entropy(ids) / math.log(2)


def cut(text: str, count: int) -> list[str]:
    """A text in at most `count` blocks of about equal length, none shorter than `SMALLEST` but for a single one."""
    count = max(1, min(count, len(text) // SMALLEST))
    bounds = [round(number * len(text) / count) for number in range(count + 1)]
    return [text[start:end] for start, end in itertools.pairwise(bounds) if end > start]


def held_out_bits(training: str, held_out: str, alphabet: Alphabet) -> list[float]:
    """Bits per character of a held-out text by n-gram models (Kneser-Ney) of a training text, of order 1, 2, ... 8."""
    counts = NGramCounts(alphabet.encode(training), ORDERS, len(alphabet))
    models = [NGramModel(counts, order) for order in range(1, ORDERS + 1)]
    nats = total_nats(models, counts.look_up(alphabet.encode(held_out)))
    return [one / math.log(2) / (len(held_out) - 1) for one in nats]
