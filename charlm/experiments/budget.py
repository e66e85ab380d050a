"""The budget of a network, and how it is divided between the search of its learning rate and its trials."""

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
    """What one trial may use: time, or optimiser steps.

    Args:
        seconds: Time of training; None: it is bound by steps.
        steps: Optimiser steps.
    """

    seconds: float | None = None
    steps: int | None = None

    def limit(self, trainer: TrainerConfig) -> TrainerConfig:
        """The settings of a trainer that end a run when the budget is used up."""
        if self.seconds is not None:
            return replace(trainer, max_time=f"{self.seconds:g}s", max_steps=-1, max_epochs=-1)
        assert self.steps is not None
        return replace(trainer, max_time="", max_steps=self.steps, max_epochs=-1)

    def part(self, fraction: float) -> Budget:
        """A part of this budget."""
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
    """How the budget of a network is divided, so that search and trials together use no more than all of it.

    Args:
        trial: Each trial of the race.
        search: Each trial of the search.
    """

    trial: Budget
    search: Budget


def divide(budget: Budget, seeds: int, searched: int, tokens_per_step: float = 0) -> Shares:
    """Divide what a network may use, `budget` for each seed, between its trials and the trials of its search.

    A trial of the search is `SEARCH_FRACTION` as long as one of the race. With S seeds and K trials of the search a
    trial of the race gets S / (S + K / 4) of the budget.

    Args:
        budget: For each seed.
        seeds: Trials of the race.
        searched: Trials of the search; 0 for none.
        tokens_per_step: Tokens of an optimiser step, for the message of an error; 0 if unknown.

    Raises:
        CharlmError: the budget is too small: a trial would end before its first validation.
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
