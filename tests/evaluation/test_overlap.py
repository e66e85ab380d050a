"""Copied substrings, against Python's own search."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.evaluation.overlap import MULTIPLIER, ROW, Overlap, SubstringIndex, _Powers, repeated


def copies(source: str, text: str, size: int = 128) -> Overlap:
    def ids(text: str) -> np.ndarray:
        return np.array([ord(character) for character in text], np.int32)

    return Overlap(SubstringIndex(ids(source), size), ids(text))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str, int]:
    """Two texts of few letters, of which the second copies a part of the first; and how many letters there might be."""
    letters = draw(st.sampled_from(["a", "ab", "abcde"]))
    source, text = draw(st.text(letters, max_size=80)), draw(st.text(letters + "x", max_size=30))
    start, place = draw(st.integers(0, len(source))), draw(st.integers(0, len(text)))
    copied = source[start : start + draw(st.integers(0, 60))]
    return source, text[:place] + copied + text[place:], draw(st.sampled_from([121, 5000, 0x110000]))


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_it_finds_what_a_search_finds(given: tuple[str, str, int]) -> None:
    source, text, size = given  # the larger the alphabet, the sooner hashes take over from the sorted places
    found = copies(source, text, size)
    longest = 0
    for length in range(1, len(text) + 2):
        occurs = [text[start : start + length] in source for start in range(len(text) - length + 1)]
        assert found.substrings(length).tolist() == occurs
        inside = [any(occurs[max(0, place - length + 1) : place + 1]) for place in range(len(text))]
        assert found.characters(length).tolist() == inside
        longest = length if any(occurs) else longest
    assert found.longest() == longest
    assert copies(source, text, size).longest() == longest  # whatever was asked before


@settings(max_examples=200, deadline=None)
@given(st.text("ab", max_size=40), st.integers(1, 12))
def test_it_finds_what_occurs_more_than_once(text: str, length: int) -> None:
    substrings = [text[start : start + length] for start in range(len(text) - length + 1)]
    ids = np.array([ord(character) for character in text], np.int32)
    assert repeated(ids, length).tolist() == [substrings.count(one) > 1 for one in substrings]


def test_a_long_copy_among_noise() -> None:
    draw = np.random.default_rng(0)
    source, noise = ("".join(map(chr, draw.integers(97, 123, length))) for length in (50_000, 2_000))
    text = noise[:500] + source[30_000:31_234] + noise[500:]
    found = copies(source, text)
    # A letter of noise may happen to go on as the source does.
    assert 1_234 <= found.longest() <= 1_240
    assert found.characters(50).sum() == found.longest()
    assert found.substrings(1_234).sum() == found.longest() - 1_233


def test_the_text_itself_is_one_copy() -> None:
    source = "to be or not to be " * 300  # it repeats itself: every place of it looks like many
    assert copies(source, source).longest() == len(source)
    assert copies(source, source + "!").longest() == len(source)
    assert copies(source, "x" + source).characters(50).tolist() == [False] + [True] * len(source)


@pytest.mark.parametrize(("source", "text"), [("", "abc"), ("abc", ""), ("", ""), ("ab", "xyz")])
def test_nothing_is_shared(source: str, text: str) -> None:
    found = copies(source, text)
    assert found.longest() == 0
    assert not found.characters(1).any()
    assert len(found.characters(9)) == len(text)
    assert len(found.substrings(100)) == 0


def test_an_index_needs_a_bounded_memory_per_character() -> None:
    ids = np.random.default_rng(0).integers(0, 60, 500_000).astype(np.uint8)
    tracemalloc.start()
    index = SubstringIndex(ids, 60)
    kept, most = (size / len(ids) for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert len(index._hashes) == len(ids)
    assert kept < 22  # bytes: 8 for the code, 4 for the position, 8 for the hash
    assert most < 30


def test_hashes_do_not_depend_on_the_tables_of_powers() -> None:
    powers = _Powers(MULTIPLIER, 3 * ROW)
    exponents = np.array([0, 1, ROW - 1, ROW, 2 * ROW + 5, 3 * ROW - 1])
    assert powers.of(exponents).tolist() == [pow(MULTIPLIER, int(exponent), 1 << 64) for exponent in exponents]


@pytest.mark.parametrize("largest", [254, 255, 256, 65_535])
def test_small_types_of_ids_do_not_overflow(largest: int) -> None:
    wide = np.array([largest, 0, largest, largest, 1])
    narrow = wide.astype(np.min_scalar_type(largest))
    index = SubstringIndex(narrow, largest + 1)
    assert np.array_equal(index.codes(narrow, 2), SubstringIndex(wide, largest + 1).codes(wide, 2))
    assert Overlap(index, narrow).longest() == len(wide)
