"""The counters of a training, kept by `LanguageModule` and stored in its checkpoints."""

from __future__ import annotations

import time
import typing
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import msgspec

from charlm.config.fields import NonNegativeInteger, NonNegativeNumber
from charlm.config.limits import Limit, Limits
from charlm.evaluation.verdict import FEW_STEPS

ROLLBACK_FACTOR = 0.1
"""Factor on the learning rate when a run returns to its last checkpoint."""


@dataclass
class Progress:
    """The counters of a training: how far it is, and how it went.

    Args:
        limits: The epochs, steps or time after which the run is over.

    Attributes:
        step: Optimiser steps so far, skipped ones included.
        epoch: Passes over the training text so far; 1.5 is half-way through the second pass.
        tokens: Tokens predicted so far by all processes.
        skipped_steps: Steps not taken because a loss, a gradient or a state was not finite.
        bad_steps: Number of steps in a row that were skipped, up to the newest step; always 0 if
            the loss is scaled (precision 16-mixed).
        rollbacks: How often the weights diverged and were replaced by those of the last checkpoint.
        best_loss: Lowest validation loss in nats per token; None before the first validation.
        best_bits_per_character, best_epoch: Bits per character and epoch of the validation with the
            lowest loss; 0 before the first validation.
        stale_validations: Validations since the best one, without those before step `FEW_STEPS`.
        validation_tokens: About how many tokens each validation reads (see
            `validation_points.beginning`); 0 before the first validation. It stays 0 if
            `val_check_interval` is a number and `limit_val_batches` is "auto", because each
            validation then reads all of the text.
        elapsed_before: The value of `elapsed` in the checkpoint from which the run was last
            resumed; 0 if it never was.
        batches_per_epoch, accumulate: Batches of an epoch, and batches of an optimiser step.
        batch: Batches of this epoch so far.
        improved: Whether a validation after this step had the lowest loss so far; in a run without
            a validation text, whether a validation would have been due.
        rolled_back: Whether the weights diverged in this step and were replaced by those of the
            last checkpoint.
        stop_reason: The limit that the run has reached, or "asked" if a callback ends the run; None
            while the run goes on.
        paused: Seconds that this process spent between steps: validation, samples, saving.
    """

    limits: Limits
    step: NonNegativeInteger = 0
    epoch: NonNegativeNumber = 0.0
    tokens: NonNegativeInteger = 0
    skipped_steps: NonNegativeInteger = 0
    bad_steps: NonNegativeInteger = 0
    rollbacks: NonNegativeInteger = 0
    best_loss: NonNegativeNumber | None = None
    best_bits_per_character: NonNegativeNumber = 0.0
    best_epoch: NonNegativeNumber = 0.0
    stale_validations: NonNegativeInteger = 0
    validation_tokens: NonNegativeInteger = 0
    elapsed_before: NonNegativeNumber = 0.0
    batches_per_epoch: int = field(default=1, metadata={"stored": False})
    accumulate: int = field(default=1, metadata={"stored": False})
    batch: int = field(default=0, metadata={"stored": False})
    improved: bool = field(default=False, metadata={"stored": False})
    rolled_back: bool = field(default=False, metadata={"stored": False})
    stop_reason: Limit | Literal["asked"] | None = field(default=None, metadata={"stored": False})
    paused: float = field(default=0.0, metadata={"stored": False})
    _started: float | None = field(default=None, metadata={"stored": False})

    def start_clock(self) -> None:
        """Start to measure the time of training; called when training begins or resumes."""
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, validation and sampling so far, summed over all resumptions."""
        return self.elapsed_before + (0.0 if self._started is None else time.monotonic() - self._started)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; the last step may have fewer batches than the others."""
        return -(-self.batches_per_epoch // self.accumulate)

    @property
    def epoch_ended(self) -> bool:
        """Whether the newest batch was the last one of an epoch."""
        return self.batch == self.batches_per_epoch

    @property
    def step_ended(self) -> bool:
        """Whether the newest batch completed an optimiser step.

        The other batches of a step only add to its gradients.
        """
        return self.batch % self.accumulate == 0 or self.epoch_ended

    def passed(self, interval: int) -> bool:
        """Return whether the newest step reached or passed a multiple of `interval` batches.

        Batches are counted from 1 in each epoch; an optimiser step may have several.
        """
        before = (self.batch - 1) // self.accumulate * self.accumulate
        return self.batch // interval > before // interval

    @property
    def learning_rate_factor(self) -> float:
        """The factor on the learning rate: 1, or less after a return to the last checkpoint."""
        return ROLLBACK_FACTOR**self.rollbacks

    @property
    def fraction(self) -> float:
        """The part of the run that is over, from 0 to 1."""
        return self.limits.fraction(self.step / self.steps_per_epoch, self.step, self.elapsed)

    def limit_reached(self) -> Limit | None:
        """Return the limit that the run has reached; None if it has reached none."""
        return self.limits.reached(self.epoch, self.step, self.elapsed, self.stale_validations)

    def validated(self, loss: float, bits_per_character: float) -> None:
        """Record the loss (in nats per token) and the bits per character of a validation.

        Validations before step `FEW_STEPS` do not count for early stopping.
        """
        self.improved = self.best_loss is None or loss < self.best_loss
        if self.improved:
            self.best_loss, self.best_bits_per_character, self.best_epoch = loss, bits_per_character, self.epoch
        waiting = self.improved or self.step < FEW_STEPS
        self.stale_validations = 0 if waiting else self.stale_validations + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the counters that a checkpoint stores, by name."""
        state = {name: getattr(self, name) for name in _STORED}
        return state | {"elapsed_before": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the counters to those of a checkpoint.

        Raises:
            ValueError, KeyError: a counter is missing, or has a value that no training stores.
        """
        for name in _STORED:
            setattr(self, name, msgspec.convert(state[name], _TYPES[name]))


_STORED = [one.name for one in fields(Progress) if one.metadata.get("stored", True) and one.name != "limits"]
_TYPES = typing.get_type_hints(Progress, include_extras=True)
