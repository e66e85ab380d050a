"""Generation and generate_texts, with networks and tokenizers so simple that the answer is known."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from fakes import LETTERS, Alphabet, BlankFirst, Script, Successor, Utf8, small_stepper
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.generation.streaming import Generation, generate_texts
from charlm.text.tokenization import Tokenizer


def generation(stepper: Any, tokenizer: Alphabet, *prompts: str, **options: Any) -> Generation:
    names = set(GenerationConfig.__dataclass_fields__)
    config = GenerationConfig(**{name: value for name, value in options.items() if name in names})
    values = {name: value for name, value in options.items() if name not in names}
    return Generation(stepper, cast(Tokenizer, tokenizer), prompts, config, **values)


def written(stepper: Any, tokenizer: Alphabet, prompt: str = "", samples: int = 1, **options: Any) -> list[str]:
    """The whole texts; on the way, every list has a piece for each sample and is not all empty."""
    options = {"length": 10, "seed": 1, "temperature": 0, **options}
    started = generation(stepper, tokenizer, *[prompt] * samples, **options)
    pieces = list(started)
    assert all(len(piece) == samples and any(piece) for piece in pieces)
    texts = ["".join(row) for row in zip(*pieces, strict=True)] or [""] * samples
    assert texts == [text.text for text in started.texts]
    return texts


# -- one text


def test_the_prompt_is_continued_and_not_repeated() -> None:
    assert written(Successor(11), LETTERS, "ab", length=5) == ["cdefg"]


def test_without_a_prompt_it_starts_where_texts_start() -> None:
    stepper = Successor(11)
    assert written(stepper, LETTERS, length=3) == ["abc"]
    assert stepper.calls[0] == "read [[10]]"


def test_each_piece_is_yielded_as_soon_as_it_is_generated() -> None:
    stepper = Successor(11)
    pieces = iter(generation(stepper, LETTERS, "a", length=3, temperature=0))
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
    pieces = list(generation(Script(script, 256), Utf8(), "x", length=10, temperature=0))
    assert [piece[0] for piece in pieces] == ["a", "é", "€", "😀"]


def test_a_character_cut_off_by_the_length_is_marked() -> None:
    script = [[byte] for byte in "a😀".encode()]
    assert written(Script(script, 256), Utf8(), "x", length=3) == ["a\ufffd"]


def test_a_stop_string_ends_the_text_and_is_not_written() -> None:
    assert written(Successor(11), LETTERS, "a", stop=["ef"]) == ["bcd"]
    assert written(Successor(11), LETTERS, "a", stop=["b"]) == [""]


def test_what_only_looks_like_a_stop_string_is_written() -> None:
    pieces = list(generation(Successor(11), LETTERS, "a", length=6, stop=("cdx", "gh"), temperature=0))
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
    stepper = Succeeding(4)
    assert written(stepper, tokenizer, "a") == ["bc"]
    started = generation(stepper, tokenizer, "a", "c", "ab", "abc", temperature=0)
    assert [text.text for text in started.finish()] == ["bc", "", "c", ""]
    assert [text.end for text in started.texts] == ["item"] * 4
    # each prompt is read once; at the second token two rows are left of four, then one
    reads = [call for call in stepper.calls[2:] if call != "step"]
    assert reads == [f"read {[[3, *ids]]}" for ids in ([0], [2], [0, 1], [0, 1, 2])]
    assert stepper.rows[-2:] == [2, 1]


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
        generation(Successor(11), LETTERS, "aéXé", length=5)
    with pytest.raises(CharlmError, match=r"'R', \.\.\., which"):
        generation(Successor(11), LETTERS, "KLMNOPQRST", length=5)


def test_bad_arguments_are_an_error_at_once() -> None:
    with pytest.raises(CharlmError, match="a stop string must not be empty; leave `stop` out"):
        generation(Successor(11), LETTERS, "a", length=5, stop=["b", ""])
    with pytest.raises(CharlmError, match="`seed` must be at least 0, not -1"):
        generation(Successor(11), LETTERS, "a", length=5, seed=-1)
    with pytest.raises(CharlmError, match="`top_p` must be at most 1, not 2"):
        generation(Successor(11), LETTERS, "a", length=5, top_p=2)


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
    assert written(Successor(11), LETTERS, "a", length=30, stop=["cd"], lines=1) == ["b"]
    assert written(Successor(11), LETTERS, "a", length=30, stop=["zz"], lines=1) == ["bcdefghij"]
    assert written(Successor(11), LETTERS, "a", length=5, lines=1) == ["bcdef"]


def test_a_stop_string_ends_a_text_within_its_limits_for_good() -> None:
    assert written(Successor(11), LETTERS, "a", length=30, stop=["cd"], lines=9) == ["b"]
    assert written(Successor(11), LETTERS, "a", length=30, stop=["cd"], lines=9, sentences=2, samples=2) == ["b", "b"]


# -- several texts


class Succeeding(Successor):
    """A `Successor` that keeps the number of rows of each step."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(vocabulary)
        self.rows: list[int] = []

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.rows.append(len(ids))
        return super().step(ids, state)


def test_a_row_with_every_processor_is_the_same_alone() -> None:
    values: dict[str, Any] = {
        "temperature": [0.8, 1.2], "top_n_sigma": 2.0, "typical_p": 0.95, "epsilon_cutoff": 0.001, "surprise": 2.0,
        "xtc_probability": 0.5, "xtc_threshold": 0.2, "repetition_penalty": 1.1, "presence_penalty": 0.2,
        "frequency_penalty": 0.1, "penalty_window": 5, "no_repeat_ngram": 4, "dry_multiplier": 0.5, "ban": "abc",
        "logit_bias": {"d": 1.0},
    }  # fmt: skip
    stepper, letters = small_stepper(), Alphabet(list("abcdefghijk\n"))
    prompts = ["a", "abcabcabcabc", "a", "", "kj"]
    texts = [text.text for text in generation(stepper, letters, *prompts, length=40, seed=9, **values).finish()]
    assert len(set(texts)) == 5
    for row, prompt in enumerate(prompts):
        assert texts[row] == written(stepper, letters, prompt, length=40, seed=9 + row, **values)[0]


def test_the_tokens_of_a_text_are_recorded() -> None:
    tokenizer = Alphabet(list("abcdefghijk\n"), boundary="\n")
    stepper = small_stepper()
    started = generation(stepper, tokenizer, "ab", length=30, seed=3, alternatives=3, temperature=1.5)
    text = started.finish()[0]
    assert text.end == ("item" if text.ids[-1] == tokenizer.boundary else "length")
    read = [tokenizer.boundary, 0, 1]
    for place, (id, log_p, others) in enumerate(zip(text.ids, text.log_probabilities, text.alternatives, strict=True)):
        logits = stepper.prefill(np.array([read + text.ids[:place]]), stepper.initial_state(1))[0][0]
        expected = logits - np.log(np.exp(logits).sum())
        assert log_p == pytest.approx(expected[id])
        assert [other for other, _ in others] == np.argsort(-expected)[:3].tolist()
        assert [value for _, value in others] == pytest.approx(np.sort(-expected)[:3] * -1)
    bits = -np.array(text.log_probabilities) / np.log(2)
    assert text.character_bits == pytest.approx(bits[: len(text.text)])


def test_a_character_of_several_tokens_has_the_sum_of_their_bits() -> None:
    script = [[byte] for byte in "aé€".encode()]
    started = generation(Script(script, 256), Utf8(), "x", length=6, temperature=1, record=True)
    text = started.finish()[0]
    bits = -np.array(text.log_probabilities) / np.log(2)
    assert text.character_bits == pytest.approx([bits[0], bits[1:3].sum(), bits[3:].sum()])


def test_a_stop_string_keeps_its_tokens() -> None:
    text = generation(Successor(11), LETTERS, "a", length=9, stop=["de"], temperature=0, record=True).finish()[0]
    assert (text.text, text.ids, text.end) == ("bc", [1, 2, 3, 4], "stop")
    text = generation(Successor(11), LETTERS, "i", length=9, lines=1, temperature=0, record=True).finish()[0]
    assert (text.text, text.ids, text.end) == ("j", [9, 10], "lines")
    assert text.character_bits[: len(text.text)] == pytest.approx([0.0], abs=1e-9)


def many(stepper: Any, tokenizer: Alphabet, prompts: list[str], known: tuple[str, ...] = (), **options: Any) -> Any:
    config = GenerationConfig(**options)
    return list(generate_texts(stepper, cast(Tokenizer, tokenizer), prompts, config, known=known, record=True))


def test_many_texts_come_in_the_order_of_their_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, letters = small_stepper(), Alphabet(list("abcdefghijkl"))
    texts = many(stepper, letters, ["ab", "c"], samples=3, seed=5, length=20)
    assert [(text.prompt, text.seed) for text in texts] == [
        ("ab", 5),
        ("ab", 6),
        ("ab", 7),
        ("c", 8),
        ("c", 9),
        ("c", 10),
    ]
    monkeypatch.setattr("charlm.generation.streaming.MOST_ROWS", 2)
    again = many(stepper, letters, ["ab", "c"], samples=3, seed=5, length=20)
    assert [text.text for text in again] == [text.text for text in texts]
    alone = many(stepper, letters, ["c"], seed=9, length=20)
    assert [text.text for text in alone] == [texts[4].text]
    assert alone[0].log_probabilities == pytest.approx(texts[4].log_probabilities)


def test_dedupe_draws_others_in_place_of_known_and_repeated_texts() -> None:
    tokenizer = Alphabet(list("abcd"))

    class Flat(Successor):
        def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits, state = super()._after(ids, state)
            return logits * 0, state

    plain = many(Flat(4), tokenizer, [""], samples=16, length=2)
    assert len({text.text for text in plain}) < 16
    known = ("aa", "bc")
    texts = many(Flat(4), tokenizer, [""], known, samples=14, length=2, dedupe=True)
    assert {text.text for text in texts} == {a + b for a in "abcd" for b in "abcd"} - set(known)
    assert texts[0].text == next(text.text for text in plain if text.text not in known)
    for text in texts:
        assert many(Flat(4), tokenizer, [""], seed=text.seed, length=2)[0].text == text.text
    few = many(Flat(4), tokenizer, [""], known, samples=20, length=2, dedupe=True)
    assert len(few) == 14, "there are no others"
    prompted = many(Flat(4), tokenizer, ["a"], ("ab",), samples=3, length=1, dedupe=True)
    assert sorted(text.text for text in prompted) == ["a", "c", "d"]
