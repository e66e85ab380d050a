"""A text as characters, words and n-grams, in any script."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.evaluation import text_statistics as module
from charlm.evaluation.text_statistics import Alphabet, TextStatistics, has_words, ngrams, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's well-known, 'tis.", ["The", "cat's", "well-known", "tis"]),
        ("--- ' - \n\t", []),
        ("one—two…three/four 5.5", ["one", "two", "three", "four", "5", "5"]),
        ("“Größe,” sagte er: «Maß»!", ["Größe", "sagte", "er", "Maß"]),
        (
            unicodedata.normalize("NFD", "Größe déjà"),
            [unicodedata.normalize("NFD", word) for word in ("Größe", "déjà")],
        ),
        ("שלום, עולם! مَرحَبًا، يا", ["שלום", "עולם", "مَرحَبًا", "يا"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می‌خواهم", ["می‌خواهم"]),  # a joiner that prints nothing is part of a word
        ("so 👩‍👩‍👧 ❤️ fine", ["so", "fine"]),
        ("<unk> N $ def snake_case(x):", ["unk", "N", "def", "snake_case", "x"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert TextStatistics(text, Alphabet(text)).vocabulary == set(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the cat sat on the mat", True),
        ("Die Donaudampfschifffahrtsgesellschaft und die Rindfleischetikettierung", True),
        ("Lieb Vaterland, magst ruhig sein, fest steht und treu die Wacht", True),
        ("床前明月光,疑是地上霜。\n举头望明月,低头思故乡。\n", False),
        ("床前 明月 光 , 疑 是 地 上 霜 。 举头 望 明月", True),  # cut into words beforehand
        ("吾輩は猫である。名前はまだ無い。 どこで生れたか", False),
        ("กขฃคฅฆงจ ฉชซฌญฎฏฐ", False),
        ("사람은 누구나 평등하다", True),
        ("שלום עולם", True),
        ("ACGTACGTTAGCATCGATCGATTAGC\nGCTAGCTAGCATCGATCGATCGCTAGCTAA", False),
        ("", False),
        (" \n ", False),
    ],
)
def test_whether_spaces_separate_words(text: str, expected: bool) -> None:
    assert has_words(text) is expected


def test_an_alphabet() -> None:
    alphabet = Alphabet("hello", "wow")
    assert len(alphabet) == len(set("hellowow")) + 1
    assert alphabet.encode("ehlow").tolist() == [0, 1, 2, 3, 4]
    assert alphabet.encode("xhé😀").tolist() == [5, 1, 5, 5]
    assert len(alphabet.encode("")) == 0


@given(st.text(st.characters(), max_size=30))  # lone surrogates and all
def test_an_alphabet_gives_back_its_text(text: str) -> None:
    alphabet = Alphabet(text)
    assert alphabet.decode(alphabet.encode(text)) == text


def test_ngrams_of_characters() -> None:
    statistics = TextStatistics("abab", Alphabet("ab"))
    codes, counts = statistics.character_ngrams(2)
    assert counts.tolist() == [2, 1]  # ab before ba
    assert len(codes) == 2
    assert statistics.character_ngrams(4)[1].tolist() == [1]
    assert len(statistics.character_ngrams(5)[0]) == 0


def test_ngrams_are_told_apart_whatever_the_alphabet() -> None:
    alphabet = Alphabet("".join(map(chr, range(0x4E00, 0x9FFF))), "".join(map(chr, range(0x20000, 0x2FFFF))))
    text = "".join(map(chr, alphabet.known[-2000:])) * 2
    _, counts = TextStatistics(text, alphabet).character_ngrams(4)
    assert sorted(counts.tolist()) == [1] * 3 + [2] * 1997


def test_ngrams_of_words_and_lines() -> None:
    assert ngrams("abcd", 3) == [("a", "b", "c"), ("b", "c", "d")]
    assert ngrams(["a"], 2) == []
    statistics = TextStatistics("a b a b.\n\nc\n", Alphabet())
    assert statistics.word_ngrams(2) == {("a", "b"), ("b", "a"), ("b", "c")}
    assert statistics.lines == ["a b a b.", "c"]


def test_a_long_text_is_converted_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one, two three\nfour five's \U0001f600 done " * 20
    whole = TextStatistics(text, Alphabet(text))
    monkeypatch.setattr(module, "BLOCK", 7)
    parts = TextStatistics(text, Alphabet(text))
    assert parts.vocabulary == whole.vocabulary == {"one", "two", "three", "four", "five's", "done"}
    assert np.array_equal(parts.alphabet.known, whole.alphabet.known)
    assert np.array_equal(parts.characters, whole.characters)
    assert parts.characters.dtype == np.uint8


def test_the_model_of_a_long_text_learns_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 300)
    text = "abcd" * 75 + "dcba" * 75
    alphabet = Alphabet(text)
    backwards = alphabet.encode("dcba" * 9)
    beginning = TextStatistics("abcd" * 75, alphabet).model.cross_entropy(backwards)
    assert TextStatistics(text, alphabet).model.cross_entropy(backwards) == beginning
