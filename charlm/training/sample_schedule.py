"""The sample schedule: after which steps of a training samples are generated, and whether their prompts can be read."""

from __future__ import annotations

from typing import Literal

from charlm.config import SamplesConfig
from charlm.errors import CharlmError
from charlm.text.tokenization import Tokenizer
from charlm.training.progress import Progress

EARLY = (1 / 8, 1 / 4, 1 / 2)
"""Points within the first epoch, where most of the change is."""


class SampleSchedule:
    """Says after which steps there are samples: some in the first epoch, then at ends of epochs, less and less often.

    Within the first epoch, or the whole run if that is shorter, they are at 1/8, 1/4 and 1/2; after it at ends of
    epochs (see `is_due`). In a run that is bound by steps or epochs all this follows from the number of the step alone,
    so that an interrupted and resumed run has the samples of one that never stopped.

    Args:
        every: Epochs between samples; "auto": less and less often; 0: none at all.
    """

    def __init__(self, every: int | Literal["auto"]) -> None:
        self.every = every
        self._before = 0.0

    def start(self, progress: Progress) -> None:
        """Training begins or resumes."""
        self._before = _first_epoch(progress)

    def reached(self, progress: Progress) -> bool:
        """Whether there are samples after the step that has just ended; to be asked after every step."""
        before, self._before = self._before, _first_epoch(progress)
        early = any(before < point <= self._before for point in EARLY)
        return self.every != 0 and (early or progress.epoch_ended and is_due(round(progress.epoch), self.every))


def is_due(epoch: int, every: int | Literal["auto"] = "auto") -> bool:
    """Whether there are samples at the end of epoch 1, 2, ...

    With "auto" these are 1 to 10, then 12, 14, ..., 20, 25, ..., 50, 60, ..., 100, 120, and so on: about sixteen for
    each factor of ten, because a network changes more slowly the more it has learnt.
    """
    if every != "auto":
        return epoch % every == 0
    power = 10 ** (len(str(epoch - 1)) - 1)
    return epoch % max(1, next(digit for digit in (2, 5, 10) if epoch <= digit * power) * power // 10) == 0


def _first_epoch(progress: Progress) -> float:
    """How far the first epoch is, or the run if it ends sooner; above 1 after either."""
    return max(progress.step / progress.steps_per_epoch, progress.fraction)


def check_prompts(samples: SamplesConfig, tokenizer: Tokenizer) -> None:
    """Raise CharlmError for a prompt of the samples that has something the vocabulary lacks."""
    for prompt in samples.prompts:
        if unknowns := tokenizer.unknowns(tokenizer.prompt(prompt)):
            raise CharlmError(
                f"`samples.prompts` has {', '.join(map(repr, list(unknowns)[:8]))}, which the training text never "
                "has; leave that out"
            )
