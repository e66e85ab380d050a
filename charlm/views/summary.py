"""What the files of a run show, gathered for pages and terminals: curves, sample history, scores, verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from charlm.config import Config, settings
from charlm.config.durations import duration
from charlm.errors import CharlmError, count
from charlm.evaluation.comparison import describe_size, label
from charlm.evaluation.text_metrics import COMPARED
from charlm.evaluation.verdict import Evidence, Verdict, verdict
from charlm.network.summary import parameter_count
from charlm.run_directory import MemoryRecord, NGramLosses, RunDirectory, Sample
from charlm.views.samples import HEADLINES, point_name
from charlm.views.text import visible

T = TypeVar("T")

MOST_POINTS = 200
"""The largest number of sample points that a page shows."""


@dataclass(frozen=True)
class SamplePoint:
    """The samples of one step, and their scores.

    Args:
        step, epoch: When the samples were generated.
        samples: The samples, in the order of prompts and seeds.
        scores: Scores by text metric; empty if the samples were not scored.
        bits: Bits per character of the validation text at this step; None if there was no validation.
    """

    step: int
    epoch: float
    samples: list[Sample]
    scores: dict[str, float]
    bits: float | None

    @property
    def name(self) -> str:
        """Its name: "initialisation" or "epoch 3"."""
        return point_name(self.epoch, self.step)


class Summary:
    """A run as its files show it, finished or not; an attribute is empty if its file is missing.

    Args:
        directory: The run.
        name: Its name among other runs; that of its directory by default.
    """

    def __init__(self, directory: RunDirectory, name: str | None = None) -> None:
        self.directory = directory
        self.name = name or directory.path.resolve().name
        self.config = directory.config
        self.rows = directory.metrics
        quality = directory.quality
        found = quality["references"]
        self.references: dict[str, dict[str, float]] = {name: found[name] for name in COMPARED if name in found}
        self.left_out: dict[str, str] = quality["left_out"]
        self.scored_size: int = quality["size"]
        self._ngram: NGramLosses | None = quality["ngram"]

    def curve(self, column: str) -> list[tuple[float, float]]:
        """A column of the logged numbers over the epochs; numbers that are not finite are left out."""
        points = [(row.get("epoch", 0.0), row[column]) for row in self.rows if column in row]
        return [point for point in points if math.isfinite(point[1])]

    def newest(self, column: str) -> float:
        """The last logged number of a column; 0 if it was never logged."""
        return next((row[column] for row in reversed(self.rows) if column in row), 0.0)

    @cached_property
    def points(self) -> list[SamplePoint]:
        """The sample history, from initialisation to the end."""
        bits = {row["step"]: row.get("val/bits_per_character") for row in self.rows if "val/loss" in row}
        steps: dict[int, list[Sample]] = {}
        for sample in self.directory.samples:
            steps.setdefault(sample.step, []).append(sample)
        return [
            SamplePoint(step, samples[0].epoch, samples, samples[0].scores, bits.get(step))
            for step, samples in sorted(steps.items())
        ]

    @property
    def shown_points(self) -> list[SamplePoint]:
        """The sample points that a page shows, at most `MOST_POINTS`."""
        return spread(self.points, MOST_POINTS)

    @cached_property
    def scored(self) -> list[SamplePoint]:
        """The sample points that have scores."""
        return [point for point in self.points if point.scores]

    @property
    def metrics(self) -> list[str]:
        """The text metrics that the samples were scored by, the most informative first."""
        names = dict.fromkeys(name for point in self.scored for name in point.scores)
        return [*(name for name in HEADLINES if name in names), *(name for name in names if name not in HEADLINES)]

    @property
    def epochs(self) -> float:
        """Epochs trained."""
        return max((row.get("epoch", 0.0) for row in self.rows), default=0.0)

    @property
    def steps(self) -> int:
        """Optimiser steps done."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def seconds(self) -> float:
        """Training time in seconds."""
        return max((row.get("seconds", 0.0) for row in self.rows), default=0.0)

    @property
    def best(self) -> dict[str, float] | None:
        """The logged numbers of the validation with the lowest loss."""
        validations = [row for row in self.rows if math.isfinite(row.get("val/loss", math.nan))]
        return min(validations, key=lambda row: row["val/loss"], default=None)

    @cached_property
    def evidence(self) -> Evidence:
        """The numbers that the verdict is computed from."""
        best = self.best
        return Evidence(
            run=str(self.directory.path),
            config=self.config,
            epochs=self.epochs,
            steps=self.steps,
            seconds=self.seconds,
            training=self.curve("train/loss"),
            validation=self.curve("val/loss"),
            stale_validations=int(self.newest("val/stale_validations")),
            validation_text=self.directory.has_split("val"),
            bits_per_character=best.get("val/bits_per_character") if best else None,
            scores=self.scored[-1].scores if self.scored else {},
            references=self.references,
            scored_size=self.scored_size,
            skipped=int(self.newest("train/skipped_steps")),
        )

    @cached_property
    def verdict(self) -> Verdict:
        """The diagnosis of the run and what to try next."""
        return verdict(self.evidence)

    @cached_property
    def memory(self) -> MemoryRecord | None:
        """The newest record of how far back the network looks."""
        return self.directory.memory

    @property
    def missing(self) -> list[str]:
        """Sentences about what the files lack."""
        sentences = []
        if not self.rows:
            sentences.append("There are no logged numbers yet.")
        elif not self.curve("val/loss"):
            has = self.evidence.validation_text
            sentences.append("It was not validated yet." if has else "The run has no validation text.")
        if not self.points:
            sentences.append("There are no samples yet.")
        elif not self.scored:
            sentences.append("The samples were not scored, so there are no text metrics.")
        if self.scored and not self.references:
            sentences.append("There is nothing to compare the text metrics with: the run has no quality.json.")
        return sentences

    @property
    def left_out_metrics(self) -> list[str]:
        """Which text metrics were left out, a sentence for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(label(name))
        return [f"Left out, because {reason}: {', '.join(names)}." for reason, names in reasons.items()]

    @property
    def scored_text(self) -> list[str]:
        """A sentence about the length of the texts that the metrics are computed from; none where it is not known."""
        if not self.scored_size:
            return []
        return [f"Computed from {self.scored_size:,} characters of each text.", *describe_size(self.scored_size)]

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return parameter_count(self.directory.model_config, self.directory.vocab_size)

    @property
    def facts(self) -> list[str]:
        """The run in a few words: network, tokens, text, training time, best validation."""
        model, config = self.directory.model_config, self.config
        best = self.best
        facts = [
            f"{model.cell}, {count(model.layers, 'layer')} of {model.hidden} units",
            f"{self.parameters:,} parameters",
            f"{config.tokenizer.kind} tokenizer, vocabulary of {self.directory.vocab_size:,}",
            f"text: {', '.join(Path(text).name for text in config.data.text) or 'the built-in corpus'}",
            f"{self.epochs:.3g} epochs in {duration(self.seconds)}",
        ]
        if best and "val/bits_per_character" in best:
            facts.append(f"best validation: {best['val/bits_per_character']:.3f} bits per character")
        return facts

    @property
    def results(self) -> dict[str, tuple[str, float]]:
        """The results by which runs are compared: each as text, and as a number to rank it by.

        A smaller number is better; it is infinite for results that are not ranked.
        """
        best = self.best or {}
        bits, loss, perplexity = (
            best.get(f"val/{name}", math.inf) for name in ("bits_per_character", "loss", "perplexity")
        )
        shown = {
            "state": (self.verdict.state, math.inf),
            "validation, bits per character": (_number(bits, 4), bits),
            "validation, nats per token": (_number(loss, 4), loss),
            "validation, perplexity per token": (_number(perplexity, 2), perplexity),
            "best epoch": (f"{best['epoch']:.4g}" if best else "", math.inf),
            "epochs": (f"{self.epochs:.4g}", math.inf),
            "training time": (duration(self.seconds), self.seconds),
            "parameters": (f"{self.parameters:,}", self.parameters),
        }
        return {name: value for name, value in shown.items() if value[0]}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted name."""
        return {setting.name: setting.value for setting in settings(self.config)}

    @property
    def changed(self) -> list[tuple[str, Any, Any]]:
        """Name, value and default of each setting that differs from its default."""
        defaults = {setting.name: setting.value for setting in settings(Config)}
        return [(name, value, defaults[name]) for name, value in self.settings.items() if value != defaults[name]]

    @property
    def ngram_losses(self) -> dict[str, float]:
        """The loss of an n-gram model by its name, in nats per token, on the part of the text that validations read."""
        loss = self._ngram.losses.get(int(self.newest("val/tokens"))) if self._ngram else None
        return {} if self._ngram is None or loss is None else {self._ngram.name: loss}

    def levels(self, name: str) -> dict[str, float]:
        """The scores of the reference and the baselines by a text metric."""
        return {other: scores[name] for other, scores in self.references.items() if name in scores}


def spread(points: Sequence[T], most: int) -> list[T]:
    """At most `most` points, spread evenly, with the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]


def same_text(summaries: Sequence[Summary]) -> bool:
    """Whether several runs were validated on the same part of the same text, so that their numbers can be compared."""
    parts = ("text", "val", "val_fraction", "test_fraction", "pattern", "unit")
    texts = [
        [*(one.settings[f"data.{part}"] for part in parts), one.settings["tokenizer.lowercase"]]
        + [one.newest("val/tokens")] * (one.settings["tokenizer.kind"] == summaries[0].settings["tokenizer.kind"])
        for one in summaries
    ]
    return all(text == texts[0] for text in texts)


def shown(value: Any) -> str:
    """The value of a setting for display: "auto" if it is chosen for the text, "none" if it is empty."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return visible(", ".join(json.dumps(one, ensure_ascii=False) for one in value)) or "none"
    return visible(str(value)) or "none"


def named(directories: Sequence[RunDirectory]) -> list[Summary]:
    """Summaries of several runs under different names: that of the directory, or its path if others share the name."""
    short = [directory.path.resolve().name for directory in directories]
    names = [
        name if short.count(name) == 1 else str(directory.path)
        for name, directory in zip(short, directories, strict=True)
    ]
    if len(set(names)) < len(names):
        raise CharlmError(f"the run {max(names, key=names.count)} is named twice; name each run once")
    return [Summary(directory, name) for directory, name in zip(directories, names, strict=True)]


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else ""
