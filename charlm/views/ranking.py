"""The comparison of several runs: groups of runs, their ranking, tables, and a verdict.

The runs of a group differ only in the seed. Groups are ranked by their scores on the validation
text.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from charlm.config.durations import duration
from charlm.evaluation.comparison import labelled, number
from charlm.evaluation.text_metrics import REFERENCE, metrics
from charlm.run_directory import MemoryRecord
from charlm.views.plots import Curve, Numbers
from charlm.views.summary import Summary, same_text, shown

SEEDS = ("seed", "samples.seed")
"""Settings by which the runs of a group may differ."""

FEW = 50
"""A curve of fewer points than this has a marker at each."""

BITS = "val/bits_per_character"


@dataclass(frozen=True)
class Table:
    """A table for display.

    Args:
        head: The names of the columns; the first name is empty.
        rows: The rows; the first cell of a row is its name.
        best: For each row, the indices of the cells with the best value; 0 is the cell after the
            name.
    """

    head: list[str]
    rows: list[list[str]]
    best: list[set[int]]


@dataclass(frozen=True)
class RunGroup:
    """A group of runs whose settings differ in nothing but the seed.

    Args:
        runs: One or more runs.
        title: Name of the group; if it is empty, the group is named after its first run.
    """

    runs: list[Summary]
    title: str = ""

    @property
    def name(self) -> str:
        """The name of the group for display.

        It is the title or, if that is empty, the name of the first run. In a group of several runs
        the number of runs is added to the name of the first.
        """
        if self.title:
            return self.title
        first = self.runs[0].name
        return first if len(self.runs) == 1 else f"{first} ({len(self.runs)} runs)"

    @cached_property
    def bits(self) -> list[float]:
        """The bits per character of each run at its best validation, the one with the lowest loss.

        Runs without a validation are left out.
        """
        return [best[BITS] for run in self.runs if (best := run.best) and BITS in best]

    @property
    def mean(self) -> float:
        """The mean of `bits`; infinite if no run was validated, so that such a group ranks last."""
        return statistics.fmean(self.bits) if self.bits else math.inf

    @property
    def deviation(self) -> float:
        """The sample standard deviation of `bits`; 0 if `bits` has fewer than two values."""
        return statistics.stdev(self.bits) if len(self.bits) > 1 else 0.0

    @property
    def reached(self) -> str:
        """The mean and the standard deviation of `bits` as text; "-" if no run was validated."""
        if not self.bits:
            return "-"
        return f"{self.mean:.3f}" + (f" ± {self.deviation:.3f}" if len(self.bits) > 1 else "")

    @property
    def seconds(self) -> float:
        """The mean training time of the runs in seconds."""
        return statistics.fmean(run.seconds for run in self.runs)

    def curve(self, x: str, scale: float = 1.0) -> Curve:
        """Return the curve of the validations in bits per character, as a mean over the runs.

        Args:
            x: The logged column on the x axis, such as "epoch" or "seconds".
            scale: A number by which the values of this column are divided.
        """
        rows = [[row for row in run.rows if math.isfinite(row.get(BITS, math.nan))] for run in self.runs]
        return self._mean([([row[x] / scale for row in one], [row[BITS] for row in one]) for one in rows])

    @property
    def gradient(self) -> Curve:
        """The curve of the newest gradient through time, as a mean over the runs.

        The gradient is that of the loss at one token with respect to the hidden state at earlier
        tokens, by the distance in tokens. The curve shows the norm of this gradient over the
        layers, divided by the norm at the smallest distance.
        """
        lines = []
        for record in self._memories:
            lengths = np.linalg.norm(np.array(record.gradients), axis=0)
            kept = lengths > 0  # a logarithmic y axis cannot show 0
            if kept.any():
                lines.append((np.array(record.distances)[kept], lengths[kept] / lengths[kept][0]))
        return self._mean(lines)

    @property
    def horizon(self) -> Curve:
        """The curve of the newest memory horizon, as a mean over the runs.

        The curve shows the loss in nats per token by the number of tokens of context.
        """
        return self._mean([(record.contexts, record.losses) for record in self._memories])

    @property
    def _memories(self) -> list[MemoryRecord]:
        return [run.memory for run in self.runs if run.memory is not None]

    def _mean(self, lines: Sequence[tuple[Numbers, Numbers]]) -> Curve:
        """Return the mean curve of lines (x, y), one for each run.

        The curve covers the range of x in which all lines have values. Its band goes from the
        lowest to the highest line.
        """
        lines = [line for line in lines if len(line[0])]
        if not lines:
            return Curve(self.name, [], [])
        if len(lines) == 1:
            return Curve(self.name, *lines[0], marked=len(lines[0][0]) < FEW)
        start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
        common = np.unique(np.concatenate([x for x, _ in lines]))
        common = common[(common >= start) & (common <= end)]
        values = np.array([np.interp(common, x, y) for x, y in lines])
        return Curve(self.name, common, values.mean(0), low=values.min(0), high=values.max(0))


def ranked(summaries: Sequence[Summary]) -> list[RunGroup]:
    """Divide runs into groups that differ only in the seed, and return the groups, best first.

    The best group has the lowest mean of bits per character on the validation text.
    """
    groups: dict[str, list[Summary]] = {}
    for summary in summaries:
        key = repr([value for name, value in summary.settings.items() if name not in SEEDS])
        groups.setdefault(key, []).append(summary)
    return sorted((RunGroup(runs) for runs in groups.values()), key=lambda group: group.mean)


def ranking(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """Return a row for each group: name, differing settings, score, parameters and training time.

    A row also says whether its group is the best and whether it is the fastest.
    """
    settings = [group.runs[0].settings for group in groups]
    fastest = smallest([group.seconds for group in groups])
    names = [name for name in settings[0] if name not in SEEDS and len({shown(one[name]) for one in settings}) > 1]
    return [
        {
            "name": group.name,
            "differs": ", ".join(f"{name} {shown(one[name])}" for name in names),
            "reached": group.reached,
            "best": bool(group.bits) and group is groups[0],
            "parameters": f"{group.runs[0].parameters:,}",
            "time": duration(group.seconds),
            "fastest": place in fastest,
        }
        for place, (group, one) in enumerate(zip(groups, settings, strict=True))
    ]


def differing(summaries: Sequence[Summary]) -> Table:
    """Return a table of several runs: their results, then the settings in which they differ."""
    results = [summary.results for summary in summaries]
    names = list(dict.fromkeys(name for one in results for name in one))
    rows = [[name, *(one.get(name, ("-", 0.0))[0] for one in results)] for name in names]
    comparable = same_text(summaries)
    same_tokens = len({summary.directory.vocab_size for summary in summaries}) == 1
    best = [
        smallest([one.get(name, ("", math.inf))[1] for one in results])
        if comparable and (same_tokens or "per token" not in name)
        else set()
        for name in names
    ]
    for name in summaries[0].settings:
        values = [shown(summary.settings[name]) for summary in summaries]
        if len(set(values)) > 1:
            rows.append([name, *values])
            best.append(set())
    return Table(["", *(summary.name for summary in summaries)], rows, best)


def compared_metrics(groups: Sequence[RunGroup]) -> Table:
    """Return a table of the newest text metrics (scores of the samples) of several groups of runs.

    Further columns have the scores of the held-out text and of n-gram models; these columns are
    left out if the runs differ in these scores. Depending on the metric, the best score is the
    highest, the lowest, or the one nearest to that of the held-out text.
    """
    runs = [run for group in groups for run in group.runs]
    references = runs[0].references if all(run.references == runs[0].references for run in runs) else {}
    table = Table(["", *(group.name for group in groups), *references], [], [])
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        scores = [[_newest(run)[name] for run in group.runs if name in _newest(run)] for group in groups]
        means = [statistics.fmean(one) if one else math.nan for one in scores]
        shown_means = [number(name, mean) for mean in means]
        cells = [mean + _deviation(one, mean) for one, mean in zip(scores, shown_means, strict=True)]
        cells += [number(name, one[name]) if name in one else "-" for one in references.values()]
        table.rows.append([labelled(name), *cells])
        reference = references.get(REFERENCE, {}).get(name, math.nan)
        distances = [_distance(name, mean, reference) for mean in means]
        table.best.append(smallest(distances, shown_means) if references else set())
    return table


def _newest(run: Summary) -> dict[str, float]:
    return run.scored[-1].scores if run.scored else {}


def _deviation(scores: Sequence[float], mean: str) -> str:
    """Format the sample standard deviation of scores that belong to different seeds.

    Args:
        scores: The scores; with fewer than two the result is empty.
        mean: Their mean as it is displayed; the deviation gets as many decimals.
    """
    if len(scores) < 2:
        return ""
    percent = mean.endswith("%")
    decimals = len(mean.rstrip("%").partition(".")[2])
    deviation = statistics.stdev(scores) * (100 if percent else 1)
    return f" ±\u00a0{deviation:.{decimals}f}" + "%" * percent


def _distance(name: str, score: float, reference: float) -> float:
    """Return how far a score of a text metric is from the best one: smaller is better.

    Args:
        name: The text metric, which says whether high, low or reference-like scores are best.
        score: The score.
        reference: The score of the held-out text. If it is NaN and the metric needs it, the result
            is NaN.
    """
    better = metrics[name].better if name in metrics else ""
    return {"higher": -score, "lower": score}.get(better, abs(score - reference))


def smallest(values: Sequence[float], shown: Sequence[str] = ()) -> set[int]:
    """Return the indices of the smallest finite values; none if all finite values are equal.

    If `shown` is given, values with the same displayed text in `shown` count as equal.
    """
    finite = [place for place, value in enumerate(values) if math.isfinite(value)]
    least = min(finite, key=lambda place: values[place], default=0)
    places = {place for place in finite if (shown[place] == shown[least] if shown else values[place] == values[least])}
    return places if len(places) < len(finite) else set()


def judge(groups: Sequence[RunGroup], *, comparable: bool) -> list[str]:
    """Return the verdict on several groups of runs in sentences.

    The first sentences say which group is best, by how much, and whether the difference may be
    chance. Further sentences name the unfinished runs, and say of every run how its training went.

    Args:
        groups: The groups, the best first.
        comparable: Whether the runs were validated on the same text; if not, no group is called the
            best of several.
    """
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
