"""A race, which trains networks of several cells with equal size and budget on one text.

Each network is trained with several seeds. Each training is a trial.

1. `check` finds mistakes in the options, without reading the text or loading torch.
2. `planning.start` reads the text and writes the plan, which does not change when the race is
   resumed.
3. `run` trains the unfinished trials, and scores each on the validation split: first the trials of
   a search for the learning rate of each network, then those of the race. Every trial is an
   ordinary run, so an interrupted trial is resumed like any run.
4. When all trials are finished, `run` scores those of the race once on the test split, if the text
   has one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from charlm.config import Config
from charlm.config.durations import seconds
from charlm.config.fields import NonNegativeInteger, NonNegativeNumber, PositiveInteger, setting
from charlm.config.plain import merge
from charlm.errors import CharlmError, Diverged
from charlm.evaluation.paired import Score
from charlm.experiments.budget import Budget, divide
from charlm.experiments.plan import Trial
from charlm.experiments.race_directory import RaceDirectory
from charlm.experiments.sizes import Equal
from charlm.network.cells import cells
from charlm.network.summary import check_model
from charlm.reporter import Reporter
from charlm.run_directory import WEIGHTS

FACTORS = {1: [1.0], 3: [0.5, 1.0, 2.0], 5: [0.25, 0.5, 1.0, 2.0, 4.0]}
"""The factors of the learning rate that a search tries, by the value of the option `search`."""

NEAR = 0.02
"""Relative difference of losses in the search up to which the lower learning rate is preferred."""

DEFAULTS: dict[str, Any] = {
    "checkpoint": {"patience": 0},  # every trial uses its whole budget
    "samples": {"scored": 0},  # generating and scoring would take a part of the time
    "trainer": {"devices": 1},
}
"""Defaults of a race that differ from those of a single training."""

TEST_FRACTION = 0.05
"""Fraction of the text that a race keeps for the test unless a setting says otherwise."""


@dataclass(frozen=True)
class RaceOptions:
    """The options of a race: which cells it compares, and with how much training."""

    cells: tuple[str, ...] = setting(
        (), "the cells; the first, with its model.hidden, is the reference for the size of the others", choices="cells"
    )
    seeds: PositiveInteger = setting(3, "trainings of each cell, with the seeds seed, seed + 1, ...")
    budget: str = setting("", "training time for each cell and seed: 90s, 10m, 1h (default: 3m)")
    epochs: NonNegativeNumber = setting(0, "the budget in passes over the training text, instead of time (0: time)")
    tokens: NonNegativeInteger = setting(0, "the budget in tokens read, instead of time (0: time)")
    equal: Equal = setting(
        "parameters", "what is equal in all networks: parameters, width (hidden units), or operations per token"
    )
    search: Literal[1, 3, 5] = setting(
        3, "learning rates that are tried for each cell: 3: 1/2, 1 and 2 times the default; 5: from 1/4 to 4; 1: none"
    )
    engine: Literal["local", "slurm"] = setting(
        "local", "local: one trial after the other, here; slurm: jobs of a cluster (extra cluster)"
    )
    cluster: tuple[str, ...] = setting(
        (), "with the engine slurm: parameters of submitit, such as slurm_partition=gpu gpus_per_node=1"
    )


def base_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the given settings, with the defaults of a race for those that are not given.

    Settings are nested dicts. A race keeps `TEST_FRACTION` of the text as test split unless `given`
    says otherwise.
    """
    data = given.get("data", {})
    own_test = "test_fraction" in data or bool(data.get("test"))
    return merge(merge(DEFAULTS, {} if own_test else {"data": {"test_fraction": TEST_FRACTION}}), given)


def check(options: RaceOptions, config: Config) -> None:
    """Check the options and the settings of a race, without reading the text or loading torch.

    Raises:
        CharlmError: There are fewer than two cells; a cell is unknown or named twice; more than one
            of `budget`, `epochs` and `tokens` is given; `budget` is not a time, or is too short; a
            setting is not allowed in a race, such as several devices or `init_from`; the settings
            of the model do not fit a cell; or `check_engine` finds a mistake.
    """
    names = options.cells
    for name in names:
        if name not in cells and Path(name).exists():
            raise CharlmError(f"`cells` took {name} for a cell; name the text before the options")
        cells[name]  # raises CharlmError for an unknown cell
    if len(names) < 2:
        given = names[0] if names else "lstm"
        raise CharlmError(
            f"a race needs at least two cells to compare; name them with `cells`, such as {given} "
            f"{'gru' if given != 'gru' else 'lstm'}"
        )
    if len(set(names)) < len(names):
        raise CharlmError(f"the cell {max(names, key=names.count)!r} is named twice in `cells`; name each once")
    if sum(map(bool, (options.budget, options.epochs, options.tokens))) > 1:
        raise CharlmError("`budget`, `epochs` and `tokens` exclude each other; name one of them")
    if options.budget:
        divide(Budget(seconds(options.budget, "budget")), options.seeds, searched(options))
    if str(config.trainer.devices) != "1" or config.trainer.num_nodes != 1:
        raise CharlmError(
            "a race trains each network on one device; leave `trainer.devices` and `trainer.num_nodes` out"
        )
    if config.init_from:
        raise CharlmError("`init_from` names weights of one cell, and a race compares several; leave it out")
    if not config.data.val and not config.data.val_fraction:
        raise CharlmError("a race ranks networks by the validation split; set `data.val_fraction` above 0")
    for name in names:
        wide: dict[str, Any] = {"embedding": None} if cells[name].raw_input else {}
        check_model(replace(config.model, cell=name, **wide))
    check_engine(options, names)


def searched(options: RaceOptions) -> int:
    """Return how many learning rates are tried for each cell; 0 if there is no search."""
    return options.search if options.search > 1 else 0


def check_engine(options: RaceOptions, names: Iterable[str]) -> None:
    """Raise CharlmError if trials cannot be trained as the options `engine` and `cluster` say.

    The engine trains the trials on this machine, or as jobs of a cluster. `names` has the names of
    the cells.
    """
    if options.cluster and options.engine != "slurm":
        raise CharlmError("`cluster` has parameters of jobs; use it with `engine` slurm")
    if options.engine == "slurm":
        from charlm.experiments.cluster import check_cells, parameters

        parameters(options.cluster)
        check_cells(names)


def run(directory: RaceDirectory, reporter: Reporter, options: RaceOptions | None = None) -> None:
    """Train and score the unfinished trials, then score all trials of the race on the test split.

    The scores on the test split are left out if the text has no test split.

    Args:
        directory: The directory of the race.
        reporter: Receives messages about each trial and its score.
        options: The options of the race, of which `engine` and `cluster` are used: they say where
            the trials are trained. None: on this machine.

    Raises:
        Interrupted: A training was asked to stop; its state is saved.
        CharlmError: Something that the user can fix.
    """
    plan, options = directory.plan, options or RaceOptions()
    every = [*plan.searches, *plan.trials]
    for phase in (plan.searches, plan.trials):
        scored = directory.scores
        waiting = [trial for trial in phase if trial.name not in scored]
        for trial in _trained(directory, waiting, len(every), reporter, options):
            score = _score(directory, trial, "val", reporter)
            directory.add_score(trial, "val", score)
            reporter.say(f"{trial.name}: {score.bits:.3f} bits per character of the validation split")
    scored = directory.scores
    for trial in plan.trials if directory.has_test() else []:
        if "test" not in scored[trial.name]:
            directory.add_score(trial, "test", _score(directory, trial, "test", reporter))


def chosen_factor(directory: RaceDirectory, cell: str) -> float:
    """Return the factor of the learning rate with which a network is trained after the search.

    It is the lowest factor whose validation loss is at most `NEAR` above the lowest loss of the
    search. The trials of the search are shorter than those of the race, and a longer training needs
    a lower learning rate. Without a search the factor is 1.

    Args:
        directory: The directory of the race.
        cell: Name of the network's cell.
    """
    scores = directory.scores
    losses = {trial.factor: scores[trial.name]["val"].loss for trial in directory.plan.searches if trial.cell == cell}
    if not losses or not math.isfinite(min(losses.values())):
        return 1.0
    return min(factor for factor, loss in losses.items() if loss <= (1 + NEAR) * min(losses.values()))


def _trained(
    directory: RaceDirectory, trials: Sequence[Trial], total: int, reporter: Reporter, options: RaceOptions
) -> Iterator[Trial]:
    """Train some trials, and yield each trial after its training.

    Args:
        directory: The directory of the race.
        trials: The trials to train.
        total: Number of all trials of the search and of the race, for messages.
        reporter: Receives messages and the progress.
        options: The options of the race, of which `engine` and `cluster` are used: they say where
            the trials are trained.
    """
    from charlm.training.trainer import resume

    plan = directory.plan
    runs = []
    for trial in trials:
        factor = 1.0 if trial.factor else chosen_factor(directory, trial.cell)
        runs.append((trial, plan.settings(trial, factor)))
    if options.engine == "slurm":
        from charlm.experiments import cluster

        paths = [directory.begin(trial, config).path for trial, config in runs]
        cluster.train(paths, directory.path / "jobs", "slurm", cluster.parameters(options.cluster), reporter)
        yield from trials
        return
    for trial, config in runs:
        run = directory.begin(trial, config)
        rate = f"learning rate {config.optimizer.lr:.4g}"
        number = len(directory.scores) + 1
        reporter.say(f"trial {number} of {total}: {trial.cell}, seed {trial.seed}, {rate}")
        try:
            resume(run.path, reporter=TrialReporter(reporter, trial.name))
        except Diverged as error:
            reporter.say(f"warning: {trial.name} diverged: {error}")
        yield trial


def _score(directory: RaceDirectory, trial: Trial, split: str, reporter: Reporter) -> Score:
    """Return how well the best weights of a trial predict a whole split, with carried state.

    Both numbers of the score are infinite if the training diverged before its first validation.
    """
    from charlm.run import Run

    path = directory.run(trial)
    if not (path / WEIGHTS["best"]).is_file():  # the trial diverged before its first validation
        return Score(math.inf, math.inf)
    result = Run(path).evaluate(split=split, device="auto", progress=reporter.progress)
    return Score(result.loss, result.bits_per_character)


class TrialReporter(Reporter):
    """A reporter for one trial of many, which passes on only warnings and progress.

    Args:
        reporter: The reporter that receives the warnings and the progress.
        name: Name of the trial, which is added to warnings.
    """

    def __init__(self, reporter: Reporter, name: str) -> None:
        self.reporter, self.name = reporter, name

    def say(self, line: str) -> None:
        if line.startswith("warning"):
            self.reporter.say(f"warning: {self.name}: {line.removeprefix('warning: ')}")

    def progress(self, what: str, done: int, total: int) -> None:
        self.reporter.progress(what, done, total)

    def on_step(
        self,
        fraction: float,
        step: int,
        epoch: float,
        seconds: float,
        loss: float | None,
        tokens_per_second: float | None,
    ) -> None:
        self.reporter.on_step(fraction, step, epoch, seconds, None, tokens_per_second)

    def close(self) -> None:
        self.reporter.close()
