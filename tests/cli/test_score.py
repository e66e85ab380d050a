"""charlm score and charlm attribute as a person types them."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from charlm.config.protocols import DynamicConfig, Protocol
from charlm.run import Run
from charlm.training.trainer import train
from conftest import Charlm, small_settings, small_text

LINES = ["the first line", "another", "zzzz qqqq"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three trained runs: two of the same text, one of another text."""
    folder = tmp_path_factory.mktemp("runs")
    texts = {"letters": small_text(4000), "again": small_text(4000), "digits": "12 345 6789 01\n2 44\n" * 200}
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        settings = small_settings(folder / f"{name}.txt", trainer={"max_steps": 30})
        train(replace(settings, seed=len(name)), folder / name)
    return {name: folder / name for name in texts}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def test_one_text_has_its_totals(
    charlm: Charlm, runs: dict[str, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = charlm("score", runs["letters"], text)
    expected = Run(runs["letters"]).score(text.read_text(encoding="utf-8"))
    assert done.status == 0
    bits = expected.nats.sum() / math.log(2)
    assert f"bits in all            {bits:,.2f}" in done.out
    assert f"bits per character     {expected.evaluation.bits_per_character:.4f}" in done.out
    values = json.loads(charlm("score", runs["letters"], text, "--json").out)
    assert values["bits"] == pytest.approx(bits, rel=1e-6)
    assert values["protocol"]["name"] == "carried"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.read_bytes())))
    piped = charlm("score", runs["letters"], "-", "--json")
    assert json.loads(piped.out)["bits"] == pytest.approx(values["bits"])


def test_lines_are_ranked(charlm: Charlm, runs: dict[str, Path], text: Path) -> None:
    rows = [line.split("\t") for line in charlm("score", runs["letters"], text, "--by", "line").out.splitlines()]
    assert [row[2] for row in rows] == LINES
    for (per_character, bits, line), nats in zip(rows, Run(runs["letters"]).score(LINES).item_nats, strict=True):
        assert float(bits) == pytest.approx(nats / 0.6931471805599453, abs=1e-3)
        assert float(per_character) == pytest.approx(float(bits) / (len(line) + 1), abs=1e-4)
    ranked = charlm("score", runs["letters"], text, "--by", "line", "--sort").out.splitlines()
    assert ranked[0].endswith("\tzzzz qqqq")
    objects = [
        json.loads(line)
        for line in charlm("score", runs["letters"], text, "--by", "line", "--sort", "--json").out.splitlines()
    ]
    assert objects[0]["line"] == 3
    assert [one["bits_per_character"] for one in objects] == sorted(
        (one["bits_per_character"] for one in objects), reverse=True
    )


def test_tokens_add_up(charlm: Charlm, runs: dict[str, Path], text: Path) -> None:
    rows = [line.split("\t") for line in charlm("score", runs["letters"], text, "--by", "token").out.splitlines()]
    assert "".join(json.loads(row[3]) for row in rows) == text.read_text(encoding="utf-8")
    total = json.loads(charlm("score", runs["letters"], text, "--json").out)["bits"]
    assert sum(float(row[1]) for row in rows) == pytest.approx(total, abs=0.01)
    first = json.loads(charlm("score", runs["letters"], text, "--by", "token", "--json").out.splitlines()[0])
    assert first["token"] == "t"
    assert first["bits"] == pytest.approx(first["nats"] / math.log(2))
    assert len(first["preferred"]) == 5


def test_two_runs_have_their_difference(charlm: Charlm, runs: dict[str, Path], text: Path) -> None:
    pair = ["score", runs["letters"], text, "--against", runs["again"]]
    values = json.loads(charlm(*pair, "--json").out)
    assert values["difference"] == pytest.approx(values["bits"] - values["bits_against"])
    assert values["bits_against"] == pytest.approx(
        json.loads(charlm("score", runs["again"], text, "--json").out)["bits"]
    )
    assert f"{values['difference']:+,.2f}" in charlm(*pair).out
    row = charlm(*pair, "--by", "line").out.splitlines()[0].split("\t")
    assert float(row[2]) == pytest.approx(float(row[0]) - float(row[1]), abs=2e-4)
    line = json.loads(charlm(*pair, "--by", "line", "--json").out.splitlines()[0])
    for value, name in zip(row, ("", "_against"), strict=False):
        assert line[f"bits_per_character{name}"] == pytest.approx(float(value), abs=1e-4)
    assert line["difference_per_character"] == pytest.approx(float(row[2]), abs=1e-4)
    assert charlm(*pair, "--by", "token").out.splitlines()[0].count("\t") == 5
    mistake = charlm("score", runs["letters"], text, "--against", runs["digits"]).mistake
    assert "digits has another vocabulary" in mistake


def test_a_page_is_written(charlm: Charlm, runs: dict[str, Path], text: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for extra in ([], ["--against", runs["again"]], ["--by", "line"]):
        done = charlm("score", runs["letters"], text, "--html", page, *extra)
        assert done.status == 0
        assert "wrote" in done.err
        assert "zzzz qqqq" in page.read_text(encoding="utf-8")
    assert (
        "it needs a folder that exists"
        in charlm("score", runs["letters"], text, "--html", tmp_path / "no" / "p").mistake
    )


def test_several_texts_and_a_split(charlm: Charlm, runs: dict[str, Path], text: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("something else\n", encoding="utf-8")
    out = charlm("score", runs["letters"], text, other).out
    assert str(text) in out
    assert str(other) in out
    other.write_text("zzzz qqqq\n", encoding="utf-8")
    for extra in ([], ["--against", runs["again"]]):  # the second text is more surprising
        objects = charlm("score", runs["letters"], text, other, "--sort", "--json", *extra).out.splitlines()
        bits = [json.loads(one)["bits_per_character"] for one in objects]
        against = [json.loads(one).get("against", {"bits_per_character": 0})["bits_per_character"] for one in objects]
        assert bits[0] - against[0] > bits[1] - against[1]
    split = json.loads(charlm("score", runs["letters"], "--json").out)
    evaluated = json.loads(charlm("evaluate", runs["letters"], "--json").out)
    assert split["nats_per_token"] == pytest.approx(evaluated["nats_per_token"], rel=1e-6)
    assert charlm("score", runs["letters"], "--by", "line").out.count("\n") > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--protocol", "window", "--window", "7"], "every window of 7 tokens starts from the zero state"),
        (["--protocol", "last_half"], "the last half is predicted"),
        (["--protocol", "dynamic", "--dynamic.rate", "1e-3", "--dynamic.decay", "0"], "dynamic evaluation, rate 0.001"),
        (["--protocol", "cache", "--cache.size", "50"], "tuned on the validation split"),
        (["--temperature", "tuned"], "softmax temperature"),
        (["--temperature", "0.5"], "softmax temperature 0.5"),
    ],
)
def test_the_protocol_is_named_in_every_output(
    charlm: Charlm, runs: dict[str, Path], text: Path, options: list[str], words: str
) -> None:
    for command in ("evaluate", "score"):
        done = charlm(command, runs["letters"], text, *options)
        assert done.status == 0, done.err
        assert words in done.out
        values = json.loads(charlm(command, runs["letters"], text, *options, "--json").out)
        assert values["protocol"]["name"] == (options[1] if options[0] == "--protocol" else "carried")
    assert charlm("score", runs["letters"], text, "--by", "line", *options).status == 0


def test_a_setting_of_another_protocol_is_named(charlm: Charlm, runs: dict[str, Path], text: Path) -> None:
    mistake = charlm("evaluate", runs["letters"], text, "--dynamic.rate", "0.1").mistake
    assert mistake == "the settings of the group dynamic need --protocol dynamic, not carried"
    mistake = charlm("evaluate", runs["letters"], text, "--window", "64").mistake
    assert mistake == "--window needs --protocol window or last_half, not carried"


def test_tuning_is_shown_under_its_name(runs: dict[str, Path]) -> None:
    told: list[str] = []
    protocol = Protocol("dynamic", dynamic=DynamicConfig(segment=40, decay=0.0))
    Run(runs["letters"]).evaluate(protocol=protocol, progress=lambda what, done, total: told.append(what))
    assert told[0] == "tuning on the validation split"
    assert told[-1] == "evaluating"


def test_unknown_tokens_are_said_beside_the_numbers(charlm: Charlm, runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "unknown.txt"
    path.write_text("the щи\n", encoding="utf-8")
    for command in ("evaluate", "score"):
        assert "2 tokens (" in charlm(command, runs["letters"], path).out
    out = charlm("score", runs["letters"], path, "--against", runs["again"]).out
    assert f"{path}, {runs['again']}: 2 tokens (28.6%) unknown: " in out


def test_each_line_goes_to_the_run_that_finds_it_likeliest(
    charlm: Charlm, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ["--runs", runs["letters"], runs["digits"]]
    text = tmp_path / "lines.txt"
    text.write_text("the and\n345 67\nof the\n", encoding="utf-8")
    out = charlm("attribute", text, "--by", "line", *both).out
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("letters", "the and"), ("digits", "345 67"), ("letters", "of the")]
    assert all(0.5 < float(row[1]) <= 1 for row in rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.read_bytes())))
    piped = charlm("attribute", "--by", "line", *both)
    assert piped.out == out
    first = json.loads(charlm("attribute", text, "--by", "line", "--json", *both).out.splitlines()[0])
    assert first["bits"]["letters"] < first["bits"]["digits"]
    whole = charlm("attribute", text, *both).out.split("\t")
    assert (whole[0], whole[2]) == ("letters", f"{text}\n")

    labels = tmp_path / "labels.txt"
    labels.write_text("letters\ndigits\ndigits\n", encoding="utf-8")
    table = charlm("attribute", text, "--by", "line", "--labels", labels, *both).out
    assert "accuracy 0.6667 of 3 texts" in table
    values = json.loads(charlm("attribute", text, "--by", "line", "--labels", labels, "--json", *both).out)
    assert values["confusion"] == {"letters": {"letters": 1}, "digits": {"digits": 1, "letters": 1}}
    labels.write_text("letters\ndigits\nleters\n", encoding="utf-8")
    mistake = charlm("attribute", text, "--by", "line", "--labels", labels, *both).mistake
    assert "label 3 is 'leters', and no run has this name" in mistake


def test_runs_that_cannot_be_compared(charlm: Charlm, runs: dict[str, Path], text: Path) -> None:
    assert "name two or more runs with --runs" in charlm("attribute", text, "--runs", runs["letters"]).mistake
    twice = charlm("attribute", text, "--runs", runs["letters"], runs["letters"])
    assert "twice; name it once" in twice.mistake
    swallowed = charlm("attribute", "--runs", runs["letters"], runs["again"], text).mistake
    assert swallowed == f"--runs took {text} for a run, and it is a file; name the texts before the options"


def test_a_pipe_is_read_like_a_file(charlm: Charlm, runs: dict[str, Path], text: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(text.read_bytes(),))
    writer.start()
    out = charlm("score", runs["letters"], pipe).out
    writer.join()
    assert out == charlm("score", runs["letters"], text).out
