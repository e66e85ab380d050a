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
from charlm.evaluation.comparison import labelled, number
from charlm.evaluation.text_metrics import REFERENCE, metrics
from charlm.run_directory import MemoryRecord
from charlm.views.plots import Curve, Numbers
from charlm.views.summary import Summary, same_text, shown

SEEDS = ("seed", "samples.seed")
"""Settings by which the runs of a group may differ."""

FEW = 50
"""Most points of a curve that get a marker each."""

BITS = "val/bits_per_character"


@dataclass(frozen=True)
class Table:
    """A table of several runs for display.

    Args:
        head: The names of the columns; that of the first is empty.
        rows: The cells; the first of a row is its name.
        best: For each row the places of the best values, counted from the cell after its name.
    """

    head: list[str]
    rows: list[list[str]]
    best: list[set[int]]


@dataclass(frozen=True)
class RunGroup:
    """Runs whose settings differ in nothing but the seed.

    Args:
        runs: One or more.
        title: The name of the group; without it, it is named after its runs.
    """

    runs: list[Summary]
    title: str = ""

    @property
    def name(self) -> str:
        """Its title, or the name of the run; for several runs the name of the first, and how many there are."""
        if self.title:
            return self.title
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
        """Its validations in bits per character over the logged column `x`, divided by `scale`."""
        rows = [[row for row in run.rows if math.isfinite(row.get(BITS, math.nan))] for run in self.runs]
        return self._mean([([row[x] / scale for row in one], [row[BITS] for row in one]) for one in rows])

    @property
    def gradient(self) -> Curve:
        """The newest gradient through time (norm over layers), relative to the least distance."""
        lines = []
        for record in self._memories:
            lengths = np.linalg.norm(np.array(record.gradients), axis=0)
            kept = lengths > 0  # the y axis is logarithmic
            if kept.any():
                lines.append((np.array(record.distances)[kept], lengths[kept] / lengths[kept][0]))
        return self._mean(lines)

    @property
    def horizon(self) -> Curve:
        """The newest memory horizon."""
        return self._mean([(record.contexts, record.losses) for record in self._memories])

    @property
    def _memories(self) -> list[MemoryRecord]:
        return [run.memory for run in self.runs if run.memory is not None]

    def _mean(self, lines: Sequence[tuple[Numbers, Numbers]]) -> Curve:
        """The mean of the curves of its runs where all have values, with a band from the lowest to the highest."""
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
    """The groups of some runs, the one with the lowest mean validation first."""
    groups: dict[str, list[Summary]] = {}
    for summary in summaries:
        key = repr([value for name, value in summary.settings.items() if name not in SEEDS])
        groups.setdefault(key, []).append(summary)
    return sorted((RunGroup(runs) for runs in groups.values()), key=lambda group: group.mean)


def ranking(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """A row for each group: name, differing settings, results, whether it is best or fastest."""
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
    """A table of several runs: their results, then the settings in which they differ."""
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
    """A table of the newest text metrics of several groups, and of the reference and the baselines.

    The latter are left out if they differ between runs. The best is the highest, the lowest, or the
    nearest to the held-out text, as the metric says.
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
    """The sample standard deviation over the seeds, with as many decimals as the shown `mean`."""
    if len(scores) < 2:
        return ""
    percent = mean.endswith("%")
    decimals = len(mean.rstrip("%").partition(".")[2])
    deviation = statistics.stdev(scores) * (100 if percent else 1)
    return f" ±\u00a0{deviation:.{decimals}f}" + "%" * percent


def _distance(name: str, score: float, reference: float) -> float:
    """How far a score is from the best one: smaller is better; NaN where that is not known."""
    better = metrics[name].better if name in metrics else ""
    return {"higher": -score, "lower": score}.get(better, abs(score - reference))


def smallest(values: Sequence[float], shown: Sequence[str] = ()) -> set[int]:
    """The indices of the smallest finite values; none if all finite values are equal.

    With `shown`, values of which the displayed text is the same count as equal.
    """
    finite = [place for place, value in enumerate(values) if math.isfinite(value)]
    least = min(finite, key=lambda place: values[place], default=0)
    places = {place for place in finite if (shown[place] == shown[least] if shown else values[place] == values[least])}
    return places if len(places) < len(finite) else set()


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
