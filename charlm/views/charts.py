"""The charts of one run (losses and text metrics over the epochs), and those that compare runs."""

from __future__ import annotations

from collections.abc import Sequence

from charlm.evaluation.comparison import label
from charlm.evaluation.text_metrics import metrics
from charlm.views.plots import CONTEXT, DISTANCE, Chart, Curve
from charlm.views.ranking import RunGroup
from charlm.views.summary import Summary

LONG = 12
"""In a run of more epochs than this, the x axis of text metrics is logarithmic from epoch 1."""

FEW = 50
"""A curve of fewer points than this has a marker at each."""

Points = Sequence[tuple[float, float]]


def training_charts(summary: Summary) -> list[Chart]:
    """Return charts of loss, bits per character and learning rate over the epochs.

    A quantity that was never logged has no chart. The charts of loss and of bits per character also
    show an n-gram model as a horizontal line, if its loss is known.
    """
    losses, best = summary.ngram_losses, summary.best or {}
    # the ratio of bits per character to nats per token, to convert the losses
    bits_per_nat = best.get("val/bits_per_character", 0.0) / (best.get("val/loss") or 1.0)
    in_bits = {name: loss * bits_per_nat for name, loss in losses.items() if bits_per_nat}
    marks = [point.epoch for point in summary.shown_points]
    training, validation = summary.curve("train/loss"), summary.curve("val/loss")
    bits, rate = summary.curve("val/bits_per_character"), summary.curve("train/learning_rate")
    charts = [
        Chart(
            "Loss", "epochs", "nats per token", _curves(training=training, validation=validation), losses, marks=marks
        ),
        Chart("Bits per character", "epochs", "bits", _curves(validation=bits), in_bits, marks=marks),
        Chart("Learning rate", "epochs", "", _curves(rate=rate), marks=marks),
    ]
    return [chart for chart in charts if chart.curves]


def text_metric_charts(summary: Summary, names: Sequence[str]) -> list[Chart]:
    """Return a chart over the epochs for each of the text metrics in `names`.

    A text metric is a score of the samples. Horizontal lines show the scores of the held-out text
    and of n-gram models. A metric has no chart if it is known at fewer than two steps, or if
    its curve and all its horizontal lines are at 0.
    """
    charts = []
    for name in names:
        points = [(point.epoch, point.scores[name]) for point in summary.scored if name in point.scores]
        if len(points) < 2 or not any(value for _, value in points) and not any(summary.levels(name).values()):
            continue  # a single point, or a flat line at zero, shows nothing that the table does not
        unit = metrics[name].unit if name in metrics else ""
        long = summary.epochs > LONG
        percent = unit == "fraction"
        charts.append(
            Chart(
                label(name),
                "epochs (logarithmic from 1)" if long else "epochs",
                "" if percent else unit,
                _curves(generated=points),
                summary.levels(name),
                marks=[point.epoch for point in summary.shown_points],
                percent=percent,
                linear_until=1.0 if long else None,
                legend=False,
            )
        )
    return charts


def comparison_charts(groups: Sequence[RunGroup]) -> list[Chart]:
    """Return charts that compare groups of runs by bits per character of the validation text.

    One chart is over the epochs, the other over the training time in minutes. A chart without
    points is left out. The runs of a group differ only in the seed.
    """
    by_epoch = [group.curve("epoch") for group in groups]
    by_time = [group.curve("seconds", 60.0) for group in groups]
    charts = [
        Chart("Validation by epoch", "epochs", "bits per character", by_epoch),
        Chart("Validation by training time", "minutes", "bits per character", by_time),
    ]
    return [chart for chart in charts if _has_points(chart)]


def compared_memory_charts(groups: Sequence[RunGroup]) -> list[Chart]:
    """Return charts that compare how far back the networks of several groups of runs look.

    One chart shows the gradient of the loss by distance in tokens, the other the loss by the number
    of tokens of context. A chart without points is left out. The runs of a group differ only in the
    seed.
    """
    gradients, horizons = [group.gradient for group in groups], [group.horizon for group in groups]
    y_label = "relative to 1 token back (logarithmic)"
    charts = [
        Chart("Gradient through time, all layers", DISTANCE, y_label, gradients, log_y=True),
        Chart("Memory horizon", CONTEXT, "nats per token", horizons, log_x=True),
    ]
    return [chart for chart in charts if _has_points(chart)]


def _has_points(chart: Chart) -> bool:
    return any(len(curve.x) for curve in chart.curves)


def _curves(**named: Points) -> list[Curve]:
    """Return a curve for each name in `named` that has points (x, y).

    The training loss is noisy, so its curve is faint.
    """
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
