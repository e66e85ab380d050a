"""A sweep: many trainings on one text with settings that Optuna proposes (Akiba et al. 2019).

Each training is a trial, and an ordinary run. The tree-structured Parzen estimator (Bergstra et al.
2011) proposes the settings of a trial from the results of the trials before it. Successive halving
(Jamieson and Talwalkar 2016) or Hyperband (Li et al. 2018) ends a trial early if its validations
are among the worse ones, unless the option `pruner` is "none".

A journal beside the runs stores all trials and validations, so that an interrupted sweep can be
continued. The random numbers behind a proposal depend only on the seed and the number of the trial,
so that a continued sweep needs no stored random state.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from charlm.config import Config
from charlm.config.durations import seconds
from charlm.config.fields import PositiveInteger, setting
from charlm.config.plain import merge
from charlm.errors import CharlmError, Diverged
from charlm.experiments.race import TrialReporter
from charlm.experiments.space import LIMITS, Space, read_space
from charlm.experiments.sweep_directory import PLAN, SweepDirectory, SweepPlan, load_optuna
from charlm.files import atomic, new_directory
from charlm.reporter import Reporter
from charlm.run_directory import WEIGHTS, RunDirectory
from charlm.views import sweep as views
from charlm.views.sweep import SweepResult, SweepTrial

if TYPE_CHECKING:
    from charlm.evaluation.likelihood import Evaluation

DEFAULT_BUDGET = "3m"
"""Time of a trial, if nothing else bounds it."""

LEAST_TRIALS = 5
"""Fewest finished trials from which the importance of settings is computed."""

DEFAULTS: dict[str, Any] = {"samples": {"scored": 0}, "trainer": {"devices": 1}}
"""Defaults of a sweep that differ from those of a single training."""


@dataclass(frozen=True)
class SweepOptions:
    """The options of a sweep: which values it tries, and in how many trials of which length."""

    space: str = setting("", "a YAML file with the values to try, such as optimizer.lr: {low: 0.001, high: 0.02}")
    trials: PositiveInteger = setting(30, "how many settings are tried")
    budget: str = setting("", "training time of each trial: 90s, 10m, 1h (default: 3m)")
    pruner: Literal["halving", "hyperband", "none"] = setting(
        "halving", "which trials end early: successive halving, hyperband, or none"
    )


def base_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the given settings, with the defaults of a sweep for those that are not given.

    Settings are nested dicts.
    """
    return merge(DEFAULTS, given)


def check(options: SweepOptions, config: Config) -> Space:
    """Check the options and the settings of a sweep, and return its search space.

    The text is not read and torch is not loaded.

    Raises:
        CharlmError: `options.space` is empty, or `read_space` finds a mistake in the file; Optuna
            is not installed; `options.budget` is not a time; or a setting is not allowed in a
            sweep, such as several devices or a text from standard input.
    """
    if not options.space:
        raise CharlmError("name a file with the values of each setting with `space`; see the guide of charlm sweep")
    space = read_space(options.space)
    load_optuna()
    if options.budget:
        seconds(options.budget, "budget")
    if "-" in config.data.text:
        raise CharlmError("every trial of a sweep reads the text, and standard input can be read once; name a file")
    if str(config.trainer.devices) != "1" or config.trainer.num_nodes != 1:
        raise CharlmError("a sweep trains on one device; leave `trainer.devices` and `trainer.num_nodes` out")
    if not config.data.val and not config.data.val_fraction:
        raise CharlmError("a sweep ranks settings by the validation split; set `data.val_fraction` above 0")
    return space


def start(options: SweepOptions, config: Config, path: Path | None) -> SweepDirectory:
    """Create the directory of a sweep, with its plan.

    Args:
        options: The options of the sweep.
        config: The settings that all trials share, from `base_settings`. A setting that is None is
            chosen for each trial.
        path: The directory to create; None: a free name under `sweeps/`.

    Raises:
        CharlmError: The directory exists already, or `check` finds a mistake.
    """
    from charlm.training.preparation import free_path

    space = check(options, config)
    if path is not None and path.exists():
        raise CharlmError(f"{path} exists already and is never overwritten; choose another `sweep`")
    settings = config.to_dict()
    bounded = (config.trainer.max_epochs or -1) > 0 or config.trainer.max_steps > 0 or config.trainer.max_time
    if options.budget or not bounded:
        limits = {"max_time": options.budget or DEFAULT_BUDGET, "max_epochs": -1, "max_steps": -1}
        assert {f"trainer.{name}" for name in limits} == set(LIMITS)
        settings = merge(settings, {"trainer": limits})
    target = path or free_path(config.data.text, "sweeps")
    with new_directory(target) as partial:
        (partial / "runs").mkdir()
        plan = SweepPlan(settings, space, options.trials, options.pruner)
        with atomic(partial / PLAN) as file:
            json.dump(msgspec.to_builtins(plan), file, indent=2, ensure_ascii=False)
    return SweepDirectory(target)


def run(directory: SweepDirectory, reporter: Reporter) -> None:
    """Train all unfinished trials of a sweep; a trial that was interrupted is resumed first.

    Raises:
        Interrupted: A training was asked to stop; its state is saved.
        CharlmError: Something that the user can fix.
    """
    optuna = load_optuna()
    states = optuna.trial.TrialState
    study, plan = directory.study, directory.plan
    space = {name: _distribution(optuna, values) for name, values in plan.space.items()}
    seed = plan.settings["seed"]
    while True:
        frozen = study.get_trials(deepcopy=False)
        unfinished = [trial for trial in frozen if not trial.state.is_finished()]
        if unfinished:
            trial = directory.reopen(unfinished[0].number)
        elif len(frozen) < plan.trials:
            study.sampler = optuna.samplers.TPESampler(seed=(seed + len(frozen)) % 2**32)
            trial = study.ask(space)
        else:
            return
        chosen = {name: trial.params[name] for name in plan.space}
        words = ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
        reporter.say(f"trial {trial.number + 1} of {plan.trials}: {words}")
        value, state, why = _train(directory, trial, chosen, reporter)
        if why:
            trial.set_user_attr("why", why)
        study.tell(trial, value, state=getattr(states, state))
        reached = "" if value is None else f": {value:.3f} bits per character of the validation split"
        ended = {"COMPLETE": "", "PRUNED": " ended early", "FAIL": f" failed: {why}"}[state]
        reporter.say(f"trial {trial.number + 1}{ended}{reached}")


def _train(
    directory: SweepDirectory, trial: Any, chosen: dict[str, Any], reporter: Reporter
) -> tuple[float | None, Literal["COMPLETE", "PRUNED", "FAIL"], str]:
    """Train a trial, and return its score, how it ended, and why it failed.

    The score is in bits per character of the validation split; None unless the trial is complete.
    The reason is empty unless the trial failed or diverged.

    Args:
        directory: The directory of the sweep.
        trial: The trial as an object of Optuna.
        chosen: The values to try, by the dotted name of the setting.
        reporter: Receives messages and the progress.
    """
    from charlm.run import Run
    from charlm.training.pruning import EndWhen
    from charlm.training.trainer import resume, train

    path = directory.run(trial.number)
    watch = _Watch(trial, path, reporter)
    try:
        config = directory.config(chosen)
        if path.exists():
            resume(path, reporter=watch, callbacks=[EndWhen(lambda: watch.pruned)])
        else:
            train(config, path, watch, callbacks=[EndWhen(lambda: watch.pruned)])
    except Diverged as error:
        return None, "PRUNED" if watch.reported else "FAIL", str(error)
    except CharlmError as error:
        if path.exists():
            raise  # the cause is the machine or the run, not the settings of this trial
        return None, "FAIL", str(error)
    if watch.pruned:
        return None, "PRUNED", ""
    assert (path / WEIGHTS["best"]).is_file()
    result = Run(path).evaluate(device="auto", progress=reporter.progress)
    return result.bits_per_character, "COMPLETE", ""


class _Watch(TrialReporter):
    """A reporter that sends each validation of a trial to Optuna.

    When Optuna answers that the trial should end early, the attribute `pruned` becomes true.

    Args:
        trial: The trial as an object of Optuna.
        path: The run directory of the trial.
        reporter: The reporter that receives warnings and the progress of the trial.
    """

    def __init__(self, trial: Any, path: Path, reporter: Reporter) -> None:
        super().__init__(reporter, path.name)
        self.trial, self.path, self.pruned = trial, path, False
        self.reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def on_validation(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        rows = RunDirectory(self.path).metrics
        # The number of this validation; validations before the run was resumed count too.
        number = sum("val/loss" in row and 0 < row["step"] <= step for row in rows)
        if number not in self.reported:
            self.reported.add(number)
            self.trial.report(evaluation.bits_per_character, number)
        self.pruned = self.pruned or self.trial.should_prune()


def _distribution(optuna: Any, values: Any) -> Any:
    """Return Optuna's distribution for the values of a setting: a `Range`, or a list of choices."""
    if isinstance(values, list):
        return optuna.distributions.CategoricalDistribution(values)
    if values.integer:
        return optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def importances(directory: SweepDirectory) -> dict[str, float]:
    """Return the importance of each setting from 0 to 1, the most important setting first.

    The importance is how much the setting decides whether a trial is among the best tenth
    (PED-ANOVA, Watanabe et al. 2023). The result is empty if there is only one setting, if fewer
    than `LEAST_TRIALS` trials have finished, or if all have the same score.
    """
    optuna, study = load_optuna(), directory.study
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(finished) < LEAST_TRIALS or len(directory.plan.space) < 2 or len({trial.value for trial in finished}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator warns that it is experimental
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}


def result(directory: SweepDirectory) -> SweepResult:
    """Return the result of a sweep, finished or not."""
    plan, study = directory.plan, directory.study
    trials = [_described(directory, one) for one in study.get_trials(deepcopy=False)]
    config = directory.config({})
    trainer, texts = config.trainer, config.data.text
    bound = trainer.max_time or (f"{trainer.max_epochs} epochs" if (trainer.max_epochs or -1) > 0 else "")
    facts = [
        f"text: {', '.join(Path(text).name for text in texts) or 'the built-in corpus'}",
        f"{len(trials)} of {plan.trials} trials",
        f"settings: {', '.join(plan.space)}",
        f"budget of each trial: {bound or f'{trainer.max_steps:,} optimiser steps'}",
    ]
    return SweepResult(directory.path, trials, importances(directory), facts, directory.resume)


def _described(directory: SweepDirectory, frozen: Any) -> SweepTrial:
    """Convert Optuna's record of a trial into a `SweepTrial`, which tables and pages show."""
    path = directory.run(frozen.number)
    rows = RunDirectory(path).metrics if path.exists() else []
    state: Any = {"COMPLETE": "finished", "PRUNED": "ended early", "FAIL": "failed"}.get(
        frozen.state.name, "not finished"
    )
    reports = frozen.intermediate_values
    last = reports[max(reports)] if reports else None
    return SweepTrial(
        frozen.number + 1,
        str(path) if path.exists() else "",
        {name: frozen.params[name] for name in directory.plan.space},
        state,
        frozen.value if state == "finished" else last,
        max((row.get("seconds", 0.0) for row in rows), default=0.0),
        frozen.user_attrs.get("why", ""),
    )


def write_page(directory: SweepDirectory, found: SweepResult) -> None:
    """Write the HTML page with the result of a sweep into the directory of the sweep."""
    with atomic(directory.page) as file:
        file.write(views.html(found))
