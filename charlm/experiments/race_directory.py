"""The directory of a race, whose files this module reads and writes.

::

    races/NAME/
      race.json            the plan, written when the race starts and never changed
      tokenizer.json       the vocabulary, the same for every trial
      tokens/              the text as ids; the trials have hard links to these files
      search/CELL-lrF/     the trials of the search for the learning rate, ordinary runs
      runs/CELL-seedN/     the trials of the race, ordinary runs
      scores.json          the scores of the finished trials; a trial without scores is not finished
      jobs/                files of submitit, if trials were trained as jobs of a cluster
      race.html            the HTML page with the result
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import msgspec

from charlm.config import Config
from charlm.config.shell import command
from charlm.errors import CharlmError, first_line
from charlm.evaluation.paired import Score
from charlm.experiments.plan import Plan, Trial
from charlm.files import atomic, link, new_directory
from charlm.run_directory import RunDirectory
from charlm.text.tokenization import Tokenizer

PLAN, SCORES, PAGE = "race.json", "scores.json", "race.html"


class RaceDirectory:
    """The directory of a race, with its plan, its tokenizer, its trials and their scores.

    Args:
        path: Path of the directory.

    Raises:
        CharlmError: The directory is missing, is not the directory of a race, or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / PLAN).is_file():
            raise CharlmError(f"{self.path} is not a race: it has no {PLAN}; name the directory of a race")
        try:
            self.plan = msgspec.json.decode((self.path / PLAN).read_bytes(), type=Plan)
            for cell in self.plan.networks:
                self.plan.config(cell)
        except (ValueError, RecursionError, CharlmError) as error:
            raise CharlmError(
                f"{self.path / PLAN} is damaged ({first_line(error)}); start a new race with `charlm race`"
            ) from None
        self.tokenizer = Tokenizer.load(self.path / "tokenizer.json")

    def __repr__(self) -> str:
        return f"RaceDirectory({str(self.path)!r})"

    @classmethod
    def create(cls, path: Path, plan: Plan, tokenizer: Tokenizer) -> None:
        """Write the plan and the tokenizer of a new race into its directory.

        The directory `path` must already contain the folder `tokens`.
        """
        tokenizer.save(path / "tokenizer.json")
        with atomic(path / PLAN) as file:
            json.dump(msgspec.to_builtins(plan), file, indent=2, ensure_ascii=False)

    @property
    def resume(self) -> str:
        """The command line that continues the race."""
        return command("race", resume=self.path)

    @property
    def page(self) -> Path:
        """The path of the HTML page of the race."""
        return self.path / PAGE

    def run(self, trial: Trial) -> Path:
        """Return the path of the run directory of a trial."""
        return self.path / trial.name

    def begin(self, trial: Trial, config: Config) -> RunDirectory:
        """Return the run directory of a trial; if it does not exist, create it first.

        A new directory has everything that the training needs.

        Args:
            trial: The trial.
            config: The settings of the trial, for a new directory.
        """
        target = self.run(trial)
        if target.exists():
            return RunDirectory(target)
        with new_directory(target) as partial:
            (partial / "tokens").mkdir()
            for file in (self.path / "tokens").iterdir():
                link(file, partial / "tokens" / file.name)
            written = RunDirectory.create(partial, config, self.tokenizer)
            # The losses are the same for every trial, and computing them takes seconds.
            if (known := self._ngram()) is not None:
                written.write_quality(ngram=known)
        return RunDirectory(target)

    def _ngram(self) -> Any:
        """Return the losses of an n-gram model from a finished trial; None if no trial is finished.

        These losses are the same for every trial.
        """
        scores = self.scores
        for trial in (*self.plan.searches, *self.plan.trials):
            if trial.name in scores:
                return RunDirectory(self.run(trial)).quality["ngram"]
        return None

    def has_test(self) -> bool:
        """Return whether the text has a test split."""
        return (self.path / "tokens" / "test.ids").is_file()

    @property
    def is_finished(self) -> bool:
        """Whether every trial has been trained and scored."""
        scores, split = self.scores, "test" if self.has_test() else "val"
        return all(split in scores.get(trial.name, {}) for trial in self.plan.trials)

    @property
    def scores(self) -> dict[str, dict[str, Score]]:
        """The scores of the finished trials, by the name of the trial and then of the split.

        Both numbers of a score are infinite if the training diverged before its first validation.

        Raises:
            CharlmError: The file `scores.json` is damaged.
        """
        path = self.path / SCORES
        if not path.exists():
            return {}
        try:
            found = msgspec.convert(json.loads(path.read_text(encoding="utf-8")), dict[str, dict[str, Any]])
            return {name: {split: Score.of(value) for split, value in splits.items()} for name, splits in found.items()}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CharlmError(
                f"{path} is damaged ({first_line(error)}); delete it, and {self.resume} scores the trials again"
            ) from None

    def add_score(self, trial: Trial, split: str, score: Score) -> None:
        """Write the score of a trial on a split to `scores.json`."""
        scores = self.scores
        scores.setdefault(trial.name, {})[split] = score
        values = {
            name: {split: _without_infinity(one) for split, one in splits.items()} for name, splits in scores.items()
        }
        with atomic(self.path / SCORES) as file:
            json.dump(values, file, indent=1)


def _without_infinity(score: Score) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in dataclasses.asdict(score).items()}
