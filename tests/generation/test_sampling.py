"""Sampler, generate and stream_text, with networks and tokenizers so simple that the answer is known."""

from __future__ import annotations

import codecs
from collections import Counter
from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import ModelConfig, TokenizerConfig
from charlm.errors import CharlmError
from charlm.generation.sampling import Sampler, generate, stream_text
from charlm.generation.stepper import NumpyStepper
from charlm.network.model import LanguageModel
from charlm.text.tokenization import Tokenizer, learn

# -- networks


class Successor:
    """Always predicts id + 1; the state is the ids that were read."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.calls: list[str] = []

    def initial_state(self, batch: int) -> np.ndarray:
        return np.zeros((batch, 0), dtype=int)

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append("step")
        return self._after(ids[:, None], state)

    def prefill(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append(f"read {ids.tolist()}")
        return self._after(ids, state)

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.zeros((len(ids), self.vocabulary), dtype=np.float32)
        logits[np.arange(len(ids)), (ids[:, -1] + 1) % self.vocabulary] = 100
        return logits, np.concatenate([state, ids], 1)


class Script(Successor):
    """Predicts the ids of a script (time, batch), whatever it reads."""

    def __init__(self, script: list[list[int]], vocabulary: int) -> None:
        super().__init__(vocabulary)
        self.script = script

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        now = self.script[min(state.shape[1], len(self.script) - 1)]
        return super()._after(np.array(now)[:, None] - 1, state)


def small_stepper(cell: str = "lstm") -> NumpyStepper:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell, 2, 16, 16, 0.0, tie=False), 12).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return NumpyStepper(
        {name: value.numpy() for name, value in model.state_dict().items()}, model.config, model.vocab_size
    )


# -- vocabularies


class Alphabet:
    """A tokenizer whose tokens are the given texts; a prompt is encoded character by character."""

    kind, unknown, reversible = "alphabet", None, True

    def __init__(self, tokens: list[str], boundary: str | None = None) -> None:
        self.tokens = tokens
        self.boundary = None if boundary is None else tokens.index(boundary)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        return np.array([self.tokens.index(character) for character in text], dtype=np.int32)

    def prompt(self, text: str) -> str:
        return text

    def unknowns(self, text: str) -> Counter[str]:
        return Counter(character for character in text if character not in self.tokens)

    def start(self) -> int:
        return len(self.tokens) - 1 if self.boundary is None else self.boundary

    def decoder(self) -> Any:
        return self

    def push(self, token: int) -> str:
        return self.tokens[token]

    def flush(self) -> str:
        return ""


class Utf8(Alphabet):
    """Tokens are bytes."""

    def __init__(self) -> None:
        super().__init__([chr(byte) for byte in range(256)])

    def decoder(self) -> Any:
        return Utf8Decoder()


class Utf8Decoder:
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self.decoder.decode(bytes([token]))

    def flush(self) -> str:
        return self.decoder.decode(b"", final=True)


class BlankFirst(Alphabet):
    """Tokens carry the blank before them: one at the end of a prompt is left to the next."""

    def prompt(self, text: str) -> str:
        return text.removesuffix(" ")


LETTERS = Alphabet(list("abcdefghij\n"))


def written(stepper: Any, tokenizer: Alphabet, prompt: str = "", **options: Any) -> list[str]:
    """The whole texts; on the way, every list has a piece for each sample and is not all empty."""
    options = {"length": 10, "seed": 1, "temperature": 0, "samples": 1, **options}
    pieces = list(stream_text(stepper, cast(Tokenizer, tokenizer), prompt, **options))
    assert all(len(piece) == options["samples"] and any(piece) for piece in pieces)
    return ["".join(row) for row in zip(*pieces, strict=True)] or [""] * options["samples"]


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


def test_a_row_with_every_processor_is_the_same_alone() -> None:
    values: dict[str, Any] = {
        "temperature": [0.8, 1.2], "top_n_sigma": 2.0, "typical_p": 0.95, "epsilon_cutoff": 0.001, "surprise": 2.0,
        "xtc_probability": 0.5, "xtc_threshold": 0.2, "repetition_penalty": 1.1, "presence_penalty": 0.2,
        "frequency_penalty": 0.1, "penalty_window": 5, "no_repeat_ngram": 4, "dry_multiplier": 0.5,
    }  # fmt: skip
    stepper, texts = small_stepper(), Alphabet(list("abcdefghijk\n"))
    both = written(stepper, texts, "a", samples=3, length=40, seed=9, **values)
    assert both[0] == written(stepper, texts, "a", samples=1, length=40, seed=9, **values)[0]
    assert len(set(both)) == 3


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
    sampler, uniform = Sampler(5), np.random.default_rng([5, 0])
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


def test_rows_and_seeds_differ() -> None:
    logits = np.zeros((4, 1_000_000))
    assert len(set(Sampler(1, 4)(logits).tolist()) | set(Sampler(2, 4)(logits).tolist())) == 8


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


# -- stream_text


def test_the_prompt_is_continued_and_not_repeated() -> None:
    assert written(Successor(11), LETTERS, "ab", length=5) == ["cdefg"]


def test_without_a_prompt_it_starts_where_texts_start() -> None:
    stepper = Successor(11)
    assert written(stepper, LETTERS, length=3) == ["abc"]
    assert stepper.calls[0] == "read [[10]]"


def test_each_piece_is_yielded_as_soon_as_it_is_generated() -> None:
    stepper = Successor(11)
    pieces = stream_text(stepper, cast(Tokenizer, LETTERS), "a", length=3, seed=1, temperature=0)
    assert stepper.calls == []
    assert next(pieces) == ["b"]
    assert stepper.calls == ["read [[0]]"]
    assert list(pieces) == [["c"], ["d"]]


def test_a_length_of_zero_generates_nothing() -> None:
    stepper = Successor(11)
    assert written(stepper, LETTERS, "a", length=0) == [""]
    assert stepper.calls == []


def test_characters_are_written_whole() -> None:
    script = [[byte] for byte in "aé€😀".encode()]
    pieces = list(stream_text(Script(script, 256), cast(Tokenizer, Utf8()), "x", length=10, seed=1, temperature=0))
    assert [piece[0] for piece in pieces] == ["a", "é", "€", "😀"]


def test_a_character_cut_off_by_the_length_is_marked() -> None:
    script = [[byte] for byte in "a😀".encode()]
    assert written(Script(script, 256), Utf8(), "x", length=3) == ["a\ufffd"]


def test_a_stop_string_ends_the_text_and_is_not_written() -> None:
    assert written(Successor(11), LETTERS, "a", stop=["ef"]) == ["bcd"]
    assert written(Successor(11), LETTERS, "a", stop="ef") == ["bcd"]
    assert written(Successor(11), LETTERS, "a", stop=["b"]) == [""]


def test_what_only_looks_like_a_stop_string_is_written() -> None:
    pieces = list(
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "a", length=6, seed=1, stop=["cdx", "gh"], temperature=0)
    )
    assert [piece[0] for piece in pieces] == ["b", "cde", "f", "g"]


def test_a_stop_string_in_the_prompt_does_not_count() -> None:
    assert written(Successor(11), LETTERS, "abc", stop=["bc", "cd"], length=4) == ["defg"]


def test_of_several_stop_strings_the_first_complete_one_counts() -> None:
    assert written(Successor(11), LETTERS, "a", stop=["cdef", "de"]) == ["bc"]
    assert written(Successor(11), LETTERS, "a", stop=["cde", "de"]) == ["b"]


def cut(text: str, stops: list[str]) -> str:
    """The text up to the stop string that is complete first, found the slow way."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@settings(deadline=None)
@given(
    pieces=st.lists(st.text("ab", max_size=4), min_size=1, max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_are_found_across_pieces(pieces: list[str], stops: list[str]) -> None:
    tokenizer = Alphabet([*(f"{piece}" for piece in pieces), "x"])
    stepper = Script([[number] for number in range(len(pieces))], len(pieces) + 1)
    text = "".join(written(stepper, tokenizer, "x", length=len(pieces), stop=stops))
    assert text == cut("".join(pieces), stops)


def test_an_item_starts_at_the_boundary_and_ends_there() -> None:
    tokenizer = Alphabet(list("abcd\n"), boundary="\n")
    stepper = Successor(5)
    assert written(stepper, tokenizer) == ["abcd"]
    assert stepper.calls[0] == "read [[4]]"
    assert written(stepper, tokenizer, "bc") == ["d"]
    assert "read [[4, 1, 2]]" in stepper.calls


def test_samples_end_each_at_its_own_end() -> None:
    tokenizer = Alphabet(list("abc\n"), boundary="\n")
    stepper = Script([[0, 1, 3], [1, 3, 0], [3, 0, 0], [0, 0, 0]], 4)
    assert written(stepper, tokenizer, samples=3) == ["ab", "b", ""]
    # read the boundary, then two steps: at the third token the last sample is over
    assert stepper.calls == ["read [[3], [3], [3]]", "step", "step"]


def test_the_end_of_an_item_releases_the_held_text() -> None:
    tokenizer = Alphabet(list("abc\n"), boundary="\n")
    assert written(Successor(4), tokenizer, stop=["cx"]) == ["abc"]


def test_the_same_seed_gives_the_same_texts_for_any_number_of_samples() -> None:
    stepper = small_stepper()
    tokenizer = Alphabet(list("abcdefghijkl"))
    options = {"length": 50, "temperature": 0.9, "top_p": 0.95}
    three = written(stepper, tokenizer, "abc", samples=3, **options)
    assert written(stepper, tokenizer, "abc", samples=3, **options) == three
    assert written(stepper, tokenizer, "abc", samples=1, **options) == three[:1]
    assert written(stepper, tokenizer, "abc", samples=3, **{**options, "seed": 2}) != three
    assert len(set(three)) == 3


def test_an_unknown_piece_in_the_prompt_is_named() -> None:
    with pytest.raises(CharlmError, match="the prompt has 'é', 'X', which the vocabulary of the model lacks"):
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "aéXé", length=5, seed=1)
    with pytest.raises(CharlmError, match=r"'R', \.\.\., which"):
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "KLMNOPQRST", length=5, seed=1)


def test_bad_arguments_are_an_error_at_once() -> None:
    with pytest.raises(CharlmError, match="a stop string must not be empty; leave `stop` out"):
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "a", length=5, seed=1, stop=["b", ""])
    with pytest.raises(CharlmError, match="`length` must be at least 0, not -1"):
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "a", length=-1, seed=1)
    with pytest.raises(CharlmError, match="`samples` must be at least 1, not 0"):
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "a", length=5, seed=1, samples=0)
    with pytest.raises(CharlmError, match="`top_p` must be at most 1, not 2"):
        stream_text(Successor(11), cast(Tokenizer, LETTERS), "a", length=5, seed=1, top_p=2)


def test_a_blank_that_ends_the_prompt_is_not_written_again() -> None:
    tokenizer = BlankFirst(["a", " b", " c"])
    assert written(Successor(3), tokenizer, "a ", length=2) == ["b c"]
    assert written(Successor(3), tokenizer, "a", length=2) == [" b c"]


# -- lines and sentences


SPOKEN = Alphabet(list('abc .!?\n"。」年'))


def spoken(text: str, **limits: int) -> str:
    """What is written if the network repeats a text, within limits of lines or sentences."""
    script = [[SPOKEN.tokens.index(character)] for character in text]
    return written(Script(script, len(SPOKEN.tokens)), SPOKEN, "a", length=len(text), **limits)[0]


@pytest.mark.parametrize(
    ("text", "limits", "expected"),
    [
        ("ab\ncc\nb\n", {"lines": 1}, "ab"),
        ("ab\ncc\nb\n", {"lines": 2}, "ab\ncc"),
        ("\n\nab", {"lines": 2}, "\n"),
        ("ab\ncc", {"lines": 2}, "ab\ncc"),
        ("ab. cc! b", {"sentences": 1}, "ab."),
        ("ab. cc! b", {"sentences": 2}, "ab. cc!"),
        ('ab?!" cc. b', {"sentences": 1}, 'ab?!"'),
        ("a.b c. b", {"sentences": 1}, "a.b c."),
        ("年年。年。年", {"sentences": 1}, "年年。"),
        ("年年。」年。年", {"sentences": 1}, "年年。」"),
        ("ab. cc", {"sentences": 3}, "ab. cc"),
        ("ab. cc\nb. a", {"sentences": 2, "lines": 1}, "ab. cc"),
        ("ab. cc\nb. a", {"sentences": 1, "lines": 2}, "ab."),
    ],
)
def test_a_text_ends_with_its_line_or_sentence(text: str, limits: dict[str, int], expected: str) -> None:
    assert spoken(text, **limits) == expected


def test_a_line_and_a_stop_string_end_what_comes_first() -> None:
    assert written(Successor(11), LETTERS, "a", length=30, stop="cd", lines=1) == ["b"]
    assert written(Successor(11), LETTERS, "a", length=30, stop="zz", lines=1) == ["bcdefghij"]
    assert written(Successor(11), LETTERS, "a", length=5, lines=1) == ["bcdef"]


def test_a_stop_string_ends_a_text_within_its_limits_for_good() -> None:
    assert written(Successor(11), LETTERS, "a", length=30, stop="cd", lines=9) == ["b"]
    assert written(Successor(11), LETTERS, "a", length=30, stop="cd", lines=9, sentences=2, samples=2) == ["b", "b"]
