"""No span of the training text is written: compared with a search in the text itself."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from fakes import Successor
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import TokenizerConfig
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.generation.processors import processors
from charlm.generation.sampling import Sampler, generate
from charlm.generation.streaming import Generation
from charlm.text.items import Unit
from charlm.text.spans import TrainingText
from charlm.text.stream import encode_text
from charlm.text.tokenization import Tokenizer, learn

INF = np.inf
TEXT = "the cat sat on the mat.\nthe naïve dog – 我们 – sat on the cat; the mat sat.\n" * 3
KINDS = {"char": 0, "grapheme": 0, "word": 0, "classic": 0, "byte": 0, "bpe": 300, "unigram": 300}


def training_text(tokenizer: Tokenizer, text: str, unit: Unit = "stream") -> TrainingText:
    return TrainingText(tokenizer, lambda: encode_text(tokenizer, text, unit))


class Flat(Successor):
    """Every token is equally probable."""

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, state = super()._after(ids, state)
        return logits * 0, state


class Bigram(Successor):
    """Mostly predicts what follows the last token in a text, so that it copies as often as it can."""

    def __init__(self, ids: np.ndarray, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.counts = np.zeros((vocab_size, vocab_size), np.float32)
        np.add.at(self.counts, (ids[:-1], ids[1:]), 3)

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, state = super()._after(ids, state)
        return self.counts[ids[:, -1]], state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [4, 7, 20])
def test_no_span_of_the_training_text_is_written(kind: str, n: int) -> None:
    tokenizer = learn(TokenizerConfig(kind=kind, size=KINDS[kind], min_frequency=1), [TEXT])
    ids = tokenizer.encode(TEXT)
    stepper, known = Bigram(ids, len(tokenizer)), tokenizer.decode(ids)
    prompts = ["the cat", "", "the mat sat.\nthe"]
    texts = {}
    for value in (0, n):
        config = GenerationConfig(length=150, seed=2)
        values: dict[str, Any] = {"no_copy": value, "training_text": training_text(tokenizer, TEXT)}
        texts[value] = Generation(stepper, tokenizer, prompts, config, **values).finish()
    copied = {
        value: [
            whole[end - n : end]
            for text in rows
            for whole in [text.prompt + text.text]
            for end in range(max(n, len(text.prompt) + 1), len(whole) + 1)
            if whole[end - n : end] in known
        ]
        for value, rows in texts.items()
    }
    assert copied[n] == []
    assert copied[0] != [] or n == 20
    assert all(len(text.text) > 20 for text in texts[n])


@settings(deadline=None, max_examples=200)
@given(
    training=st.text("ab中\n", min_size=1, max_size=40),
    before=st.text("ab中\n", max_size=12),
    n=st.integers(1, 6),
    kind=st.sampled_from(["char", "word", "classic", "byte", "bpe"]),
    cut=st.integers(0, 2),
)
def test_a_token_is_excluded_if_and_only_if_it_completes_a_span(
    training: str, before: str, n: int, kind: str, cut: int
) -> None:
    vocabulary = ["ab ba aab b 中中a ab中\n\na bb\n" * 9]
    tokenizer = learn(TokenizerConfig(kind=kind, min_frequency=1, size=280 if kind == "bpe" else 0), vocabulary)
    ids = tokenizer.encode(before)
    ids = ids[: max(0, len(ids) - cut)]  # a character of bytes may be incomplete
    read = tokenizer.decode(tokenizer.encode(training))
    result = processors["no_copy"](
        np.zeros((1, len(tokenizer))),
        n,
        ids=ids[None].astype(np.int64),
        tokenizer=tokenizer,
        training_text=training_text(tokenizer, training),
    )[0]
    decoder = tokenizer.decoder()
    head, state = decoder.extend(ids.tolist()), decoder.state
    excluded = np.zeros(len(tokenizer), bool)
    for id in range(len(tokenizer)):
        decoder.state = state
        text = head + decoder.push(id)
        excluded[id] = any(text[end - n : end] in read for end in range(max(n, len(head) + 1), len(text) + 1))
    assert (result == -INF).tolist() == (excluded & ~excluded.all()).tolist()


def test_the_row_is_left_free_where_every_token_would_copy() -> None:
    tokenizer = learn(TokenizerConfig(), ["ab"])
    text = training_text(tokenizer, "ab" + chr(0xFFFD))
    sampler = Sampler(1, 1, tokenizer, training_text=text, no_copy=1)
    drawn = [int(ids[0]) for ids in islice(generate(Flat(3), [1], sampler), 20)]
    assert set(drawn) == {0, 1, 2}
    assert text.count(tokenizer.decode(drawn), 1) == 20


def test_spans_do_not_cross_the_boundary_and_it_is_never_excluded() -> None:
    tokenizer = learn(TokenizerConfig(), ["ab\nba\n"], unit="line")
    a, b, end = (tokenizer.tokens.index(one) for one in "ab\n")
    assert end == tokenizer.boundary
    values: dict[str, Any] = {"tokenizer": tokenizer, "training_text": training_text(tokenizer, "ab\nba\n", "line")}
    zeros = np.zeros((3, 4))
    ids = np.array([[-1, end, a], [a, end, b], [end, b, end]])
    result = processors["no_copy"](zeros, 2, ids=ids, **values)
    assert (result == -INF).nonzero()[0].tolist() == [0, 1]
    assert result[0, b] == result[1, a] == -INF


def test_it_needs_the_training_text() -> None:
    with pytest.raises(CharlmError, match="`no_copy` needs the training text"):
        Sampler(1, 1, learn(TokenizerConfig(), ["ab"]), no_copy=5)
