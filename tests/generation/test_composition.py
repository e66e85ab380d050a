"""A text that a person and a network write together: its tokens, states, versions and guesses."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Successor
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import ModelConfig, TokenizerConfig
from charlm.errors import CharlmError
from charlm.generation.composition import Composition
from charlm.generation.processors import log_probabilities
from charlm.generation.sampling import Sampler
from charlm.generation.stepper import NumpyStepper, TorchStepper
from charlm.network.model import LanguageModel
from charlm.text.items import Unit
from charlm.text.tokenization import Tokenizer, learn
from conftest import small_text

TEXT = small_text(2000) + "Café über 😀!\n"
LETTERS = learn(TokenizerConfig(kind="char"), ["abcdefghij\n"])  # ids: unknown, line end, a, b, ...


@cache
def made(kind: str, unit: Unit = "stream", lowercase: bool = False) -> Tokenizer:
    size = 300 if kind in ("bpe", "unigram") else 0
    return learn(TokenizerConfig(kind=kind, min_frequency=1, size=size, lowercase=lowercase), [TEXT], unit=unit)


def network(tokenizer: Tokenizer, cell: str = "lstm") -> NumpyStepper:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell, 2, 8, 8, 0.0, tie=False), len(tokenizer))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return NumpyStepper(weights, model.config, model.vocab_size)


def composed(kind: str = "char", unit: Unit = "stream", **values: Any) -> Composition:
    tokenizer = made(kind, unit)
    return Composition(network(tokenizer), tokenizer, **values)


def counting(**values: Any) -> Composition:
    """The network proposes the letter after the last one, and its state is what it has read."""
    return Composition(Successor(len(LETTERS)), LETTERS, **values)


def read_anew(stepper: NumpyStepper, ids: list[int], boundary: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The logits and the state after some tokens, one step after the other."""
    state = stepper.initial_state(1)
    for id in ids:
        state = stepper.initial_state(1) if id == boundary else state
        logits, state = stepper.step(np.array([id]), state)
    return logits[0], state


def ids_of(composition: Composition) -> list[int]:
    return [composition.tokenizer.start(), *(node.id for node in composition.path)]


# -- what is written


def test_the_network_continues_what_was_typed() -> None:
    one = counting()
    one.type("cd")
    assert [guess.text for guess in one.guesses(1)] == ["e"]
    assert one.guesses(1)[0].probability == pytest.approx(1)
    assert list(one.generate(3)) == ["e", "f", "g"]
    one.choose(1)
    one.type("b")
    assert one.text == "cdefghb"
    assert [node.typed is not None for node in one.path] == [True, True, False, False, False, False, True]
    assert one.reading.state.tolist() == [ids_of(one)]


def test_guesses_are_in_falling_order_and_only_those_that_are_possible() -> None:
    one = composed(top_k=4)
    guesses = one.guesses(9)
    logits = one.reading.logits
    assert [guess.id for guess in guesses] == np.argsort(-logits)[:4].tolist()
    p = np.exp(np.sort(logits)[::-1][:4].astype(np.float64) - logits.max())
    assert [guess.probability for guess in guesses] == pytest.approx(p / p.sum())
    one.choose(3)
    assert one.path[-1].id == guesses[2].id
    for rank in (0, -1, 5):
        with pytest.raises(CharlmError, match=f"no guess {rank};"):
            one.choose(rank)


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", ["char", "grapheme", "byte", "word", "classic", "bpe", "unigram"])
@settings(max_examples=15, deadline=None)
@given(text=st.text(st.sampled_from("The catsm.é😀中 \n\r\t\u0301\u200d\ufffdİ"), max_size=12))
def test_typing_and_removing_keeps_the_text_and_gives_the_tokens_of_the_whole(
    kind: str, lowercase: bool, text: str
) -> None:
    tokenizer = made(kind, lowercase=lowercase)
    one, whole = (Composition(Successor(len(tokenizer)), tokenizer) for _ in range(2))
    for number, character in enumerate(text):
        one.type("x" + character)
        one.delete()
        one.type(character)
        if number % 2:
            one.type("The ca\n")
            for _ in range(7):
                one.delete()
        one.delete()
        one.delete()
        one.type(character)
        assert one.text == text[: number + 1]
    whole.type(text)
    assert (ids_of(one), one.pending) == (ids_of(whole), whole.pending)


@pytest.mark.parametrize("kind", ["char", "grapheme", "byte", "word", "classic", "bpe", "unigram"])
def test_a_text_that_is_typed_character_by_character_has_the_tokens_of_the_whole(kind: str) -> None:
    text = " The cat  sat.\nCafé über e\u0301 😀!\n"
    one, whole = composed(kind), composed(kind)
    for character in text:
        one.type(character)
    whole.type(text)
    assert one.text == whole.text == text
    assert ids_of(one)[1:] == ids_of(whole)[1:] == one.tokenizer.encode(text).tolist()
    assert one.reading.logits.tolist() == whole.reading.logits.tolist()
    one.undo()
    assert one.text != text


def test_only_what_was_typed_after_the_last_token_of_the_network_is_encoded_again() -> None:
    one = composed("bpe")
    one.type("the c")
    before = ids_of(one)
    one.choose(next(rank for rank, guess in enumerate(one.guesses(300), 1) if guess.text == "a"))
    one.type("t the")
    after = ids_of(one)
    assert one.text == "the cat the"
    assert after[: len(before) + 1] == [*before, one.tokenizer.encode("a")[0]]
    assert after[len(before) + 1 :] == one.tokenizer.encode("t the").tolist()
    assert after[1:] != one.tokenizer.encode("the cat the").tolist()


def test_the_beginning_of_a_word_waits_for_the_rest() -> None:
    one = composed("word")
    one.type("the")
    read = ids_of(one)
    assert one.type(" ") == one.type("c") == []
    assert (one.pending, one.text, ids_of(one)) == (" c", "the c", read)
    assert [guess.text for guess in one.guesses(9)] == [" cat"]
    one.choose(1)
    assert (one.pending, one.text) == ("", "the cat")
    one.type(" s")
    assert {guess.text for guess in one.guesses(9)} == {" sat", " sea"}
    assert next(one.generate(1)) in (" sat", " sea")
    one.type(" o")
    one.type("ld,")
    assert ids_of(one)[-2:] == one.tokenizer.encode(" old,").tolist()


def test_unknown_pieces_stay_in_the_text_and_are_told_once() -> None:
    one = composed("word")
    assert one.type("the zebr") == [" zebr"]
    assert one.type("a") == [" zebra"]
    assert one.type(" sat") == []
    unknown = one.tokenizer.unknown
    # No line of the training text begins with "the", but the vocabulary has the word with a space before it.
    assert ids_of(one)[1:] == [*one.tokenizer.encode(" the").tolist(), unknown, *one.tokenizer.encode(" sat").tolist()]
    assert one.text == "the zebra sat"
    letters = counting()
    assert letters.type("aXb") == ["X"]
    assert letters.text == "aXb"
    with pytest.raises(CharlmError, match="surrogate"):
        letters.type("\udcff")
    assert letters.text == "aXb"


def test_a_word_that_begins_a_line_may_be_known_only_with_a_space_before_it() -> None:
    one = composed("word")
    the, sat = (one.tokenizer.encode(f" {word}")[0] for word in ("the", "sat"))
    assert one.tokenizer.encode("the")[0] == one.tokenizer.unknown
    assert one.type("the\nsat\n") == []
    assert ids_of(one)[1::2] == [the, sat]
    one.type("sa")
    assert [guess.text for guess in one.guesses(9)] == [" sat"]
    one.choose(1)
    assert one.text == "the\nsat\nsat"


def test_the_words_of_classic_are_separated_by_spaces_that_are_no_tokens() -> None:
    one = composed("classic")
    one.type("the cat ")
    assert (one.text, one.pending) == ("the cat ", " ")
    (word,) = one.generate(1)
    assert one.text == f"the cat{word}"
    assert word == "\n" or word.startswith(" ")
    one.undo()
    one.undo()
    one.generate(1)
    one.choose(next(rank for rank, guess in enumerate(one.guesses(99), 1) if guess.text == "sat"))
    one.type("on")
    assert one.text.endswith("sat on")


def test_bytes_become_text_when_a_character_is_complete() -> None:
    one = composed("byte")
    emoji = "😀".encode()
    for byte in emoji[:3]:
        one.choose(next(rank for rank, guess in enumerate(one.guesses(256), 1) if guess.id == byte))
        assert one.text == "\ufffd"
    one.choose(next(rank for rank, guess in enumerate(one.guesses(256), 1) if guess.id == emoji[3]))
    assert one.text == "😀"
    assert [node.text for node in one.path] == ["", "", "", "😀"]
    assert one.path[-1].character_bits is None
    one.guesses(1)
    assert one.path[-1].character_bits == pytest.approx(sum(node.bits or 0.0 for node in one.path))
    one.delete()
    assert one.path == []
    one.undo()
    one.move_to(2)
    one.type("a")
    assert one.text == "\ufffda"
    assert one.text == one.tokenizer.decode([*emoji[:2], ord("a")])


def test_a_line_starts_from_the_initial_state() -> None:
    one = composed("char", "line", temperature=1.0)
    start = one.reading
    first = "".join(one.generate(200))
    assert first.endswith("\n")
    assert first.count("\n") == 1
    assert one.reading.logits.tolist() == start.logits.tolist()
    assert np.array_equal(one.reading.state, start.state)
    one.type("the\n")
    assert one.reading.logits.tolist() == start.logits.tolist()


# -- removing, going back


def test_backspace_removes_a_character_of_any_token() -> None:
    one = composed("word")
    one.type("the\n")
    one.choose(next(rank for rank, guess in enumerate(one.guesses(99), 1) if guess.text == " house"))
    one.delete()
    assert (one.text, one.pending) == ("the\n hous", " hous")
    for length in range(8, -1, -1):
        one.delete()
        assert one.text == "the\n hous"[:length]
    one.delete()
    assert one.text == ""
    assert ids_of(one) == [one.tokenizer.start()]
    typed = composed("byte")
    typed.type("a😀\n")
    typed.delete()
    typed.delete()
    assert (typed.text, len(typed.path)) == ("a", 1)


def test_undo_and_redo_go_through_all_versions() -> None:
    one = counting()
    versions = [one.text]

    def note() -> None:
        versions.append(one.text)

    for character in "ab":
        one.type(character)
    note()  # one word is one step
    one.type("\n")
    one.type("c")
    versions.append("ab\n")
    note()
    list(one.generate(4))
    note()
    one.delete()
    one.delete()
    note()
    one.move_to(1)
    one.choose(1)
    note()
    assert versions == ["", "ab", "ab\n", "ab\nc", "ab\ncdefg", "ab\ncde", "ab"]
    for version in ["ab\ncde", "ab\ncdefg", "ab\nc", "ab\n", ""]:
        assert one.undo()
        assert one.text == version
    assert not one.undo()
    for version in versions[2:]:
        assert one.redo()
        assert one.text == version
    assert not one.redo()
    one.undo()
    one.type("j")
    assert not one.redo()


def test_a_change_replaces_what_follows_the_cursor() -> None:
    one = counting()
    one.type("abcdef")
    one.move_to(2)
    assert (one.position, one.at_end, one.text) == (2, False, "abcdef")
    assert one.guesses(1)[0].text == "c"
    assert one.reading.state.tolist() == [ids_of(one)[:3]]
    one.type("h")
    assert (one.text, one.at_end) == ("abh", True)
    for position, place in ((-3, 0), (0, 0), (2, 2), (3, 3), (9, 3), (None, 3)):
        one.move_to(position)
        assert (one.position, one.at_end) == (place, place == 3)
    one.move_to(0)
    one.delete()
    assert one.text == "abh"
    one.choose(1)
    assert one.text == "a"


def test_the_cursor_can_stand_before_a_word_that_is_not_complete() -> None:
    one = composed("word")
    one.type("the c")
    one.move_to(1)
    assert not one.at_end
    assert len(one.guesses(9)) == 9
    one.move_to(2)
    assert one.at_end
    assert [guess.text for guess in one.guesses(9)] == [" cat"]


@pytest.mark.parametrize("cell", ["lstm", "gru", "transformer"])
@pytest.mark.parametrize(
    ("kind", "unit"), [("char", "stream"), ("word", "stream"), ("byte", "line"), ("bpe", "stream")]
)
def test_the_state_is_always_that_of_reading_the_text_anew(cell: str, kind: str, unit: Unit) -> None:
    """Bit for bit, although hardly any state is kept."""
    tokenizer = made(kind, unit)
    stepper = network(tokenizer, cell)
    one, draw = Composition(stepper, tokenizer, memory=1, temperature=2.0), random.Random(3)
    actions = [
        lambda: one.type(draw.choice(["the ", "c", "a", "t\n", "😀", " zebra", ". The old house"])),
        lambda: one.choose(1),
        lambda: list(one.generate(draw.randint(1, 90))),
        one.delete,
        one.undo,
        one.redo,
        lambda: one.move_to(draw.randint(0, len(one.path) + 1)),
        lambda: one.move_to(None),
    ]
    for number in range(60):
        draw.choice(actions)()
        if number % 4 == 0:
            logits, state = read_anew(stepper, ids_of(one)[: one.position + 1], tokenizer.boundary)
            assert np.array_equal(one.reading.logits, logits)
            assert np.array_equal(one.reading.state, state)


def test_a_long_text_needs_few_states() -> None:
    class Counted(Successor):
        def initial_state(self, batch: int) -> np.ndarray:
            return np.zeros((batch, 1000))

        def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.calls.append("step")
            return super()._after(ids, state)[0], state + 1

    stepper = Counted(len(LETTERS))
    one = Composition(stepper, LETTERS, memory=2 * 50 * 8 * 1004)
    one.type("ab" * 5000)
    assert one.reading.state[0, 0] == 10_001
    assert len(one._reader._last) + len(one._reader._spaced) <= 100
    for position in (10_000, 9_990, 5_000, 4_999, 17, 0):
        stepper.calls.clear()
        one.move_to(position)
        assert one.reading.state[0, 0] == position + 1
        assert len(stepper.calls) <= 2 * 256


# -- random numbers


def test_the_same_calls_give_the_same_text() -> None:
    def play(seed: int) -> str:
        one = composed("char", seed=seed, temperature=1.0, xtc_probability=0.5)
        one.type("The ")
        list(one.generate(10))
        one.undo()
        list(one.generate(10))
        one.choose(2)
        list(one.generate(5))
        return one.text

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_a_continuation_after_undo_is_a_new_one() -> None:
    one = composed("char", temperature=1.0)
    texts = set()
    for _ in range(4):
        texts.add("".join(one.generate(20)))
        one.undo()
    assert len(texts) == 4


def test_guesses_are_those_of_the_next_draw() -> None:
    """XTC draws a random number for each token: it must be the same for what is shown and what is written."""
    one = composed("char", xtc_probability=0.5, xtc_threshold=0.01, temperature=3.0)
    possible: set[int] = set()
    changes = 0
    for _ in range(30):
        before, possible = possible, {guess.id for guess in one.guesses(99)}
        assert possible == {guess.id for guess in one.guesses(99)}
        changes += before != possible
        list(one.generate(1))
        assert one.path[-1].id in possible
    assert changes > 5


# -- logits processors


def test_processors_see_the_text_and_can_be_changed_at_any_time() -> None:
    one = counting()
    one.type("abc")
    one.change(ban=["d"])
    assert one.guesses(1)[0].text != "d"
    one.change(ban=(), repetition_penalty=1000.0)
    assert one.values == {"repetition_penalty": 1000.0}
    one.type("dabc")  # a penalty for a letter that has occurred
    assert one.guesses(1)[0].probability < 0.2
    one.change(penalty_window=1)
    assert one.guesses(1)[0].text == "d"
    with pytest.raises(CharlmError, match="did you mean 'top_k'"):
        one.change(topk=3)
    with pytest.raises(CharlmError, match="`top_p` must be at most 1"):
        one.change(top_p=2)
    with pytest.raises(CharlmError, match="changes nothing without"):
        one.change(repetition_penalty=1.0)
    assert one.values == {"repetition_penalty": 1000.0, "penalty_window": 1}


def test_processors_that_count_see_only_what_the_network_wrote() -> None:
    one = composed("char", temperature=(0.0, 1.0), seed=3)
    one.type("The")
    assert len(one.guesses(9)) == 1  # temperature 0 for the first token that the network writes
    one.choose(1)
    assert len(one.guesses(9)) == 9
    one.type("cat")
    assert len(one.guesses(9)) == 9
    one.choose(1)
    assert len(one.guesses(9)) == 1
    one = composed("char", surprise=2.0)
    one.type("The cat")
    list(one.generate(5))
    logits = one.reading.logits  # read first: the last token has its bits then
    bits = [node.bits for node in one.path if node.typed is None]
    sampler = Sampler(1, 1, one.tokenizer, surprise=2.0)
    sampler.start(np.array([ids_of(one)]), np.array([bits], np.float64))
    weights = sampler.weights(logits[None])[0]
    expected = np.sort(weights[weights > 0] / weights.sum())[::-1].tolist()
    assert [guess.probability for guess in one.guesses(99)] == pytest.approx(expected)


def test_a_network_that_diverged_is_told() -> None:
    class Diverged(Successor):
        def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits, state = super()._after(ids, state)
            return logits * np.nan, state

    one = Composition(Diverged(len(LETTERS)), LETTERS)
    one.type("ab")
    with pytest.raises(CharlmError, match="not finite"):
        one.guesses(3)
    assert one.text == "ab"


# -- bits


def test_bits_are_those_of_the_network() -> None:
    one = composed("char", temperature=0.5)
    one.type("The cat")
    list(one.generate(3))
    one.type("!\n")
    assert one.read(0) == 3  # the last one of the network, and what was typed after it
    one.reading  # noqa: B018
    ids, stepper = ids_of(one), network(one.tokenizer)
    expected = []
    for number, id in enumerate(ids[1:], 1):
        logits, _ = read_anew(stepper, ids[:number])
        expected.append(-log_probabilities(logits[None].astype(np.float64))[0, id] / np.log(2))
    assert [node.bits for node in one.path] == pytest.approx(expected)
    assert one.path[-1].typed_characters == 9
    assert one.path[-1].typed_bits == pytest.approx(sum(expected[:7]) + sum(expected[10:]))


def test_a_long_text_is_read_in_parts() -> None:
    one = counting()
    one.type("abc" * 10)
    assert [one.read(12) for _ in range(4)] == [18, 6, 0, 0]
    assert all(node.bits is not None for node in one.path)
    one.move_to(5)
    assert one.read(0) == 0


# -- bookmarks and mixed states


def test_a_bookmark_brings_back_its_text() -> None:
    one = counting()
    one.type("abc")
    one.bookmark("x")
    one.type("def")
    one.go_to("x")
    assert one.text == "abc"
    assert one.guesses(1)[0].text == "d"
    one.undo()
    assert one.text == "abcdef"
    with pytest.raises(CharlmError, match="no bookmark 'y'; the bookmarks are x"):
        one.go_to("y")


def test_a_mixed_state_is_the_interpolation_and_the_network_goes_on_from_it() -> None:
    one = composed("char")
    stepper = network(one.tokenizer)
    one.type("The cat")
    one.bookmark("a")
    first = one.reading
    one.type(" sat on the mat. The dog")
    one.bookmark("b")
    second = one.reading
    one.type(" r")
    before = one.text, one.reading
    one.mix("a", "b", 0.25)
    assert one.text == before[0]
    assert np.allclose(one.reading.state, 0.75 * first.state + 0.25 * second.state, rtol=0, atol=1e-7)
    assert np.allclose(one.reading.logits, 0.75 * first.logits + 0.25 * second.logits, rtol=0, atol=1e-6)
    # Without a layer norm the logits are linear in the state: they are those of the mixed state.
    assert stepper.config.layer_norm is False
    assert np.allclose(one.reading.logits, stepper._logits(one.reading.state[-1, 0, 0])[0], atol=1e-5)
    mixed = one.reading
    one.type("a")
    logits, state = stepper.step(one.tokenizer.encode("a"), mixed.state)
    assert np.array_equal(one.reading.logits, logits[0])
    assert np.array_equal(one.reading.state, state)
    one.undo()
    one.undo()
    assert np.array_equal(one.reading.state, before[1].state)
    for weight, expected in ((0, first), (1, second)):
        one.mix("a", "b", weight)
        assert np.array_equal(one.reading.state, expected.state)
        one.undo()
    with pytest.raises(CharlmError, match="`weight` must be at most 1"):
        one.mix("a", "b", 1.5)
    with pytest.raises(CharlmError, match="no bookmark 'c'"):
        one.mix("a", "c")


def test_a_network_computed_by_torch_gives_the_same() -> None:
    tokenizer = made("char")
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig("gru", 1, 8, 8, 0.0, tie=False), len(tokenizer)).eval()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    both = [
        Composition(stepper, tokenizer)
        for stepper in (NumpyStepper(weights, model.config, model.vocab_size), TorchStepper(model))
    ]
    for one in both:
        one.type("The cat")
        one.bookmark("a")
        one.type(" sat")
        one.bookmark("b")
        one.mix("a", "b", 0.3)
        one.type("!")
    logits, others = (one.reading.logits for one in both)
    assert np.allclose(logits, others, atol=1e-5)
    assert np.allclose(both[0].reading.state, both[1].reading.state.numpy(), atol=1e-5)


def test_states_of_a_transformer_can_be_mixed() -> None:
    tokenizer = made("char")
    one = Composition(network(tokenizer, "transformer"), tokenizer)
    one.bookmark("start")
    one.type("The cat sat")
    one.bookmark("end")
    before = one.reading.state
    one.mix("start", "end", 1.0)
    assert np.array_equal(one.reading.state, before)
    one.mix("start", "end", 0.4)
    assert not np.array_equal(one.reading.state, before)
    list(one.generate(5))
    assert np.isfinite(one.reading.logits).all()


def test_a_mixed_state_before_the_text() -> None:
    one = composed("char")
    one.type("ab")
    one.bookmark("a")
    one.move_to(0)
    one.bookmark("start")
    one.mix("a", "a")
    assert one.text == ""
    one.type("c")
    assert len(one.path) == 1
    one.move_to(0)
    assert one.guesses(3) == one.guesses(3)
    assert one.reading.state.tolist() == one._reader.read(one.bookmarks["a"].node).state.tolist()
