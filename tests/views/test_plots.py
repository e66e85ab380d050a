"""Charts: as SVG that takes its colours from the page, and as pixels."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from charlm.views.plots import POINTS, SIZE, Chart, Curve, image, thinned
from charlm.views.svg import svg

SVG = "{http://www.w3.org/2000/svg}"
CHART = Chart(
    "Loss",
    "epochs",
    "nats per token",
    [Curve("training", range(6), [4, 3, 2.5, 2.2, 2, 1.9], faint=True), Curve("验证", [1, 5], [3, 2], marked=True)],
    {"held-out text": 1.5, "5-gram model": 2.5, "something else": 3.5},
    marks=[0, 1, 5],
)


def texts(drawn: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


def test_an_svg_is_an_element_whose_text_is_text() -> None:
    drawn = svg(CHART)
    root = ElementTree.fromstring(drawn)
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label") == "Loss, nats per token"
    assert {"Loss", "epochs", "nats per token", "training", "验证", "held-out text", "something else"} <= set(
        texts(drawn)
    )


def test_an_svg_has_no_colours_of_its_own() -> None:
    drawn = svg(CHART)
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb", drawn)
    for name in ("currentColor", "--curve-1", "--curve-2", "--level-1", "--level-2", "--level-3"):
        assert name in drawn
    assert "--curve-3" not in drawn


def test_charts_in_one_page_do_not_share_names() -> None:
    assert not re.search(r"\bid=|url\(|href=", svg(CHART)), "there are none"


def test_the_same_chart_is_the_same_text() -> None:
    assert svg(CHART) == svg(CHART)


def test_marks_lie_on_the_axis_from_left_to_right() -> None:
    root = ElementTree.fromstring(svg(CHART))
    marks = [float(x) for x in (root.get("data-marks") or "").split()]
    top, bottom = (float(y) for y in (root.get("data-span") or "").split())
    assert 0 < marks[0] < marks[1] < marks[2] < SIZE[0]
    assert marks[2] - marks[1] == pytest.approx(4 * (marks[1] - marks[0]), abs=0.3)
    assert 0 < top < bottom < SIZE[1]


def test_marks_beyond_the_curves_widen_the_axis() -> None:
    chart = Chart("x", "", "", [Curve("a", [2, 3], [1, 2])], marks=[0, 6])
    marks = [float(x) for x in (ElementTree.fromstring(svg(chart)).get("data-marks") or "").split()]
    assert 0 < marks[0] < marks[1] < SIZE[0]


def test_an_axis_linear_at_first_gives_the_beginning_room() -> None:
    curve = Curve("a", [0, 1, 50], [0, 1, 2])
    places = []
    for linear_until in (None, 1.0):
        root = ElementTree.fromstring(svg(Chart("x", "", "", [curve], marks=[0, 1, 50], linear_until=linear_until)))
        first, second, last = (float(x) for x in (root.get("data-marks") or "").split())
        places.append((second - first) / (last - first))
    assert places[0] == pytest.approx(1 / 50, abs=0.002)
    assert places[1] > 0.15


@pytest.mark.parametrize(
    "name", ["<b>&\"'", "$x_1^2$", "שלום العربية", "字" * 40, "\\frac{", "__", "_private", "#2f6fd6 xlink:href"]
)
def test_any_name_is_shown_as_it_is(name: str) -> None:
    chart = Chart(name, name, "", [Curve(name, [0, 1], [0, 1]), Curve("b", [0, 1], [1, 0])])
    assert texts(svg(chart)).count(name) == 3
    assert image(chart).std() > 0


def test_fractions_are_shown_as_per_cent() -> None:
    assert "80%" in texts(svg(Chart("x", "", "", [Curve("a", [0, 1], [0.0, 0.8])], percent=True)))


def test_an_image_is_an_array_of_pixels_on_white() -> None:
    pixels = image(CHART)
    assert pixels.shape == (2 * SIZE[1], 2 * SIZE[0], 3)
    assert pixels.dtype == np.uint8
    assert (pixels[:2, :2] >= 254).all()
    assert 0.5 < (pixels >= 250).all(axis=2).mean() < 0.99
    assert image(CHART, scale=1.0).shape == (SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize(
    "chart",
    [
        Chart("nothing", "", "", []),
        Chart("one point", "", "", [Curve("a", [1], [2])]),
        Chart("no points", "", "", [Curve("a", [], []), Curve("b", [], [])]),
        Chart("nothing finite", "", "", [Curve("a", [0, 1], [math.nan, math.inf])], {"held-out text": math.nan}),
        Chart("always the same", "", "", [Curve("a", [0, 1], [0.0, 0.0])], {"held-out text": 0.0}),
        Chart("logarithms", "", "", [Curve("a", [0, 1, 10], [0, 1e-9, 1.0])], log_x=True, log_y=True),
        Chart("huge", "", "", [Curve("a", [0, 1e9], [1e30, 1e38])]),
    ],
    ids=lambda chart: chart.title,
)
def test_whatever_the_numbers_are_there_is_a_chart(chart: Chart) -> None:
    assert chart.title in texts(svg(chart))
    assert image(chart).std() > 0


def test_a_level_that_never_moves_has_an_axis_to_read() -> None:
    shown = texts(svg(Chart("x", "", "", [Curve("a", [0, 1], [0.0, 0.0])])))
    assert "0.00" in shown or "0.000" in shown
    assert not any("e" in text and text != "x" for text in shown), "no powers of ten"


def test_thinning_keeps_the_ends_and_the_extremes() -> None:
    x = np.arange(100_000)
    y = np.sin(x / 5000) + np.where(x == 61_803, 7.0, 0.0) - np.where(x == 31_415, 9.0, 0.0)
    at, value = thinned(x, y)
    assert len(at) <= POINTS
    assert (at[0], at[-1]) == (0, 99_999)
    assert (value.max(), value.min()) == (y.max(), y.min())
    assert (np.diff(at) > 0).all()
    assert np.isin(np.stack([at, value]), np.stack([x, y])).all()
    assert np.abs(np.interp(x, at, value) - y)[70_000:].max() < 0.05, "it looks the same"


def test_thinning_leaves_few_points_alone_but_for_those_that_are_not_finite() -> None:
    at, value = thinned([0, 1, 2, 3], [5, math.nan, math.inf, 6])
    assert (at.tolist(), value.tolist()) == ([0, 3], [5, 6])


def test_a_long_curve_makes_no_long_svg() -> None:
    noise = np.random.default_rng(0).normal(size=50_000)
    assert len(svg(Chart("x", "", "", [Curve("a", range(50_000), noise)]))) < 40_000


def test_logarithmic_axes_have_plain_numbers() -> None:
    shown = texts(svg(Chart("x", "", "", [Curve("a", [1, 100], [1e-6, 1.0])], log_x=True, log_y=True)))
    assert {"10", "100", "1", "0.01"} <= set(shown)
    assert not any("$" in text for text in shown)


def test_labels_of_an_axis_neither_overlap_nor_leave_the_chart() -> None:
    drawn = svg(Chart("x", "", "", [Curve("a", [100_000, 160_000], [0, 1])]))
    labels = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">([\d,]+)</text>', drawn)
    assert [label for _, label in labels] == ["100,000", "120,000", "140,000", "160,000"]
    assert float(labels[-1][0]) + 3 * 12 * 0.56 < SIZE[0]


def test_an_axis_linear_at_first_shows_a_single_point_at_zero() -> None:
    assert "<circle" in svg(Chart("x", "", "", [Curve("a", [0], [0.3])], linear_until=1.0))
