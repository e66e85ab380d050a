"""The computation of the result of a race from the scores and the runs of its trials."""

from __future__ import annotations

from pathlib import Path

from charlm.config.durations import duration
from charlm.errors import count
from charlm.experiments.race import chosen_factor
from charlm.experiments.race_directory import RaceDirectory
from charlm.files import atomic
from charlm.run_directory import RunDirectory
from charlm.views import race as views
from charlm.views.race import RaceResult, Standing
from charlm.views.summary import Summary


def result(directory: RaceDirectory) -> RaceResult:
    """Return the result of a finished race."""
    plan = directory.plan
    standings = [standing(directory, cell) for cell in plan.networks]
    texts = plan.config(next(iter(plan.networks))).data.text
    of = {"parameters": "equal numbers of parameters", "width": "equal numbers of hidden units"}
    facts = [
        f"text: {', '.join(Path(text).name for text in texts) or 'the built-in corpus'}",
        f"{len(plan.networks)} cells, {count(len(plan.seeds), 'seed')}",
        of.get(plan.equal, "equal numbers of operations per token"),
        f"budget of each cell and seed: {plan.budget}",
        f"each trial: {plan.shares.trial}",
        f"training time in all: {duration(sum(run.seconds for one in standings for run in one.runs))}",
    ]
    return RaceResult(directory.path, standings, facts, directory.resume)


def standing(directory: RaceDirectory, cell: str) -> Standing:
    """Return the result of one network in a finished race.

    Args:
        directory: The directory of the race.
        cell: Name of the network's cell.
    """
    plan, scores = directory.plan, directory.scores
    trials = [trial for trial in plan.trials if trial.cell == cell]
    return Standing(
        cell,
        [Summary(RunDirectory(directory.run(trial))) for trial in trials],
        [scores[trial.name]["val"] for trial in trials],
        [scores[trial.name]["test"] for trial in trials] if directory.has_test() else [],
        chosen_factor(directory, cell),
        {trial.factor: scores[trial.name]["val"] for trial in plan.searches if trial.cell == cell},
        plan.tokens_per_epoch,
    )


def write_page(directory: RaceDirectory, found: RaceResult) -> None:
    """Write the HTML page with the result of a race into the directory of the race."""
    with atomic(directory.page) as file:
        file.write(views.html(found))
