"""The report: one page that shows what a run learnt, or how several compare, to open from disk and to share.

The page holds all it needs: nothing is fetched, and what a network wrote is shown as text, whatever it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from charlm.measure.comparison import CEILING, FLOOR, closeness, label, labelled, number
from charlm.measure.quality import measures
from charlm.run import Run, Sample
from charlm.views import charts
from charlm.views.plots import svg
from charlm.views.reel import HEADLINES, visible
from charlm.views.summary import (
    REFERENCES,
    Point,
    Summary,
    differing,
    named,
    plain,
    same_text,
    spread,
)

COLUMNS = 8
"""Most points of the reel side by side in a table."""

EXCERPTS = 5
"""Points of the reel in a README."""

WIDTH = 100
"""Where a line of a sample is broken in a README: code does not wrap there by itself."""


def html(runs: Sequence[Run]) -> str:
    """A page of its own for one run, or for several side by side.

    Raises:
        CharlmError: a file of a run is damaged, or a run is named twice.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from charlm import __version__

    environment = Environment(
        loader=PackageLoader("charlm.views", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["svg"] = lambda chart: Markup(svg(chart))
    environment.filters["visible"] = visible
    summaries = named(runs)
    single = summaries[0] if len(summaries) == 1 else None
    page = environment.get_template("report.html")
    return page.render(
        title=single.name if single else ", ".join(summary.name for summary in summaries),
        version=__version__,
        command=shlex.join(["charlm", "report", *(str(run.path) for run in runs)]),
        names=[summary.name for summary in summaries],
        single=single,
        **_reel(summaries),
        **(_one(single) if single else _several(summaries)),
    )


def _reel(summaries: Sequence[Summary]) -> dict[str, Any]:
    """The runs with their points, and the stops of the slider: every epoch at which any of them wrote something."""
    shown = [(summary, summary.reel) for summary in summaries]
    prompts = list(dict.fromkeys(sample.prompt for _, points in shown for p in points for sample in p.samples))
    stops = sorted({(point.epoch, point.name) for _, points in shown for point in points})
    runs = [
        {
            "name": summary.name,
            "facts": summary.facts,
            "verdict": summary.verdict,
            "missing": summary.missing,
            "references": summary.references,
            "reel": [_shown(point, summary, prompts) for point in points],
        }
        for summary, points in shown
    ]
    return {"runs": runs, "prompts": [visible(prompt) for prompt in prompts], "stops": stops}


def _shown(point: Point, summary: Summary, prompts: list[str]) -> dict[str, Any]:
    by_prompt: dict[int, list[Sample]] = {}
    for sample in point.samples:
        by_prompt.setdefault(prompts.index(sample.prompt), []).append(sample)
    scores = []
    for name in [name for name in HEADLINES if name in point.scores] or point.scores:
        score = point.scores[name]
        way = closeness(name, score, summary.references) if name in measures else float("nan")
        ceiling, floor = (summary.references.get(which, {}).get(name) for which in (CEILING, FLOOR))
        scores.append(
            {
                "label": labelled(name),
                "value": number(name, score),
                "way": min(1.0, max(0.0, way)) if way == way else None,
                "ceiling": "" if ceiling is None else number(name, ceiling),
                "floor": "" if floor is None else number(name, floor),
            }
        )
    return {
        "name": point.name, "epoch": point.epoch, "step": point.step, "bits": point.bits,
        "prompts": sorted(by_prompt.items()), "scores": scores,
    }  # fmt: skip


def _one(summary: Summary) -> dict[str, Any]:
    changed = {name for name, _, _ in summary.changed}
    points = spread(summary.scored, COLUMNS)
    return {
        "charts": charts.learning(summary),
        "quality_charts": charts.quality(summary, [name for name in summary.measured if name in HEADLINES]),
        "more_charts": charts.quality(summary, [name for name in summary.measured if name not in HEADLINES]),
        "levels": [(name, dashes) for name, dashes in zip(REFERENCES, ("6 3", "8 2 2 2", "2 3"), strict=True)],
        "quality_head": ["", *summary.references, *(point.name for point in points)],
        "quality_rows": _quality_rows(summary, points),
        "meanings": [(label(name), measures[name].description) for name in summary.measured if name in measures],
        "without": summary.without,
        "changed": [(name, plain(value), plain(default)) for name, value, default in summary.changed],
        "unchanged": [(name, plain(value)) for name, value in summary.settings.items() if name not in changed],
        "layers": [(name, shape, f"{count:,}") for name, shape, count in summary.run.shape.table()],
        "differing": [],
    }


def _several(summaries: Sequence[Summary]) -> dict[str, Any]:
    last = [summary.scored[-1].scores if summary.scored else {} for summary in summaries]
    names = list(dict.fromkeys(name for summary in summaries for name in summary.measured))
    rows = [[labelled(name), *(number(name, one[name]) if name in one else "-" for one in last)] for name in names]
    head = ["", *(summary.name for summary in summaries)]
    if all(summary.references == summaries[0].references for summary in summaries):
        references = summaries[0].references
        head += list(references)
        for row, name in zip(rows, names, strict=True):
            row += [number(name, one[name]) if name in one else "-" for one in references.values()]
    return {
        "charts": charts.compared(summaries),
        "quality_charts": [],
        "more_charts": [],
        "meanings": [],
        "without": [],
        "quality_head": head,
        "quality_rows": rows,
        "differing": differing(summaries),
        "other_texts": not same_text(summaries),
    }


def _quality_rows(summary: Summary, points: Sequence[Point]) -> list[list[str]]:
    """A row for each measure: what the references score, then its score at each point."""
    rows = []
    for name in summary.measured:
        told = [*summary.references.values(), *(point.scores for point in points)]
        rows.append([labelled(name), *(number(name, scores[name]) if name in scores else "-" for scores in told)])
    return rows


# -- for a README


def markdown(runs: Sequence[Run]) -> str:
    """The same in Markdown, for a README: the verdict, a few points of the reel, the scores and the settings.

    Raises:
        CharlmError: a file of a run is damaged, or a run is named twice.
    """
    summaries = named(runs)
    parts = []
    if len(summaries) > 1:
        parts.append("# " + ", ".join(_escaped(summary.name) for summary in summaries))
        parts.append(_table(["", *(summary.name for summary in summaries)], differing(summaries)))
        if not same_text(summaries):
            parts.append("They were validated on different texts, so their numbers cannot be compared.")
    for summary in summaries:
        parts += _chapter(summary, "#" if len(summaries) == 1 else "##", alone=len(summaries) == 1)
    return "\n\n".join(parts) + "\n"


def _chapter(summary: Summary, level: str, *, alone: bool) -> list[str]:
    points = spread(summary.points, EXCERPTS)
    parts = [f"{level} {_escaped(summary.name)}", _escaped(" · ".join(summary.facts))]
    told = [*summary.verdict.sentences, *summary.missing, summary.verdict.advice]
    parts += [_escaped(" ".join(told)), f"```sh\n{summary.verdict.command}\n```"]
    for point in points:
        bits = "" if point.bits is None else f", {point.bits:.3f} bits a character"
        parts.append(f"{level}# {point.name} (step {point.step:,}{bits})")
        parts += [_fenced(sample.prompt + sample.text) for sample in point.samples]
    scored = [point for point in points if point.scores]
    if scored:
        head = ["measure", *summary.references, *(point.name for point in scored)]
        parts += [f"{level}# Measures of its text", _table(head, _quality_rows(summary, scored))]
        parts += [_escaped(sentence) for sentence in summary.without]
    if alone:
        rows = [[name, plain(value), plain(default)] for name, value, default in summary.changed]
        parts += [f"{level}# Settings", _table(["setting", "value", "default"], rows, "---")]
        layers = [[name, shape, f"{count:,}"] for name, shape, count in summary.run.shape.table()]
        parts += [f"{level}# The network", _table(["layer", "shape", "parameters"], layers)]
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    lines = [[_escaped(cell) for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---", *[align] * (len(head) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text in which Markdown and HTML see nothing but text."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(visible(text).split()))


def _fenced(text: str) -> str:
    """A sample as a block of code, its long lines broken, within a fence longer than any in it."""
    lines = Text(visible(text)).wrap(Console(), WIDTH, tab_size=4)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return "\n".join([f"{fence}text", *(line.plain.rstrip() for line in lines), fence])
