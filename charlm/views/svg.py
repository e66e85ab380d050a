"""The drawing of a chart as an SVG element for an HTML page.

The page sets the colours by CSS variables (`--curve-1`, `--curve-2`, `--level-1`, and so on), so
that a chart is light or dark like its page. Text in the chart is SVG text, not outlines, so that
the browser can draw any script.
"""

from __future__ import annotations

import html
import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from charlm.views.plots import COLOURS, LEVEL_WIDTH, SIZE, Chart, Curve, hue, level_style, thinned
from charlm.views.text import visible

TEXT, TITLE = 12.0, 13.5
"""Heights of the text and of the title, in units of the chart."""

LINE, LEGEND_WIDTH = 16.0, SIZE[0] - 80.0
"""Height of a row of the legend, and the width of the legend."""

MARGIN, RIGHT = 8.0, SIZE[0] - 12.0
"""Space around the chart, and the right end of the plot."""

SPACE = 8.0
"""Least space between two labels of an x axis."""

MARGIN_X, MARGIN_Y = 0.02, 0.08
"""Space between the curves and the ends of the axes, relative to the extent of the curves."""

LINEAR_WIDTH = 0.6
"""Width of the linear part of a partly logarithmic axis, relative to a decade of its logarithmic part."""

Points = tuple[NDArray[Any], NDArray[Any]]


def svg(chart: Chart) -> str:
    """Return a chart as an <svg> element.

    The attribute `data-span` of the element holds the y positions of the top and the bottom of the
    plot; `data-marks` holds the x positions of the chart's marks. Both are in units of the viewBox.
    The page's script uses them to draw a vertical line at a mark.
    """
    curves = [_drawable(thinned(curve.x, curve.y), chart) for curve in chart.curves]
    levels = {name: level for name, level in chart.levels.items() if math.isfinite(level)}
    if chart.log_y:
        levels = {name: level for name, level in levels.items() if level > 0}
    legend = _legend_rows(chart, levels)
    top = MARGIN + TITLE + 6 + LINE * len(legend)
    height = SIZE[1] + LINE * max(0, len(legend) - 1)
    bottom = height - (2 * TEXT + 14 if chart.x_label else TEXT + 10)

    marks = [mark for mark in chart.marks if mark > 0 or not chart.log_x]
    x_values = [float(value) for x, _ in curves for value in x] + marks
    y_values = [float(value) for _, y in curves for value in y] + list(levels.values())
    y_values += [float(value) for curve in chart.curves for value in (*curve.low, *curve.high)]
    y_axis = _axis(y_values, bottom, top, MARGIN_Y, log=chart.log_y, percent=chart.percent)
    label_width = max((_width(label) for _, label in y_axis.ticks), default=0.0)
    left = MARGIN + label_width + 4 + (TEXT + 5 if chart.y_label else 0)
    x_axis = _axis(x_values, left, RIGHT, MARGIN_X, log=chart.log_x, linear_until=chart.linear_until)

    parts = [_text(chart.title, left, MARGIN + TITLE - 2, more=f' font-size="{TITLE:g}" font-weight="600"')]
    parts += _grid(x_axis, y_axis, left, top, bottom)
    parts.append(_text(chart.x_label, (left + RIGHT) / 2, height - 6, anchor="middle"))
    if chart.y_label:
        middle = (top + bottom) / 2
        turned = f' transform="rotate(-90 {MARGIN + 4:g} {middle:.1f})"'
        parts.append(_text(chart.y_label, MARGIN + 4, middle, anchor="middle", more=f' dy=".3em"{turned}'))
    for name, level in levels.items():
        parts.append(f'<path d="M{left:.1f} {y_axis.place(level):.1f}H{RIGHT:g}" {_level_stroke(name)}/>')
    for number, curve in enumerate(chart.curves):
        if len(curve.low):
            parts.append(_band(curve, curve_colour(number), x_axis, y_axis))
    # Faint curves first, so that they are behind the others.
    for number in sorted(range(len(curves)), key=lambda number: not chart.curves[number].faint):
        x, y = curves[number]
        parts.append(_curve(chart, number, [*map(x_axis.place, x.tolist())], [*map(y_axis.place, y.tolist())]))
    parts += _legend(legend, left, MARGIN + TITLE + 6)

    positions = " ".join(f"{x_axis.place(mark):.1f}" for mark in marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {SIZE[0]} {height:g}" role="img" '
        f'aria-label="{_escaped(", ".join(filter(None, (chart.title, chart.y_label))))}" font-size="{TEXT:g}" '
        f'fill="currentColor" data-span="{top:.1f} {bottom:.1f}" data-marks="{positions}">{"".join(parts)}</svg>'
    )


# -- axes


@dataclass(frozen=True)
class _Axis:
    """An axis of a chart, which maps values to positions.

    Args:
        scale: The function that scales a value, such as a logarithm.
        low, high: The scaled values at the two ends of the axis.
        start, end: The positions of the two ends, in units of the chart.
        ticks: The values that have a label, each with its label.
    """

    scale: Callable[[float], float]
    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[tuple[float, str]]

    def place(self, value: float) -> float:
        """Return the position of a value on the axis, in units of the chart."""
        return self.start + (self.scale(value) - self.low) / (self.high - self.low) * (self.end - self.start)


def _axis(
    values: Sequence[float], start: float, end: float, margin: float,
    *, log: bool = False, percent: bool = False, linear_until: float | None = None,
) -> _Axis:  # fmt: skip
    """Return an axis from position `start` to `end` that covers the values and a margin.

    Args:
        values: The values that the axis must cover.
        start, end: The positions of the two ends of the axis, in units of the chart.
        margin: Width of the margin, relative to the extent of the values.
        log, percent, linear_until: As in `Chart`.
    """
    low, high = min(values, default=1.0 if log else 0.0), max(values, default=10.0 if log else 1.0)
    if not log and high - low < 1e-6 * max(1.0, abs(low), abs(high)):  # all values are equal
        space = 0.05 * abs(high) if abs(high) > 1e-6 else 0.05
        low, high = (low - space if abs(low) > 1e-6 else 0.0), high + space
    if linear_until and high <= 2 * linear_until:
        linear_until = None
    scale = _scale(log, linear_until)
    space = margin * (scale(high) - scale(low)) or 0.5
    first, last = scale(low) - space, scale(high) + space
    if log:
        ticks = _log_ticks(10**first, 10**last)
    elif linear_until:
        ticks = [0.0] * (low <= 0) + _log_ticks(max(low, linear_until), high)
    else:
        ticks = _linear_ticks(first, last)
    labels = _labels(ticks, percent=percent, shortest=log or linear_until is not None)
    if start < end < start + sum(_width(label) + SPACE for label in labels):  # an x axis, from left to right
        ticks, labels = ticks[::2], labels[::2]
    return _Axis(scale, first, last, start, end, list(zip(ticks, labels, strict=True)))


def _scale(log: bool, linear_until: float | None) -> Callable[[float], float]:
    """Return the function that scales the values of an axis.

    The function is a logarithm if `log` is true. If `linear_until` is given, it is linear up to
    this value and logarithmic above. Otherwise it is the identity.
    """
    if log:
        return math.log10
    if linear_until is None:
        return float

    def scale(value: float) -> float:
        relative = value / linear_until
        return LINEAR_WIDTH * relative if relative <= 1 else LINEAR_WIDTH + math.log10(relative)

    return scale


def _linear_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return at most `most` values from `low` to `high` for the ticks of a linear axis.

    Their distance is 1, 2 or 5 times a power of ten.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * power for size in (1, 2, 5, 10, 20) if (high - low) / (size * power) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return at most `most` values from `low` to `high` for the ticks of a logarithmic axis.

    The values are powers of ten and, if these are few, also 2 and 5 times these.
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    fine = [size * 10.0**power for power in range(first, last + 1) for size in (1, 2, 5)]
    fine = [tick for tick in fine if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    if len(fine) <= most:
        return fine
    inside = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return [10.0**power for power in inside[:: -(-len(inside) // most)]]


def _labels(ticks: Sequence[float], *, percent: bool, shortest: bool) -> list[str]:
    """Return the labels of the ticks of an axis.

    All labels have as many decimals as the distance of the ticks needs. If `percent` is true, the
    labels are in per cent. Labels that are not in per cent have their shortest form if `shortest`
    is true or if they would be very long.
    """
    distance = min((after - before for before, after in itertools.pairwise(ticks)), default=1.0)
    decimals = max(0, -math.floor(math.log10(distance) + 1e-9))
    if percent:
        return [f"{100 * tick:.{max(0, decimals - 2)}f}%" for tick in ticks]
    if shortest or decimals > 6 or max(map(abs, ticks), default=0) >= 1e6:
        return [f"{tick:g}" for tick in ticks]
    return [f"{tick:,.{decimals}f}" for tick in ticks]


# -- parts


def _drawable(points: Points, chart: Chart) -> Points:
    """Return those points (x, y) of a curve that the axes of the chart can show.

    A logarithmic axis cannot show values at or below zero.
    """
    x, y = points
    kept = (x > 0 if chart.log_x else x == x) & (y > 0 if chart.log_y else y == y)
    return x[kept], y[kept]


def _grid(x_axis: _Axis, y_axis: _Axis, left: float, top: float, bottom: float) -> list[str]:
    lines, labels = "", []
    for value, label in y_axis.ticks:
        y = y_axis.place(value)
        lines += f"M{left:.1f} {y:.1f}H{RIGHT:g}"
        labels.append(_text(label, left - 4, y, anchor="end", more=' dy=".35em"'))
    for value, label in x_axis.ticks:
        x = x_axis.place(value)
        lines += f"M{x:.1f} {top:.1f}V{bottom:.1f}"
        inside = min(x, SIZE[0] - _width(label) / 2)
        labels.append(_text(label, inside, bottom + TEXT + 3, anchor="middle"))
    frame = f"M{left:.1f} {top:.1f}V{bottom:.1f}H{RIGHT:g}"
    return [
        f'<path d="{lines}" stroke="currentColor" stroke-opacity=".12" stroke-width=".8"/>' if lines else "",
        f'<path d="{frame}" stroke="currentColor" stroke-opacity=".4" stroke-width=".8" fill="none"/>',
        *labels,
    ]


def _curve(chart: Chart, number: int, x: Sequence[float], y: Sequence[float]) -> str:
    curve, colour = chart.curves[number], curve_colour(number)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    style = 'stroke-width="1.2" stroke-opacity=".65"' if curve.faint else 'stroke-width="1.8"'
    line = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-linejoin="round" {style}/>'
    if not points:
        return ""
    if not (curve.marked or len(x) == 1):
        return line
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in zip(x, y, strict=True))
    return f'{line}<g fill="{colour}">{dots}</g>'


def _band(curve: Curve, colour: str, x_axis: _Axis, y_axis: _Axis) -> str:
    """Return the SVG polygon of a band, which goes from `curve.low` to `curve.high`."""
    there = [(x_axis.place(float(x)), y_axis.place(float(y))) for x, y in zip(curve.x, curve.low, strict=True)]
    back = [(x_axis.place(float(x)), y_axis.place(float(y))) for x, y in zip(curve.x, curve.high, strict=True)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*there, *reversed(back)])
    return f'<polygon points="{points}" fill="{colour}" fill-opacity=".18"/>'


def curve_colour(number: int) -> str:
    """Return the CSS colour of the curve with this number, from 0.

    The first curves have colours that the page defines; further ones get a colour from `hue`.
    """
    if number < len(COLOURS):
        return f"var(--curve-{number + 1})"
    return f"hsl({360 * hue(number):.0f} 55% 52%)"


def _level_stroke(name: str) -> str:
    number, _, dashes = level_style(name)
    lengths = " ".join(f"{length:g}" for length in dashes)
    return f'stroke="var(--level-{number})" stroke-width="{LEVEL_WIDTH}" stroke-dasharray="{lengths}"'


def _legend_rows(chart: Chart, levels: dict[str, float]) -> list[list[tuple[float, str, str]]]:
    """Divide the entries of the legend into rows that fit the width of the chart.

    An entry is its offset from the left, the SVG attributes of its line, and its name.
    """
    if not chart.legend or len(chart.curves) + len(levels) < 2:
        return []
    entries = [
        (curve.name, f'stroke="{curve_colour(number)}" stroke-width="1.8"') for number, curve in enumerate(chart.curves)
    ]
    entries += [(name, _level_stroke(name)) for name in levels]
    rows: list[list[tuple[float, str, str]]] = [[]]
    offset = 0.0
    for name, style in entries:
        width = 26 + _width(name) + 14
        if rows[-1] and offset + width > LEGEND_WIDTH:
            rows.append([])
            offset = 0.0
        rows[-1].append((offset, style, name))
        offset += width
    return rows


def _legend(rows: list[list[tuple[float, str, str]]], left: float, top: float) -> list[str]:
    parts = []
    for number, row in enumerate(rows):
        y = top + LINE * number + 6
        for offset, style, name in row:
            parts.append(f'<path d="M{left + offset:.1f} {y:.1f}h20" {style}/>')
            parts.append(_text(name, left + offset + 26, y, more=' dy=".35em"'))
    return parts


def _text(text: str, x: float, y: float, *, anchor: str = "start", more: str = "") -> str:
    if not text:
        return ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchored}{more}>{_escaped(text)}</text>'


def _width(text: str) -> float:
    """Estimate the width of a text in units of the chart.

    The exact width depends on the fonts of the browser.
    """
    return TEXT * sum(1.0 if unicodedata.east_asian_width(character) in "WF" else 0.56 for character in text)


def _escaped(text: str) -> str:
    return html.escape(visible(text))
