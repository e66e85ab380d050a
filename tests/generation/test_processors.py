"""Logits processors on exact arrays; what holds for all of them is tested for every registered one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

from charlm.config import TokenizerConfig
from charlm.config.fields import bounds
from charlm.errors import CharlmError
from charlm.generation.processors import generation_settings, parameters, processors
from charlm.text.spans import TrainingText
from charlm.text.stream import encode_text
from charlm.text.tokenization import Tokenizer, learn

INF = np.inf
LOGITS = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.floats(-30, 30))
KEEP_THE_BEST = ("temperature", "top_k", "top_p", "min_p", "epsilon_cutoff", "top_n_sigma", "surprise")
"""Processors that never exclude the most probable token."""

LETTERS = learn(TokenizerConfig(), ["abcdefg"])  # ids: 0 unknown, 1 a, 2 b, ...
TEXTS: dict[str, list[Any]] = {
    "logit_bias": [(("a", 1.5),), (("a", 1.0), ("b", -2.0), ("a", 0.5))],
    "ban": [("b",), ("ab", "c")],
    "allow": [("abc",), ("a", "\ufffd")],
}
"""Values of the processors of texts, with which the unknown token or a can always be written."""


def values_of(name: str) -> list[Any]:
    """Some values in the range of a processor, its bounds among them."""
    processor = processors[name]
    if name in TEXTS:
        return TEXTS[name]
    limits = bounds(processor.type)
    low, high = limits.get(">=", limits.get(">", 0) + 0.1 if ">" in limits else -2), limits.get("<=", 5)
    return [processor.parse(round(low + share * (high - low), 1 if isinstance(processor.default, float | tuple) else 0))
            if isinstance(processor.default, float | tuple) else processor.parse(int(low + share * (high - low)))
            for share in (0, 0.2, 0.6, 1)]  # fmt: skip


def known(batch: int = 1, ids: ArrayLike = (), bits: ArrayLike = (), **others: Any) -> dict[str, Any]:
    """What processors may read besides the logits."""
    return {
        "ids": np.broadcast_to(np.asarray(ids, np.int64), (batch, len(np.asarray(ids)))),
        "bits": np.broadcast_to(np.asarray(bits, np.float64), (batch, len(np.asarray(bits)))),
        "step": 0,
        "draws": np.full(batch, 0.5),
        "tokenizer": LETTERS,
        "training_text": TrainingText(LETTERS, lambda: encode_text(LETTERS, "abcabca")),
        **{one.name: one.default for one in parameters.values()},
        **others,
    }


def apply(name: str, value: Any, logits: ArrayLike, **others: Any) -> list[list[float]]:
    array = np.array(logits, dtype=np.float64)
    result = processors[name](array, processors[name].parse(value), **known(len(array), **others))
    return result.tolist()


@pytest.mark.parametrize("name", processors)
def test_the_default_changes_nothing(name: str) -> None:
    logits = np.array([[1.0, -INF, 3.0]])
    assert processors[name](logits, processors[name].default) is logits


@pytest.mark.parametrize("name", processors)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_token_stays_and_what_was_ruled_out_stays_out(name: str, data: Any) -> None:
    texts, reads = name in TEXTS, "tokenizer" in processors[name].needs  # LETTERS, which has 8 tokens
    logits = data.draw(arrays(np.float64, (2, 8), elements=st.floats(-30, 30)) if reads else LOGITS)
    batch, size = logits.shape
    ruled_out = data.draw(arrays(np.bool_, logits.shape))
    ruled_out[:, data.draw(st.integers(0, 1 if texts else size - 1))] = False
    if texts:
        ruled_out[:, :2] = False  # the unknown token and a, one of which each value allows
    logits[ruled_out] = -INF
    before = logits.copy()
    context = known(batch) | {
        "ids": data.draw(arrays(np.int64, (batch, 6), elements=st.integers(0, size - 1))),
        "bits": data.draw(arrays(np.float64, (batch, 5), elements=st.floats(0, 9))),
        "draws": data.draw(arrays(np.float64, (batch,), elements=st.floats(0, 0.99))),
        "step": data.draw(st.integers(0, 5)),
    }
    for value in values_of(name):
        result = processors[name](logits, value, **context)
        assert result.shape == logits.shape
        assert result.dtype == np.float64
        assert np.array_equal(logits, before), "the input must not be changed in place"
        assert (result[ruled_out] == -INF).all()
        assert np.isfinite(result.max(-1)).all()
        if name in KEEP_THE_BEST:
            assert np.array_equal(np.take_along_axis(result, logits.argmax(-1)[:, None], -1)[:, 0], result.max(-1))
        for row in range(batch):  # rows do not see each other
            own = {key: one[row : row + 1] if isinstance(one, np.ndarray) else one for key, one in context.items()}
            assert np.array_equal(processors[name](logits[row : row + 1], value, **own), result[row : row + 1])


@pytest.mark.parametrize("name", [name for name in generation_settings() if name not in TEXTS])
def test_values_are_read_from_text_and_held_to_their_range(name: str) -> None:
    setting = generation_settings()[name]
    if name == "dry_sequence_breakers":
        assert setting.parse("\n") == ("\n",)
        return
    several = isinstance(setting.default, tuple)
    assert setting.parse("1") == ((1,) if several else 1)
    limits = bounds(setting.type)
    assert type(setting.parse("1")) is type(setting.default)
    assert setting.parse(setting.default) == setting.default
    with pytest.raises(CharlmError, match=f"`{name}` must be a"):
        setting.parse("much")
    with pytest.raises(CharlmError, match=f"`{name}` must be a"):
        setting.parse("nan")
    if ">=" in limits:
        with pytest.raises(CharlmError, match=f"`{name}` must be at least {limits['>=']:g}, not"):
            setting.parse(limits[">="] - 1)
    if ">" in limits:
        with pytest.raises(CharlmError, match=f"`{name}` must be above {limits['>']:g}, not"):
            setting.parse(limits[">"])
    if "<=" in limits:
        with pytest.raises(CharlmError, match=f"`{name}` must be at most {limits['<=']:g}, not"):
            setting.parse(limits["<="] + 0.5)


def test_an_unknown_processor_names_the_nearest() -> None:
    with pytest.raises(CharlmError, match=r"no logits processor 'topk'; .*did you mean 'top_k'"):
        processors["topk"]


def test_rules_come_first_then_penalties_then_the_temperature_then_what_cuts_off() -> None:
    assert sorted(processors, key=lambda name: processors[name].order) == [
        "logit_bias", "ban", "allow", "repetition_penalty", "presence_penalty", "frequency_penalty", "dry_multiplier",
        "no_repeat_ngram", "no_copy", "temperature", "top_n_sigma", "top_k", "top_p", "min_p", "typical_p",
        "epsilon_cutoff", "xtc_probability", "surprise",
    ]  # fmt: skip
    names = list(generation_settings())
    assert names.index("penalty_window") == names.index("repetition_penalty") + 1
    assert set(names) == {*processors, *parameters}


def test_temperature_divides() -> None:
    assert apply("temperature", 0.5, [[1.0, 3.0, -INF]]) == [[-4.0, 0.0, -INF]]
    assert apply("temperature", 2.0, [[1.0, 3.0], [8.0, 0.0]]) == [[-1.0, 0.0], [0.0, -4.0]]


def test_temperature_zero_keeps_the_first_of_the_most_probable() -> None:
    assert apply("temperature", 0.0, [[1.0, 3.0, 3.0], [-INF, -5.0, -6.0]]) == [[-INF, 3.0, -INF], [-INF, -5.0, -INF]]


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert apply("temperature", 1e-320, [[1.0, 3.0, 3.0]]) == [[-INF, 0.0, 0.0]]


def test_top_k() -> None:
    logits = [[1.0, 4.0, 2.0, 3.0]]
    assert apply("top_k", 1, logits) == [[-INF, 4.0, -INF, -INF]]
    assert apply("top_k", 2, logits) == [[-INF, 4.0, -INF, 3.0]]
    assert apply("top_k", 4, logits) == logits
    assert apply("top_k", 100, logits) == logits
    # Equals of the last stay; with fewer finite logits than k all of them stay.
    assert apply("top_k", 2, [[1.0, 3.0, 3.0, 3.0]]) == [[-INF, 3.0, 3.0, 3.0]]
    assert apply("top_k", 3, [[1.0, -INF, -INF, 2.0]]) == [[1.0, -INF, -INF, 2.0]]


def test_top_p() -> None:
    logits = np.log([[0.125, 0.5, 0.25, 0.125]])
    a, b, c, d = logits[0].tolist()
    assert apply("top_p", 0.0, logits) == [[-INF, b, -INF, -INF]]
    assert apply("top_p", 0.4, logits) == [[-INF, b, -INF, -INF]]
    assert apply("top_p", 0.5, logits) == [[-INF, b, -INF, -INF]]  # reached exactly
    assert apply("top_p", 0.6, logits) == [[-INF, b, c, -INF]]
    assert apply("top_p", 0.74, logits) == [[-INF, b, c, -INF]]
    assert apply("top_p", 0.8, logits) == [[a, b, c, d]]  # the two last are equal
    assert apply("top_p", 0.9, [[0.0, -INF]]) == [[0.0, -INF]]
    assert apply("top_p", 0.6, [[7.0, 7.0 - 50]]) == [[7.0, -INF]]


def test_min_p() -> None:
    logits = np.log([[0.1, 0.6, 0.3]])
    a, b, c = logits[0].tolist()
    assert apply("min_p", 0.16, logits) == [[a, b, c]]
    assert apply("min_p", 0.17, logits) == [[-INF, b, c]]
    assert apply("min_p", 0.51, logits) == [[-INF, b, -INF]]
    assert apply("min_p", 1.0, [[2.0, 3.0, 3.0]]) == [[-INF, 3.0, 3.0]]


def test_temperatures_take_turns() -> None:
    logits = [[0.0, 2.0]]
    for step, expected in enumerate([[-4.0, 0.0], [-1.0, 0.0], [-4.0, 0.0]]):
        assert apply("temperature", [0.5, 2], logits, step=step) == [expected]


def test_typical_p() -> None:
    logits = np.log([[0.5, 0.3, 0.2]])  # information 0.69, 1.20 and 1.61 nats; entropy 1.03: the second is nearest
    a, b, c = logits[0].tolist()
    assert apply("typical_p", 0.2, logits) == [[-INF, b, -INF]]
    assert apply("typical_p", 0.3, logits) == [[-INF, b, -INF]]
    assert apply("typical_p", 0.31, logits) == [[a, b, -INF]]
    assert apply("typical_p", 0.81, logits) == [[a, b, c]]
    assert apply("typical_p", 0.0, [[0.0, -INF, 0.0]]) == [[0.0, -INF, -INF]]


def test_epsilon_cutoff() -> None:
    logits = np.log([[0.1, 0.6, 0.3]])
    a, b, c = logits[0].tolist()
    assert apply("epsilon_cutoff", 0.09, logits) == [[a, b, c]]
    assert apply("epsilon_cutoff", 0.2, logits) == [[-INF, b, c]]
    assert apply("epsilon_cutoff", 0.9, logits) == [[-INF, b, -INF]]
    assert apply("epsilon_cutoff", 1.0, [[2.0, 2.0, 1.0]]) == [[2.0, 2.0, -INF]]


def test_top_n_sigma() -> None:
    logits = [[0.0, 2.0, 4.0, -INF]]  # mean 2, standard deviation sqrt(8 / 3) = 1.63 of the finite ones
    assert apply("top_n_sigma", 1.0, logits) == [[-INF, -INF, 4.0, -INF]]
    assert apply("top_n_sigma", 1.3, logits) == [[-INF, 2.0, 4.0, -INF]]
    assert apply("top_n_sigma", 2.5, logits) == [[0.0, 2.0, 4.0, -INF]]
    assert apply("top_n_sigma", 0.5, [[1.0, 1.0]]) == [[1.0, 1.0]]


def test_xtc() -> None:
    logits = np.log([[0.4, 0.3, 0.2, 0.1]])
    a, b, c, d = logits[0].tolist()
    for threshold, expected in ((0.15, [-INF, -INF, c, d]), (0.25, [-INF, b, c, d]), (0.35, [a, b, c, d])):
        assert apply("xtc_probability", 0.6, logits, xtc_threshold=threshold) == [expected]
    assert apply("xtc_probability", 0.5, logits, xtc_threshold=0.15) == [[a, b, c, d]], "0.5 was drawn"
    assert apply("xtc_probability", 1.0, np.log([[0.5, 0.5]])) == [np.log([0.5, 0.5]).tolist()], "equals stay"
    two = processors["xtc_probability"](np.repeat(logits, 2, 0), 0.5, draws=np.array([0.4, 0.6]), xtc_threshold=0.15)
    assert two.tolist() == [[-INF, -INF, c, d], [a, b, c, d]]


def test_penalties() -> None:
    logits, ids = [[2.0, -2.0, 1.0]], [0, 1, 0]
    assert apply("repetition_penalty", 2.0, logits, ids=ids) == [[1.0, -4.0, 1.0]]
    assert apply("repetition_penalty", 2.0, logits, ids=ids, penalty_window=1) == [[1.0, -2.0, 1.0]]
    assert apply("presence_penalty", 0.5, logits, ids=ids) == [[1.5, -2.5, 1.0]]
    assert apply("frequency_penalty", 0.5, logits, ids=ids) == [[1.0, -2.5, 1.0]]
    assert apply("frequency_penalty", 0.5, logits, ids=ids * 50, penalty_window=0) == [[-48.0, -27.0, 1.0]]
    assert apply("frequency_penalty", 0.5, logits, ids=ids * 50, penalty_window=64) == [[-19.5, -12.5, 1.0]]
    assert apply("presence_penalty", -1.0, logits, ids=[]) == logits


def test_no_repeat_ngram() -> None:
    zeros = [[0.0] * 5]
    assert apply("no_repeat_ngram", 1, zeros, ids=[1, 3]) == [[0, -INF, 0, -INF, 0]]
    assert apply("no_repeat_ngram", 2, zeros, ids=[1, 2, 1, 3, 1]) == [[0, 0, -INF, -INF, 0]]
    assert apply("no_repeat_ngram", 3, zeros, ids=[1, 2, 3, 1, 2]) == [[0, 0, 0, -INF, 0]]
    assert apply("no_repeat_ngram", 3, zeros, ids=[3, 2, 4, 1, 2]) == zeros
    assert apply("no_repeat_ngram", 4, zeros, ids=[1, 2]) == zeros
    assert apply("no_repeat_ngram", 1, [[0.0, 1.0]], ids=[0, 1]) == [[0.0, 1.0]], "one token must stay"


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 3), max_size=30), n=st.integers(1, 5))
def test_no_repeat_ngram_by_brute_force(ids: list[int], n: int) -> None:
    result = apply("no_repeat_ngram", n, np.zeros((1, 5)), ids=ids)[0]
    grams = {tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)}
    last = ids[len(ids) - n + 1 :] if n > 1 else []
    for token in range(5):
        repeated = len(last) == n - 1 and (*last, token) in grams
        assert result[token] == (-INF if repeated else 0.0)


def test_dry_by_hand() -> None:
    # a b c d a b c: the last three tokens stood before d, the last one alone before nothing else.
    assert apply("dry_multiplier", 1.0, np.zeros((1, 8)), ids=[1, 2, 3, 4, 1, 2, 3]) == [
        [0, 0, 0, 0, -1.75, 0, 0, 0]  # length 3, one above the two that are allowed
    ]
    changed = {"dry_base": 2.0, "dry_allowed_length": 1, "dry_sequence_breakers": ("b",)}
    assert apply("dry_multiplier", 3.0, np.zeros((1, 8)), ids=[1, 2, 3, 4, 1, 2, 3], **changed) == [
        [0, 0, 0, 0, -3.0, 0, 0, 0]  # b ends the repetition: its length is 1
    ]
    assert apply("dry_multiplier", 3.0, np.zeros((1, 8)), ids=[1, 2, 1, 2], **changed) == [[0.0] * 8]


@settings(deadline=None)
@given(ids=st.lists(st.integers(1, 4), max_size=40))
def test_dry_by_brute_force(ids: list[int]) -> None:
    result = apply("dry_multiplier", 1.0, np.zeros((1, 8)), ids=ids, dry_sequence_breakers=("d",))[0]
    for token in range(8):
        longest = 0
        for end in range(len(ids) - 1):  # the repetition ends here, and the token follows it
            length = 0
            while length <= end and length < len(ids) - 1 and ids[end - length] == ids[-1 - length] != 4:
                length += 1
            if ids[end + 1] == token:
                longest = max(longest, length)
        assert result[token] == pytest.approx(-(1.75 ** (longest - 2)) if longest >= 2 else 0.0)


def test_dry_with_extreme_parameters() -> None:
    row = apply("dry_multiplier", 1.0, np.zeros((1, 8)), ids=[1, 2, 3, 4] * 13, dry_base=1e38)[0]
    assert np.isfinite(row).all()
    assert [id for id in range(8) if row[id] < 0] == [1]
    row = apply("dry_multiplier", 1.0, np.zeros((1, 8)), ids=[1] * 70, dry_allowed_length=60)[0]
    assert row == [0.0, -1.0, *[0.0] * 6]


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=20), min_size=1, max_size=4), n=st.integers(1, 4))
def test_rows_with_shorter_prompts_are_searched_as_if_alone(rows: list[list[int]], n: int) -> None:
    longest = max(map(len, rows))
    ids = np.array([[-1] * (longest - len(row)) + row for row in rows])
    for name, changed in (("no_repeat_ngram", {}), ("dry_multiplier", {"dry_allowed_length": n})):
        context = known(len(rows)) | {"ids": ids} | changed
        found = processors[name](np.zeros((len(rows), 8)), n, **context)
        for row, result in zip(rows, found, strict=True):
            assert apply(name, n, np.zeros((1, 8)), ids=row, **changed) == [result.tolist()]


@pytest.fixture(scope="module")
def vocabularies() -> dict[str, Tokenizer]:
    text = ["the cat sat on the mat, a naïve cat\n" * 20]
    return {kind: learn(TokenizerConfig(kind=kind, min_frequency=1), text) for kind in ("char", "word", "byte")} | {
        "bpe": learn(TokenizerConfig(kind="bpe", size=300), text)
    }


def kept_tokens(name: str, value: Any, tokenizer: Tokenizer, before: str = "") -> set[bytes]:
    """What the tokens spell that may follow a text."""
    ids = tokenizer.encode(before)
    row = apply(name, value, np.zeros((1, len(tokenizer))), ids=ids, tokenizer=tokenizer)[0]
    return {tokenizer.spellings[id] for id in range(len(tokenizer)) if row[id] == 0}


@pytest.mark.parametrize("kind", ["char", "word", "byte", "bpe"])
@pytest.mark.parametrize("before", ["", "the", "the c", "the ca", "a na", "cat "])
def test_a_banned_text_is_never_completed(vocabularies: dict[str, Tokenizer], kind: str, before: str) -> None:
    tokenizer, banned = vocabularies[kind], ["cat", "ï", "t s"]
    kept = kept_tokens("ban", banned, tokenizer, before)
    head = tokenizer.decode(tokenizer.encode(before)).encode()
    for spelling in tokenizer.spellings:
        tail = head[-2:] + spelling
        assert (spelling in kept) == (not any(text.encode() in tail for text in banned)), spelling


def test_the_last_byte_of_a_banned_character_is_excluded(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["byte"]
    first, second = "ï".encode()
    result = apply("ban", "ï", np.zeros((1, 256)), ids=[first], tokenizer=tokenizer)[0]
    assert [id for id in range(256) if result[id] == -INF] == [second]
    result = apply("allow", "aï", np.zeros((1, 256)), ids=[first], tokenizer=tokenizer)[0]
    assert [id for id in range(256) if result[id] == 0] == [second]
    result = apply("allow", "aï", np.zeros((1, 256)), ids=[ord("a")], tokenizer=tokenizer)[0]
    assert [id for id in range(256) if result[id] == 0] == [ord("a"), first]


def test_only_tokens_of_allowed_characters_stay(vocabularies: dict[str, Tokenizer]) -> None:
    assert kept_tokens("allow", "cat ", vocabularies["char"]) == {b"c", b"a", b"t", b" "}
    assert kept_tokens("allow", "cat ", vocabularies["word"]) == {b" cat", b" a"}
    assert kept_tokens("allow", ["tesh", "mac"], vocabularies["word"]) == {b"the"}
    assert b" cat" in kept_tokens("allow", "cat ", vocabularies["bpe"])


def test_a_bias_is_added_to_the_tokens_that_spell_a_text(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["word"]
    for value in ({"the": 2, "cat": -1.0}, ["the:2", "cat:-1"]):
        row = apply("logit_bias", value, np.zeros((1, len(tokenizer))), tokenizer=tokenizer)[0]
        changed = {tokenizer.tokens[id]: row[id] for id in range(len(tokenizer)) if row[id]}
        assert changed == {"the": 2.0, " the": 2.0, " cat": -1.0}
    assert processors["logit_bias"].parse("::3") == ((":", 3.0),)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logit_bias", "x", "needs a text and a number, such as e:-2"),
        ("logit_bias", "a:much", "`logit_bias` must be a number"),
        ("logit_bias", "cats:1", "no token of the vocabulary spells 'cats'.*did you mean 'cat'|name one token"),
        ("ban", "", "texts that are not empty"),
        ("ban", list("the catsonm,naïv\n\ufffd"), "excludes every token"),
        ("allow", "xyz", "no token of the vocabulary consists of 'xyz'"),
    ],
)
def test_impossible_texts_are_refused(vocabularies: dict[str, Tokenizer], name: str, value: Any, message: str) -> None:
    tokenizer = vocabularies["char"]
    with pytest.raises(CharlmError, match=message):
        apply(name, value, np.zeros((1, len(tokenizer))), tokenizer=tokenizer)


def test_the_boundary_of_items_is_always_possible() -> None:
    tokenizer = learn(TokenizerConfig(), ["ab\nba\n"], unit="line")
    assert tokenizer.boundary is not None
    for name, value in (("ban", ["a", "\n"]), ("allow", "b"), ("no_repeat_ngram", 1)):
        row = apply(name, value, np.zeros((1, len(tokenizer))), ids=[tokenizer.boundary], tokenizer=tokenizer)[0]
        assert row[tokenizer.boundary] == 0


def test_mirostat_limits_the_information() -> None:
    logits = np.log([[0.5, 0.25, 0.125, 0.125]])  # 1, 2, 3 and 3 bits
    a, b, c, d = logits[0].tolist()
    assert apply("surprise", 1.0, logits) == [[a, b, -INF, -INF]], "the first limit is twice the target"
    assert apply("surprise", 1.5, logits) == [[a, b, c, d]]
    assert apply("surprise", 1.0, logits, bits=[5.0, 7.5]) == [[a, -INF, -INF, -INF]]  # 2 - 0.1 (4 + 6.5) = 0.95
    assert apply("surprise", 1.0, logits, bits=[0.0] * 10) == [[a, b, c, d]]  # 2 + 0.1 * 10 = 3
