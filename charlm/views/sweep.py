"""The result of a sweep as a ranked table for the terminal, as JSON, and as an HTML page.

A sweep trains many networks with different settings on one text. Each training is a trial.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from charlm.config.durations import duration
from charlm.views.pages import page_environment
from charlm.views.plots import Chart, Curve
from charlm.views.ranking import Table
from charlm.views.summary import shown

SHOWN = 10
"""Most trials that the terminal shows."""


@dataclass(frozen=True)
class SweepTrial:
    """One trial of a sweep: the settings that were tried, and their result.

    Args:
        number: Number of the trial, from 1.
        run: Path of its run directory; "" if it has none.
        settings: The values of the settings that the sweep varies, by dotted name.
        state: Whether the trial has ended, and how.
        bits: Bits per character. A finished trial was scored on the whole validation split; any
            other has the result of its last validation, or None without a validation.
        seconds: Training time in seconds.
        why: Why the trial failed or diverged, in words; otherwise "".
    """

    number: int
    run: str
    settings: dict[str, Any]
    state: Literal["finished", "ended early", "failed", "not finished"]
    bits: float | None
    seconds: float
    why: str


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep: its trials, and how important each setting was.

    Args:
        path: Directory of the sweep.
        trials: The trials, in the order of their numbers.
        importances: For each setting a number from 0 to 1, which says how much the setting decides
            whether a trial is among the best tenth; empty if this is not known.
        facts: Phrases that describe the sweep, such as its text and its budget.
        command: The command line that shows this result again.
    """

    path: Path
    trials: Sequence[SweepTrial]
    importances: Mapping[str, float]
    facts: Sequence[str]
    command: str

    @property
    def ranked(self) -> list[SweepTrial]:
        """All trials: first the finished ones from best to worst, then those that ended early.

        Trials that have not finished follow, and trials that failed come last.
        """
        order = ("finished", "ended early", "not finished", "failed")
        return sorted(self.trials, key=lambda one: (order.index(one.state), one.bits is None, one.bits or 0.0))

    @property
    def best(self) -> SweepTrial | None:
        """The finished trial with the fewest bits per character; None if no trial has finished."""
        finished = [one for one in self.trials if one.state == "finished"]
        return min(finished, key=lambda one: one.bits or 0.0, default=None)

    @property
    def sentences(self) -> list[str]:
        """Sentences about the result: the best trial, the most important setting, and a caution."""
        if self.best is None:
            return ["No trial has finished, so there is no result."]
        said = ", ".join(f"{name} {_shown(value)}" for name, value in self.best.settings.items())
        sentences = [f"Trial {self.best.number} is best: {self.best.bits:.3f} bits per character with {said}."]
        if self.importances:
            name, value = max(self.importances.items(), key=lambda item: item[1])
            sentences.append(f"{name} decides most whether a trial is among the best tenth ({value:.0%} of it).")
        sentences.append(
            "The best of many trials is partly lucky: train it with other seeds before you rely on a small difference."
        )
        return sentences

    @property
    def table(self) -> Table:
        """A table of the trials from best to worst: score, state, settings and training time."""
        names = list(self.trials[0].settings) if self.trials else []
        table = Table(["", "bits per character", "state", *names, "time"], [], [])
        for one in self.ranked:
            bits = "-" if one.bits is None else f"{one.bits:.3f}"
            values = [_shown(one.settings[name]) for name in names]
            table.rows.append([f"trial {one.number}", bits, one.state, *values, duration(one.seconds)])
            table.best.append({0} if one is self.best else set())
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the trials, the importances and the sentences as a dict for JSON."""
        return {
            "sweep": str(self.path),
            "trials": [asdict(one) for one in self.ranked],
            "importances": dict(self.importances),
            "result": self.sentences,
        }


def print_sweep(result: SweepResult) -> None:
    """Print the best trials of a sweep, and sentences about its result, on standard output."""
    table = result.table
    lines = [table.head, *table.rows[:SHOWN]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.head))]
    for line in lines:
        cells = [cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in
                 enumerate(zip(line, widths, strict=True))]  # fmt: skip
        print("  ".join(cells).rstrip())
    if len(table.rows) > SHOWN:
        print(f"and {len(table.rows) - SHOWN} more")
    print()
    for sentence in result.sentences:
        print(sentence)


def html(result: SweepResult) -> str:
    """Return the HTML page of a sweep, which loads no other file."""
    return page_environment().get_template("sweep.html").render(
        title=result.path.resolve().name,
        facts=result.facts,
        sentences=result.sentences,
        table=result.table,
        importances=[(name, value, f"{value:.0%}") for name, value in result.importances.items()],
        charts=_charts(result),
        failures=[(one.number, one.why) for one in result.trials if one.why],
        command=result.command,
    )  # fmt: skip


def _charts(result: SweepResult) -> list[Chart]:
    """Return one chart, with the score of each finished trial and the best score so far.

    The list is empty if fewer than two trials have finished.
    """
    finished = [(one.number, one.bits) for one in result.trials if one.state == "finished" and one.bits is not None]
    if len(finished) < 2:
        return []
    numbers, bits = zip(*finished, strict=True)
    best = list(itertools.accumulate(bits, min))
    curves = [Curve("best so far", numbers, best), Curve("trial", numbers, bits, marked=True, faint=True)]
    return [Chart("Validation by trial", "trial", "bits per character", curves)]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shown(value)
