"""The budget of a network in a race, and how it is divided between the trials of the network.

A budget is a training time or a number of optimiser steps. Before the race, a search trains the
network for a shorter time with several learning rates. A trial is one training, either of the race
or of the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from charlm.config import TrainerConfig
from charlm.config.durations import duration
from charlm.errors import CharlmError, count

SEARCH_FRACTION = 0.25
"""Budget of a trial of the search, relative to that of a trial of the race."""

SHORTEST = 1.0
"""The shortest training time that a trial may have, in seconds."""


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
        """Return a budget that is `fraction` of this one; steps are rounded down, even to 0."""
        if self.seconds is not None:
            seconds = self.seconds * fraction
            return Budget(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
        assert self.steps is not None
        return Budget(steps=int(self.steps * fraction + 1e-9))

    @property
    def is_too_small(self) -> bool:
        """Whether a trial cannot have this budget: less than `SHORTEST` seconds, or 0 steps."""
        return self.seconds < SHORTEST if self.seconds is not None else self.steps == 0

    def __str__(self) -> str:
        return f"{self.steps:,} optimiser steps" if self.seconds is None else duration(self.seconds)


@dataclass(frozen=True)
class Shares:
    """The budgets of the trials of a network in a race, and of the trials of its search.

    Args:
        trial: Budget of each trial of the race.
        search: Budget of each trial of the search; equal to `trial` if there is no search.
    """

    trial: Budget
    search: Budget


def divide(budget: Budget, seeds: int, searched: int, tokens_per_step: float = 0) -> Shares:
    """Divide the budget of a network between its trials of the race and the trials of its search.

    A trial of the search gets `SEARCH_FRACTION` of what a trial of the race gets. The S trials of
    the race and the K trials of the search share S times `budget`. Each trial of the race therefore
    gets S / (S + `SEARCH_FRACTION` K) of `budget`.

    Args:
        budget: Budget of the network for each seed.
        seeds: Number of trials of the race, one for each seed.
        searched: Number of trials of the search; 0 for none.
        tokens_per_step: Mean number of tokens that an optimiser step reads, for the message of an
            error; 0 if unknown.

    Raises:
        CharlmError: A trial would get less than `SHORTEST` seconds, or 0 steps.
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
