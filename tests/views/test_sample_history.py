"""The sample history in a terminal: one below the other or side by side, and no text that controls the terminal."""

from __future__ import annotations

import io
from pathlib import Path

from example_run import example_run
from rich.console import Console

from charlm.evaluation.text_metrics import metrics
from charlm.run_directory import Sample
from charlm.views.samples import COLUMN, HEADLINES, heading, in_a_sentence, print_sample_history, print_side_by_side
from conftest import Charlm

SAMPLE = Sample(1.5, 30, "The ", 7, 0.8, "\x1b[31mred\x07 [bold]no[/bold]")
SCORES = {
    "zipf_exponent": 1.0, "words_in_training_text": 0.5, "ngram_bits": 2.25, "copied_characters": 0.0,
    "character_divergence_4": 0.25, "compression_ratio": 2.0,
}  # fmt: skip


def test_heading() -> None:
    first = Sample(0.0, 0, "", 1, 1.0, "x")
    assert heading(first) == "── initialisation (step 0, seed 1, temperature 1) ──"
    assert heading(SAMPLE) == "── epoch 1.5 (step 30, prompt 'The ', seed 7, temperature 0.8) ──"
    assert heading(Sample(12.3456, 1234, "", 1, 1.0, "x")).startswith("── epoch 12.35 (step 1,234, ")


def test_at_most_one_plain_sentence_precedes_a_sample() -> None:
    """Before, two or three lines of terms such as "bits per character by a 6-gram model" did."""
    assert in_a_sentence(SCORES) == "50% of the generated words occur in the training text."
    assert in_a_sentence({"lines_in_training_text": 0.1}).startswith("10% of the generated lines ")
    assert in_a_sentence({"compression_ratio": 2.0}) == in_a_sentence({}) == ""


def test_an_empty_sample_is_named() -> None:
    """An item may end before its first token: without a word the heading would stand alone."""
    out = io.StringIO()
    print_sample_history([Sample(2.0, 40, "", 7, 0.8, "")], Console(file=out, highlight=False))
    assert out.getvalue().splitlines()[1] == "(empty)"


def test_a_sample_history_is_plain_when_piped() -> None:
    out = io.StringIO()
    later = [Sample(2.0, 40, prompt, 7, 0.8, "later", {"compression_ratio": 2.0}) for prompt in ("", "A ")]
    print_sample_history([SAMPLE, *later], Console(file=out, soft_wrap=True, highlight=False))
    assert out.getvalue().splitlines() == [
        "── epoch 1.5 (step 30, prompt 'The ', seed 7, temperature 0.8) ──",
        "The ␛[31mred␇ [bold]no[/bold]",
        "",
        "── epoch 2 (step 40, seed 7, temperature 0.8) ──",
        "later",
        "",
        "── epoch 2 (step 40, prompt 'A ', seed 7, temperature 0.8) ──",
        "A later",
    ]


def side_by_side(samples: list[Sample], width: int) -> list[str]:
    out = io.StringIO()
    print_side_by_side(samples, Console(file=out, highlight=False, width=width))
    assert "\x1b" not in out.getvalue()
    return [line.rstrip() for line in out.getvalue().splitlines()]


HISTORY = [
    Sample(float(epoch), 10 * epoch, prompt, 1, 0.8, f"text {epoch}\n<b>\x1b[31m", {"compression_ratio": 1.0 + epoch})
    for epoch in range(3)
    for prompt in ("", "A ")
]


def test_side_by_side() -> None:
    lines = side_by_side(HISTORY, 3 * COLUMN)
    assert [line.split("  ") for line in lines[:1]] == [["── seed 1, temperature 0.8 ──"]]
    assert lines[1].split("  ")[0] == "initialisation, step 0"
    for line, words in (
        (1, ["initialisation, step 0", "epoch 1, step 10", "epoch 2, step 20"]),
        (3, ["text 0", "text 1", "text 2"]),
        (4, ["<b>␛[31m"] * 3),
        (6, ["── prompt 'A ', seed 1, temperature 0.8 ──"]),
        (9, ["A text 0", "A text 1", "A text 2"]),
    ):
        assert [part.strip() for part in lines[line].split("  ") if part.strip()] == words
    columns = [lines[1].index(name) for name in ("initialisation", "epoch 1", "epoch 2")]
    assert [lines[3].index(f"text {number}") for number in range(3)] == columns


def test_what_does_not_fit_beside_comes_below() -> None:
    lines = side_by_side(HISTORY[::2], 2 * COLUMN + 5)
    assert "epoch 1" in lines[1]
    assert "epoch 2" not in lines[1]
    assert lines[5].startswith("epoch 2, step 20")
    assert next(line for line in side_by_side(HISTORY[::2], 20) if line.startswith("epoch")) == "epoch 1, step 10"


def test_the_command_shows_both(tmp_path: Path, charlm: Charlm) -> None:
    run = example_run(tmp_path / "run")
    done = charlm("samples", run.path, "--prompt", "The ", "--side_by_side")
    assert done.status == 0
    assert done.out.startswith("── prompt 'The ', seed 1, temperature 0.8 ──\ninitialisation, step 0 ")
    assert charlm("samples", run.path, "--prompt", "The ").out.startswith("── initialisation (step 0, prompt 'The ', ")


def test_an_epoch_is_found_by_what_headings_say(tmp_path: Path, charlm: Charlm) -> None:
    run = example_run(tmp_path / "run")
    run.add_sample(Sample(12.3456, 1234, "", 1, 1.0, "late"))
    done = charlm("samples", run.path, "--epoch", "12.35")
    assert (done.status, done.out) == (0, "── epoch 12.35 (step 1,234, seed 1, temperature 1) ──\nlate\n")
    assert "at epochs 0, 1, 2, 3, 12.35" in charlm("samples", run.path, "--epoch", "12").mistake


def test_wide_letters_stay_within_their_column() -> None:
    samples = [Sample(float(epoch), epoch, "", 1, 1.0, "字" * 100) for epoch in range(2)]
    lines = side_by_side(samples, 2 * COLUMN)
    assert max(line.count("字") for line in lines) <= COLUMN
    assert sum(line.count("字") for line in lines) == 200


def test_every_headline_is_a_metric() -> None:
    assert set(HEADLINES) <= set(metrics)
