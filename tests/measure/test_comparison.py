"""A text against held-out text and an n-gram's: shares of the way, counts and sentences, on numbers written out."""

from __future__ import annotations

import math

import pytest

from charlm.measure.comparison import closeness, copying, in_words, label, labelled, number, standing
from charlm.measure.quality import measures

REFERENCES = {
    "held-out text": {
        "words_in_training_text": 0.9,
        "character_divergence_4": 0.2,
        "zipf_exponent": 1.0,
        "copied_characters": 0.01,
        "longest_copy": 40.0,
    },
    "order-5 characters": {
        "words_in_training_text": 0.5,
        "character_divergence_4": 0.4,
        "zipf_exponent": 1.2,
        "copied_characters": 0.0,
        "longest_copy": 20.0,
    },
}


@pytest.mark.parametrize(
    ("name", "score", "share"),
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
def test_closeness(name: str, score: float, share: float) -> None:
    assert closeness(name, score, REFERENCES) == pytest.approx(share, nan_ok=True)


def test_closeness_is_unknown_where_the_references_agree_or_stand_the_wrong_way_round() -> None:
    same = {which: {"words_in_training_text": 1.0} for which in REFERENCES}
    assert math.isnan(closeness("words_in_training_text", 0.5, same))
    swapped = {"held-out text": {"words_in_training_text": 0.5}, "order-5 characters": {"words_in_training_text": 0.9}}
    assert math.isnan(closeness("words_in_training_text", 0.6, swapped))


def test_standing_counts_measures_and_names_the_worst() -> None:
    said = standing(
        {"words_in_training_text": 0.3, "character_divergence_4": 0.25, "zipf_exponent": 1.05, "unheard_of": 1.0},
        REFERENCES,
    )
    assert said[0].startswith("In 2 of 3 measures its text is nearer to held-out text")
    assert said[1].endswith(
        f"in {label('words_in_training_text')}: 30%, where held-out text has 90% and the n-gram 50%."
    )


def test_standing_without_anything_to_compare() -> None:
    assert standing({}, REFERENCES) == []
    assert standing({"zipf_exponent": 1.0}, {}) == []


def test_standing_of_a_text_that_is_as_good_as_real() -> None:
    assert len(standing({"words_in_training_text": 0.95, "zipf_exponent": 1.009}, REFERENCES)) == 1


@pytest.mark.parametrize(
    ("copied", "longest", "said"),
    [
        (0.2, 300.0, "It copies: 20% of its characters stand in passages of 50 or more taken from the training text; "),
        (0.03, 60.0, "It does not copy: "),  # held-out text has 1%, two more are not many
        (0.0, 31.0, "It does not copy: "),
    ],
)
def test_copied_passages(copied: float, longest: float, said: str) -> None:
    length = "the longest passage that stands in the training text as well has"
    scores = {"copied_characters": copied, "longest_copy": longest}
    assert copying(scores, REFERENCES) == [f"{said}{length} {longest:.0f} characters (of held-out text: 40)."]


def test_what_is_copied_without_anything_to_compare() -> None:
    (said,) = copying({"copied_characters": 0.03, "longest_copy": 60.0}, {})
    assert said.startswith("It copies: 3% of its characters")
    assert said.endswith("has 60 characters.")


def test_copied_lines() -> None:
    real = {"held-out text": {"lines_in_training_text": 0.1}}
    assert copying({"lines_in_training_text": 0.25}, real) == [
        "Copied: 25% of its lines stand in the training text, of held-out text 10%."
    ]
    assert copying({"lines_in_training_text": 0.7}, real)[0].startswith("It copies: 70% of its lines")
    assert copying({"lines_in_training_text": 0.25}, {}) == ["Copied: 25% of its lines stand in the training text."]


def test_copying_without_its_measures() -> None:
    assert copying({"words_in_training_text": 1.0}, REFERENCES) == []


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
    assert labelled("ngram_bits") == label("ngram_bits"), "it names them already"
    assert labelled("unheard_of") == "unheard of"
    assert number("longest_copy", 212.0) == "212"


def test_the_measures_of_copying_exist() -> None:
    assert {"lines_in_training_text", "copied_characters", "longest_copy", "ngram_bits"} <= set(measures)
