"""Prompts with pieces that a vocabulary lacks."""

import unicodedata

import pytest

from charlm.config import TokenizerConfig
from charlm.generation.prompts import adapt_prompt
from charlm.text.tokenization import Tokenizer, learn

TEXT = 'the cat\'s "naive" dog - sat; été... Zorro Éa naive sat\n' * 3


def tokenizer(kind: str, text: str = TEXT) -> Tokenizer:
    return learn(TokenizerConfig(kind=kind, min_frequency=1), [text])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("the dog", "the dog"),
        ("THE CAT’S “NAÏVE”", 'the cat\'s "naive"'),
        ("dog – sat…", "dog - sat..."),
        (unicodedata.normalize("NFD", "été"), "été"),
        ("cøt\u00a0ﬁx", "cot "),  # the vocabulary lacks f and x, so the ligature has no neighbour
        ("z\U0001f600Z\u0301", "ZZ"),
        ("中", ""),
    ],
)
def test_the_nearest_character(prompt: str, expected: str) -> None:
    known = tokenizer("char", TEXT.replace("É", "E"))
    adapted, changes = adapt_prompt(known, prompt, "nearest")
    assert adapted.replace("E", "e") == expected
    assert not known.unknowns(adapted)
    assert all(known.unknowns(piece) for piece in changes)


def test_case_counts_less_than_an_accent() -> None:
    assert adapt_prompt(tokenizer("char", "eéaA"), "ÉàÀ", "nearest")[0] == "éaA"


@pytest.mark.parametrize("kind", ["word", "classic", "grapheme"])
def test_words_are_replaced_as_a_whole(kind: str) -> None:
    known = tokenizer(kind)
    adapted, changes = adapt_prompt(known, "The naïve dog ZORRO\nsat", "nearest")
    assert not known.unknowns(known.prompt(adapted))
    assert adapted.split()[-1] == "sat"
    if kind != "grapheme":
        assert adapted.split() == ["the", "naive", "dog", "Zorro", "sat"]
        assert {"The", "naïve", "ZORRO"} <= {piece.strip() for piece in changes}


def test_what_is_unknown_is_dropped_or_left_for_an_error() -> None:
    known = tokenizer("char")
    assert adapt_prompt(known, "The dog’s", "drop") == ("he dogs", {"T": "", "’": ""})
    assert adapt_prompt(known, "The dog’s", "error") == ("The dog’s", {})
    assert adapt_prompt(tokenizer("byte"), "The dog’s 中", "nearest") == ("The dog’s 中", {})
