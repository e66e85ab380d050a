"""The plan of a race: its networks with their settings, its seeds, and its budget.

A race trains one network of each cell, once for each seed. Before these trials, a search trains
each network with several learning rates, of which the best is used in the trials of the race.
"""

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
    """One training of a race, either in the search of the learning rate or in the race itself.

    Args:
        name: Path of its run directory within the directory of the race: "runs/gru-seed1", or
            "search/gru-lr0.5".
        cell: Name of the cell.
        seed: Seed of the training.
        factor: In a trial of the search, its learning rate divided by the one that the plan has for
            the network. In a trial of the race it is 0: the factor is then an argument of
            `Plan.settings`.
    """

    name: str
    cell: str
    seed: int
    factor: float


@dataclass(frozen=True)
class Plan:
    """The plan of a race, which is written to `race.json` when the race starts.

    Args:
        networks: For each cell, the settings of its network as nested dicts, in which every setting
            has a value. The learning rate is the one from which the search starts.
        vocab_size: Number of tokens in the vocabulary.
        seeds: The seeds of the trials, the same for every network.
        factors: Factors of the learning rate that the search tries with the first seed; [1] means
            that there is no search.
        equal: In what the networks are equal: parameters, width, or operations per token.
        budget: The budget of a network for each seed, in words.
        shares: How this budget is divided between the trials of the search and of the race.
        speeds: Training speed of the network of each cell in tokens per second, measured when the
            plan was made.
        tokens_per_step: Mean number of tokens that an optimiser step reads.
        tokens_per_epoch: Number of tokens of the training split.
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
        """Return the settings of the network of a cell.

        Its learning rate is the one from which the search starts.
        """
        return Config.from_dict(self.networks[cell])

    @property
    def searches(self) -> list[Trial]:
        """The trials of the search: each network with every factor of the learning rate.

        All of them have the first seed. The list is empty if there is only one factor.
        """
        if len(self.factors) < 2:
            return []
        return [
            Trial(f"search/{cell}-lr{factor:g}", cell, self.seeds[0], factor)
            for cell in self.networks
            for factor in self.factors
        ]

    @property
    def trials(self) -> list[Trial]:
        """The trials of the race, ordered by seed: first all networks with the first seed.

        In this order, an interrupted race has about equally many finished trials of every network.
        """
        return [Trial(f"runs/{cell}-seed{seed}", cell, seed, 0.0) for seed in self.seeds for cell in self.networks]

    def settings(self, trial: Trial, factor: float = 1.0) -> Config:
        """Return the settings of a trial.

        Args:
            trial: A trial of the search or of the race.
            factor: The factor of the learning rate that the search chose; used in trials of the
                race only.
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
        """The estimated training time in seconds of all trials, of the search and of the race, one after the other.

        If the budget is a number of steps, the time is computed from the measured speeds.
        """
        total = 0.0
        for trial in (*self.searches, *self.trials):
            share = self.shares.search if trial.factor else self.shares.trial
            tokens = self.tokens_per_step * (share.steps or 0)
            total += tokens / self.speeds[trial.cell] if share.seconds is None else share.seconds
        return total

    def describe(self) -> Iterator[str]:
        """Describe the plan in lines of text to print in the terminal."""
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
