"""The search for the text of a gap."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from charlm.config import TokenizerConfig
from charlm.config.generation import FillConfig, gap_lengths
from charlm.errors import CharlmError
from charlm.generation.fill import fill
from charlm.generation.processors import log_probabilities
from charlm.generation.stepper import Stepper
from charlm.text.items import Unit
from charlm.text.tokenization import Tokenizer, learn


class Table:
    """A network whose logits depend on the last two tokens, by a random table."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self.table = np.random.default_rng(seed).normal(0, 2, (vocabulary, vocabulary, vocabulary))

    def initial_state(self, batch: int) -> np.ndarray:
        return np.zeros((1, 1, batch, 1), int)

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.table[state[0, 0, :, 0], ids], ids[None, None, :, None]

    def prefill(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for column in ids.T:
            logits, state = self.step(column, state)
        return logits, state

    def select(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[:, :, rows]

    def join(self, states: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(states, 2)


def letters(unit: Unit = "stream") -> Tokenizer:
    return learn(TokenizerConfig(), ["abc\n"], unit=unit)


def log_p(stepper: Stepper, before: list[int], after: list[int]) -> float:
    """Return the log probability of tokens after others, one at a time."""
    logits, state = stepper.prefill(np.array([before]), stepper.initial_state(1))
    total = 0.0
    for id in after:
        total += float(log_probabilities(logits)[0, id])
        logits, state = stepper.step(np.array([id]), state)
    return total


def brute_force(
    forward: Stepper, backward: Stepper, tokenizer: Tokenizer, left: str, right: str, lengths: range
) -> Iterator[tuple[float, str]]:
    first = [] if tokenizer.boundary is None else [tokenizer.boundary]
    for gap in (g for length in lengths for g in itertools.product("abc\n", repeat=length)):
        if tokenizer.boundary is not None and "\n" in gap:
            continue
        own, ids, other = (tokenizer.encode(part).tolist() for part in (left, "".join(gap), right))
        both = log_p(forward, first + own, ids + other + first)
        both += log_p(backward, first + other[::-1], ids[::-1] + own[::-1] + first)
        yield -both / math.log(2), "".join(gap)


@pytest.mark.parametrize("unit", ["stream", "line"])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_what_brute_force_finds(unit: Unit, seed: int) -> None:
    tokenizer = letters(unit)
    forward, backward = Table(len(tokenizer), seed), Table(len(tokenizer), 100 + seed)
    config = FillConfig("1-3", beams=len(tokenizer) ** 3, samples=1000)
    found = fill(forward, backward, tokenizer, "ab___ca", config)
    expected = sorted(brute_force(forward, backward, tokenizer, "ab", "ca", range(1, 4)))
    assert [one.gap for one in found] == [gap for _, gap in expected]
    assert [one.bits for one in found] == pytest.approx([bits for bits, _ in expected])
    assert all(one.text == f"ab{one.gap}ca" and one.bits == one.forward_bits + one.backward_bits for one in found)
    if unit == "line":
        assert not any("\n" in one.gap for one in found)


def test_a_beginning_and_an_ending_are_joined() -> None:
    """Neither search alone finds the best filling: each keeps one hypothesis and is misled by its second token."""
    tokenizer = letters()
    a, b, c = (int(tokenizer.encode(x)[0]) for x in "abc")
    forward, backward = Table(len(tokenizer), 0), Table(len(tokenizer), 0)
    for side in (forward, backward):
        side.table[:] = 0
        side.table[:, c, a] = 5  # what follows the context
        side.table[c, a, b] = 1  # what each search believes to come next; but b is bad before the other side
        side.table[a, b, :] = -1
        side.table[:, b, c] = -9
    found = fill(forward, backward, tokenizer, "c___c", FillConfig("2", beams=1, samples=3))
    assert {"ab", "ba", "aa"} == {one.gap for one in found}
    assert found[0].gap == "aa"


def test_only_the_context_counts() -> None:
    tokenizer = letters()
    forward, backward = Table(len(tokenizer), 1), Table(len(tokenizer), 2)
    near, far = (
        fill(forward, backward, tokenizer, f"ab___ca{rest}", FillConfig("1", context=2, samples=4))
        for rest in ("", "bcbc")
    )
    assert {one.gap: one.forward_bits for one in near} == pytest.approx({one.gap: one.forward_bits for one in far})
    alone = fill(forward, backward, tokenizer, "ab___ca", FillConfig("1", context=0, samples=1))[0]
    before, gap = (tokenizer.encode(text).tolist() for text in ("ab", alone.gap))
    assert alone.forward_bits == pytest.approx(-log_p(forward, before, gap) / math.log(2))


def test_the_blank_of_a_word_is_not_doubled() -> None:
    tokenizer = learn(TokenizerConfig(kind="word", min_frequency=1), ["to be or not to be\n"])
    forward, backward = Table(len(tokenizer), 1), Table(len(tokenizer), 2)
    found = fill(forward, backward, tokenizer, "to be ___ to be", FillConfig("1", samples=50))
    assert "to be or to be" in [one.text for one in found]
    assert not any("  " in one.text for one in found)


def test_half_a_character_fills_no_gap() -> None:
    tokenizer = learn(TokenizerConfig(kind="byte"), ["ä"])
    found = fill(Table(256, 1), Table(256, 2), tokenizer, "a___b", FillConfig("1", beams=256, samples=1000))
    assert len(found) == 128
    assert all(one.gap.isascii() for one in found)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("abc", {}, "the text has 0 gaps; mark exactly one by ___"),
        ("a___b___", {}, "the text has 2 gaps"),
        ("a_b", {"mark": ""}, "`mark` must not be empty"),
        ("ax___b", {}, "the text has 'x', which the vocabulary of the models lacks"),
        ("a___b", {"gap": "8-3"}, "`gap` is a number of tokens or a range such as 3-8"),
    ],
)
def test_what_cannot_be_filled_is_said_in_one_line(text: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        fill(Table(5, 1), Table(5, 2), letters(), text, FillConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(("gap", "lengths"), [("4", (4, 4)), ("3-8", (3, 8)), ("1-100", (1, 100))])
def test_lengths_of_a_gap(gap: str, lengths: tuple[int, int]) -> None:
    assert gap_lengths(gap) == lengths


@pytest.mark.parametrize("gap", ["", "0", "-3", "a-b", "3-", "1-101", "5-4"])
def test_wrong_lengths_of_a_gap(gap: str) -> None:
    with pytest.raises(CharlmError, match="`gap` is a number"):
        gap_lengths(gap)
