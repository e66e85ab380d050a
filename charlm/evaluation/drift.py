"""How hard a text is to predict along its length: whether some parts are harder than others.

The training text is cut into numbered blocks. One n-gram model reads the blocks with even numbers
and predicts those with odd numbers; another model does the reverse. The validation blocks are
predicted by both models. So no model has read the blocks that it predicts, and both models
have read about equally much text.
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

ORDER = 5  # order of the n-gram models in `drift`
ORDERS = 8  # tokens of the longest n-gram in `held_out_bits`
BLOCKS = 40  # blocks of training and validation text together
SMALLEST = 500  # characters of a block; the bits per character of shorter blocks vary too much
EXPLAINED = 0.5  # fraction of the variance of the blocks that a jump must explain
JUMP = 0.05  # smallest relative difference between the blocks before and after a jump


@dataclass(frozen=True)
class Jump:
    """A place in a text after which the text is harder or easier to predict than before.

    Attributes:
        block: The number of the first block after the place. The blocks are numbered from 0, those
            of the training text before those of the validation text.
        before, after: Mean bits per character of the blocks before and after the place.
    """

    block: int
    before: float
    after: float


@dataclass(frozen=True)
class Drift:
    """Bits per character of consecutive blocks of a text, under models that have not read them.

    Attributes:
        training, validation: Bits per character of each block of the training and validation text.
    """

    training: list[float]
    validation: list[float]

    @property
    def difference(self) -> float:
        """The relative difference in mean bits per character between validation and training text.

        It is positive if the validation text is harder to predict, and NaN without a validation
        text.
        """
        return float(np.mean(self.validation) / np.mean(self.training) - 1) if self.validation else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation of the values of `training`, divided by their mean."""
        return float(np.std(self.training) / np.mean(self.training))

    @property
    def jump(self) -> Jump | None:
        """The place where the text clearly gets harder or easier to predict; None if there is none.

        The place divides all blocks into two parts such that the variance within the parts is
        smallest. The change is clear if this division explains more than half of the variance of
        all blocks, and if the means of the two parts differ by more than 5 %. Fewer than four
        blocks have no such place.
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
    """Compute the bits per character of each block of a text by n-gram models.

    Returns None if there are fewer than two blocks of training text.

    Args:
        training: The blocks of the training text.
        validation: The blocks of the validation text; it may be empty.
        alphabet: The ids of all characters of the blocks.
    """
    if len(training) < 2:
        return None
    halves = (alphabet.encode("".join(training[parity::2])) for parity in (0, 1))
    models = [NGramModel(NGramCounts(half, ORDER, len(alphabet))) for half in halves]
    own = [_bits(models[(number + 1) % 2], alphabet.encode(block)) for number, block in enumerate(training)]
    return Drift(own, [sum(_bits(model, alphabet.encode(block)) for model in models) / 2 for block in validation])


def _bits(model: NGramModel, ids: NDArray[Any]) -> float:
    return model.cross_entropy(ids) / math.log(2)


def cut(text: str, count: int) -> list[str]:
    """Cut a text into at most `count` blocks of about equal length.

    Each block has about `SMALLEST` characters or more; a shorter text becomes a single block.
    """
    count = max(1, min(count, len(text) // SMALLEST))
    bounds = [round(number * len(text) / count) for number in range(count + 1)]
    return [text[start:end] for start, end in itertools.pairwise(bounds) if end > start]


def held_out_bits(training: str, held_out: str, alphabet: Alphabet) -> list[float]:
    """Return the bits per character of a held-out text under n-gram models of a training text.

    There is one value for each order from 1 to 8. All models use Kneser-Ney smoothing.
    """
    counts = NGramCounts(alphabet.encode(training), ORDERS, len(alphabet))
    models = [NGramModel(counts, order) for order in range(1, ORDERS + 1)]
    nats = total_nats(models, counts.look_up(alphabet.encode(held_out)))
    return [one / math.log(2) / (len(held_out) - 1) for one in nats]
