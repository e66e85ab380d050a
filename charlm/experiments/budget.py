"""The budget of a network, and how it is divided between the search of its learning rate and its trials."""

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
        """A part of this budget.

        Raises:
            CharlmError: it is too small for a trial: there must be an optimiser step before a validation.
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
    """How the budget of a network is divided, so that search and trials together use no more than all of it.

    Args:
        trial: Each trial of the race.
        search: Each trial of the search.
    """

    trial: Budget
    search: Budget


def divide(budget: Budget, seeds: int, searched: int) -> Shares:
    """Divide what a network may use, `budget` for each seed, between its trials and the trials of its search.

    A trial of the search is `SEARCH_FRACTION` as long as one of the race. With S seeds and K trials of the search a
    trial of the race gets S / (S + K / 4) of the budget.

    Args:
        budget: For each seed.
        seeds: Trials of the race.
        searched: Trials of the search; 0 for none.

    Raises:
        CharlmError: the budget is too small.
    """
    fraction = seeds / (seeds + SEARCH_FRACTION * searched)
    trial = budget.part(fraction)
    return Shares(trial, budget.part(fraction * SEARCH_FRACTION) if searched else trial)


def _too_small(what: str, needed: str) -> CharlmError:
    return CharlmError(
        f"the budget is too small for one validation: its smallest share is {what}; "
        f"give at least {needed}, or leave the search out with `search` 1"
    )
