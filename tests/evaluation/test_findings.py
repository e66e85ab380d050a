"""What of a diagnosis matters: each finding alone, on a text in which everything else is in order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from charlm.config import DataConfig
from charlm.evaluation.diagnosis import Diagnosis, HeldOut, diagnose
from charlm.evaluation.drift import Drift
from charlm.evaluation.findings import findings
from charlm.evaluation.passages import CommonLines, Copies, Passage
from charlm.evaluation.recommendation import Reasoned
from charlm.evaluation.survey import Place
from conftest import small_text


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    path = tmp_path_factory.mktemp("healthy") / "a.txt"
    path.write_text(small_text(60_000))
    found = diagnose(DataConfig(text=(str(path),)))
    assert findings(found) == []
    return found


PASSAGE = Passage("x" * 80, 10, 20)
PLACE = Place("a.txt", 7, 3)
HARDER = Drift([2.0, 2.05, 2.0, 2.05], [2.4])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"wrong_encoding": "a.txt is not utf-8: the byte at offset 3 cannot be decoded"},
            "a.txt is not utf-8: the byte at offset 3 cannot be decoded. Here it was read as utf-8",
        ),
        ({"notes": ["warning: a.txt: read as latin-1, but it is probably cp1251"]}, "it is probably cp1251."),
        ({"characters": {"train": 19_999, "val": 2_000, "test": 0}}, "The training text has only 19,999 characters"),
        ({"characters": {"train": 54_000, "val": 0, "test": 0}}, "There is no validation text"),
        (
            {"copies": Copies(0.06, [PASSAGE]), "places": {"x" * 50: [PLACE]}},
            "6.0 % of the validation text is copied from the training text, in passages of 50 or more characters; the "
            "longest has 80 (a.txt:7:3).",
        ),
        ({"lines": CommonLines(1, 100, 0, 50, 3, [])}, "6.0 % of the validation lines are in the training text"),
        (
            {"drift": HARDER, "jump_place": PLACE},
            "The validation text is 19 % harder to predict than held-out parts of the training text (2.40 and 2.02 "
            "bits per character; the parts of the training text vary by 1.2 %), and the text becomes harder in line 7 "
            "of a.txt. The validation loss will be above the training loss even without over-fitting. To measure on "
            "text like the rest, name such a text with `data.val`.",
        ),
        ({"drift": Drift([2.0, 2.05, 2.0, 2.05], [1.8])}, "is 11 % easier to predict"),
        (
            {"drift": Drift([2.0, 2.0, 3.0, 3.0], [2.6]), "jump_place": PLACE},
            "The text becomes harder to predict in line 7 of a.txt: from 2.00 to 2.87 bits per character.",
        ),
        (
            {"unknown": {"é": 6, "ü": 1}},
            "2 characters of the validation text are not in the training text ('é', 'ü'), 7 occurrences",
        ),
        (
            {"repeats": Copies(0.25, [PASSAGE])},
            "25 % of the training text is in passages of 50 or more characters that it has more than once; the longest "
            "has 80 (in no single place of a file).",
        ),
        (
            {"held_out": HeldOut("validation", [8.0, 7.9, 7.91, 8.2, 8.4, 8.5, 8.5, 8.5])},
            "n-gram models need 7.90 bits per character with them and 8.00 without.",
        ),
        ({"lines": CommonLines(30, 100, 21, 50, 0, [])}, "21 % of the training lines of at least 30 characters are"),
    ],
)
def test_a_finding(healthy: Diagnosis, changes: dict[str, Any], said: str) -> None:
    (sentence,) = findings(replace(healthy, **changes))
    assert said in sentence


def test_what_no_rule_expects_is_said(healthy: Diagnosis) -> None:
    assert healthy.expected is not None
    random = HeldOut("validation", [8.0, 8.0, 8.1, 8.2, 8.4, 8.5, 8.5, 8.5])
    for changes, why in (
        ({"copies": Copies(0.06, [PASSAGE])}, "is copied from the training text"),
        ({"held_out": random, "start_held_out": random}, "say nothing about it"),
        ({"start_held_out": None}, "no held-out text"),
        ({"start": replace(healthy.start, vocab_size=1_000)}, "fewer than 1,000 different ones"),
    ):
        found = replace(healthy, **changes)
        assert found.expected is None
        assert why in found.unexpected


@pytest.mark.parametrize(
    "changes",
    [
        {"copies": Copies(0.05, [PASSAGE])},
        {"repeats": Copies(0.2, [PASSAGE])},
        {"lines": CommonLines(30, 100, 20, 100, 5, [])},
        {"drift": Drift([2.0, 2.05, 2.0, 2.05], [2.12])},
        {"drift": Drift([1.8, 2.2, 1.8, 2.2], [2.15])},
        {"unknown": {"é": 6}},
        {"drift": None},
        {"held_out": HeldOut("validation", [8.0, 7.8, 7.9, 8.2, 8.4, 8.5, 8.5, 8.5])},
    ],
)
def test_what_is_too_little_to_matter(healthy: Diagnosis, changes: dict[str, Any]) -> None:
    assert findings(replace(healthy, **changes)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"line_ends": {"LF": 10, "CR LF": 3, "CR": 0}}, "The line ends are mixed (LF 10, CR LF 3)"),
        ({"line_ends": {"LF": 10, "CR LF": 0, "CR": 1}}, "A CR that stands alone stays a character of its own."),
        ({"line_ends": {"LF": 0, "CR LF": 0, "CR": 9}}, "All line ends are CR"),
        ({"line_ends": {"LF": 0, "CR LF": 9, "CR": 0}}, None),
        ({"counts": {"a": 100, "\x0c": 7}}, "The text has 7 control characters (U+000C 7): is it plain text?"),
        ({"counts": {"a": 100, "b": 4}}, "1 of the 2 different characters occur fewer than 5 times"),
    ],
)
def test_a_finding_of_the_survey(healthy: Diagnosis, changes: dict[str, Any], said: str | None) -> None:
    found = findings(replace(healthy, survey=replace(healthy.survey, **changes)))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_lines_that_should_be_items_are_said_to_be_split_at_random(healthy: Diagnosis) -> None:
    start = replace(healthy.start, unit=Reasoned("line", ""))
    (sentence,) = findings(replace(healthy, drift=HARDER, start=start))
    assert sentence.endswith("With `data.unit` line, the lines are assigned to the splits at random.")


def test_the_most_important_comes_first(healthy: Diagnosis) -> None:
    found = findings(
        replace(healthy, repeats=Copies(0.9, [PASSAGE]), copies=Copies(0.9, [PASSAGE]), wrong_encoding="a.txt is wrong")
    )
    assert [one.split()[0] for one in found] == ["a.txt", "90", "90"]
    assert "validation" in found[1]
