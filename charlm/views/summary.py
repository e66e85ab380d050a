"""What pages and terminals show of a run, computed from its files: curves, samples, scores, a verdict."""

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
    """The samples that were generated at one training step, with their scores.

    Args:
        step, epoch: The training step and the epoch.
        samples: The samples, in the order of prompts and seeds.
        scores: The scores of the samples by text metric; empty if the samples were not scored.
        bits: Bits per character of the validation text at this step; None if there was no
            validation.
    """

    step: int
    epoch: float
    samples: list[Sample]
    scores: dict[str, float]
    bits: float | None

    @property
    def name(self) -> str:
        """The name of the step: "initialisation", or the epoch as in "epoch 3"."""
        return point_name(self.epoch, self.step)


class Summary:
    """A summary of a run, read from its files; the run need not be finished.

    An attribute is empty if the file that it is read from does not exist.

    Args:
        directory: The directory of the run.
        name: Name of the run among others; the name of its directory by default.
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
        """Return the points (epoch, value) of a logged column; only finite values are included."""
        points = [(row.get("epoch", 0.0), row[column]) for row in self.rows if column in row]
        return [point for point in points if math.isfinite(point[1])]

    def newest(self, column: str) -> float:
        """Return the last value of a logged column; 0 if the column was never logged."""
        return next((row[column] for row in reversed(self.rows) if column in row), 0.0)

    @cached_property
    def points(self) -> list[SamplePoint]:
        """The sample points of the run, one for each step at which samples were generated."""
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
        """The sample points that a page shows: at most `MOST_POINTS`, evenly spread."""
        return spread(self.points, MOST_POINTS)

    @cached_property
    def scored(self) -> list[SamplePoint]:
        """The sample points whose samples have scores."""
        return [point for point in self.points if point.scores]

    @property
    def metrics(self) -> list[str]:
        """The names of the text metrics that scored the samples, the most informative first."""
        names = dict.fromkeys(name for point in self.scored for name in point.scores)
        return [*(name for name in HEADLINES if name in names), *(name for name in names if name not in HEADLINES)]

    @property
    def epochs(self) -> float:
        """The number of epochs trained so far, with a fraction."""
        return max((row.get("epoch", 0.0) for row in self.rows), default=0.0)

    @property
    def steps(self) -> int:
        """The number of optimiser steps done so far."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def seconds(self) -> float:
        """The training time so far in seconds."""
        return max((row.get("seconds", 0.0) for row in self.rows), default=0.0)

    @property
    def best(self) -> dict[str, float] | None:
        """The numbers logged at the validation with the lowest loss; None without a validation."""
        validations = [row for row in self.rows if math.isfinite(row.get("val/loss", math.nan))]
        return min(validations, key=lambda row: row["val/loss"], default=None)

    @cached_property
    def evidence(self) -> Evidence:
        """The numbers of the run from which its verdict is computed."""
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
        """The verdict: a diagnosis of the training, and advice on what to try next."""
        return verdict(self.evidence)

    @cached_property
    def memory(self) -> MemoryRecord | None:
        """The newest measurement of how far back the network looks; None if there is none."""
        return self.directory.memory

    @property
    def missing(self) -> list[str]:
        """Sentences that say which results the run lacks, such as validations or samples."""
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
        """Sentences that say which text metrics were not computed, one sentence for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(label(name))
        return [f"Left out, because {reason}: {', '.join(names)}." for reason, names in reasons.items()]

    @property
    def scored_text(self) -> list[str]:
        """Sentences about the length of the texts that the text metrics are computed from.

        The list is empty if this length is not known.
        """
        if not self.scored_size:
            return []
        return [f"Computed from {self.scored_size:,} characters of each text.", *describe_size(self.scored_size)]

    @property
    def parameters(self) -> int:
        """The number of parameters of the network."""
        return parameter_count(self.directory.model_config, self.directory.vocab_size)

    @property
    def facts(self) -> list[str]:
        """Phrases that describe the run: network, tokenizer, text, training time, validation."""
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
        """The results that a comparison of runs shows, by name: each as a text and as a number.

        The smaller the number, the better the run. The number is infinite for a result that says
        nothing about which run is better, such as the number of epochs.
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
        """The value of every setting by its dotted name, such as `model.hidden`."""
        return {setting.name: setting.value for setting in settings(self.config)}

    @property
    def changed(self) -> list[tuple[str, Any, Any]]:
        """The name, the value and the default of each setting whose value is not its default."""
        defaults = {setting.name: setting.value for setting in settings(Config)}
        return [(name, value, defaults[name]) for name, value in self.settings.items() if value != defaults[name]]

    @property
    def ngram_losses(self) -> dict[str, float]:
        """A dict of one entry: the name of an n-gram model, and its loss in nats per token.

        The loss is measured on the part of the validation text that the run's validations read. The
        dict is empty if the loss is not known.
        """
        loss = self._ngram.losses.get(int(self.newest("val/tokens"))) if self._ngram else None
        return {} if self._ngram is None or loss is None else {self._ngram.name: loss}

    def levels(self, name: str) -> dict[str, float]:
        """Return the scores of the held-out text and of n-gram models on the text metric `name`."""
        return {other: scores[name] for other, scores in self.references.items() if name in scores}


def spread(points: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the points, evenly spread, including the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]


def same_text(summaries: Sequence[Summary]) -> bool:
    """Return whether all runs were validated on the same part of the same text.

    Only then can their validation scores be compared.
    """
    parts = ("text", "val", "val_fraction", "test_fraction", "pattern", "unit")
    texts = [
        [*(one.settings[f"data.{part}"] for part in parts), one.settings["tokenizer.lowercase"]]
        + [one.newest("val/tokens")] * (one.settings["tokenizer.kind"] == summaries[0].settings["tokenizer.kind"])
        for one in summaries
    ]
    return all(text == texts[0] for text in texts)


def shown(value: Any) -> str:
    """Return the value of a setting for display.

    The text is "auto" for None, because charlm then chooses the value, and "none" for an empty
    value.
    """
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return visible(", ".join(json.dumps(one, ensure_ascii=False) for one in value)) or "none"
    return visible(str(value)) or "none"


def named(directories: Sequence[RunDirectory]) -> list[Summary]:
    """Return summaries of several runs, each under a name of its own.

    The name is that of the run's directory, or its path if several directories have this name.

    Raises:
        CharlmError: The same run is given twice.
    """
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
