"""Sampler and generate, with networks and tokenizers so simple that the answer is known."""

from __future__ import annotations

from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
from fakes import LETTERS, Alphabet, Successor, small_stepper
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.generation.exact import ExactFunctions
from charlm.generation.sampling import Sampler, generate
from charlm.text.tokenization import Tokenizer, learn

# -- Sampler


def test_draws_of_all_processors_match_the_distribution_by_chi_square() -> None:
    logits = np.log(np.array([[0.3, 0.25, 0.2, 0.15, 0.06, 0.04]]))
    logits = np.repeat(logits, 1_000, 0)
    sampler = Sampler(5, 1_000, temperature=1.3, top_k=5, min_p=0.15)
    weights = sampler.weights(logits)[0]
    counts = np.bincount(np.concatenate([sampler(logits) for _ in range(100)]), minlength=6)
    expected = 100_000 * weights / weights.sum()
    assert (expected == 0).tolist() == (counts == 0).tolist() == [False, False, False, False, False, True]
    chi_square = ((counts - expected) ** 2 / np.maximum(expected, 1)).sum()
    assert chi_square < 18.5  # 4 degrees of freedom; larger by chance once in a thousand


def test_processors_know_the_prompt_and_what_was_written() -> None:
    class Flat(Successor):
        def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits, state = super()._after(ids, state)
            return logits * 0, state

    sampler = Sampler(1, 2, no_repeat_ngram=1, tokenizer=cast(Tokenizer, LETTERS))
    drawn = np.array(list(islice(generate(Flat(11), [3, 4], sampler), 9)))
    for row in drawn.T.tolist():  # all that is left of the vocabulary, each once
        assert sorted([*row, 3, 4]) == list(range(11))


def test_temperatures_take_turns_token_by_token() -> None:
    sampler = Sampler(1, 1, temperature=[0, 1e6])
    logits = np.array([[0.0, 5.0, 0.0, 0.0]])
    drawn = [int(sampler(logits)[0]) for _ in range(200)]
    assert set(drawn[::2]) == {1}
    assert len(set(drawn[1::2])) == 4


@pytest.mark.parametrize("target", [1.5, 2.0, 2.5])
def test_mirostat_holds_its_target_in_the_long_run(target: float) -> None:
    rng, sampler, bits = np.random.default_rng(2), Sampler(3, 4, surprise=target), []
    for _ in range(2_000):
        logits = rng.normal(0, 2.5, (4, 60))
        ids = sampler(logits)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        bits.append(-np.take_along_axis(log_p, ids[:, None], -1)[:, 0] / np.log(2))
    assert np.mean(bits, 0) == pytest.approx(np.full(4, target), rel=0.03)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"penalty_window": 3}, "`penalty_window` changes nothing without `repetition_penalty` or `presence_penalty`"),
        ({"xtc_threshold": 0.2, "xtc_probability": 0}, "`xtc_threshold` changes nothing without `xtc_probability`"),
        ({"penalty_window": -1, "presence_penalty": 1}, "`penalty_window` must be at least 0"),
        ({"temperature": [1, -1]}, "`temperature` must be at least 0"),
    ],
)
def test_values_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        Sampler(1, 1, **values)


def test_rules_that_leave_nothing_are_found_before_the_first_token() -> None:
    tokenizer = learn(TokenizerConfig(), ["abc"])
    with pytest.raises(CharlmError, match="`ban` and `allow` leave no token that could follow"):
        Sampler(1, 1, tokenizer, ban="a", allow="a")
    with pytest.raises(CharlmError, match="`allow`: no token of the vocabulary consists of 'x'"):
        Sampler(1, 1, tokenizer, allow="x")


def test_draws_match_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    logits = np.log(probabilities[None], out=np.full((1, 5), -np.inf), where=probabilities[None] > 0)
    sampler, count = Sampler(3), 10_000
    drawn = np.bincount([int(sampler(logits)[0]) for _ in range(count)], minlength=5)
    assert drawn[4] == 0
    expected = count * probabilities[:4]
    chi_square = float((((drawn[:4] - expected) ** 2) / expected).sum())
    assert chi_square < 16.27  # three degrees of freedom: exceeded once in a thousand


def test_a_draw_inverts_the_cumulative_sum() -> None:
    logits = np.log([[0.1, 0.2, 0.3, 0.4]])
    sampler, uniform = Sampler(5), np.random.default_rng(5)
    for _ in range(200):
        expected = np.searchsorted([0.1, 0.3, 0.6, 1.0], 1 - uniform.random())
        assert sampler(logits)[0] == expected


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), small=st.integers(1, 3), large=st.integers(4, 6))
def test_a_row_does_not_depend_on_the_batch(seed: int, small: int, large: int) -> None:
    logits = np.random.default_rng(0).normal(size=(large, 9))
    few, many = Sampler(seed, small), Sampler(seed, large)
    for _ in range(5):
        assert np.array_equal(few(logits[:small]), many(logits)[:small])


def test_each_row_has_the_next_seed() -> None:
    logits = np.zeros((4, 1_000_000))
    drawn = Sampler(1, 4)(logits).tolist()
    assert len(set(drawn)) == 4
    assert drawn == [int(Sampler(seed)(logits[:1])[0]) for seed in (1, 2, 3, 4)]


def test_rows_can_be_selected() -> None:
    logits = np.zeros((3, 1_000))
    tokenizer = cast(Tokenizer, Alphabet([chr(0x4E00 + number) for number in range(1_000)]))
    whole, part = (Sampler(1, 3, tokenizer, no_repeat_ngram=1, surprise=9.0) for _ in range(2))
    assert whole(logits).tolist() == part(logits).tolist()
    rows = np.array([2, 0])
    part.select(rows)
    for _ in range(5):
        assert whole(logits)[rows].tolist() == part(logits[:2]).tolist()


def test_float32_logits_are_drawn_from_in_float64() -> None:
    # A cumulative sum in float32 would lose tokens of probability 1e-8 after the first one.
    logits = np.zeros((1, 3), dtype=np.float32)
    logits[0, 0] = 18
    weights = Sampler(1).weights(logits)
    assert weights.dtype == np.float64
    assert np.diff(weights.cumsum(-1)).min() > 0


def test_temperature_zero_takes_the_first_of_the_most_probable() -> None:
    sampler = Sampler(1, 2, temperature=0)
    for _ in range(20):
        assert sampler(np.array([[1.0, 5.0, 5.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]


def test_processors_are_applied_in_their_order_in_whatever_order_they_are_named() -> None:
    logits = np.log([[0.5, 0.3, 0.2]])
    # The temperature comes first and makes 0.5 into 0.66, beyond the top_p of 0.6; the other order would keep two.
    weights = Sampler(1, top_p=0.6, temperature=0.5).weights(logits)
    assert weights.tolist() == [[1.0, 0.0, 0.0]]
    assert np.count_nonzero(Sampler(1, top_p=0.6).weights(logits)) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("values", [{}, {"temperature": 0.5}, {"top_k": 2, "top_p": 0.5}, {"min_p": 0.1}], ids=str)
def test_logits_of_a_broken_model_are_an_error(bad: float, values: dict[str, Any]) -> None:
    with pytest.raises(CharlmError, match="logits are not finite"):
        Sampler(1, **values)(np.array([[0.0, bad, 1.0]]))


def test_bad_settings_are_an_error() -> None:
    with pytest.raises(CharlmError, match="`seed` must be at least 0, not -1"):
        Sampler(-1)
    with pytest.raises(CharlmError, match="`batch` must be at least 1, not 0"):
        Sampler(1, 0)
    with pytest.raises(CharlmError, match="`temperature` must be at least 0, not -1"):
        Sampler(1, temperature=-1)
    with pytest.raises(CharlmError, match="no logits processor 'temprature'"):
        Sampler(1, temprature=1)


# -- generate


def test_generate_continues_the_prompt() -> None:
    stepper = Successor(7)
    ids = list(islice(generate(stepper, [2, 3, 4], Sampler(1)), 5))
    assert np.array_equal(ids, [[5], [6], [0], [1], [2]])
    # The prompt is read in one pass, and no token is read before the one after it is asked for.
    assert stepper.calls == ["read [[2, 3, 4]]", "step", "step", "step", "step"]


def test_generate_takes_a_prompt_for_each_row() -> None:
    ids = list(islice(generate(Successor(7), [[0, 1], [3, 4]], Sampler(1, 2)), 3))
    assert np.array_equal(ids, [[2, 5], [3, 6], [4, 0]])


def test_generate_repeats_one_prompt_for_all_rows() -> None:
    stepper = Successor(7)
    assert next(generate(stepper, [0, 1], Sampler(1, 3))).tolist() == [2, 2, 2]
    assert stepper.calls == ["read [[0, 1], [0, 1], [0, 1]]"]


def test_generate_starts_from_a_state() -> None:
    stepper = small_stepper()
    ids = [3, 1, 4, 1, 5]
    whole = list(islice(generate(stepper, ids, Sampler(2)), 20))
    _, state = stepper.prefill(np.array([ids[:3]]), stepper.initial_state(1))
    assert list(islice(generate(stepper, ids[3:], Sampler(2), state), 20)) == whole


def test_the_same_seed_gives_the_same_ids_and_a_row_its_own() -> None:
    stepper = small_stepper()

    def draw(seed: int, batch: int) -> np.ndarray:
        return np.array(list(islice(generate(stepper, [1, 2], Sampler(seed, batch)), 60)))

    assert np.array_equal(draw(7, 1), draw(7, 1))
    assert not np.array_equal(draw(7, 1), draw(8, 1))
    many = draw(7, 4)
    assert np.array_equal(draw(7, 1), many[:, :1])
    assert np.array_equal(draw(7, 2), many[:, :2])
    assert not np.array_equal(many[:, 0], many[:, 1])


def test_another_exponential_function_makes_the_weights() -> None:
    logits = np.log([[1.0, 2.0, 5.0]])
    assert np.array_equal(Sampler(1, exp=ExactFunctions.exp).weights(logits), ExactFunctions.exp(logits - logits.max()))
    assert not np.array_equal(Sampler(1).weights(logits), Sampler(1, exp=ExactFunctions.exp).weights(logits))
