"""What a sweep shows: a ranked table for the terminal, the same as plain values, and its page."""

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
"""Trials that the terminal shows."""


@dataclass(frozen=True)
class SweepTrial:
    """One trial of a sweep.

    Args:
        number: Its number, from 1.
        run: Its run directory; "" if it has none.
        settings: The values that were tried, by dotted name.
        state: How it ended.
        bits: Bits per character of the whole validation split, or, where it ended early, of its last validation.
        seconds: Training time.
        why: Why it failed, in words; "" if it did not.
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
    """The trials of a sweep.

    Args:
        path: The directory of the sweep.
        trials: In the order of their numbers.
        importances: How much each setting decides whether a trial is among the best tenth, from 0 to 1; empty where
            that is not known.
        facts: What was tried, in a few words each.
        command: The command that shows it again.
    """

    path: Path
    trials: Sequence[SweepTrial]
    importances: Mapping[str, float]
    facts: Sequence[str]
    command: str

    @property
    def ranked(self) -> list[SweepTrial]:
        """The finished trials from the best to the worst, then those that ended early, then the others."""
        order = ("finished", "ended early", "not finished", "failed")
        return sorted(self.trials, key=lambda one: (order.index(one.state), one.bits is None, one.bits or 0.0))

    @property
    def best(self) -> SweepTrial | None:
        """The finished trial with the lowest score; None if none has finished."""
        finished = [one for one in self.trials if one.state == "finished"]
        return min(finished, key=lambda one: one.bits or 0.0, default=None)

    @property
    def sentences(self) -> list[str]:
        """The result in sentences."""
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
        """The trials from the best to the worst."""
        names = list(self.trials[0].settings) if self.trials else []
        table = Table(["", "bits per character", "state", *names, "time"], [], [])
        for one in self.ranked:
            bits = "-" if one.bits is None else f"{one.bits:.3f}"
            values = [_shown(one.settings[name]) for name in names]
            table.rows.append([f"trial {one.number}", bits, one.state, *values, duration(one.seconds)])
            table.best.append({0} if one is self.best else set())
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sweep": str(self.path),
            "trials": [asdict(one) for one in self.ranked],
            "importances": dict(self.importances),
            "result": self.sentences,
        }


def print_sweep(result: SweepResult) -> None:
    """Print the best trials and the result on standard output."""
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
    """The page of a sweep; it needs nothing but its own file."""
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
    """The scores of the finished trials in their order, and the best so far."""
    finished = [(one.number, one.bits) for one in result.trials if one.state == "finished" and one.bits is not None]
    if len(finished) < 2:
        return []
    numbers, bits = zip(*finished, strict=True)
    best = list(itertools.accumulate(bits, min))
    curves = [Curve("best so far", numbers, best), Curve("trial", numbers, bits, marked=True, faint=True)]
    return [Chart("Validation by trial", "trial", "bits per character", curves)]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shown(value)
