"""The report: one file that needs no other, shows any text as it is, and says what a run lacks."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from example_run import REFERENCES, example_run

from charlm.errors import CharlmError
from charlm.evaluation.comparison import label
from charlm.run_directory import MemoryRecord, RunDirectory, Sample
from charlm.views import report, summary
from charlm.views.charts import training_charts
from charlm.views.ranking import smallest
from charlm.views.summary import Summary, spread
from charlm.views.svg import curve_colour
from charlm.views.text import visible
from conftest import Charlm

NASTY = [
    "<script>alert(1)</script></pre></article>",
    "\n\nit begins with empty lines",
    "&lt;b&gt; &amp; {{ 7 * 7 }} {% raw %} ]]> -->",
    "שלום עולם\nمرحبا بالعالم 123 (abc)",
    "宝玉笑道：“好妹妹”\u2028\u202e",
    "👩‍👩‍👧 e\u0301 \t\ttabs  blanks   ",
    "\x00\x07\x1b[31m\x7f\x9b",
    "```\n# fence\n````",
]
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """A page as a browser reads it: its samples, tags and tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.samples: list[str] = []
        self.cells: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.script = ""
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.samples.append("")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open.pop() == tag
        if tag == "pre":
            self.samples[-1] = self.samples[-1].removeprefix("\n")  # as browsers do

    def handle_data(self, data: str) -> None:
        self.text += data
        if "pre" in self.open:
            self.samples[-1] += data
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data
        if self.open and self.open[-1] == "script":
            self.script += data


def test_a_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    text = report.html([example_run(tmp_path / "run")])
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\((?!#)|@import", text)
    page = Page(text)
    places = {value for _, name, value in page.attributes if name in ("src", "href", "data", "action", "xlink:href")}
    assert all(value.startswith("#") or value == "data:," for value in places)
    assert ("meta", "charset", "utf-8") in page.attributes
    assert ("meta", "name", "viewport") in page.attributes
    assert any("default-src 'none'" in value for tag, _, value in page.attributes if tag == "meta")


@pytest.mark.parametrize("nasty", NASTY)
def test_samples_are_shown_as_they_are(tmp_path: Path, nasty: str) -> None:
    run = example_run(tmp_path / "run", prompts=["", nasty], text=lambda prompt, epoch: f"{nasty}{epoch}")
    page = Page(report.html([run]))
    assert page.samples == [visible(sample.prompt + sample.text) for sample in run.samples]
    assert sum(tag == "script" for tag, *_ in page.attributes) == 0  # scripts have no attributes
    assert {value for tag, name, value in page.attributes if (tag, name) == ("pre", "dir")} == {"auto"}


def test_the_slider_has_a_position_for_each_sample_point(tmp_path: Path) -> None:
    page = Page(report.html([example_run(tmp_path / "run")]))
    positions = json.loads(re.findall(r"const positions = (.*);  //", page.script)[0])
    assert positions == [[0.0, "initialisation"], [1.0, "epoch 1"], [2.0, "epoch 2"], [3.0, "epoch 3"]]
    assert ("input", "max", "3") in page.attributes
    assert ("input", "type", "range") in page.attributes
    assert [float(value) for _, name, value in page.attributes if name == "data-epoch"] == [0, 1, 2, 3]
    marks = [value.split() for _, name, value in page.attributes if name == "data-marks"]
    assert all(len(places) == len(positions) for places in marks), "every chart can point at every position"
    assert len(marks) == 3 + 3


def test_a_page_tells_what_there_is_to_know(tmp_path: Path) -> None:
    run = example_run(tmp_path / "plays")
    text = report.html([run])
    page = Page(text)
    for sentence in (*Summary(run).verdict.sentences, Summary(run).verdict.advice.command, *Summary(run).facts):
        assert sentence in page.text
    assert "Still improving" in text
    row = page.cells.index(label("words_in_training_text"))
    assert page.cells[row + 1 : row + 4] == ["10%", "60%", "90%"]
    for cell in ("model.hidden", "8", "held-out text", "lstm 1", "4 -> 8", "10%", "60%", "90%"):
        assert cell in page.cells
    changed = page.cells.index("model.hidden")
    assert page.cells[changed : changed + 3] == ["model.hidden", "8", "auto"]
    assert page.cells.index("model.hidden") < page.cells.index("optimizer.name"), "defaults stand last"
    assert page.cells.count("model.cell") == 1


def test_a_prompt_with_control_characters_is_shown_as_text(tmp_path: Path) -> None:
    """JSON escapes the control characters below U+0020, and leaves U+007F to U+009F as they are."""
    page = report.html([example_run(tmp_path / "run", samples={"prompts": ["\x9b31m\x7f\x1b"]})])
    assert not re.search("[\x1b\x7f-\x9f]", page)
    assert "\\x9b31m" in page


@pytest.mark.parametrize("name", ["<b>&\"'", "红楼梦", "my run", "שלום"])
def test_runs_may_have_any_name(tmp_path: Path, name: str) -> None:
    run = example_run(tmp_path / name)
    text = report.html([run])
    assert "<b>" not in text
    assert re.search(r"<h1><bdi>(.*?)</bdi>", text)
    assert visible(name) in " ".join(re.findall(r"[^\n]+", report.markdown([run]).replace("\\", "")))
    Page(text)


LACKS = {
    "numbers": "no logged numbers yet",
    "validation": "no validation",
    "samples": "no samples yet",
    "scores": "were not scored",
    "references": "no quality.json",
    "end": "67% of the run is done",
}


def lacking(path: Path, what: str) -> RunDirectory:
    limits = {"max_epochs": 3 if what == "end" else 2}
    run = example_run(
        path,
        losses=(2.0, 1.8),
        scored=what != "scores",
        references=what != "references",
        trainer=limits,
    )
    if what == "numbers":
        (path / "metrics.csv").unlink()
    if what == "validation":
        lines = (path / "metrics.csv").read_text().splitlines(keepends=True)
        (path / "metrics.csv").write_text("".join(lines[:-2]))
    if what == "samples":
        (path / "samples.jsonl").unlink()
    return RunDirectory(run.path)


@pytest.mark.parametrize("what", LACKS)
def test_a_run_that_lacks_something_has_a_report_that_says_so(tmp_path: Path, what: str) -> None:
    run = lacking(tmp_path / "run", what)
    text = report.html([run])
    Page(text)
    assert LACKS[what] in text
    assert LACKS[what] in report.markdown([run])
    others = [sentence for other, sentence in LACKS.items() if other != what]
    if what != "numbers":  # without numbers there is no validation, and no end
        assert not [sentence for sentence in others if sentence in text]


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    run = lacking(tmp_path / "run", "numbers")
    for name in ("samples.jsonl", "quality.json"):
        (run.path / name).unlink()
    text = report.html([run])
    Page(text)
    assert "Not trained: no loss was logged yet" in text
    assert "<script>" not in text
    assert "Not trained: no loss was logged yet" in report.markdown([run])


def test_a_single_sample_point_has_no_charts_of_one_dot(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    first = (run.path / "samples.jsonl").read_text().splitlines(keepends=True)[0]
    (run.path / "samples.jsonl").write_text(first)
    text = report.html([run])
    assert text.count("<svg") == 3
    assert '<ul class="key">' not in text
    assert label("ngram_bits") in Page(text).cells
    assert "Bars show" not in text, "at the level of the weakest baseline there is no progress"


def test_half_written_lines_are_passed_over(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    with (run.path / "metrics.csv").open("a") as file:
        file.write("400,4.0,4")
    with (run.path / "samples.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')
    assert len(Page(report.html([RunDirectory(run.path)])).samples) == 8


def test_metrics_that_were_left_out_are_named(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    names = ", ".join(label(name) for name in ("zipf_exponent", "heaps_exponent"))
    sentence = f"Left out, because this text has fewer than 100 different words: {names}."
    assert sentence.replace("'", "&#39;") in report.html([run])
    assert sentence in report.markdown([run])


def test_a_long_run_makes_no_large_page(tmp_path: Path) -> None:
    small = len(report.html([example_run(tmp_path / "small", rows=1000)]))
    assert len(report.html([example_run(tmp_path / "large", rows=50_000)])) < 1.5 * small


def test_a_history_of_many_sample_points_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MOST_POINTS", 4)
    run = example_run(tmp_path / "run", losses=[2.0 - i / 100 for i in range(20)], prompts=[""])
    page = Page(report.html([run]))
    assert page.samples == [f"written at {epoch} after ''" for epoch in (0, 7, 13, 20)]


def test_spread_keeps_both_ends() -> None:
    numbers = list(range(10))
    assert spread(numbers, 3) == [0, 4, 9]
    assert spread(numbers, 10) == numbers


# -- several runs


def test_several_runs_are_compared(tmp_path: Path) -> None:
    first = example_run(tmp_path / "first")
    second = example_run(tmp_path / "second", losses=(1.9, 1.6), prompts=["The "], model={"hidden": 16, "layers": 1})
    text = report.html([first, second])
    page = Page(text)
    assert page.cells[:3] == ["run", "bits per character", "time"]
    table = page.cells[page.cells.index("") :]
    assert table[:3] == ["", "first", "second"]
    rows = {table[i]: table[i + 1 : i + 3] for i in range(0, len(table), 3)}
    assert rows["state"] == ["still improving", "still improving"]
    assert rows["validation, nats per token"] == ["1.7000", "1.6000"]
    assert rows["model.hidden"] == ["8", "16"]
    assert "model.cell" not in rows
    assert len(page.samples) == 2 * 4 + 3
    assert text.count('class="run"') == 2
    legends = re.findall(r">(first|second)</text>", text)
    assert legends == ["second", "first"] * 2, "the best first"
    assert "different texts" not in text


def test_numbers_of_different_texts_are_not_to_be_compared(tmp_path: Path) -> None:
    runs = [example_run(tmp_path / name, data={"text": [name]}) for name in ("a.txt", "b.txt")]
    assert "different texts" in report.html(runs)
    assert "different texts" in report.markdown(runs)


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [example_run(tmp_path / folder / "run") for folder in "ab"]
    cells = Page(report.html(runs)).cells
    assert cells[cells.index("") + 1 :][:2] == [str(run.path) for run in runs]


def test_runs_are_ranked_and_grouped_over_seeds(tmp_path: Path) -> None:
    """Before, nine runs had nine verdicts, and the smallest number had to be found in a table nine columns wide."""
    runs = []
    for cell, loss in (("gru", 1.8), ("lstm", 1.7)):
        for seed in (1, 2):
            run = example_run(tmp_path / f"{cell}-{seed}", losses=(2.0, loss + seed / 100), model={"cell": cell})
            path = run.path / "config.yaml"
            path.write_text(path.read_text().replace("\nseed: 1", f"\nseed: {seed}"))
            runs.append(run)
    text = report.html(runs)
    page = Page(text)
    assert [cell for cell in page.cells if "runs)" in cell and "parameters" in cell] == [
        "lstm-1 (2 runs)676 parameters; model.cell lstm", "gru-1 (2 runs)580 parameters; model.cell gru",
    ]  # fmt: skip
    mean, deviation = 1.715 / math.log(2), 0.01 / math.log(2) / math.sqrt(2)
    assert f"{mean:.3f} ± {deviation:.3f}" in text
    assert "lstm-1 (2 runs) predicts the validation text best" in text
    assert text.count("<polygon") == 4, "a band for each group in both charts"
    assert text.count("Next, ") == 0, "one verdict for all"
    assert "| lstm-1 (2 runs) (best) |" in report.markdown(runs).replace("\\", "")


def with_memory(run: RunDirectory, gradients: list[list[float]]) -> RunDirectory:
    """A run with a memory record."""
    run.write_memory(MemoryRecord(300, 3.0, [1, 2, 4, 8], gradients, [1, 2, 4], [3.0, 2.5, 2.4]))
    return run


def test_the_gradient_through_time_of_a_run_is_in_its_page(tmp_path: Path) -> None:
    """Before, the vanishing gradient was in TensorBoard alone."""
    run = example_run(tmp_path / "run")
    assert "Gradient through time" not in report.html([run])
    text = report.html([with_memory(run, [[1e-1, 1e-3, 1e-9, 0.0], [1e-1, 1e-2, 1e-3, 1e-4]])])
    assert "Gradient through time, epoch 3</text>" in text
    assert "|dL_T / dh_t| (logarithmic)</text>" in text
    assert "tokens of context (logarithmic)</text>" in text
    assert len(re.findall(r">layer [12]</text>", text)) == 2


def test_the_gradients_of_several_runs_are_in_one_chart(tmp_path: Path) -> None:
    runs = []
    for cell, last in (("gru", 0.0), ("lstm", 1e-3)):
        for seed in (1, 2):
            run = example_run(tmp_path / f"{cell}-{seed}", model={"cell": cell})
            path = run.path / "config.yaml"
            path.write_text(path.read_text().replace("\nseed: 1", f"\nseed: {seed}"))
            runs.append(with_memory(run, [[seed / 2, seed / 3, 1e-2, last]]))
    text = report.html(runs)
    (chart,) = re.findall(r"<svg(?:(?!</svg>).)*Gradient through time, all layers</text>.*?</svg>", text, re.DOTALL)
    assert len(re.findall(r">(?:gru|lstm)-1 \(2 runs\)</text>", chart)) == 2, "a legend"
    assert chart.count("<polyline") == chart.count("<polygon") == 2, "a curve and a band for each group"
    lengths = [len(points.split()) for points in re.findall(r'<polyline points="([^"]*)"', chart)]
    assert sorted(lengths) == [3, 4], "a gradient that has vanished has no place on a logarithmic axis"
    assert "nan" not in chart


def test_the_best_value_of_every_metric_is_marked(tmp_path: Path) -> None:
    """Before, only the ranking had a mark."""
    runs = []
    for name, words, divergence, bits in (("a", 0.5, 0.3, 2.2), ("b", 0.7, 0.6, 2.6), ("c", 0.7, 0.5, 1.9)):
        run = example_run(tmp_path / name, losses=(2.0, 1.5 + ord(name) / 1000), model={"hidden": ord(name)})
        (run.path / "samples.jsonl").unlink()
        scores = {"words_in_training_text": words, "character_divergence_4": divergence, "ngram_bits": bits}
        run.add_sample(Sample(2.0, 200, "", 1, 0.8, "text", scores))
        runs.append(run)
    text = report.html(runs)
    cells = {
        name: [cell == ' class="best"' for cell in re.findall(r"<td( class=\"best\")?>", row)]
        for name, row in re.findall(r'<tr><th scope="row"><bdi>(.*?)</bdi></th>(.*?)</tr>', text)
    }
    references = [False] * len(REFERENCES)
    assert cells[label("words_in_training_text")] == [False, True, True, *references], "higher is better"
    assert cells[label("character_divergence_4") + ", bits"] == [True, False, False, *references], "lower is better"
    assert cells[label("ngram_bits")] == [True, False, False, *references], "2.2 is nearest to 2.25"
    assert cells["validation, bits per character"] == [True, False, False]
    assert cells["parameters"] == [True, False, False]
    assert cells["state"] == [False] * 3
    row = next(line for line in report.markdown(runs).splitlines() if line.startswith(f"| {label('ngram_bits')} |"))
    assert row.split(" | ")[1:4] == ["**2.2**", "2.6", "1.9"]


def test_metrics_are_grouped_over_seeds(tmp_path: Path) -> None:
    runs = []
    for seed, words in ((1, 0.5), (2, 0.7)):
        run = example_run(tmp_path / f"run-{seed}")
        path = run.path / "config.yaml"
        path.write_text(path.read_text().replace("\nseed: 1", f"\nseed: {seed}"))
        (run.path / "samples.jsonl").unlink()
        run.add_sample(Sample(2.0, 200, "", 1, 0.8, "text", {"words_in_training_text": words}))
        runs.append(run)
    cells = Page(report.html(runs)).cells
    assert cells[cells.index(label("words_in_training_text")) + 1] == "60% ±\u00a014%"


@pytest.mark.parametrize(
    ("values", "shown", "best"),
    [
        ([2.0, 1.0, 3.0], [], {1}),
        ([1.0, 1.0, 3.0], [], {0, 1}),
        ([1.0, 1.0], [], set()),
        ([math.inf, 2.0], [], set()),
        ([math.nan, 2.0, 1.0], [], {2}),
        ([0.9961, 0.9958], ["100%", "100%"], set()),
        ([1.04, 1.01, 2.0], ["1.0", "1.0", "2.0"], {0, 1}),
        ([], [], set()),
    ],
)
def test_the_smallest_values(values: list[float], shown: list[str], best: set[int]) -> None:
    assert smallest(values, shown) == best


def test_metrics_of_a_short_text_have_a_caveat(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    assert "Computed from 10,000 characters of each text." in report.html([run])
    quality = run.quality
    run.write_quality(references=quality["references"], left_out=quality["left_out"], size=211)
    for text in (report.html([run]), report.markdown([run])):
        assert text.count("computed from only 211 characters") == 2, "in the verdict, and beside the table"


def test_more_curves_than_colours_do_not_repeat_one() -> None:
    assert len({curve_colour(number) for number in range(24)}) == 24


def test_a_run_cannot_be_compared_with_itself(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    with pytest.raises(CharlmError, match="named twice"):
        report.html([run, run])


def test_runs_that_lack_everything_can_be_compared(tmp_path: Path) -> None:
    runs = [lacking(tmp_path / what, what) for what in LACKS]
    Page(report.html(runs))
    assert report.markdown(runs).count("\n## ") == len(runs)


# -- Markdown


def test_markdown_has_the_verdict_the_samples_and_the_tables(tmp_path: Path) -> None:
    text = report.markdown([example_run(tmp_path / "my_run")])
    assert text.startswith("# my\\_run\n")
    assert "Still improving" in text
    assert "\n## initialisation (step 0)\n\n```text\nwritten at 0 after ''\n```\n" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| {label('words_in_training_text')} |"))
    assert row.split(" | ")[1:3] == ["10%", f"{0.1 + 0.8 * 0.632:.0%}"], "the run's own numbers first"
    assert row.endswith(" | 90% | 60% | 10% |")
    assert "| model.hidden | 8 | auto |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) for table in tables] == [1, 1, 1]


@pytest.mark.parametrize("nasty", NASTY)
def test_samples_in_markdown_stay_within_their_fence(tmp_path: Path, nasty: str) -> None:
    run = example_run(tmp_path / "run", losses=(1.0,), prompts=[""], text=lambda prompt, epoch: f"{nasty} {epoch}")
    (block, _) = re.findall(r"^(`{3,})text\n(.*?)\n\1$", report.markdown([run]), re.DOTALL | re.MULTILINE)
    assert [line.rstrip() for line in block[1].expandtabs(4).split("\n")] == [
        line.rstrip() for line in visible(f"{nasty} 0").expandtabs(4).split("\n")
    ]


def test_long_lines_are_broken_in_markdown(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run", text=lambda prompt, epoch: "字" * 500)
    lines = report.markdown([run]).splitlines()
    assert max(line.count("字") for line in lines) == report.WIDTH // 2


# -- the command


def test_the_page_is_written_into_the_run(tmp_path: Path, charlm: Charlm) -> None:
    run = example_run(tmp_path / "run")
    done = charlm("report", run.path)
    assert (done.status, done.out) == (0, f"{run.path / 'report.html'}\n")
    assert str(run.path / "report.html") in done.err
    assert (run.path / "report.html").read_text(encoding="utf-8") == report.html([run])
    assert not list(run.path.glob(".*")), "nothing is left half-written"


def test_the_page_of_several_runs_is_written_here(tmp_path: Path, charlm: Charlm) -> None:
    runs = [example_run(tmp_path / name).path for name in "ab"]
    assert charlm("report", *runs, "--format", "md").out == "report.md\n"
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# a, b\n")


def test_a_page_can_be_written_elsewhere(tmp_path: Path, charlm: Charlm) -> None:
    run = example_run(tmp_path / "run")
    assert charlm("report", run.path, "--output", tmp_path / "page.html").status == 0
    assert (tmp_path / "page.html").is_file()
    done = charlm("report", run.path, "--output", "-", "--format", "md")
    assert done == (0, report.markdown([run]), "")


@pytest.mark.parametrize("output", ["missing/page.html", "."])
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, output: str, charlm: Charlm) -> None:
    run = example_run(tmp_path / "run")
    assert charlm("report", run.path, "--output", tmp_path / output).mistake.startswith("cannot write ")


def test_damaged_references_are_named(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    (run.path / "quality.json").write_text("{}")
    with pytest.raises(CharlmError, match=r"quality\.json is damaged"):
        report.html([run])


def test_a_real_run_has_a_report(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    run = RunDirectory(path)
    page = Page(report.html([run]))
    assert len(page.samples) == len(run.samples)
    assert set(REFERENCES) >= set(run.quality["references"])


def test_a_report_needs_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom charlm.run_directory import RunDirectory\nfrom charlm.views import report\n"
        "page = report.html([RunDirectory(path) for path in sys.argv[1:]])\nassert '<svg' in page\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    runs = [str(example_run(tmp_path / name).path) for name in "ab"]
    done = subprocess.run([sys.executable, "-c", code, *runs], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "jinja2" in loaded
    assert not loaded & {"matplotlib", "torch", "lightning", "tensorboard"}


def test_the_loss_charts_have_the_line_of_an_ngram_model(tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")  # it was validated on 200 tokens, with one token per character
    loss, bits, rate = (chart.levels for chart in training_charts(Summary(run)))
    assert loss == {"8-gram, Kneser-Ney": 2.2}
    assert bits == {"8-gram, Kneser-Ney": pytest.approx(2.2 / math.log(2))}
    assert rate == {}
    assert ">8-gram, Kneser-Ney<" in report.html([run])
    (run.path / "quality.json").unlink()
    assert all(chart.levels == {} for chart in training_charts(Summary(run)))
