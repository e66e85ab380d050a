"""N-gram models and compressors that have read a training text."""

from __future__ import annotations

import math
import sys

import pytest

from charlm.config import TokenizerConfig
from charlm.evaluation import baselines
from charlm.evaluation.baselines import compressor_baselines, compressors, count_ngrams, describe_training
from charlm.evaluation.ngram import NGramModel
from charlm.text.stream import encode_text
from charlm.text.tokenization import Tokenizer, learn
from conftest import small_text

TRAINING, TEXT = small_text(20_000, seed=1).encode(), small_text(4_000, seed=2).encode()


@pytest.mark.parametrize("name", ["zlib", "bz2", "xz", "zstd", "PPMd"])
def test_a_compressor_loses_nothing_and_learns_from_the_training_text(name: str) -> None:
    if name not in compressors():
        pytest.skip(f"{name} is not installed")
    compressor = compressors()[name]
    for data in (b"", b"a", TEXT, bytes(range(256)) * 9):
        assert compressor.decompress(compressor.compress(data), len(data)) == data
    nats = compressor_baselines(TRAINING, TEXT)[f"{name}, {compressor.limit}"]
    whole, read = (len(compressor.compress(data)) for data in (TRAINING + TEXT, TRAINING))
    assert nats == pytest.approx(8 * math.log(2) * (whole - read))
    assert 0 < nats < 8 * math.log(2) * len(compressor.compress(TEXT))


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    assert list(compressors()) == ["zlib", "bz2", "xz"]


def tokenizer_of(text: str) -> Tokenizer:
    return learn(TokenizerConfig(kind="char"), [text], unit="line")


def test_only_the_first_tokens_are_read_and_items_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ab\nba\nab\nbb\nab\n"
    tokenizer = tokenizer_of(text)
    stream = encode_text(tokenizer, text, "line")
    part = encode_text(tokenizer, text[:9], "line")
    assert len(part) == 10  # with the boundary before the first item
    some, other = (count_ngrams(one, len(tokenizer), 10) for one in (stream, part))
    expected = NGramModel(other).log_probabilities(stream.ids, stream.starts)
    assert NGramModel(some).log_probabilities(stream.ids, stream.starts) == pytest.approx(expected)
    assert describe_training(stream, 10) == "the first 10 of the 16 tokens of the training split"
    assert describe_training(part, 10) == "the training split, 10 tokens"
    assert some.order == baselines.LONG
    monkeypatch.setattr(baselines, "SMALL_VOCABULARY", 2)
    assert count_ngrams(stream, len(tokenizer)).order == baselines.SHORT
