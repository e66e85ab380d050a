"""The budget of a network in a race, and how it is divided between its trials and a search.

A budget is a training time or a number of optimiser steps. A trial is one training of the race.
Before the trials, the search trains the network for a shorter time with several learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from charlm.config import TrainerConfig
from charlm.config.durations import duration
from charlm.errors import CharlmError

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
        """Return a budget that is a fraction of this one.

        Raises:
            CharlmError: The part is shorter than `SHORTEST` seconds, or than one optimiser step.
        """
        if self.seconds is not None:
            seconds = self.seconds * fraction
            seconds = round(seconds) if seconds >= 10 else round(seconds, 2)
            if seconds < SHORTEST:
                raise _too_small(f"a trial of {seconds:g} seconds", f"{SHORTEST / fraction:.2g}s")
            return Budget(seconds=seconds)
        assert self.steps is not None
        steps = int(self.steps * fraction + 1e-9)
        if steps < 1:
            raise _too_small("less than one optimiser step", f"{1 / fraction:.0f} optimiser steps")
        return Budget(steps=steps)

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


def divide(budget: Budget, seeds: int, searched: int) -> Shares:
    """Divide the budget of a network between its trials of the race and the trials of its search.

    A trial of the search is `SEARCH_FRACTION` as long as a trial of the race. If there are S seeds
    and K trials of the search, all of them share S times `budget`.

    Each trial of the race then gets S / (S + K / 4) of `budget`.

    Args:
        budget: Budget of the network for each seed.
        seeds: Number of trials of the race, one for each seed.
        searched: Number of trials of the search; 0 for none.

    Raises:
        CharlmError: The budget is too small.
    """
    fraction = seeds / (seeds + SEARCH_FRACTION * searched)
    trial = budget.part(fraction)
    return Shares(trial, budget.part(fraction * SEARCH_FRACTION) if searched else trial)


def _too_small(what: str, needed: str) -> CharlmError:
    return CharlmError(
        f"the budget is too small for one validation: its smallest share is {what}; "
        f"give at least {needed}, or leave the search out with `search` 1"
    )
