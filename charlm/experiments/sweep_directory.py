"""The directory of a sweep, whose files this module reads and writes.

::

    sweeps/NAME/
      sweep.json           the plan, written when the sweep starts and never changed
      study.journal        Optuna's own file: one line of JSON for each event
      runs/trial-1/        the trials, ordinary runs
      sweep.html           the HTML page with the result
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from charlm.config import Config
from charlm.config.plain import merge, nest
from charlm.config.shell import command
from charlm.errors import CharlmError, first_line
from charlm.experiments.space import Space

PLAN, JOURNAL, PAGE = "sweep.json", "study.journal", "sweep.html"
STUDY = "charlm"
"""The name of the study in its journal."""


@dataclass(frozen=True)
class SweepPlan:
    """The plan of a sweep, which is the content of `sweep.json`.

    Args:
        settings: The settings that all trials share, as nested dicts. A setting that is None is
            chosen for each trial.
        space: The values that are tried, by the dotted name of the setting.
        trials: Number of trials.
        pruner: The method that ends trials early: successive halving, Hyperband, or none.
    """

    settings: dict[str, Any]
    space: Space
    trials: int
    pruner: Literal["halving", "hyperband", "none"]


class SweepDirectory:
    """The directory of a sweep, with its plan and its trials.

    Args:
        path: Path of the directory.

    Raises:
        CharlmError: The directory is missing, is not the directory of a sweep, or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / PLAN).is_file():
            raise CharlmError(f"{self.path} is not a sweep: it has no {PLAN}; name the directory of a sweep")
        try:
            self.plan = msgspec.json.decode((self.path / PLAN).read_bytes(), type=SweepPlan)
            self.config({})
        except (ValueError, RecursionError, CharlmError) as error:
            raise CharlmError(
                f"{self.path / PLAN} is damaged ({first_line(error)}); start a new sweep with `charlm sweep`"
            ) from None

    @property
    def resume(self) -> str:
        """The command line that continues the sweep."""
        return command("sweep", resume=self.path)

    @property
    def page(self) -> Path:
        """The path of the HTML page of the sweep."""
        return self.path / PAGE

    def config(self, chosen: dict[str, Any]) -> Config:
        """Return the settings of a trial.

        Args:
            chosen: The values that the trial tries, by dotted name such as "model.hidden"; all
                other settings are those of the plan.
        """
        return Config.from_dict(merge(self.plan.settings, nest(chosen)))

    def run(self, number: int) -> Path:
        """Return the path of the run directory of the trial with this number.

        Optuna numbers trials from 0, but the names of the run directories count from 1.
        """
        return self.path / "runs" / f"trial-{number + 1}"

    @cached_property
    def storage(self) -> Any:
        """Optuna's storage of the trials, in the file `study.journal`.

        Raises:
            CharlmError: Optuna is not installed.
        """
        storages = load_optuna().storages
        return storages.JournalStorage(storages.journal.JournalFileBackend(str(self.path / JOURNAL)))

    @cached_property
    def study(self) -> Any:
        """Optuna's study of the sweep, loaded from the storage or created.

        The caller sets the sampler of the study before each new trial.
        """
        optuna = load_optuna()
        pruners = optuna.pruners
        pruner = {
            "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2),
            "hyperband": lambda: pruners.HyperbandPruner(min_resource=2, max_resource=12, reduction_factor=2),
            "none": pruners.NopPruner,
        }[self.plan.pruner]()
        settings = {"storage": self.storage, "pruner": pruner, "study_name": STUDY}
        begun = STUDY in optuna.get_all_study_names(self.storage)
        return optuna.load_study(**settings) if begun else optuna.create_study(**settings)

    def reopen(self, number: int) -> Any:
        """Return the trial with this number as an object of Optuna, so that it can be continued.

        The process that began the trial has ended. Optuna numbers trials from 0.
        """
        study = self.storage.get_study_id_from_name(STUDY)
        return load_optuna().trial.Trial(
            self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number)
        )


def load_optuna() -> Any:
    """Import the package Optuna and return it; its log shows only warnings.

    Raises:
        CharlmError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise CharlmError("a sweep needs Optuna; install it with: pip install 'charlm-rnn[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
