"""A text beside held-out text and n-gram text: progress, numbers and sentences, on scores written out."""

from __future__ import annotations

import math

import pytest

from charlm.evaluation.comparison import (
    describe_copying,
    describe_progress,
    describe_size,
    in_words,
    label,
    labelled,
    number,
    progress,
)
from charlm.evaluation.text_metrics import BASELINE, REFERENCE, metrics

REFERENCES = {
    REFERENCE: {
        "words_in_training_text": 0.9,
        "character_divergence_4": 0.2,
        "zipf_exponent": 1.0,
        "copied_characters": 0.01,
        "longest_copy": 40.0,
    },
    BASELINE: {
        "words_in_training_text": 0.5,
        "character_divergence_4": 0.4,
        "zipf_exponent": 1.2,
        "copied_characters": 0.0,
        "longest_copy": 20.0,
    },
}


@pytest.mark.parametrize(
    ("name", "score", "expected"),
    [
        ("words_in_training_text", 0.5, 0.0),
        ("words_in_training_text", 0.7, 0.5),
        ("words_in_training_text", 0.9, 1.0),
        ("words_in_training_text", 1.0, 1.0),
        ("words_in_training_text", 0.1, -1.0),
        ("character_divergence_4", 0.3, 0.5),
        ("character_divergence_4", 0.1, 1.0),
        ("zipf_exponent", 1.1, 0.5),
        ("zipf_exponent", 0.9, 0.5),
        ("zipf_exponent", 0.7, -0.5),
        ("distinct_ngrams_2", 0.5, math.nan),
    ],
)
def test_progress(name: str, score: float, expected: float) -> None:
    assert progress(name, score, REFERENCES) == pytest.approx(expected, nan_ok=True)


def test_progress_is_unknown_if_reference_and_baseline_agree_or_are_in_the_wrong_order() -> None:
    same = {which: {"words_in_training_text": 1.0} for which in REFERENCES}
    assert math.isnan(progress("words_in_training_text", 0.5, same))
    swapped = {REFERENCE: {"words_in_training_text": 0.5}, BASELINE: {"words_in_training_text": 0.9}}
    assert math.isnan(progress("words_in_training_text", 0.6, swapped))


def test_metrics_are_counted_and_the_worst_is_named() -> None:
    said = describe_progress(
        {"words_in_training_text": 0.3, "character_divergence_4": 0.25, "zipf_exponent": 1.05, "unheard_of": 1.0},
        REFERENCES,
    )
    assert said[0].startswith("The generated text is closer to held-out text")
    assert said[0].endswith("in 2 of 3 text metrics.")
    expected = f"is {label('words_in_training_text')}: 30% (held-out text: 90%, 5-gram model: 50%)."
    assert said[1].endswith(expected)


def test_without_anything_to_compare_there_is_no_sentence() -> None:
    assert describe_progress({}, REFERENCES) == []
    assert describe_progress({"zipf_exponent": 1.0}, {}) == []


def test_a_text_that_is_as_good_as_real_has_no_worst_metric() -> None:
    assert len(describe_progress({"words_in_training_text": 0.95, "zipf_exponent": 1.009}, REFERENCES)) == 1


COPIES = "The generated text copies the training text:"
COPIES_NOT = "The generated text does not copy the training text:"


@pytest.mark.parametrize(
    ("copied", "longest", "said"),
    [
        (0.2, 300.0, f"{COPIES} 20% of it are passages of 50 or more characters; the longest has 300 characters"),
        # 2 per cent more than held-out text are not many
        (0.03, 60.0, f"{COPIES_NOT} the longest common passage has 60 characters"),
        (0.0, 31.0, f"{COPIES_NOT} the longest common passage has 31 characters"),
    ],
)
def test_copied_passages(copied: float, longest: float, said: str) -> None:
    scores = {"copied_characters": copied, "longest_copy": longest}
    assert describe_copying(scores, REFERENCES) == [f"{said} (held-out text: 40)."]


def test_what_is_copied_without_anything_to_compare() -> None:
    (said,) = describe_copying({"copied_characters": 0.03, "longest_copy": 60.0}, {})
    assert said.startswith(f"{COPIES} 3% of it")
    assert said.endswith("has 60 characters.")


def test_copied_lines() -> None:
    real = {REFERENCE: {"lines_in_training_text": 0.1}}
    assert describe_copying({"lines_in_training_text": 0.25}, real) == [
        "Of the generated lines, 25% occur in the training text (held-out text: 10%)."
    ]
    assert describe_copying({"lines_in_training_text": 0.7}, real) == [
        f"{COPIES} 70% of its lines occur there (held-out text: 10%)."
    ]
    assert describe_copying({"lines_in_training_text": 0.25}, {}) == [
        "Of the generated lines, 25% occur in the training text."
    ]


def test_copying_without_its_metrics() -> None:
    assert describe_copying({"words_in_training_text": 1.0}, REFERENCES) == []


@pytest.mark.parametrize(
    ("name", "score", "words"),
    [
        ("words_in_training_text", 0.482, "48%"),
        ("words_in_training_text", 0.0482, "4.8%"),
        ("words_in_training_text", 0.000321, "0.032%"),
        ("words_in_training_text", 0.0, "0%"),
        ("longest_copy", 212.0, "212 characters"),
        ("character_divergence_4", 0.23456, "0.235 bits"),
        ("zipf_exponent", 1.0456, "1.05"),
        ("zipf_exponent", math.nan, "-"),
        ("unheard_of", 0.5, "0.5"),
    ],
)
def test_in_words(name: str, score: float, words: str) -> None:
    assert in_words(name, score) == words


def test_labels_name_units_that_numbers_do_not_show() -> None:
    assert labelled("words_in_training_text") == label("words_in_training_text")
    assert labelled("character_divergence_4") == label("character_divergence_4") + ", bits"
    assert labelled("zipf_exponent") == label("zipf_exponent")
    assert labelled("ngram_bits") == label("ngram_bits"), "the label names them"
    assert labelled("unheard_of") == "unheard of"
    assert number("longest_copy", 212.0) == "212"


def test_the_metrics_of_copying_exist() -> None:
    assert {"lines_in_training_text", "copied_characters", "longest_copy", "ngram_bits"} <= set(metrics)


def test_metrics_of_a_short_text_have_a_caveat() -> None:
    """Before, metrics of 211 characters stood beside those of 10,000 without a word."""
    (sentence,) = describe_size(211)
    assert "only 211 characters" in sentence
    assert describe_size(10_000) == describe_size(0) == []
