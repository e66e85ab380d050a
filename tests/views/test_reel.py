"""The reel in a terminal: one below the other or side by side, with scores, and never a text that steers it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from example_run import example_run
from rich.console import Console

from charlm.cli import main
from charlm.measure.comparison import label
from charlm.measure.quality import measures
from charlm.run import Sample
from charlm.views.reel import COLUMN, HEADLINES, heading, headlines, print_reel, print_side_by_side, visible

SAMPLE = Sample(1.5, 30, "The ", 7, 0.8, "\x1b[31mred\x07 [bold]no[/bold]")
SCORES = {
    "zipf_exponent": 1.0, "words_in_training_text": 0.5, "ngram_bits": 2.25, "copied_characters": 0.0,
    "character_divergence_4": 0.25, "compression_ratio": 2.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\x7f\x80\x9b", "␡\\x80\\x9b"),
        ("e\u0301 שלום 👩‍👩‍👧", "e\u0301 שלום 👩‍👩‍👧"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_heading() -> None:
    first = Sample(0.0, 0, "", 1, 1.0, "x")
    assert heading(first) == "── initialisation (step 0, seed 1, temperature 1) ──"
    assert heading(SAMPLE) == "── epoch 1.5 (step 30, prompt 'The ', seed 7, temperature 0.8) ──"
    assert heading(Sample(12.3456, 1234, "", 1, 1.0, "x")).startswith("── epoch 12.35 (step 1,234, ")


def test_a_few_scores_stand_for_all() -> None:
    assert headlines(SCORES) == [
        f"{label('words_in_training_text')} 50%",
        f"{label('character_divergence_4')} 0.25 bits",
        f"{label('copied_characters')} 0%",
        f"{label('ngram_bits')} 2.25 bits",
    ]
    assert headlines({}) == []


def test_a_reel_is_plain_when_piped() -> None:
    out = io.StringIO()
    later = [Sample(2.0, 40, prompt, 7, 0.8, "later", {"compression_ratio": 2.0}) for prompt in ("", "A ")]
    print_reel([SAMPLE, *later], Console(file=out, soft_wrap=True, highlight=False))
    assert out.getvalue().splitlines() == [
        "── epoch 1.5 (step 30, prompt 'The ', seed 7, temperature 0.8) ──",
        "The ␛[31mred␇ [bold]no[/bold]",
        "",
        "── epoch 2 (step 40, seed 7, temperature 0.8) ──",
        "compression ratio 2",
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


REEL = [
    Sample(float(epoch), 10 * epoch, prompt, 1, 0.8, f"text {epoch}\n<b>\x1b[31m", {"compression_ratio": 1.0 + epoch})
    for epoch in range(3)
    for prompt in ("", "A ")
]


def test_side_by_side() -> None:
    lines = side_by_side(REEL, 3 * COLUMN)
    assert [line.split("  ") for line in lines[:1]] == [["── seed 1, temperature 0.8 ──"]]
    assert lines[1].split("  ")[0] == "initialisation, step 0"
    for line, words in (
        (1, ["initialisation, step 0", "epoch 1, step 10", "epoch 2, step 20"]),
        (2, ["compression ratio 1", "compression ratio 2", "compression ratio 3"]),
        (4, ["text 0", "text 1", "text 2"]),
        (5, ["<b>␛[31m"] * 3),
        (7, ["── prompt 'A ', seed 1, temperature 0.8 ──"]),
        (10, ["A text 0", "A text 1", "A text 2"]),
    ):
        assert [part.strip() for part in lines[line].split("  ") if part.strip()] == words
    columns = [lines[1].index(name) for name in ("initialisation", "epoch 1", "epoch 2")]
    assert [lines[4].index(f"text {number}") for number in range(3)] == columns


def test_what_does_not_fit_beside_comes_below() -> None:
    lines = side_by_side(REEL[::2], 2 * COLUMN + 5)
    assert "epoch 1" in lines[1]
    assert "epoch 2" not in lines[1]
    assert lines[6].startswith("epoch 2, step 20")
    assert next(line for line in side_by_side(REEL[::2], 20) if line.startswith("epoch")) == "epoch 1, step 10"


def charlm(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["samples", *arguments])
    return int(end.value.code or 0)


def test_the_command_shows_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = example_run(tmp_path / "run")
    assert charlm(str(run.path), "--prompt", "The ", "--side_by_side") == 0
    out = capsys.readouterr().out
    assert out.startswith("── prompt 'The ', seed 1, temperature 0.8 ──\ninitialisation, step 0 ")
    assert charlm(str(run.path), "--prompt", "The ") == 0
    assert capsys.readouterr().out.startswith("── initialisation (step 0, prompt 'The ', ")


def test_an_epoch_is_found_by_what_headings_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = example_run(tmp_path / "run")
    run.add_sample(Sample(12.3456, 1234, "", 1, 1.0, "late"))
    assert charlm(str(run.path), "--epoch", "12.35") == 0
    assert capsys.readouterr().out == "── epoch 12.35 (step 1,234, seed 1, temperature 1) ──\nlate\n"
    assert charlm(str(run.path), "--epoch", "12") == 2
    assert "at epochs 0, 1, 2, 3, 12.35" in capsys.readouterr().err


def test_wide_letters_stay_within_their_column() -> None:
    samples = [Sample(float(epoch), epoch, "", 1, 1.0, "字" * 100) for epoch in range(2)]
    lines = side_by_side(samples, 2 * COLUMN)
    assert max(line.count("字") for line in lines) <= COLUMN
    assert sum(line.count("字") for line in lines) == 200


def test_every_headline_is_a_measure() -> None:
    assert set(HEADLINES) <= set(measures)
