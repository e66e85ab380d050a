"""The sample schedule, which says when samples are generated during training.

`check_prompts` checks whether the vocabulary has everything that the prompts of the samples
contain.
"""

from __future__ import annotations

from typing import Literal

from charlm.config import SamplesConfig
from charlm.errors import CharlmError
from charlm.text.tokenization import Tokenizer
from charlm.training.progress import Progress

EARLY = (1 / 8, 1 / 4, 1 / 2)
"""Fractions of the first epoch after which there are samples, because they change most then."""


class SampleSchedule:
    """The schedule that says after which steps samples are generated.

    They are generated after 1/8, 1/4 and 1/2 of the first epoch (or of the run, if the run is
    shorter) and at the ends of epochs (see `is_due`). In a run limited by steps or epochs, the
    schedule depends on the step number only. Therefore a resumed run has the same samples as an
    uninterrupted one.

    Args:
        every: Epochs between samples; "auto": less often in later epochs; 0: no samples.
    """

    def __init__(self, every: int | Literal["auto"]) -> None:
        self.every = every
        self._before = 0.0

    def start(self, progress: Progress) -> None:
        """Set the position in the schedule when training begins or resumes."""
        self._before = _first_epoch(progress)

    def reached(self, progress: Progress) -> bool:
        """Return whether samples are due after the newest step; call this after every step."""
        before, self._before = self._before, _first_epoch(progress)
        early = any(before < point <= self._before for point in EARLY)
        return self.every != 0 and (early or progress.epoch_ended and is_due(round(progress.epoch), self.every))


def is_due(epoch: int, every: int | Literal["auto"] = "auto") -> bool:
    """Return whether samples are due at the end of an epoch.

    Args:
        epoch: The number of the epoch, counted from 1.
        every: Epochs between samples. "auto": after epochs 1 to 10, then 12, 14, ..., 20, 25, ...,
            50, 60, ..., 100, 120, and so on: about sixteen epochs for each factor of ten, because a
            network changes more slowly the more it has learnt.
    """
    if every != "auto":
        return epoch % every == 0
    power = 10 ** (len(str(epoch - 1)) - 1)
    return epoch % max(1, next(digit for digit in (2, 5, 10) if epoch <= digit * power) * power // 10) == 0


def _first_epoch(progress: Progress) -> float:
    """Return the completed fraction of the first epoch, or of the run if the run is shorter.

    The fraction exceeds 1 after the first epoch.
    """
    return max(progress.step / progress.steps_per_epoch, progress.fraction)


def check_prompts(samples: SamplesConfig, tokenizer: Tokenizer) -> None:
    """Raise CharlmError if a prompt of the samples contains text that is not in the vocabulary."""
    for prompt in samples.prompts:
        if unknowns := tokenizer.unknowns(tokenizer.prompt(prompt)):
            raise CharlmError(
                f"`samples.prompts` has {', '.join(map(repr, list(unknowns)[:8]))}, which the training text never "
                "has; leave that out"
            )
