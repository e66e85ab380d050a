"""Beam search and best of several, against brute force, a search in plain Python and values computed by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from fakes import LETTERS, Alphabet, BlankFirst, Script, Successor, Utf8, small_stepper

from charlm.config import ModelConfig
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.generation.generated_text import GeneratedText
from charlm.generation.processors import log_probabilities
from charlm.generation.sampling import Sampler
from charlm.generation.search import highest
from charlm.generation.stepper import NumpyStepper, Stepper, TorchStepper
from charlm.generation.streaming import Generation, generate_texts
from charlm.network.model import LanguageModel
from charlm.text.tokenization import Tokenizer

STREAM, ITEMS = Alphabet(list("abc\n")), Alphabet(list("abc\n"), boundary="\n")
PROCESSORS: list[dict[str, Any]] = [
    {},
    {"temperature": [0.5, 2.0]},
    {"top_k": 2},
    {"ban": "ab"},
    {"allow": "ab"},
    {"no_repeat_ngram": 2},
    {"repetition_penalty": 1.5, "logit_bias": {"c": 1.0}},
    {"xtc_probability": 0.5, "xtc_threshold": 0.2},
    {"surprise": 1.0},
]


def found(stepper: Any, tokenizer: Alphabet, *prompts: str, known: Sequence[str] = (), **options: Any) -> Any:
    """The texts; options are settings of the generation, and values of logits processors."""
    names = set(GenerationConfig.__dataclass_fields__)
    config = GenerationConfig(**{name: value for name, value in options.items() if name in names})
    values = {name: value for name, value in options.items() if name not in names}
    vocabulary = cast(Tokenizer, tokenizer)
    return list(generate_texts(stepper, vocabulary, prompts, config, known=known, record=True, **values))


def ids(texts: list[GeneratedText]) -> list[list[int]]:
    return [text.ids for text in texts]


class Network:
    """The log probabilities of the token after some ids, computed from the prompt on, without any state."""

    def __init__(self, stepper: Any, tokenizer: Alphabet, prompt: str, seed: int, **values: Any) -> None:
        self.stepper, self.tokenizer, self.seed, self.values = stepper, cast(Tokenizer, tokenizer), seed, values
        start = [] if tokenizer.boundary is None else [tokenizer.boundary]
        self.prompt = start + tokenizer.encode(prompt).tolist() or [tokenizer.start()]
        self.processed = cache(self._processed)

    def _processed(self, tokens: tuple[int, ...]) -> list[float]:
        sampler = Sampler(self.seed, 1, self.tokenizer, **self.values)
        sampler.start(np.array([self.prompt]))
        for place in range(len(tokens) + 1):
            logits = self.logits(tokens[:place])
            log_p = log_probabilities(sampler.processed(logits))
            if place < len(tokens):
                sampler.take(np.array(tokens[place : place + 1]), logits)
        return cast("list[float]", log_p[0].tolist())

    def logits(self, tokens: tuple[int, ...]) -> np.ndarray:
        read = np.array([[*self.prompt, *tokens]])
        return cast(np.ndarray, self.stepper.prefill(read, self.stepper.initial_state(1))[0])


class Hypothesis(NamedTuple):
    score: float
    ids: tuple[int, ...]
    log_p: float
    ended: bool


def plain_search(network: Network, config: GenerationConfig, stop: Sequence[str] = ()) -> list[list[int]]:
    """Beam search with one Python object for each hypothesis."""
    tokens, size = network.tokenizer.tokens, config.beams // config.beam_groups
    groups = [[Hypothesis(0.0, (), 0.0, False)] for _ in range(config.beam_groups)]
    for length in range(1, config.length + 1):
        used: list[int] = []
        for number, group in enumerate(groups):
            continued = [one for one in group if one.ended]
            for one in group:
                for id, value in enumerate([] if one.ended else network.processed(one.ids)):
                    log_p = one.log_p + value - config.diversity_penalty * used.count(id)
                    own = (*one.ids, id)
                    ended = id == network.tokenizer.boundary or "".join(tokens[id] for id in own).endswith(tuple(stop))
                    if log_p > -math.inf:
                        continued.append(Hypothesis(log_p / length**config.length_penalty, own, log_p, ended))
            groups[number] = sorted(continued, key=lambda one: -one.score)[:size]
            used += [one.ids[-1] for one in groups[number] if len(one.ids) == length]
    ranks = itertools.zip_longest(*groups)
    best = [sorted((one for one in rank if one is not None), key=lambda one: -one.score) for rank in ranks]
    return [list(one.ids) for rank in best for one in rank]


# -- beam search


@pytest.mark.parametrize("tokenizer", [STREAM, ITEMS])
@pytest.mark.parametrize("length", [1, 7, 40])
def test_one_beam_is_greedy(tokenizer: Alphabet, length: int) -> None:
    stepper = small_stepper(vocab_size=4)
    for prompt in ("", "a", "bc", "cab"):
        greedy = found(stepper, tokenizer, prompt, length=length, temperature=0)
        searched = found(stepper, tokenizer, prompt, length=length, beams=1)
        assert ids(searched) == ids(greedy)
        assert [text.text for text in searched] == [text.text for text in greedy]
        assert [text.end for text in searched] == [text.end for text in greedy]
        assert searched[0].log_probabilities == pytest.approx(greedy[0].log_probabilities)


@pytest.mark.parametrize("values", PROCESSORS, ids=str)
@pytest.mark.parametrize(("tokenizer", "length"), [(STREAM, 1), (STREAM, 3), (ITEMS, 4)])
def test_enough_beams_find_every_text_in_the_order_of_brute_force(
    values: dict[str, Any], tokenizer: Alphabet, length: int
) -> None:
    stepper = small_stepper(vocab_size=4)
    for penalty, prompt in ((1.0, "ab"), (0.0, ""), (2.5, "c")):
        network = Network(stepper, tokenizer, prompt, 3, **values)
        every: list[Hypothesis] = []
        for text in itertools.product(range(4), repeat=length):
            ends = [place for place, id in enumerate(text) if id == tokenizer.boundary]
            own = text[: ends[0] + 1] if ends else text
            log_p = sum(network.processed(own[:place])[id] for place, id in enumerate(own))
            every.append(Hypothesis(log_p / len(own) ** penalty, own, log_p, True))
        expected = sorted({one for one in every if one.log_p > -math.inf}, key=lambda one: -one.score)
        options: dict[str, Any] = {
            "beams": 4**length,
            "samples": 4**length,
            "length": length,
            "length_penalty": penalty,
            "seed": 3,
        }
        texts = found(stepper, tokenizer, prompt, **options, **values)
        assert ids(texts) == [list(one.ids) for one in expected]
        if not values:
            scores = [GenerationConfig(**options).score(sum(one.log_probabilities), len(one.ids)) for one in texts]
            assert scores == pytest.approx([one.score for one in expected])


@pytest.mark.parametrize("values", PROCESSORS, ids=str)
@pytest.mark.parametrize("tokenizer", [STREAM, ITEMS])
def test_a_few_beams_find_what_a_search_in_plain_python_finds(tokenizer: Alphabet, values: dict[str, Any]) -> None:
    stepper = small_stepper(vocab_size=4)
    for beams, length, penalty in ((2, 6, 1.0), (3, 7, 0.3), (5, 4, 0.0)):
        config = GenerationConfig(beams=beams, samples=beams, length=length, length_penalty=penalty, seed=5)
        network = Network(stepper, tokenizer, "ca", 5, **values)
        options: dict[str, Any] = {
            "beams": beams,
            "samples": beams,
            "length": length,
            "length_penalty": penalty,
            "seed": 5,
        }
        assert ids(found(stepper, tokenizer, "ca", **options, **values)) == plain_search(network, config)


@pytest.mark.parametrize("tokenizer", [STREAM, ITEMS])
@pytest.mark.parametrize(("beams", "groups", "penalty"), [(4, 4, 0.7), (6, 3, 0.2), (6, 2, 5.0)])
def test_groups_find_what_a_search_in_plain_python_finds(
    tokenizer: Alphabet, beams: int, groups: int, penalty: float
) -> None:
    options: dict[str, Any] = {
        "beams": beams,
        "samples": beams,
        "beam_groups": groups,
        "diversity_penalty": penalty,
        "length": 6,
    }
    stepper = small_stepper(vocab_size=4)
    network = Network(stepper, tokenizer, "b", 1)
    assert ids(found(stepper, tokenizer, "b", **options)) == plain_search(network, GenerationConfig(**options))


class Fixed(Successor):
    """Predicts the same distribution at every place."""

    def __init__(self, *p: float) -> None:
        super().__init__(len(p))
        self.logits = np.log(np.array(p))

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, state = super()._after(ids, state)
        return np.repeat(self.logits[None], len(ids), 0), state


def test_a_group_avoids_the_tokens_of_the_groups_before_it() -> None:
    """Computed by hand: log p is -0.69, -1.20 and -1.61."""
    stepper, tokenizer = Fixed(0.5, 0.3, 0.2), Alphabet(list("abc"))

    def groups(penalty: float, beams: int = 3, length: int = 2) -> list[str]:
        options: dict[str, Any] = {"beams": beams, "samples": beams, "beam_groups": 3, "diversity_penalty": penalty}
        return [text.text for text in found(stepper, tokenizer, "", length=length, **options)]

    assert groups(0.5) == ["aa", "aa", "bb"]  # -0.69 - 0.5 > -1.20; in the third group b is best
    assert groups(0.6) == ["aa", "bb", "aa"]  # in the second group b; in the third a: -1.29 > -1.61
    assert groups(0.95) == ["aa", "bb", "cc"]  # in the third group c: -1.61 > -0.69 - 0.95
    assert groups(0.45, length=1) == ["a", "a", "b"]
    # two places for each group: a and b; then a (-0.94) and b (-1.45); then a (-1.19) and c (-1.61)
    assert groups(0.25, beams=6, length=1) == ["a", "a", "a", "b", "b", "c"]


def test_the_scores_of_texts_of_different_length_are_compared() -> None:
    """The boundary has probability 0.4: log p of the empty text is -0.92, of "a" -1.43, of "aa" -1.94."""
    stepper, tokenizer = Fixed(0.6, 0.4), Alphabet(list("a\n"), boundary="\n")

    def best(penalty: float) -> list[str]:
        texts = found(stepper, tokenizer, "", beams=3, samples=3, length=3, length_penalty=penalty)
        return [f"{text.text} {text.end}" for text in texts]

    assert best(0.0) == [" item", "a item", "aaa length"]  # -0.92, -1.43, -1.53; "aa" and its end: -1.94
    assert best(1.0) == ["aaa length", "aa item", "a item"]  # -0.51, -0.65, -0.71; the empty text: -0.92


def test_a_stop_string_or_a_limit_ends_a_hypothesis() -> None:
    stepper = small_stepper(vocab_size=4)
    for stop in (["bb"], ["cc", "a"]):
        options: dict[str, Any] = {"beams": 4, "samples": 4, "length": 6}
        network = Network(stepper, STREAM, "b", 1)
        texts = found(stepper, STREAM, "b", stop=stop, **options)
        assert ids(texts) == plain_search(network, GenerationConfig(**options), stop)
        ended = [text for text in texts if text.end == "stop"]
        assert ended
        for text in texts:
            spelled = "".join(STREAM.tokens[id] for id in text.ids)
            ends = [one for one in stop if spelled.endswith(one)] if text.end == "stop" else [""]
            assert text.text == spelled.removesuffix(ends[0])
            assert not any(one in text.text for one in stop)
    for text in found(stepper, STREAM, "b", lines=1, beams=4, samples=4, length=12):
        assert "\n" not in text.text
        assert text.ids.count(3) == (text.end == "lines")


def test_characters_of_several_bytes_are_watched_in_each_hypothesis() -> None:
    script = [[byte] for byte in "aé€b".encode()]
    plain = found(Script(script, 256), Utf8(), "x", beams=3, length=7, top_k=1)
    assert [text.text for text in plain] == ["aé€b"]
    stopped = found(Script(script, 256), Utf8(), "x", beams=3, length=7, stop=["€"], top_k=1)
    assert [(text.text, text.end) for text in stopped] == [("aé", "stop")]


@pytest.mark.parametrize("values", [{}, *PROCESSORS[3:]], ids=str)
def test_prompts_side_by_side_are_the_same_as_alone(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    stepper, prompts = small_stepper(vocab_size=4), ["ab", "", "cccab", "ab"]
    options: dict[str, Any] = {"beams": 4, "samples": 3, "length": 9, "alternatives": 2, **values}
    together = found(stepper, ITEMS, *prompts, seed=7, **options)
    each = [found(stepper, ITEMS, prompt, seed=7 + place, **options) for place, prompt in enumerate(prompts)]
    alone = [text for texts in each for text in texts]
    assert [(text.prompt, text.seed, text.text, text.ids) for text in together] == [
        (text.prompt, text.seed, text.text, text.ids) for text in alone
    ]
    assert {text.seed for text in together} == {7, 8, 9, 10}
    monkeypatch.setattr("charlm.generation.streaming.MOST_ROWS", 8)  # two prompts at once
    assert ids(found(stepper, ITEMS, *prompts, seed=7, **options)) == ids(together)


def test_torch_finds_what_numpy_finds() -> None:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig("gru", 2, 8, 8, 0.0, tie=False), 4).double()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    steppers: list[Stepper] = [NumpyStepper(weights, model.config, 4), TorchStepper(model)]
    options: dict[str, Any] = {"beams": 6, "samples": 6, "length": 8, "surprise": 1.5}
    by_numpy, by_torch = (found(stepper, ITEMS, "a", "", **options) for stepper in steppers)
    assert ids(by_numpy) == ids(by_torch)


def test_recorded_numbers_are_those_of_the_model() -> None:
    stepper = small_stepper(vocab_size=4)
    network = Network(stepper, ITEMS, "ab", 1)
    for text in found(stepper, ITEMS, "ab", beams=5, samples=5, length=6, alternatives=2, temperature=2, top_k=3):
        for place, id in enumerate(text.ids):
            expected = log_probabilities(network.logits(tuple(text.ids[:place])).astype(float))[0]
            assert text.log_probabilities[place] == pytest.approx(expected[id])
            assert [other for other, _ in text.alternatives[place]] == np.argsort(-expected)[:2].tolist()
            assert [value for _, value in text.alternatives[place]] == pytest.approx(-np.sort(-expected)[:2])
        bits = -np.array(text.log_probabilities) / np.log(2)
        assert text.character_bits == pytest.approx(bits[: len(text.text)])


def test_fewer_texts_are_possible_than_beams() -> None:
    stepper = small_stepper(vocab_size=4)
    assert len(found(stepper, STREAM, "a", beams=9, samples=9, length=2, top_k=2)) == 4
    assert len(found(stepper, STREAM, "a", beams=9, samples=9, length=5, temperature=0)) == 1
    assert [text.text for text in found(stepper, STREAM, "a", beams=3, samples=3, length=0)] == [""]


def test_dedupe_takes_the_next_best_texts() -> None:
    stepper = small_stepper(vocab_size=4)
    every = [text.text for text in found(stepper, ITEMS, "", beams=6, samples=6, length=5)]
    options: dict[str, Any] = {"beams": 6, "length": 5, "dedupe": True}
    assert [text.text for text in found(stepper, ITEMS, "", known=every[:2], samples=2, **options)] == every[2:4]
    assert [text.text for text in found(stepper, ITEMS, "", "", samples=3, **options)] == every
    assert [text.text for text in found(stepper, ITEMS, "", known=every[1:], samples=6, **options)] == every[:1]


def test_a_blank_that_ends_the_prompt_is_not_repeated() -> None:
    tokenizer = BlankFirst(["a", " b", " c"])
    assert [text.text for text in found(Successor(3), tokenizer, "a ", beams=2, length=2)] == ["b c"]


def test_of_equal_scores_the_first_is_taken() -> None:
    values = np.array([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0], [0.0] * 6, [-np.inf, -np.inf, 5.0, -np.inf, -np.inf, -np.inf]])
    assert highest(values, 4).tolist() == [[1, 3, 2, 4], [0, 1, 2, 3], [2, 0, 1, 3]]
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 6, (50, 12)).astype(float)
    assert highest(drawn, 5).tolist() == np.argsort(-drawn, -1, kind="stable")[:, :5].tolist()


# -- best of several


def test_best_of_keeps_the_most_probable_of_the_texts_drawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper = small_stepper()
    letters = Alphabet(list("abcdefghijk\n"), boundary="\n")
    options: dict[str, Any] = {"length": 12, "temperature": 1.5, "top_k": 8}
    for penalty in (1.0, 0.0):
        score = GenerationConfig(best_of=4, length_penalty=penalty).score
        expected = []
        for number, prompt in enumerate(("ab", "ab", "c", "c")):
            seeds = range(9 + 4 * number, 13 + 4 * number)
            texts = [found(stepper, letters, prompt, seed=seed, **options)[0] for seed in seeds]
            expected.append(max(texts, key=lambda text: score(sum(text.log_probabilities), len(text.ids))))
        chosen: dict[str, Any] = {"samples": 2, "best_of": 4, "length_penalty": penalty, "seed": 9}
        for rows in (256, 3):
            monkeypatch.setattr("charlm.generation.streaming.MOST_ROWS", rows)
            texts = found(stepper, letters, "ab", "c", **chosen, **options)
            assert [(text.seed, text.text, text.end) for text in texts] == [
                (text.seed, text.text, text.end) for text in expected
            ]


def test_best_of_with_dedupe_chooses_among_new_texts() -> None:
    tokenizer = Alphabet(list("abc"))
    stepper = Fixed(0.6, 0.3, 0.1)
    options: dict[str, Any] = {"length": 1, "best_of": 30, "seed": 2}
    assert [text.text for text in found(stepper, tokenizer, "", samples=3, **options)] == ["a"] * 3
    assert [text.text for text in found(stepper, tokenizer, "", samples=3, dedupe=True, **options)] == ["a", "b", "c"]
    assert [text.text for text in found(stepper, tokenizer, "", known=["a"], dedupe=True, **options)] == ["b"]


# -- what cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 2, "best_of": 2}, "`beams` and `best_of` exclude each other"),
        ({"beams": 2, "samples": 3}, r"`samples` must be at most `beams` \(2\), not 3"),
        ({"beams": 4, "beam_groups": 3, "diversity_penalty": 1.0}, r"a multiple of `beam_groups` \(3\), not 4"),
        ({"beam_groups": 2, "diversity_penalty": 1.0}, r"`beams` must be a multiple of `beam_groups` \(2\), not 0"),
        ({"beams": 4, "beam_groups": 2}, "`beam_groups` and `diversity_penalty` change nothing alone"),
        ({"beams": 4, "diversity_penalty": 1.0}, "`beam_groups` and `diversity_penalty` change nothing alone"),
        ({"length_penalty": 0.5}, "`length_penalty` changes nothing without `beams` or `best_of`"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        GenerationConfig(**options)


def test_a_stream_of_pieces_needs_a_text_that_grows() -> None:
    for options in ({"beams": 2}, {"best_of": 2}):
        with pytest.raises(CharlmError, match="know no text before its end; use `generate_texts`"):
            Generation(Successor(11), cast(Tokenizer, LETTERS), ["a"], GenerationConfig(**options))  # type: ignore[arg-type]
    with pytest.raises(CharlmError, match="a stop string must not be empty"):
        found(Successor(11), LETTERS, "a", beams=2, stop=[""])
    with pytest.raises(CharlmError, match="the prompt has 'Z'"):
        found(Successor(11), LETTERS, "Z", beams=2)
