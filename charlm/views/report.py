"""The report on one run, or on several runs side by side: an HTML page, or shorter in Markdown.

The page is a single file that loads no other. Generated text is escaped, so that a browser does not
take it for HTML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from charlm.config.shell import command
from charlm.evaluation.comparison import label, labelled, number, progress
from charlm.evaluation.text_metrics import BASELINE, COMPARED, REFERENCE, metrics
from charlm.network.summary import parameter_table
from charlm.run_directory import RunDirectory, Sample
from charlm.views import charts
from charlm.views.pages import page_environment
from charlm.views.plots import Chart, level_style, memory_charts
from charlm.views.ranking import Table, compared_metrics, differing, judge, ranked, ranking
from charlm.views.samples import HEADLINES, point_name
from charlm.views.summary import SamplePoint, Summary, named, same_text, shown, spread
from charlm.views.text import visible, wrap

COLUMNS = 8
"""The largest number of sample points (see `SamplePoint`) that a table shows as columns."""

EXCERPTS = 5
"""The largest number of sample points that the Markdown report shows of each run."""

WIDTH = 100
"""Width of a line of a sample in Markdown, where code is not wrapped."""

DIFFERENT_TEXTS = (
    "The runs were validated on different texts, or on parts of different length, so their numbers cannot be compared."
)

BEST = "The best value of each row is in bold."


def html(directories: Sequence[RunDirectory]) -> str:
    """Return the HTML page about one run, or about several runs side by side.

    Raises:
        CharlmError: A file of a run is damaged, or the same run is given twice.
    """
    environment = page_environment()
    environment.globals["best_is_bold"] = BEST
    summaries = named(directories)
    single = summaries[0] if len(summaries) == 1 else None
    return environment.get_template("report.html").render(
        title=single.name if single else ", ".join(summary.name for summary in summaries),
        command=command("report", *(directory.path for directory in directories)),
        names=[summary.name for summary in summaries],
        single=single,
        **_sample_history(summaries),
        **(_one(single) if single else _several(summaries)),
    )


def _sample_history(summaries: Sequence[Summary]) -> dict[str, Any]:
    """Return what the HTML page shows of the samples: the runs with their samples, and the prompts.

    The result also has the positions of the slider that chooses an epoch: every epoch for which
    samples are shown.
    """
    by_run = [(summary, summary.shown_points) for summary in summaries]
    prompts = list(dict.fromkeys(sample.prompt for _, points in by_run for p in points for sample in p.samples))
    positions = sorted({(point.epoch, point.name) for _, points in by_run for point in points})
    runs = [
        {
            "name": summary.name,
            "facts": summary.facts,
            "verdict": summary.verdict,
            "missing": summary.missing,
            "references": summary.references,
            "points": [_shown_point(point, summary, prompts) for point in points],
        }
        for summary, points in by_run
    ]
    return {"runs": runs, "prompts": [visible(prompt) for prompt in prompts], "positions": positions}


def _shown_point(point: SamplePoint, summary: Summary, prompts: list[str]) -> dict[str, Any]:
    by_prompt: dict[int, list[Sample]] = {}
    for sample in point.samples:
        by_prompt.setdefault(prompts.index(sample.prompt), []).append(sample)
    scores = []
    for name in [name for name in HEADLINES if name in point.scores] or point.scores:
        score = point.scores[name]
        done = progress(name, score, summary.references) if name in metrics else math.nan
        levels = summary.levels(name)
        scores.append(
            {
                "label": labelled(name),
                "value": number(name, score),
                "progress": min(1.0, done) if done > 0 else None,  # an empty bar looks broken
                "reference": number(name, levels[REFERENCE]) if REFERENCE in levels else "",
                "baseline": number(name, levels[BASELINE]) if BASELINE in levels else "",
            }
        )
    return {
        "name": point.name, "epoch": point.epoch, "step": point.step, "bits": point.bits,
        "prompts": sorted(by_prompt.items()), "scores": scores,
    }  # fmt: skip


def _one(summary: Summary) -> dict[str, Any]:
    """Return what the HTML page of a single run shows besides samples: charts, tables, settings."""
    changed = {name for name, _, _ in summary.changed}
    points = spread(summary.scored, COLUMNS)[::-1]  # the newest first, which narrow screens show
    return {
        "charts": charts.training_charts(summary),
        "memory_charts": list(_memory_charts(summary)),
        "metric_charts": charts.text_metric_charts(summary, [name for name in summary.metrics if name in HEADLINES]),
        "more_charts": charts.text_metric_charts(summary, [name for name in summary.metrics if name not in HEADLINES]),
        "levels": [(name, level_style(name)) for name in COMPARED],
        "metrics": _metrics(summary, points),
        "definitions": [(label(name), metrics[name].description) for name in summary.metrics if name in metrics],
        "metric_notes": [*summary.scored_text, *summary.left_out_metrics],
        "changed": [(name, shown(value), shown(default)) for name, value, default in summary.changed],
        "unchanged": [(name, shown(value)) for name, value in summary.settings.items() if name not in changed],
        "parts": _parts(summary),
    }


def _memory_charts(summary: Summary) -> Iterable[Chart]:
    record = summary.memory
    return memory_charts(record, point_name(record.epoch, record.step)).values() if record else ()


def _several(summaries: Sequence[Summary]) -> dict[str, Any]:
    """Return what the HTML page of several runs shows besides samples: charts, tables, verdict."""
    groups = ranked(summaries)
    return {
        "charts": charts.comparison_charts(groups),
        "memory_charts": charts.compared_memory_charts(groups),
        "metric_charts": [],
        "more_charts": [],
        "definitions": [],
        "metric_notes": list(dict.fromkeys(sentence for summary in summaries for sentence in summary.scored_text)),
        "metrics": compared_metrics(groups),
        "ranking": ranking(groups),
        "judged": judge(groups, comparable=same_text(summaries)),
        "differing": differing(summaries),
        "warning": "" if same_text(summaries) else DIFFERENT_TEXTS,
    }


def _metrics(summary: Summary, points: Sequence[SamplePoint]) -> Table:
    """Return a table of text metrics (scores of the samples), with a row for each metric.

    The columns are the steps in `points`, the held-out text, and n-gram models.
    """
    table = Table(["", *(point.name for point in points), *summary.references], [], [])
    for name in summary.metrics:
        columns = [*(point.scores for point in points), *summary.references.values()]
        cells = [number(name, scores[name]) if name in scores else "-" for scores in columns]
        table.rows.append([labelled(name), *cells])
        table.best.append(set())
    return table


def _parts(summary: Summary) -> list[list[str]]:
    """Return a row for each part of the network: name, shape and number of parameters."""
    table = parameter_table(summary.directory.model_config, summary.directory.vocab_size)
    return [[name, shape, f"{count:,}"] for name, shape, count in table]


# -- Markdown


def markdown(directories: Sequence[RunDirectory]) -> str:
    """Return the report in Markdown: verdict, some of the samples, and text metrics of each run.

    The report on a single run also has its settings and the parts of its network; a report on
    several runs begins with their ranking and tables that compare them.

    Raises:
        CharlmError: A file of a run is damaged, or the same run is given twice.
    """
    summaries = named(directories)
    parts = []
    if len(summaries) > 1:
        parts.append("# " + ", ".join(_escaped(summary.name) for summary in summaries))
        groups = ranked(summaries)
        rows = [
            [row["name"] + " (best)" * row["best"], row["reached"], row["time"], row["differs"]]
            for row in ranking(groups)
        ]
        best = [{place for place, name in enumerate(("best", "fastest")) if row[name]} for row in ranking(groups)]
        parts.append(_table(["run", "bits per character", "time", "differs in"], rows, best=best))
        parts.append(_escaped(" ".join(judge(groups, comparable=same_text(summaries)))))
        for table in (differing(summaries), compared_metrics(groups)):
            if table.rows:
                parts.append(_table(table.head, table.rows, best=table.best))
        parts.append(BEST)
        if not same_text(summaries):
            parts.append(DIFFERENT_TEXTS)
    for summary in summaries:
        parts += _chapter(summary, "#" if len(summaries) == 1 else "##", alone=len(summaries) == 1)
    return "\n\n".join(parts) + "\n"


def _chapter(summary: Summary, level: str, *, alone: bool) -> list[str]:
    points = spread(summary.points, EXCERPTS)
    judged = summary.verdict
    parts = [f"{level} {_escaped(summary.name)}", _escaped(" · ".join(summary.facts))]
    sentences = [*judged.sentences, *summary.missing, judged.advice.sentence]
    parts += [_escaped(" ".join(sentences)), f"```sh\n{judged.advice.command}\n```"]
    for point in points:
        bits = "" if point.bits is None else f", {point.bits:.3f} bits per character"
        parts.append(f"{level}# {point.name} (step {point.step:,}{bits})")
        parts += [_fenced(sample.whole) for sample in point.samples]
    scored = [point for point in points if point.scores]
    if scored:
        table = _metrics(summary, scored)
        parts += [f"{level}# Text metrics", _table(table.head, table.rows)]
        parts += [_escaped(sentence) for sentence in [*summary.scored_text, *summary.left_out_metrics]]
    if alone:
        rows = [[name, shown(value), shown(default)] for name, value, default in summary.changed]
        parts += [f"{level}# Settings", _table(["setting", "value", "default"], rows, "---")]
        parts += [f"{level}# Network", _table(["part", "shape", "parameters"], _parts(summary))]
    return parts


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:", best: Sequence[set[int]] = ()
) -> str:
    """Return a Markdown table.

    Args:
        head: The names of the columns.
        rows: The cells of each row.
        align: The Markdown code that aligns all columns but the first, such as `---:` (right).
        best: For each row, the indices of the cells in bold; 0 is the second cell.
    """
    lines = [[_escaped(cell) for cell in line] for line in (head, *rows)]
    for line, places in zip(lines[1:], best, strict=False):
        for place in places:
            line[place + 1] = f"**{line[place + 1]}**"
    lines.insert(1, ["---", *[align] * (len(head) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Escape a text so that Markdown and HTML show it literally, and join its lines into one."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(visible(text).split()))


def _fenced(text: str) -> str:
    """Return a sample as a Markdown code block.

    The fence of the block has more backquotes than any sequence of them in the sample.
    """
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return "\n".join([f"{fence}text", wrap(text, WIDTH), fence])
