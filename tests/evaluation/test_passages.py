"""Copied and repeated passages, and duplicate lines."""

from __future__ import annotations

import numpy as np

from charlm.evaluation.passages import Copies, Passage, common_lines, copied_passages, repeated_passages
from charlm.evaluation.text_metrics import SPAN
from charlm.evaluation.text_statistics import Alphabet, TextStatistics


def noise(length: int, seed: int) -> str:
    """Random letters, in which nothing of 50 characters occurs twice."""
    return "".join(map(chr, np.random.default_rng(seed).integers(97, 123, length)))


def statistics(*texts: str) -> list[TextStatistics]:
    alphabet = Alphabet(*texts)
    return [TextStatistics(text, alphabet) for text in texts]


def test_copied_passages_have_their_exact_ends() -> None:
    source = noise(5_000, 1)
    first, second = source[1000:1200], source[3000:3080]
    text = noise(1_000, 2) + "!" + first + "?" + noise(500, 3) + "!" + second + "?"
    found = copied_passages(*statistics(text, source))
    assert found.longest == [Passage(first, 1001, 1000), Passage(second, 1001 + 200 + 502, 3000)]
    assert found.fraction == 280 / len(text)


def test_shorter_copies_do_not_count() -> None:
    source = noise(5_000, 1)
    text = "!" + source[1000 : 1000 + SPAN - 1] + "!"
    assert copied_passages(*statistics(text, source)) == Copies(0.0, [])
    assert copied_passages(*statistics("short", source)) == Copies(0.0, [])


def test_passages_that_overlap_are_told_apart() -> None:
    source = noise(5_000, 1)
    text = source[1000:1200] + source[3000:3150]
    joined = source[1150:1200] + source[3000:3050]  # makes one run of copies of both
    passages = copied_passages(*statistics(text, source + "!" + joined)).longest
    assert [one.text for one in passages] == [source[1000:1200], source[3000:3150], joined]


def test_repeated_passages_are_listed_once() -> None:
    passage = noise(300, 4)
    text = noise(1_000, 5) + "!" + passage + "?" + noise(1_000, 6) + "." + passage + ";"
    (source,) = statistics(text)
    found = repeated_passages(source)
    assert found.longest == [Passage(passage, 1001, 1001 + 300 + 1 + 1000 + 1)]
    assert found.fraction == 600 / len(text)
    (source,) = statistics(noise(3_000, 7))
    assert repeated_passages(source) == Copies(0.0, [])


def test_one_character_is_one_long_repeat() -> None:
    (source,) = statistics("a" * 20_000)
    found = repeated_passages(source)
    assert found.fraction == 1
    assert found.longest == [Passage("a" * 19_999, 0, 1)]


def test_lines_in_common() -> None:
    training = ["a long line", "a long line", "another line", "ab", "ab", "a long line"]
    found = common_lines(training, ["another line", "a new line", "ab"], shortest=5)
    assert (found.training, found.duplicates, found.validation, found.shared) == (4, 2, 2, 1)
    assert found.frequent == [("a long line", 3)]
    assert common_lines(training, ["ab"], shortest=1).shared == 1
    assert common_lines([], [], shortest=1).training == 0
