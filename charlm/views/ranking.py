"""Several runs compared: grouped where only the seed differs, ranked by their validation, judged in one verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from charlm.config.durations import duration
from charlm.views.plots import Curve
from charlm.views.summary import Summary, shown

SEEDS = ("seed", "samples.seed")
"""Settings by which the runs of a group may differ."""

FEW = 50
"""Most points of a curve that get a marker each."""

BITS = "val/bits_per_character"


@dataclass(frozen=True)
class RunGroup:
    """Runs whose settings differ in nothing but the seed.

    Args:
        runs: One or more.
    """

    runs: list[Summary]

    @property
    def name(self) -> str:
        """The name of the run; for several runs the name of the first, and how many there are."""
        first = self.runs[0].name
        return first if len(self.runs) == 1 else f"{first} ({len(self.runs)} runs)"

    @cached_property
    def bits(self) -> list[float]:
        """The lowest validation of each run in bits per character."""
        return [best[BITS] for run in self.runs if (best := run.best) and BITS in best]

    @property
    def mean(self) -> float:
        """The mean of `bits`; infinite without validation, so that such runs rank last."""
        return statistics.fmean(self.bits) if self.bits else math.inf

    @property
    def deviation(self) -> float:
        """The sample standard deviation of `bits` over the seeds; 0 for a single run."""
        return statistics.stdev(self.bits) if len(self.bits) > 1 else 0.0

    @property
    def reached(self) -> str:
        """Mean and standard deviation, for display."""
        if not self.bits:
            return "-"
        return f"{self.mean:.3f}" + (f" ± {self.deviation:.3f}" if len(self.bits) > 1 else "")

    @property
    def seconds(self) -> float:
        """The mean training time in seconds."""
        return statistics.fmean(run.seconds for run in self.runs)

    def curve(self, x: str, scale: float = 1.0) -> Curve:
        """Its validation over the column `x`: of several runs the mean, with a band from the lowest to the highest."""
        lines = []
        for run in self.runs:
            rows = [row for row in run.rows if math.isfinite(row.get(BITS, math.nan))]
            if rows:
                lines.append(np.array([[row[x] / scale for row in rows], [row[BITS] for row in rows]]))
        if not lines:
            return Curve(self.name, [], [])
        if len(lines) == 1:
            return Curve(self.name, lines[0][0], lines[0][1], marked=lines[0].shape[1] < FEW)
        start, end = max(line[0, 0] for line in lines), min(line[0, -1] for line in lines)
        common = np.unique(np.concatenate([line[0] for line in lines]))
        common = common[(common >= start) & (common <= end)]
        values = np.array([np.interp(common, *line) for line in lines])
        return Curve(self.name, common, values.mean(0), low=values.min(0), high=values.max(0))


def ranked(summaries: Sequence[Summary]) -> list[RunGroup]:
    """The groups of some runs, the one with the lowest mean validation first."""
    groups: dict[str, list[Summary]] = {}
    for summary in summaries:
        key = repr([value for name, value in summary.settings.items() if name not in SEEDS])
        groups.setdefault(key, []).append(summary)
    return sorted((RunGroup(runs) for runs in groups.values()), key=lambda group: group.mean)


def ranking(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """A row for each group: its name, the settings in which it differs from others, what it reached and its time."""
    settings = [group.runs[0].settings for group in groups]
    names = [name for name in settings[0] if name not in SEEDS and len({shown(one[name]) for one in settings}) > 1]
    return [
        {
            "name": group.name,
            "differs": ", ".join(f"{name} {shown(one[name])}" for name in names),
            "reached": group.reached,
            "best": bool(group.bits) and group is groups[0],
            "parameters": f"{group.runs[0].parameters:,}",
            "time": duration(group.seconds),
        }
        for group, one in zip(groups, settings, strict=True)
    ]


def judge(groups: Sequence[RunGroup], *, comparable: bool) -> list[str]:
    """The verdict on several runs in sentences: which is best, by how much, and whether that is more than chance."""
    sentences = []
    validated = [group for group in groups if group.bits]
    best, others = (validated[0] if validated else None), validated[1:]
    if best is not None and others and comparable:
        other = others[0]
        gain = 1 - best.mean / other.mean
        sentences.append(
            f"{best.name} predicts the validation text best: {best.reached} bits per character, {gain:.1%} less than "
            f"{other.name} ({other.reached})."
        )
        noise = max(best.deviation, other.deviation)
        if noise and other.mean - best.mean < 2 * noise:
            sentences.append("This difference is within what another seed changes, so the order may be chance.")
        elif not noise and gain < 0.01:
            sentences.append("So small a difference may be chance; runs with other seeds (`seed`) would show it.")
    elif best is not None and not others:
        sentences.append(f"{best.name}: {best.reached} bits per character.")
    elif best is None:
        sentences.append("None of the runs was validated, so they cannot be ranked.")
    unfinished = [run.name for group in groups for run in group.runs if run.evidence.end is None]
    if unfinished:
        sentences.append(f"Not finished: {', '.join(unfinished)}.")
    states: dict[str, list[str]] = {}
    for group in groups:
        for run in group.runs:
            states.setdefault(run.verdict.state, []).append(run.name)
    sentences += [f"{state.capitalize()}: {', '.join(names)}." for state, names in states.items()]
    return sentences
