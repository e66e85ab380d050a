"""Which charts a run has: how its losses went, how its text measured up, and how several runs compare."""

from __future__ import annotations

import math
from collections.abc import Sequence

from charlm.measure.comparison import CEILING, label
from charlm.measure.quality import measures
from charlm.views.plots import Chart, Curve
from charlm.views.summary import Summary

LONG = 12
"""Epochs from which the axis gives the first epoch as much room as the ones after it, up to the tenth."""

FEW = 50
"""Most points of a curve that are marked one by one."""

Points = Sequence[tuple[float, float]]


def learning(summary: Summary) -> list[Chart]:
    """Loss, bits a character and learning rate over the epochs; those of which there are numbers."""
    ngram = summary.levels("ngram_bits").get(CEILING)
    level = {} if ngram is None else {"n-gram model": ngram}
    marks = [point.epoch for point in summary.reel]
    training, validation = summary.curve("train/loss"), summary.curve("val/loss")
    bits, rate = summary.curve("val/bits_per_character"), summary.curve("train/learning_rate")
    charts = [
        Chart("Loss", "epochs", "nats a token", _curves(training=training, validation=validation), marks=marks),
        Chart("Bits a character", "epochs", "bits", _curves(validation=bits), level, marks=marks),
        Chart("Learning rate", "epochs", "", _curves(rate=rate), marks=marks),
    ]
    return [chart for chart in charts if chart.curves]


def quality(summary: Summary, names: Sequence[str]) -> list[Chart]:
    """A chart for each of some measures of the generated text, with the references it is held against."""
    charts = []
    for name in names:
        points = [(point.epoch, point.scores[name]) for point in summary.scored if name in point.scores]
        unit = measures[name].unit if name in measures else ""
        share = unit == "share"
        charts.append(
            Chart(
                label(name),
                "epochs",
                "" if share else unit,
                _curves(generated=points),
                summary.levels(name),
                marks=[point.epoch for point in summary.reel],
                percent=share,
                knee=1.0 if summary.epochs > LONG else None,
                legend=False,
            )
        )
    return charts


def compared(summaries: Sequence[Summary]) -> list[Chart]:
    """The validation curves of several runs in one chart: over the epochs, and over the time they took."""
    by_epoch, by_time = [], []
    for summary in summaries:
        rows = [row for row in summary.rows if math.isfinite(row.get("val/bits_per_character", math.nan))]
        bits = [row["val/bits_per_character"] for row in rows]
        few = len(rows) < FEW
        by_epoch.append(Curve(summary.name, [row["epoch"] for row in rows], bits, marked=few))
        by_time.append(Curve(summary.name, [row["seconds"] / 60 for row in rows], bits, marked=few))
    if not any(len(curve.x) for curve in by_epoch):
        return []
    return [
        Chart("Validation over the epochs", "epochs", "bits a character", by_epoch),
        Chart("Validation over the time", "minutes", "bits a character", by_time),
    ]


def _curves(**named: Points) -> list[Curve]:
    """A curve for each name that has points; that of training is noisy and stands behind."""
    return [
        Curve(
            name,
            [x for x, _ in points],
            [y for _, y in points],
            marked=name != "training" and name != "rate" and len(points) < FEW,
            faint=name == "training",
        )
        for name, points in named.items()
        if points
    ]
