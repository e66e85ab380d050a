"""The classes that define a chart (`Chart`, `Curve`), and the drawing of a chart for TensorBoard.

`charlm.views.charts` makes the charts of runs, `charlm.views.svg` draws charts for HTML pages.
"""

from __future__ import annotations

import colorsys
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.text_metrics import BASELINE, REFERENCE, WEAK_BASELINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from charlm.run_directory import MemoryRecord

Numbers = Sequence[float] | NDArray[Any]

POINTS = 1000
"""Most points of a curve that are drawn."""

SIZE = (420, 250)
"""Width and height of a chart in units of its drawing; text in an image is 11 units high."""

DISTANCE, CONTEXT = "tokens back, T - t", "tokens of context (logarithmic)"
"""The labels of the x axes of the charts of the gradient through time and of the memory horizon."""

INK, PAPER = "#1f2328", "#fffffe"
COLOURS = ("#2f6fd6", "#d9572b", "#2b8a4b", "#8a52c7", "#b5860b", "#c2417f", "#1592a0", "#7a6a58")
"""Colours of the curves of a chart in an image; on a page, `var(--curve-1)` is the first."""


class LevelStyle(NamedTuple):
    """The style of a level, which is a horizontal line in a chart.

    Args:
        number: Number of the style, from 1. On an HTML page the CSS variable `--level-1` has the
            colour of style 1.
        colour: Colour of the line in an image, as `#rrggbb`.
        dashes: Lengths of dashes and gaps in turn, in units of the chart.
    """

    number: int
    colour: str
    dashes: tuple[float, ...]


LEVELS = {
    REFERENCE: LevelStyle(1, "#178069", (6, 3)),
    BASELINE: LevelStyle(2, "#a8651f", (8, 2, 2, 2)),
    WEAK_BASELINE: LevelStyle(3, "#6e7781", (2, 3)),
}
"""Styles of the levels that curves are compared with; levels of other names look like the last one."""

LEVEL_WIDTH = 1.3
"""Width of a level's line, in units of the chart."""

FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS", "Noto Sans", "Noto Sans Hebrew",
    "Noto Sans Arabic", "Noto Sans Devanagari",
)  # fmt: skip
"""Fonts of an image in order of preference; only those that are installed are used."""


@dataclass(frozen=True)
class Curve:
    """A curve of a chart: a line through points.

    Args:
        name: Name of the curve in the legend.
        x, y: Coordinates of the points, from left to right; points that are not finite are left
            out.
        marked: Whether each point gets a marker, as suits a curve of few points.
        faint: Whether the curve is drawn thin and behind the others, as suits noisy values.
        low, high: Lower and upper ends of a band around the curve, one pair for each point; empty
            for no band. Only HTML pages show the band.
    """

    name: str
    x: Numbers
    y: Numbers
    marked: bool = False
    faint: bool = False
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True)
class Chart:
    """A chart: curves over a common x axis, and horizontal lines (levels) to compare them with.

    Args:
        title: The title of the chart.
        x_label, y_label: Labels of the axes: the quantity and its unit.
        curves: The curves.
        levels: Values of the horizontal lines, by name.
        log_x, log_y: Whether the axis is logarithmic; points at or below zero are then left out.
        marks: Positions on the x axis at which an HTML page can draw a vertical line.
        percent: Whether the y axis shows fractions as per cent.
        linear_until: If given, the x axis is linear up to this value and logarithmic above it, so
            that the beginning of a long run stays visible.
        legend: Whether the chart names its curves and levels; otherwise the HTML page names them.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    levels: Mapping[str, float] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    marks: Sequence[float] = ()
    percent: bool = False
    linear_until: float | None = None
    legend: bool = True


def memory_charts(record: MemoryRecord, when: str) -> dict[str, Chart]:
    """Return charts of how far back a network looks, by the names of the two measures.

    The measure "gradient through time" is the gradient of the loss at one token with respect to the
    hidden state at earlier tokens. The "memory horizon" is the loss by the number of tokens of
    context. A measure without any value above 0 has no chart.

    Args:
        record: The measurements at one training step.
        when: The name of that step for the titles, such as "epoch 3".
    """
    gradients = [
        Curve(f"layer {number}", record.distances, lengths) for number, lengths in enumerate(record.gradients, 1)
    ]
    horizon = Curve("loss", record.contexts, record.losses, marked=True)
    y_label = "|dL_T / dh_t| (logarithmic)"
    charts = {
        "gradient through time": Chart(f"Gradient through time, {when}", DISTANCE, y_label, gradients, log_y=True),
        "memory horizon": Chart(f"Memory horizon, {when}", CONTEXT, "nats per token", [horizon], log_x=True),
    }
    return {name: chart for name, chart in charts.items() if any(max(curve.y, default=0) > 0 for curve in chart.curves)}


def level_style(name: str) -> LevelStyle:
    """Return the style of the level (horizontal line) with this name."""
    return LEVELS.get(name, LEVELS[WEAK_BASELINE])


def thinned(x: Numbers, y: Numbers, most: int = POINTS) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reduce a curve to at most `most` points in such a way that it looks the same.

    The first and the last point are kept. The curve is then divided into stretches of equally many
    points, and the lowest and the highest point of each are kept. Points that are not finite are
    left out.
    """
    at, value = np.asarray(x, float), np.asarray(y, float)
    finite = np.isfinite(at) & np.isfinite(value)
    at, value = at[finite], value[finite]
    if len(at) <= most:
        return at, value
    kept = {0, len(at) - 1}
    for stretch in np.array_split(np.arange(len(at)), (most - 2) // 2):
        kept |= {int(stretch[np.argmin(value[stretch])]), int(stretch[np.argmax(value[stretch])])}
    chosen = sorted(kept)
    return at[chosen], value[chosen]


def image(chart: Chart, scale: float = 2.0) -> NDArray[np.uint8]:
    """Draw a chart on white paper and return its pixels: (height, width, 3), uint8.

    The image has `scale` pixels for each unit of `SIZE`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _settings():
        figure = _draw(chart)
        figure.set_dpi(72 * scale)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextmanager
def _settings() -> Iterator[None]:
    """Let matplotlib use the fonts of `FONTS`, without warnings about missing fonts or characters.

    The settings hold only inside a `with` block.
    """
    import matplotlib

    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    options: Any = {
        "font.family": list(_fonts()), "font.size": 11,
        "axes.unicode_minus": True, "text.usetex": False, "text.parse_math": False, "path.simplify": True,
    }  # fmt: skip
    try:
        with matplotlib.rc_context(options), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # a character that no installed font has
            warnings.filterwarnings("ignore", message="Creating legend")  # on a slow machine
            yield
    finally:
        logger.setLevel(level)


@cache
def _fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in installed)


def hue(number: int) -> float:
    """Return a hue, from 0 to 1, for a curve whose number is beyond the list `COLOURS`.

    The hues of successive numbers are far apart.
    """
    return number * 0.381966 % 1  # the golden angle


def _colour(number: int) -> Any:
    """Return the colour that the curve with this number (from 0) has in an image."""
    return COLOURS[number] if number < len(COLOURS) else colorsys.hls_to_rgb(hue(number), 0.45, 0.6)


def _draw(chart: Chart) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0] / 72, SIZE[1] / 72), dpi=72, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot(facecolor="none")
    for number, curve in enumerate(chart.curves):
        x, y = thinned(curve.x, curve.y)
        style: dict[str, Any] = {"color": _colour(number), "linewidth": 1.8, "zorder": 3}
        if curve.faint:
            style |= {"linewidth": 1.2, "alpha": 0.65, "zorder": 2}
        if curve.marked or len(x) == 1:
            style |= {"marker": "o", "markersize": 3.5}
        axes.plot(x, y, label=curve.name, **style)
    for name, level in chart.levels.items():
        if math.isfinite(level):
            _, colour, dashes = level_style(name)
            line = (0, tuple(length / LEVEL_WIDTH for length in dashes))
            axes.axhline(level, color=colour, linestyle=line, linewidth=LEVEL_WIDTH, label=name, zorder=1)
    axes.set_title(chart.title, fontsize=12, loc="left", color=INK)
    axes.set_xlabel(chart.x_label, color=INK)
    axes.set_ylabel(chart.y_label, color=INK)
    if chart.log_x:
        axes.set_xscale("log", nonpositive="mask")
        axes.xaxis.set_major_formatter("{x:g}")  # the default needs mathematical markup, which is off
        axes.xaxis.set_minor_formatter("")
    if chart.linear_until:
        axes.set_xscale("symlog", linthresh=chart.linear_until, linscale=0.6)
        axes.xaxis.set_major_formatter("{x:g}")
    if chart.log_y:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.margins(x=0.02, y=0.08)
    if chart.percent:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(which="both", colors=INK, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.4)
    if chart.legend and len(chart.curves) + len(chart.levels) > 1:
        names = [str(line.get_label()) for line in axes.lines]
        labels = [str(number) for number in range(len(names))]  # matplotlib hides those that begin with _
        legend = axes.legend(
            axes.lines, labels, frameon=False, fontsize=10, labelcolor=INK, handlelength=1.8, borderaxespad=0.6
        )
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(name)
    return figure
