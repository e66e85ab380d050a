"""Charts, drawn once: as SVG for a page, as an array of pixels for TensorBoard.

A `Chart` is plain numbers and words. Its SVG names colours instead of having them, so that it follows the page
it stands in, light or dark; text in it is text, which the browser sets in whatever script it is.
"""

from __future__ import annotations

import hashlib
import html
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Numbers = Sequence[float] | NDArray[Any]

POINTS = 1000
"""Most points of a curve that are drawn."""

SIZE = (420, 250)
"""Width and height of a chart, in the units of its SVG; text is 11 of them high."""

INK, PAPER = "#1f2328", "#fffffe"
COLOURS = ("#2f6fd6", "#d9572b", "#2b8a4b", "#8a52c7", "#b5860b", "#c2417f", "#1592a0", "#7a6a58")
"""One for each curve of a chart. In an SVG the nth is `var(--curve-n)`, the ink `currentColor`."""

LEVELS = {"held-out text": ("#178069", "--"), "order-5 characters": ("#a8651f", "-."), "": ("#6e7781", ":")}
"""Colour and dashes of the lines that a curve is compared with, by name; those of another name look like the last."""

FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS", "Noto Sans", "Noto Sans Hebrew",
    "Noto Sans Arabic", "Noto Sans Devanagari",
)  # fmt: skip
"""Where an image looks for its letters; those that are not installed are passed over."""


@dataclass(frozen=True)
class Curve:
    """Numbers over numbers.

    Args:
        name: What the legend calls it.
        x, y: The points, from left to right; those that are not finite are left out.
        marked: Whether each point is marked; for curves of few points.
        faint: Whether it stands behind the others; for noisy curves.
    """

    name: str
    x: Numbers
    y: Numbers
    marked: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one axis, and the levels they are compared with.

    Args:
        title: What is shown.
        x_label, y_label: What the axes count, with the unit.
        curves: The curves.
        levels: Horizontal lines by name.
        log_x, log_y: Whether an axis is logarithmic; points at or below zero are then left out.
        marks: Places on the x axis that the page may point at.
        percent: Whether the y axis shows shares as per cent.
        knee: Where the x axis turns from linear to logarithmic, so that a long run still shows how it began.
        legend: Whether curves and levels are named in the chart; without it the page names them.
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
    knee: float | None = None
    legend: bool = True


def svg(chart: Chart) -> str:
    """The chart as an <svg> element, for a page that sets `color`, `--curve-1` ... and `--level-1` ...

    Its attribute `data-span` holds top and bottom of the plot in the units of its viewBox, and `data-marks` where
    the chart's marks lie from left to right, so that the page can draw a line through any of them.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    salt = hashlib.sha256(repr(chart).encode()).hexdigest()  # names inside differ from those of other charts
    with _settings(salt):
        figure = _draw(chart)
        out = StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        return _for_a_page(out.getvalue(), _attributes(chart, figure))


def image(chart: Chart, scale: float = 2.0) -> NDArray[np.uint8]:
    """The chart as pixels (height, width, 3), uint8, on white paper; `scale` pixels for each unit of `SIZE`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _settings(""):
        figure = _draw(chart)
        figure.set_dpi(72 * scale)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def thinned(x: Numbers, y: Numbers, most: int = POINTS) -> tuple[NDArray[Any], NDArray[Any]]:
    """A curve of at most `most` points that looks like one of many: the lowest and highest of each stretch.

    The first and the last point stay, and points that are not finite are left out.
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


# -- drawing


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    """matplotlib with our letters and without its remarks about fonts."""
    import matplotlib

    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    options: Any = {
        "font.family": list(_fonts()), "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": salt,
        "axes.unicode_minus": True, "text.usetex": False, "text.parse_math": False, "path.simplify": True,
    }  # fmt: skip
    try:
        with matplotlib.rc_context(options), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # a browser has fonts that matplotlib lacks
            warnings.filterwarnings("ignore", message="Creating legend")  # it says so where the machine is slow
            yield
    finally:
        logger.setLevel(level)


@cache
def _fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in installed)


def _draw(chart: Chart) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0] / 72, SIZE[1] / 72), dpi=72, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot(facecolor="none")
    for number, curve in enumerate(chart.curves):
        x, y = thinned(curve.x, curve.y)
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.8, "zorder": 3}
        if curve.faint:
            style |= {"linewidth": 1.2, "alpha": 0.65, "zorder": 2}
        if curve.marked or len(x) == 1:
            style |= {"marker": "o", "markersize": 3.5}
        axes.plot(x, y, label=curve.name, **style)
    for name, level in chart.levels.items():
        if math.isfinite(level):
            colour, dashes = LEVELS.get(name, LEVELS[""])
            axes.axhline(level, color=colour, linestyle=dashes, linewidth=1.3, label=name, zorder=1)
    axes.set_title(chart.title, fontsize=12, loc="left", color=INK)
    axes.set_xlabel(chart.x_label, color=INK)
    axes.set_ylabel(chart.y_label, color=INK)
    if chart.log_x:
        axes.set_xscale("log", nonpositive="mask")
        axes.xaxis.set_major_formatter("{x:g}")  # matplotlib's own would be read as mathematics, which is off
        axes.xaxis.set_minor_formatter("")
    if chart.knee:
        axes.set_xscale("symlog", linthresh=chart.knee, linscale=0.6)
        axes.xaxis.set_major_formatter("{x:g}")
    if chart.log_y:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.margins(x=0.02, y=0.08)
    heights = [value for line in axes.lines for value in np.asarray(line.get_ydata(), float)]
    low, high = min(heights, default=0.0), max(heights, default=1.0)
    if high - low < 1e-6 * max(1.0, abs(high)) and not chart.log_y:  # a level that never moves
        room = 0.05 * abs(high) if abs(high) > 1e-6 else 0.05
        axes.set_ylim(low - room if abs(low) > 1e-6 else 0.0, high + room)
    if chart.marks and not chart.log_x:  # all of them lie within the axes
        left, right = axes.get_xlim()
        axes.set_xlim(min(left, min(chart.marks)), max(right, max(chart.marks)))
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


# -- from matplotlib's SVG to one for a page


def _attributes(chart: Chart, figure: Figure) -> str:
    axes = figure.axes[0]
    box = axes.get_window_extent()
    marks = [axes.transData.transform((mark, 0))[0] for mark in chart.marks]
    return (
        f'xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {SIZE[0]} {SIZE[1]}" role="img" '
        f'aria-label="{html.escape(f"{chart.title}, {chart.y_label}")}" stroke-linejoin="round" '
        f'data-span="{SIZE[1] - box.y1:.1f} {SIZE[1] - box.y0:.1f}" data-marks="{" ".join(f"{x:.1f}" for x in marks)}"'
    )


def _for_a_page(drawn: str, attributes: str) -> str:
    """What matplotlib draws as a document, as an element among others: small, and without colours of its own."""
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<(metadata|title|style)\b.*?</\1>|<defs>\s*</defs>", "", drawn, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[)\"]", drawn))
    colours = {INK: "currentColor", PAPER: "none"}
    colours |= {colour: f"var(--curve-{number})" for number, colour in enumerate(COLOURS, 1)}
    colours |= {colour: f"var(--level-{number})" for number, (colour, _) in enumerate(LEVELS.values(), 1)}

    def plainer(match: re.Match[str]) -> str:
        tag = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", match[0])
        tag = re.sub(r" font-family: [^;\"]*;| transform=\"rotate\(-0 [^\"]*\"|(?<=\.\d\d)\d+", "", tag)
        return re.sub("|".join(colours), lambda colour: colours[colour[0]], tag).replace("xlink:href", "href")

    drawn = re.sub(r"<[^>]+>", plainer, drawn)
    drawn = re.sub(r"<svg\b[^>]*>", lambda _: f"<svg {attributes}>", drawn, count=1)
    return re.sub(r">\s+<", "><", drawn).replace("\n", " ").strip()
