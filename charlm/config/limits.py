"""The limits of a run in epochs, steps, time and patience, which say when the run is over.

Training, resuming and the verdict on a run (`charlm.evaluation.verdict`) all use these limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from charlm.config.definitions import CheckpointConfig, TrainerConfig
from charlm.config.durations import seconds

Limit = Literal["epochs", "steps", "time", "patience"]
"""What ends a run."""


@dataclass(frozen=True)
class Limits:
    """The limits of a run; infinity means no limit.

    Args:
        epochs, steps, seconds: Training ends after so many epochs, optimiser steps or seconds.
        patience: Training ends early after so many validations in a row without improvement.
    """

    epochs: float
    steps: float
    seconds: float
    patience: float

    @classmethod
    def of(cls, trainer: TrainerConfig, checkpoint: CheckpointConfig) -> Limits:
        """Return the limits of a run from its settings, of which none may be None."""
        return cls(
            trainer.max_epochs if trainer.max_epochs > 0 else math.inf,
            trainer.max_steps if trainer.max_steps > 0 else math.inf,
            seconds(trainer.max_time) if trainer.max_time else math.inf,
            checkpoint.patience or math.inf,
        )

    def fraction(self, epochs: float, steps: int, elapsed: float) -> float:
        """Return the part of the run that is over, from 0 to 1.

        This is the largest of the parts in epochs, steps and time.

        Args:
            epochs, steps, elapsed: Epochs, optimiser steps and seconds trained so far.
        """
        return min(1.0, max(epochs / self.epochs, steps / self.steps, elapsed / self.seconds))

    def reached(self, epochs: float, steps: int, elapsed: float, stale_validations: int) -> Limit | None:
        """Return the limit that the run has reached; None if it has reached none.

        Args:
            epochs, steps, elapsed: Epochs, optimiser steps and seconds trained so far.
            stale_validations: Validations in a row without improvement.
        """
        if epochs >= self.epochs - 1e-9:
            return "epochs"
        if steps >= self.steps:
            return "steps"
        if elapsed >= self.seconds:
            return "time"
        if stale_validations >= self.patience:
            return "patience"
        return None
