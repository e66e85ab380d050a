"""What the files of a run tell, gathered for whoever shows it: curves, the reel, its scores, the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from charlm.config import Config
from charlm.config.settings import duration, settings
from charlm.errors import CharlmError
from charlm.measure.comparison import label
from charlm.measure.verdict import Evidence, Verdict, verdict
from charlm.run import Run, Sample
from charlm.views.reel import HEADLINES, point_name

T = TypeVar("T")

REFERENCES = ("held-out text", "order-5 characters", "order-1 characters")
"""What a score is compared with, the best first."""

STOPS = 200
"""Most points of the reel that a page shows."""


@dataclass(frozen=True)
class Point:
    """A point of the reel: what a run wrote at one step, and what the measures say of it.

    Args:
        step, epoch: When it was.
        samples: What was written, in the order of prompts and seeds.
        scores: Measure to score; empty where nothing was measured.
        bits: Bits a character of the validation text at this very step; None where it was not read.
    """

    step: int
    epoch: float
    samples: list[Sample]
    scores: dict[str, float]
    bits: float | None

    @property
    def name(self) -> str:
        return point_name(self.epoch, self.step)


class Summary:
    """A run as its files tell it; whatever they lack is empty.

    Args:
        run: The run, finished or not.
        name: What it is called among others; its directory's name by default.
    """

    def __init__(self, run: Run, name: str | None = None) -> None:
        self.run = run
        self.name = name or run.path.resolve().name
        self.rows = run.metrics
        found = run.quality["references"]
        self.references: dict[str, dict[str, float]] = {name: found[name] for name in REFERENCES if name in found}
        self.left_out: dict[str, str] = run.quality["left_out"]

    def curve(self, column: str) -> list[tuple[float, float]]:
        """A column of the logged numbers over the epochs; numbers that are not finite are left out."""
        points = [(row.get("epoch", 0.0), row[column]) for row in self.rows if column in row]
        return [point for point in points if math.isfinite(point[1])]

    @cached_property
    def points(self) -> list[Point]:
        """The reel, from initialisation to the end."""
        bits = {row["step"]: row.get("val/bits_per_character") for row in self.rows if "val/loss" in row}
        steps: dict[int, list[Sample]] = {}
        for sample in self.run.samples:
            steps.setdefault(sample.step, []).append(sample)
        return [
            Point(step, samples[0].epoch, samples, samples[0].scores, bits.get(step))
            for step, samples in sorted(steps.items())
        ]

    @property
    def reel(self) -> list[Point]:
        """The points that a page shows: all of them, or `STOPS` spread over them."""
        return spread(self.points, STOPS)

    @cached_property
    def scored(self) -> list[Point]:
        """The points of the reel that were measured."""
        return [point for point in self.points if point.scores]

    @property
    def measured(self) -> list[str]:
        """Every measure that was taken; those that tell most come first."""
        names = dict.fromkeys(name for point in self.scored for name in point.scores)
        return [*(name for name in HEADLINES if name in names), *(name for name in names if name not in HEADLINES)]

    @property
    def epochs(self) -> float:
        return max((row.get("epoch", 0.0) for row in self.rows), default=0.0)

    @property
    def steps(self) -> int:
        return max((row["step"] for row in self.rows), default=0)

    @property
    def seconds(self) -> float:
        return max((row.get("seconds", 0.0) for row in self.rows), default=0.0)

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the validation with the lowest loss."""
        validations = [row for row in self.rows if math.isfinite(row.get("val/loss", math.nan))]
        return min(validations, key=lambda row: row["val/loss"], default=None)

    @cached_property
    def evidence(self) -> Evidence:
        best = self.best
        return Evidence(
            run=str(self.run.path),
            config=self.run.config,
            epochs=self.epochs,
            steps=self.steps,
            seconds=self.seconds,
            training=self.curve("train/loss"),
            validation=self.curve("val/loss"),
            bits_per_character=best.get("val/bits_per_character") if best else None,
            scores=self.scored[-1].scores if self.scored else {},
            references=self.references,
            skipped=int(max((row.get("train/skipped_steps", 0.0) for row in self.rows), default=0.0)),
        )

    @cached_property
    def verdict(self) -> Verdict:
        return verdict(self.evidence)

    @property
    def missing(self) -> list[str]:
        """What the files lack, in sentences."""
        said = []
        if self.rows and self.evidence.end is None:
            said.append(
                f"The run has not reached its end: {self.evidence.share:.0%} of it is done. It may be training still."
            )
        if not self.rows:
            said.append("There are no numbers yet: nothing was logged before this page was made.")
        elif not self.curve("val/loss"):
            said.append("There is no validation: it was trained without validation text, or has not come to it.")
        if not self.points:
            said.append("There are no samples yet.")
        elif not self.scored:
            said.append("The samples were not measured, so there are no scores.")
        if self.scored and not self.references:
            said.append("There is nothing to compare the scores with: the run has no quality.json.")
        return said

    @property
    def without(self) -> list[str]:
        """Which measures were left out, a sentence for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(label(name))
        return [f"Left out, because {reason}: {', '.join(names)}." for reason, names in reasons.items()]

    @property
    def facts(self) -> list[str]:
        """The run in a few words: what network learnt what, for how long, and how well."""
        shape, config = self.run.shape, self.run.config
        layers = f"{shape.layers} layer{'s' if shape.layers > 1 else ''}"
        best = self.best
        facts = [
            f"{shape.cell}, {layers} of {shape.hidden} units",
            f"{sum(count for _, _, count in shape.table()):,} parameters",
            f"{config.tokenizer.kind} tokens, {shape.vocabulary:,} different",
            f"text: {', '.join(Path(text).name for text in config.data.text) or 'the built-in corpus'}",
            f"{self.epochs:.3g} epochs in {duration(self.seconds)}",
        ]
        if best and "val/bits_per_character" in best:
            facts.append(f"at best {best['val/bits_per_character']:.3f} bits a character")
        return facts

    @property
    def results(self) -> dict[str, str]:
        """The final numbers by which runs are compared."""
        best = self.best or {}
        shown = {
            "state": self.verdict.state,
            "validation, bits a character": _number(best.get("val/bits_per_character"), 4),
            "validation, nats a token": _number(best.get("val/loss"), 4),
            "validation, perplexity": _number(best.get("val/perplexity"), 2),
            "best epoch": f"{best['epoch']:.4g}" if best else "",
            "epochs": f"{self.epochs:.4g}",
            "training time": duration(self.seconds),
            "parameters": f"{sum(count for _, _, count in self.run.shape.table()):,}",
        }
        return {name: value for name, value in shown.items() if value}

    @cached_property
    def settings(self) -> dict[str, Any]:
        return {setting.name: setting.value for setting in settings(self.run.config)}

    @property
    def changed(self) -> list[tuple[str, Any, Any]]:
        """Name, value and default of each setting that is not at its default, or was chosen for this text."""
        defaults = {setting.name: setting.value for setting in settings(Config)}
        return [(name, value, defaults[name]) for name, value in self.settings.items() if value != defaults[name]]

    def levels(self, name: str, which: Sequence[str] = REFERENCES) -> dict[str, float]:
        """What the references score on a measure."""
        return {other: self.references[other][name] for other in which if name in self.references.get(other, {})}


def spread(points: Sequence[T], most: int) -> list[T]:
    """At most `most` points, evenly from the first to the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]


def differing(summaries: Sequence[Summary]) -> list[list[str]]:
    """Rows for a table of several runs: their results, then the settings in which they differ."""
    results = [summary.results for summary in summaries]
    names = list(dict.fromkeys(name for one in results for name in one))
    rows = [[name, *(one.get(name, "-") for one in results)] for name in names]
    for name in summaries[0].settings:
        values = [plain(summary.settings[name]) for summary in summaries]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return rows


def same_text(summaries: Sequence[Summary]) -> bool:
    """Whether several runs were validated on the same text, so that their numbers can be compared."""
    parts = ("text", "val", "val_fraction", "test_fraction", "pattern", "unit")
    texts = [
        [*(one.settings[f"data.{part}"] for part in parts), one.settings["tokenizer.lowercase"]] for one in summaries
    ]
    return all(text == texts[0] for text in texts)


def plain(value: Any) -> str:
    """The value of a setting as a person would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(json.dumps(one, ensure_ascii=False) for one in value) or "none"
    return str(value)


def named(runs: Sequence[Run]) -> list[Summary]:
    """Summaries of several runs, each under a name that no other has."""
    short = [run.path.resolve().name for run in runs]
    names = [name if short.count(name) == 1 else str(run.path) for name, run in zip(short, runs, strict=True)]
    if len(set(names)) < len(names):
        raise CharlmError(f"the run {max(names, key=names.count)} is named twice; name each run once")
    return [Summary(run, name) for run, name in zip(runs, names, strict=True)]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
