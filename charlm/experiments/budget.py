"""The budget of a network in a race, and how it is divided between its trials and a search.

A budget is a training time or a number of optimiser steps. A trial is one training of the race.
Before the trials, the search trains the network for a shorter time with several learning rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from charlm.config import TrainerConfig
from charlm.config.durations import duration
from charlm.errors import CharlmError, count

SEARCH_FRACTION = 0.25
"""Length of a trial of the search, relative to a trial of the race."""

SHORTEST = 1.0
"""Shortest trial in seconds."""


@dataclass(frozen=True)
class Budget:
    """The budget of one training: a time, or a number of optimiser steps.

    Args:
        seconds: Training time in seconds; None if the budget is a number of steps.
        steps: Number of optimiser steps; None if the budget is a time.
    """

    seconds: float | None = None
    steps: int | None = None

    def limit(self, trainer: TrainerConfig) -> TrainerConfig:
        """Return the settings of a trainer with limits that end a run when this budget is used."""
        if self.seconds is not None:
            return replace(trainer, max_time=f"{self.seconds:g}s", max_steps=-1, max_epochs=-1)
        assert self.steps is not None
        return replace(trainer, max_time="", max_steps=self.steps, max_epochs=-1)

    def part(self, fraction: float) -> Budget:
        """Return a budget that is a fraction of this one; a part of a few steps may have none."""
        if self.seconds is not None:
            seconds = self.seconds * fraction
            return Budget(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
        assert self.steps is not None
        return Budget(steps=int(self.steps * fraction + 1e-9))

    @property
    def is_too_small(self) -> bool:
        """Whether a trial with this budget would end before its first optimiser step."""
        return self.seconds < SHORTEST if self.seconds is not None else self.steps == 0

    def __str__(self) -> str:
        return f"{self.steps:,} optimiser steps" if self.seconds is None else duration(self.seconds)


@dataclass(frozen=True)
class Shares:
    """The budgets of the trials of a network in a race, and of the trials of its search.

    All these trials together use no more than the budget of the network, apart from rounding.

    Args:
        trial: Budget of each trial of the race.
        search: Budget of each trial of the search.
    """

    trial: Budget
    search: Budget


def divide(budget: Budget, seeds: int, searched: int, tokens_per_step: float = 0) -> Shares:
    """Divide the budget of a network between its trials of the race and the trials of its search.

    A trial of the search is `SEARCH_FRACTION` as long as a trial of the race. If there are S seeds
    and K trials of the search, all of them share S times `budget`.

    Each trial of the race then gets S / (S + K / 4) of `budget`.

    Args:
        budget: Budget of the network for each seed.
        seeds: Number of trials of the race, one for each seed.
        searched: Number of trials of the search; 0 for none.
        tokens_per_step: Tokens of an optimiser step, which an error names; 0 if unknown.

    Raises:
        CharlmError: A trial would end before its first validation.
    """
    fraction = seeds / (seeds + SEARCH_FRACTION * searched)
    smallest = fraction * SEARCH_FRACTION if searched else fraction
    shares = Shares(budget.part(fraction), budget.part(smallest))
    if shares.search.is_too_small:
        trial = "a trial of the search of the learning rate" if searched else "a trial"
        without = ", or leave the search out with `search` 1" if searched else ""
        if budget.seconds is not None:
            got, needed = f"{shares.search.seconds:g} seconds", f"{SHORTEST / smallest:.2g}s"
        else:
            steps = math.ceil(1 / smallest - 1e-9)
            got, needed = "less than one optimiser step", count(steps, "optimiser step")
            needed += f" ({math.ceil(steps * tokens_per_step):,} tokens)" if tokens_per_step else ""
        raise CharlmError(f"the budget is too small: {trial} would have {got}; give at least {needed}{without}")
    return shares
