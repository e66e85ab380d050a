"""The learning-rate schedule; `charlm.config.definitions.OptimizerConfig` lists its variants."""

from __future__ import annotations

import math
from typing import Any

from charlm.config import OptimizerConfig

MOST_WARMUP = 0.1
"""Largest fraction of a run in which the learning rate rises, however many steps `optimizer.warmup` names."""


class Schedule:
    """The learning-rate schedule of a run: a factor, from 0 to 1, on the highest learning rate.

    `cosine` and `linear` use the completed fraction of the run (of its epochs, steps or time,
    whichever is largest), so a run limited by time also ends with a low learning rate. `step`
    lowers the factor at fixed epochs. `plateau` lowers it when validations stop improving; the
    counters of `plateau` are stored in the checkpoint. Every variant begins with a warm-up of
    `optimizer.warmup` steps, or of the fraction `MOST_WARMUP` of the run if that is shorter.
    """

    def __init__(self, config: OptimizerConfig) -> None:
        self.config = config
        self.falls = 0
        self.best: float | None = None
        self.stale = 0

    def factor(self, step: int, fraction: float, epoch: int) -> float:
        """Return the factor on the highest learning rate.

        Args:
            step: Number of the optimiser step, from 0.
            fraction: The part of the run that is over, from 0 to 1.
            epoch: Number of the epoch, from 0.
        """
        config = self.config
        fraction = min(1.0, max(0.0, fraction))
        warm = min(1.0, max((step + 1) / (config.warmup + 1), fraction / MOST_WARMUP))
        match config.schedule:
            case "cosine":
                fall = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * fraction))
            case "linear":
                fall = config.final_lr + (1 - config.final_lr) * (1 - fraction)
            case "step":
                fall = config.decay ** (epoch // config.decay_every)
            case "plateau":
                fall = config.decay**self.falls
            case "constant":
                fall = 1.0
        return warm * fall

    def observe(self, loss: float) -> None:
        """Record the loss of a validation, on which the schedule `plateau` depends."""
        if self.best is None or loss < self.best:
            self.best, self.stale = loss, 0
        else:
            self.stale += 1
            if self.stale >= self.config.decay_every:
                self.falls, self.stale = self.falls + 1, 0

    def state_dict(self) -> dict[str, float | None]:
        return {"falls": self.falls, "best": self.best, "stale": self.stale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.falls, self.best, self.stale = state["falls"], state["best"], state["stale"]
