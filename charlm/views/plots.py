"""The definition of a chart (`Chart`, `Curve`), and its image for TensorBoard.

`charlm.views.charts` makes the charts of a run, `charlm.views.svg` draws them for pages.
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
"""Width and height of a chart in the units of its drawing, of which text in an image is 11 high."""

DISTANCE, CONTEXT = "tokens back, T - t", "tokens of context (logarithmic)"
"""The labels of the x axes of the charts of the gradient through time and of the memory horizon."""

INK, PAPER = "#1f2328", "#fffffe"
COLOURS = ("#2f6fd6", "#d9572b", "#2b8a4b", "#8a52c7", "#b5860b", "#c2417f", "#1592a0", "#7a6a58")
"""Colours of the curves of a chart in an image; on a page the nth is `var(--curve-n)` and the ink `currentColor`."""


class LevelStyle(NamedTuple):
    """How a horizontal line is drawn.

    Args:
        number: From 1; on a page the colour of the line is the CSS variable `--level-1` for number 1.
        colour: In an image, as `#rrggbb`.
        dashes: Lengths of dashes and gaps in turn, in points.
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
    """A line through points.

    Args:
        name: Its name in the legend.
        x, y: The points, from left to right; points that are not finite are left out.
        marked: Whether each point gets a marker; for curves of few points.
        faint: Whether it is drawn thin and behind the others; for noisy curves.
        low, high: The ends of a band around the curve, one for each point; empty for none.
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
    """Curves over one axis, and the levels they are compared with.

    Args:
        title: What is shown.
        x_label, y_label: The quantities of the axes, with their units.
        curves: The curves.
        levels: Horizontal lines by name.
        log_x, log_y: Whether an axis is logarithmic; points at or below zero are then left out.
        marks: Positions on the x axis that the page can point at.
        percent: Whether the y axis shows fractions as per cent.
        linear_until: Where the x axis turns from linear to logarithmic, so that a long run still shows its beginning.
        legend: Whether the chart names its curves and levels; otherwise the page does.
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
    """Charts of how far back a network looks, by the name of the measure.

    A measure that the record lacks has no chart.

    Args:
        record: What was recorded.
        when: The moment of the record, for the titles.
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
    """How the level of a name is drawn."""
    return LEVELS.get(name, LEVELS[WEAK_BASELINE])


def thinned(x: Numbers, y: Numbers, most: int = POINTS) -> tuple[NDArray[Any], NDArray[Any]]:
    """A curve reduced to at most `most` points that looks the same: the lowest and the highest point of each stretch.

    The first and the last point are kept, and points that are not finite are left out.
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
    """The chart as pixels (height, width, 3), uint8, on white paper; `scale` pixels for each unit of `SIZE`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _settings():
        figure = _draw(chart)
        figure.set_dpi(72 * scale)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextmanager
def _settings() -> Iterator[None]:
    """Let matplotlib use the fonts of `FONTS` and not warn about missing ones."""
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
    """The hue, from 0 to 1, of a curve beyond `COLOURS`; far from that of the curve before it."""
    return number * 0.381966 % 1  # the golden angle


def _colour(number: int) -> Any:
    """The colour of a curve of an image."""
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
