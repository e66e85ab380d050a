"""The result of a race as a ranked table for the terminal, as JSON, and as an HTML page.

A race trains networks of different cells on one text, each within the same budget and with the same
seeds. Each such training is a trial. Before the trials, a search trains every network for a shorter
time with several learning rates, to choose the one that its trials use.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charlm.evaluation.paired import (
    Difference,
    Score,
    describe_choice,
    describe_seeds,
    deviation,
    mean,
    paired_difference,
)
from charlm.network.summary import operation_count
from charlm.run_directory import Sample
from charlm.views.charts import compared_memory_charts
from charlm.views.pages import page_environment
from charlm.views.plots import Chart
from charlm.views.ranking import RunGroup, Table
from charlm.views.summary import Summary, shown
from charlm.views.svg import curve_colour


@dataclass(frozen=True)
class Standing:
    """The results of the network of one cell in a race.

    Args:
        cell: Name of the cell.
        runs: The trials of the network, in the order of the seeds.
        validation: Score of each trial on the whole validation split.
        test: Score of each trial on the test split; empty if the text has no test split.
        factor: The learning rate that the search chose, divided by the one from which the search
            started; 1 without a search.
        search: The score on the whole validation split for each learning rate that the search
            tried. The keys are the learning rates, divided as for `factor`; empty without a search.
        tokens: Number of tokens of the training split.
    """

    cell: str
    runs: list[Summary]
    validation: list[Score]
    test: list[Score]
    factor: float
    search: dict[float, Score]
    tokens: int

    @property
    def bits(self) -> list[float]:
        """Bits per character of each trial on the validation split, in the order of the seeds."""
        return [score.bits for score in self.validation]

    @property
    def group(self) -> RunGroup:
        """The trials as a group of runs that is named after the cell, for charts."""
        return RunGroup(self.runs, self.cell)

    @property
    def speed(self) -> float:
        """The mean speed of the trials in tokens per second, validations and samples included."""
        return statistics.fmean(run.epochs * self.tokens / max(run.seconds, 1e-9) for run in self.runs)

    @property
    def operations(self) -> int:
        """The number of multiply-add operations for one token, as `operation_count` counts them."""
        directory = self.runs[0].directory
        return operation_count(directory.model_config, directory.vocab_size)

    @property
    def at_the_edge(self) -> bool:
        """Whether the chosen learning rate is the lowest or the highest that the search tried."""
        return len(self.search) > 1 and self.factor in (min(self.search), max(self.search))


class RaceResult:
    """The result of a race: a ranking of the networks by their scores, and a verdict in sentences.

    Args:
        path: Directory of the race.
        standings: The results of the networks, in any order.
        facts: Phrases that describe the race, such as its text and its budget.
        command: The command line that shows this result again.
    """

    def __init__(self, path: Path, standings: Sequence[Standing], facts: Sequence[str], command: str) -> None:
        self.path, self.facts, self.command = path, list(facts), command
        self.standings = sorted(standings, key=lambda one: mean(one.bits))

    def __repr__(self) -> str:
        return (
            f"RaceResult({str(self.path)!r}: {', '.join(f'{one.cell} {spread(one.bits)}' for one in self.standings)})"
        )

    @property
    def best(self) -> Standing:
        """The result of the network with the fewest bits per character on the validation split.

        Networks are compared by the mean of these bits over the seeds.
        """
        return self.standings[0]

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """The difference in score between each other network and the best, by the name of its cell.

        A difference is the mean over the seeds, in bits per character of the validation split, with
        its confidence interval.
        """
        return {one.cell: paired_difference(self.best.bits, one.bits) for one in self.standings[1:]}

    @property
    def verdict(self) -> list[str]:
        """Sentences that say which network to pick and how sure this choice is."""
        return describe_choice(
            {one.cell: one.bits for one in self.standings},
            {one.cell: one.speed for one in self.standings},
            {one.cell: [score.bits for score in one.test] for one in self.standings if one.test},
        )

    @property
    def notes(self) -> list[str]:
        """Sentences about limits of the result, such as few seeds or a narrow search."""
        sentences = describe_seeds(len(self.best.bits), len(self.standings) - 1)
        ended = [(one.cell, run) for one in self.standings for run in one.runs if run.evidence.end is None]
        if ended:
            named = ", ".join(f"{cell} with seed {run.config.seed}" for cell, run in ended)
            sentences.append(
                f"Diverged, and therefore scored by the best weights before that, if there are any: {named}."
            )
        if edge := [one.cell for one in self.standings if one.at_the_edge]:
            more = "; `search` 5 tries more" if len(self.best.search) < 5 else ""
            sentences.append(
                f"The learning rate of {', '.join(edge)} is at the edge of the search, so a still lower or higher "
                f"one may be better{more}."
            )
        return sentences

    @property
    def table(self) -> Table:
        """A table of the networks from best to worst, with their scores, speeds and sizes."""
        test = bool(self.best.test)
        head = ["", "bits per character", "difference", "nats per token", *["test, bits"] * test]
        table = Table([*head, "tokens/s", "parameters", "operations"], [], [])
        for one in self.standings:
            cells = [one.cell, spread(one.bits), self._difference(one), spread([s.loss for s in one.validation])]
            cells += [spread([score.bits for score in one.test])] * test
            cells += [f"{one.speed:,.0f}", f"{one.runs[0].parameters:,}", f"{one.operations:,}"]
            table.rows.append(cells)
            table.best.append({0} if one is self.best else set())
        return table

    def _difference(self, one: Standing) -> str:
        if one is self.best:
            return "best"
        difference = self.differences[one.cell]
        if not math.isfinite(difference.mean):
            return "diverged"
        interval = "" if math.isinf(difference.low) else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
        return f"{difference.mean:+.3f}{interval}"

    def to_dict(self) -> dict[str, Any]:
        """Return the networks with their scores, the verdict and the notes as a dict for JSON.

        None stands for numbers that are infinite or unknown.
        """
        return {
            "race": str(self.path),
            "cells": [self._plain(rank, one) for rank, one in enumerate(self.standings, 1)],
            "verdict": self.verdict,
            "notes": self.notes,
        }

    def _plain(self, rank: int, one: Standing) -> dict[str, Any]:
        difference = self.differences.get(one.cell)
        return {
            "cell": one.cell,
            "rank": rank,
            "hidden": one.runs[0].directory.model_config.hidden,
            "parameters": one.runs[0].parameters,
            "operations": one.operations,
            "learning_rate": one.runs[0].config.optimizer.lr,
            "learning_rate_factor": one.factor,
            "validation": _scores(one.validation),
            "test": _scores(one.test) if one.test else None,
            "difference": None
            if difference is None
            else {
                "mean": _finite(difference.mean),
                "low": _finite(difference.low),
                "high": _finite(difference.high),
                "decision": difference.decision,
            },
            "tokens_per_second": one.speed,
            "runs": [str(run.directory.path) for run in one.runs],
        }


def spread(values: Sequence[float]) -> str:
    """Format the mean and the sample standard deviation of values that belong to different seeds.

    The text is "diverged" if a value is not finite, and only the mean if there is one value.
    """
    if not math.isfinite(mean(values)):
        return "diverged"
    return f"{mean(values):.3f}" + (f" ± {deviation(values):.3f}" if len(values) > 1 else "")


def print_race(result: RaceResult) -> None:
    """Print the table, the verdict and the notes of a race on standard output."""
    table = result.table
    lines = [table.head, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.head))]
    for line in lines:
        cells = [cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in
                 enumerate(zip(line, widths, strict=True))]  # fmt: skip
        print("  ".join(cells).rstrip())
    print()
    for sentence in (*result.verdict, *result.notes):
        print(sentence.replace("`", ""))


def html(result: RaceResult) -> str:
    """Return the HTML page of a race, which loads no other file."""
    groups = [one.group for one in result.standings]
    page = page_environment().get_template("race.html")
    return page.render(
        title=result.path.resolve().name,
        facts=result.facts,
        verdict=result.verdict,
        notes=result.notes,
        table=result.table,
        colours=[curve_colour(number) for number in range(len(groups))],
        charts=_curves(result.standings),
        curves_note=_curves_note(result),
        memory_charts=compared_memory_charts(groups),
        samples=_samples(result.standings),
        search=_search(result.standings),
        differing=_differing(result.standings),
        common=_common(result.standings),
        command=result.command,
    )


def _curves(standings: Sequence[Standing]) -> list[Chart]:
    """Return charts of the bits per character of every network at each validation.

    One chart is over the training time, the other over the tokens read. With several seeds a curve
    shows the mean over the seeds, and a band around it the lowest and the highest value.
    """
    # `million` is a million tokens, in epochs.
    bits, million = "bits per character", 1e6 / standings[0].tokens
    by_time = [one.group.curve("seconds", 60.0) for one in standings]
    by_tokens = [one.group.curve("epoch", million) for one in standings]
    charts = [
        Chart("Validation by training time", "minutes", bits, by_time),
        Chart("Validation by tokens read", "million tokens", bits, by_tokens),
    ]
    return [chart for chart in charts if any(len(curve.x) for curve in chart.curves)]


def _curves_note(result: RaceResult) -> str:
    run = result.best.runs[0]
    seeds = len(result.best.runs)
    band = " The line is the mean, the band goes from the lowest to the highest seed." if seeds > 1 else ""
    part = run.newest("val/tokens") / max(1, run.directory.stream("val").predicted.tokens)
    read = f" During training a validation reads {part:.0%} of the validation split; the table is of all of it."
    return f"Validations during the trials.{band}{read if part < 0.995 else ''}"


def _samples(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return the newest samples of the first trial of every network.

    Samples with the same prompt and seed stand together, so that they can be shown side by side.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for one in standings:
        points = one.runs[0].points
        for sample in points[-1].samples if points else []:
            entry = found.setdefault((sample.prompt, sample.seed), _sample_head(sample))
            entry["texts"].append((one.cell, sample.text))
    return list(found.values())


def _sample_head(sample: Sample) -> dict[str, Any]:
    return {
        "prompt": sample.prompt,
        "seed": sample.seed,
        "temperature": sample.temperature,
        "direction": sample.direction,
        "texts": [],
    }


def _search(standings: Sequence[Standing]) -> Table | None:
    """Return a table of the scores of the search by learning rate, with a row for each network.

    The result is None without a search. The scores are bits per character of the validation split.
    """
    factors = sorted({factor for one in standings for factor in one.search})
    if not factors:
        return None
    table = Table(["", "learning rate", *(f"{factor:g} times" for factor in factors)], [], [])
    for one in standings:
        default = one.runs[0].config.optimizer.lr / one.factor
        bits = [one.search[factor].bits for factor in factors]
        table.rows.append([one.cell, f"{default:.3g}", *(f"{b:.3f}" if math.isfinite(b) else "diverged" for b in bits)])
        table.best.append({1 + factors.index(one.factor)})
    return table


def _differing(standings: Sequence[Standing]) -> Table:
    """Return a table of the settings in which the networks differ, with a row for each setting.

    The cell itself is left out.
    """
    settings = [one.runs[0].settings for one in standings]
    table = Table(["", *(one.cell for one in standings)], [], [])
    for name in settings[0]:
        values = [_value(one[name]) for one in settings]
        if len(set(values)) > 1 and name != "model.cell":
            table.rows.append([name, *values])
            table.best.append(set())
    return table


def _common(standings: Sequence[Standing]) -> list[list[str]]:
    """Return the settings with a value that all networks share and that is not the default.

    The seed is left out. Each row has the name, the value and the default of a setting.
    """
    differing = {row[0] for row in _differing(standings).rows} | {"model.cell", "seed"}
    changed = standings[0].runs[0].changed
    return [[name, _value(value), shown(default)] for name, value, default in changed if name not in differing]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shown(value)


def _scores(scores: Sequence[Score]) -> dict[str, Any]:
    bits, losses = [score.bits for score in scores], [score.loss for score in scores]
    return {
        "bits_per_character": [_finite(one) for one in bits],
        "mean": _finite(mean(bits)),
        "deviation": _finite(deviation(bits)),
        "nats_per_token": [_finite(one) for one in losses],
        "nats_mean": _finite(mean(losses)),
        "nats_deviation": _finite(deviation(losses)),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
