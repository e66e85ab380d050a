"""Spans of a text are found by their hashes as by a search in the text itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.config import TokenizerConfig
from charlm.text import cache
from charlm.text.hashing import codes, mixed, power, span_hashes
from charlm.text.spans import TrainingText
from charlm.text.stream import TokenStream, encode_text
from charlm.text.tokenization import Tokenizer, learn


def training_text(tokenizer: Tokenizer, text: str) -> TrainingText:
    return TrainingText(tokenizer, lambda: encode_text(tokenizer, text))


@given(text=st.text(max_size=30), length=st.integers(1, 12))
def test_hashes_of_spans_are_polynomials(text: str, length: int) -> None:
    characters = mixed(codes(text))
    found = span_hashes(characters, length)
    assert len(found) == max(0, len(text) - length + 1)
    for start, hash in enumerate(found.tolist()):
        terms = [
            int(one) * int(power(length - 1 - place)) for place, one in enumerate(characters[start : start + length])
        ]
        assert hash == sum(terms) % 2**64


@given(text=st.text("abc", max_size=60), other=st.text("abc", max_size=30), length=st.integers(1, 6))
def test_spans_are_found_as_by_a_search(text: str, other: str, length: int) -> None:
    tokenizer = learn(TokenizerConfig(), ["abc"])
    read = training_text(tokenizer, text)
    spans = [other[start : start + length] for start in range(len(other) - length + 1)]
    assert read.contains(span_hashes(mixed(codes(other)), length), length).tolist() == [span in text for span in spans]
    assert read.count(other, length) == sum(span in text for span in spans)
    for cut in range(len(other)):
        spans = [other[end - length : end] for end in range(max(cut + 1, length), len(other) + 1)]
        assert read.count(other[cut:], length, prompt=other[:cut]) == sum(span in text for span in spans)


def test_a_long_text_is_hashed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(np.random.default_rng(1).choice(list("abcé中"), 500))
    for kind in ("char", "byte"):
        tokenizer = learn(TokenizerConfig(kind=kind), [text])
        monkeypatch.setattr("charlm.text.spans.HASHED", 7)
        monkeypatch.setattr("charlm.text.spans.DECODED", 10)
        for start in range(0, 492, 7):
            assert training_text(tokenizer, text).count(text[start : start + 9], 9) == 1
        assert training_text(tokenizer, text).count("abc" * 20, 9) == 0


def test_the_index_is_kept_in_the_cache_and_made_again_if_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    tokenizer, text = learn(TokenizerConfig(), ["abcd"]), "abcdabdc"
    assert training_text(tokenizer, text).count("abd", 3) == 1
    (file,) = cache.directory().iterdir()
    assert file.stat().st_size == 8 * (len(text) - 2 + 1)
    whole = file.read_bytes()
    for damaged in (whole[:-8], whole[:-1], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        file.write_bytes(damaged)
        assert training_text(tokenizer, text).count("abd", 3) == 1
        assert file.read_bytes() == whole
    calls: list[str] = []
    again = training_text(tokenizer, text)
    again.progress = lambda what, *_: calls.append(what)
    assert again.count("abd", 3) == 1
    assert calls == [], "the cached index is read"
    assert again.count("ab", 2) == 1
    assert set(calls) == {"indexing the training text (spans of 2 characters)"}
    assert training_text(tokenizer, text[::-1]).count("abd", 3) == 0
    assert len(list(cache.directory().iterdir())) == 3, "another text has an index of its own"


def test_without_a_cache_the_index_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "file" / "cache"))
    loaded: list[int] = []
    tokenizer = learn(TokenizerConfig(), ["abcd"])

    def load() -> TokenStream:
        loaded.append(1)
        return encode_text(tokenizer, "abcdabdc")

    text = TrainingText(tokenizer, load)
    assert [text.count("abd", 3), text.count("abd", 2), text.count("ddd", 3)] == [1, 2, 0]
    assert loaded == [1]


def test_a_text_that_is_shorter_than_a_span_has_none() -> None:
    tokenizer = learn(TokenizerConfig(), ["abcd"])
    assert training_text(tokenizer, "ab").count("abab", 3) == 0
