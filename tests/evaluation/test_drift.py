"""Bits per character along a text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.evaluation.drift import SMALLEST, Drift, cut, drift, held_out_bits
from charlm.evaluation.ngram import NGramCounts, NGramModel
from charlm.evaluation.text_statistics import Alphabet
from conftest import small_text


def letters(length: int, seed: int) -> str:
    """Random letters: about 4.7 bits per character, more than sentences of a few words."""
    return "".join(map(chr, np.random.default_rng(seed).integers(97, 123, length)))


@given(st.integers(0, 30_000), st.integers(1, 40))
def test_blocks_are_the_text(length: int, count: int) -> None:
    text = ("0123456789" * 3_000)[:length]
    parts = cut(text, count)
    assert "".join(parts) == text
    assert len(parts) <= count
    if len(parts) > 1:
        assert min(map(len, parts)) >= SMALLEST
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_each_block_is_predicted_by_a_model_that_has_not_read_it() -> None:
    easy = cut(small_text(8_000), 8)
    found = drift(easy, cut(small_text(2_000, seed=9), 2), Alphabet(*easy))
    assert found is not None
    alphabet = Alphabet(*easy)
    odd = NGramModel(NGramCounts(alphabet.encode("".join(easy[1::2])), 5, len(alphabet)))
    even = NGramModel(NGramCounts(alphabet.encode("".join(easy[::2])), 5, len(alphabet)))
    assert found.training[2] == pytest.approx(odd.cross_entropy(alphabet.encode(easy[2])) / math.log(2))
    assert found.training[3] == pytest.approx(even.cross_entropy(alphabet.encode(easy[3])) / math.log(2))
    assert abs(found.difference) < 0.1
    assert found.jump is None


def test_a_harder_validation_text_is_seen_and_so_is_its_beginning() -> None:
    easy, hard = cut(small_text(9_000), 9), [letters(1_000, seed) for seed in range(2)]
    found = drift(easy, hard, Alphabet(*easy, *hard))
    assert found is not None
    assert found.difference > 1
    assert found.jump is not None
    assert found.jump.block == 9
    assert found.jump.after > 2 * found.jump.before


def test_a_jump_is_the_best_division_of_the_blocks() -> None:
    jump = Drift([2.0, 2.1, 2.0, 3.0, 3.1], [2.9]).jump
    assert jump is not None
    assert (jump.block, jump.before, jump.after) == (3, pytest.approx(6.1 / 3), pytest.approx(3.0))
    assert Drift([2.0, 2.01, 2.0, 2.05, 2.06], [2.05]).jump is None, "less than 5 %"
    assert Drift([2.0, 3.0, 2.0, 3.0, 2.0, 3.0], []).jump is None, "no division explains half of the variance"
    assert Drift([2.0, 2.0, 2.0, 2.0], []).jump is None
    assert math.isnan(Drift([2.0, 2.0], []).difference)


def test_a_single_block_has_no_drift() -> None:
    assert drift(["a short text"], [], Alphabet("a short text")) is None


def test_held_out_bits_are_those_of_models_of_each_order() -> None:
    training, held_out = small_text(3_000), small_text(500, seed=3)
    alphabet = Alphabet(training, held_out)
    bits = held_out_bits(training, held_out, alphabet)
    assert len(bits) == 8
    model = NGramModel(NGramCounts(alphabet.encode(training), 3, len(alphabet)))
    nats = -model.log_probabilities(alphabet.encode(held_out))[1:].mean()
    assert bits[2] == pytest.approx(nats / math.log(2))
    assert bits[0] > bits[1] > bits[2]
