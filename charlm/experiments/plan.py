"""What a race is going to do: its networks, their settings, its seeds, its budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from charlm.config import Config
from charlm.config.durations import duration
from charlm.errors import count
from charlm.experiments.budget import Shares
from charlm.experiments.sizes import Equal
from charlm.network.summary import operation_count, parameter_count


@dataclass(frozen=True)
class Trial:
    """One training of a race.

    Args:
        name: Its run directory within the race: "runs/gru-seed1", or "search/gru-lr0.5".
        cell: The cell.
        factor: The learning rate relative to that of the plan; 0 where the search decides it.
    """

    name: str
    cell: str
    seed: int
    factor: float


@dataclass(frozen=True)
class Plan:
    """What a race does, in the order in which it does it; written to `race.json` when the race starts.

    Args:
        networks: The resolved settings of each network by its cell, as nested plain values: those of a trial, with the
            learning rate that the search starts from.
        vocab_size: Tokens of the vocabulary.
        seeds: The seeds, the same for every network.
        factors: Factors of the learning rate that are tried with the first seed; only 1: there is no search.
        equal: In what the networks are equal.
        budget: What a network may use for each seed, in words.
        shares: How that is divided.
        speeds: Tokens per second of each network, measured for the plan.
        tokens_per_step: Tokens of an optimiser step.
        tokens_per_epoch: Tokens of the training split.
    """

    networks: dict[str, dict[str, Any]]
    vocab_size: int
    seeds: list[int]
    factors: list[float]
    equal: Equal
    budget: str
    shares: Shares
    speeds: dict[str, float]
    tokens_per_step: float
    tokens_per_epoch: int

    def config(self, cell: str) -> Config:
        """The settings of a network, with the learning rate that the search starts from."""
        return Config.from_dict(self.networks[cell])

    @property
    def searches(self) -> list[Trial]:
        """The trials of the search: every factor with the first seed; none if there is only one factor."""
        if len(self.factors) < 2:
            return []
        return [
            Trial(f"search/{cell}-lr{factor:g}", cell, self.seeds[0], factor)
            for cell in self.networks
            for factor in self.factors
        ]

    @property
    def trials(self) -> list[Trial]:
        """The trials of the race, seed by seed, so that an unfinished race has as many trials of every network."""
        return [Trial(f"runs/{cell}-seed{seed}", cell, seed, 0.0) for seed in self.seeds for cell in self.networks]

    def settings(self, trial: Trial, factor: float = 1.0) -> Config:
        """The settings of a trial.

        Args:
            trial: A trial of the search or of the race.
            factor: Of the learning rate, for a trial of the race.
        """
        config = self.config(trial.cell)
        searching = bool(trial.factor)
        rate = config.optimizer.lr * (trial.factor if searching else factor)
        config = replace(config, seed=trial.seed, optimizer=replace(config.optimizer, lr=rate))
        if not searching:
            return replace(config, trainer=self.shares.trial.limit(config.trainer))
        trainer = replace(self.shares.search.limit(config.trainer), limit_val_batches="auto")
        inspect = replace(config.inspect, histograms=False, images=False, embeddings=False)
        return replace(config, trainer=trainer, inspect=inspect, samples=replace(config.samples, every=0))

    @property
    def seconds(self) -> float:
        """About how long the race takes, one trial after the other: training alone, as measured for the plan."""
        total = 0.0
        for trial in (*self.searches, *self.trials):
            share = self.shares.search if trial.factor else self.shares.trial
            tokens = self.tokens_per_step * (share.steps or 0)
            total += tokens / self.speeds[trial.cell] if share.seconds is None else share.seconds
        return total

    def describe(self) -> Iterator[str]:
        """The plan in lines, for the terminal."""
        trials, searches = len(self.trials), len(self.searches)
        first = next(iter(self.networks))
        of = "hidden units" if self.equal == "width" else f"{self.equal}"
        yield f"race: {len(self.networks)} cells, {count(len(self.seeds), 'seed')}, equal {of} (those of {first})"
        yield f"{'cell':18} {'hidden':>6} {'parameters':>12} {'operations':>12} {'lr':>8} {'tokens/s':>9}"
        for cell in self.networks:
            config = self.config(cell)
            yield (
                f"{cell:18} {config.model.hidden:6} {parameter_count(config.model, self.vocab_size):12,} "
                f"{operation_count(config.model, self.vocab_size):12,} {config.optimizer.lr:8.4g} "
                f"{self.speeds[cell]:9,.0f}"
            )
        yield f"budget: {self.budget} for each cell and seed"
        if searches:
            factors = ", ".join(f"{factor:g}" for factor in self.factors)
            yield (
                f"search of the learning rate: {factors} times the default with seed {self.seeds[0]}, "
                f"{self.shares.search} each, {searches} trials"
            )
        yield f"each trial then has {self.shares.trial}, {trials} trials"
        test = self.config(first).data
        if test.test or test.test_fraction:
            of = test.test or f"{test.test_fraction:g} of the text (data.test_fraction)"
            yield f"test split: {of}, read once when every trial is finished"
        yield f"expected training time: about {duration(self.seconds)}, one trial after the other"
