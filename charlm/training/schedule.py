"""The learning-rate schedule. Its names are listed in `charlm.config.definitions.OptimizerConfig`."""

from __future__ import annotations

import math
from typing import Any

from charlm.config import OptimizerConfig

MOST_WARMUP = 0.1
"""Largest fraction of a run in which the learning rate rises, however many steps `optimizer.warmup` names."""


class Schedule:
    """The learning rate over a run, as a factor of its highest value.

    `cosine`, `linear` and the warm-up use the completed fraction of the run (of its epochs, steps
    or time, whichever is largest), so a run limited by time also ends with a low learning rate.
    `step` depends on the epoch. `plateau` lowers the factor when validations stop improving; its
    counters are stored in the checkpoint.
    """

    def __init__(self, config: OptimizerConfig) -> None:
        self.config = config
        self.falls = 0
        self.best: float | None = None
        self.stale = 0

    def factor(self, step: int, fraction: float, epoch: int) -> float:
        """The factor at a step and epoch (from 0) when `fraction` (0 to 1) of the run is over."""
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
        """Record a validation loss, for `plateau`."""
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
