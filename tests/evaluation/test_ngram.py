"""N-gram models, against the definitions written out with dictionaries, and against their own samples."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.evaluation import ngram
from charlm.evaluation.ngram import DISCOUNTS, SMOOTHINGS, NGramCounts, NGramModel, Smoothing, ranks, total_nats, tune

Gram = tuple[int, ...]
Texts = list[list[int]]  # items, each with the boundary before it and the one after it
PTB = Path(__file__).parents[3] / "shared" / "data" / "ptb"


def items_of(ids: list[int], starts: list[int] | None) -> Texts:
    """The items of a text; a boundary between two of them belongs to both."""
    starts = starts or [0]
    ends = [*(start + 1 for start in starts[1:]), len(ids)]
    return [ids[start:end] for start, end in zip(starts, ends, strict=True)]


def discounts(counts: list[int]) -> list[float]:
    n1, n2, n3, n4 = (counts.count(count) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return list(DISCOUNTS)
    y = n1 / (n1 + 2 * n2)
    found = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return found if min(found[1:]) > 0 else list(DISCOUNTS)


class Plain:
    """Both smoothings as they are written in the books, with dictionaries."""

    def __init__(self, texts: Texts, order: int, size: int, smoothing: Smoothing, strength: float) -> None:
        self.size, self.smoothing, self.strength = size, smoothing, strength
        occurrences: Counter[Gram] = Counter()
        predecessors: dict[Gram, set[object]] = defaultdict(set)
        for number, item in enumerate(texts):
            for end in range(1, len(item) + 1):
                for length in range(1, min(end, order) + 1):
                    if length == 1 and end == 1 and number:
                        continue  # a boundary, counted as the last token of the item before
                    gram = tuple(item[end - length : end])
                    occurrences[gram] += 1
                    # At the start of an item there is no token before it; every such place counts.
                    predecessors[gram].add(item[end - length - 1] if end > length else ("start", number))
        self.levels: list[dict[Gram, dict[int, int]]] = [defaultdict(dict) for _ in range(order)]
        for gram, count in occurrences.items():
            if smoothing == "kneser_ney" and len(gram) < order:
                count = len(predecessors[gram])
            self.levels[len(gram) - 1][gram[:-1]][gram[-1]] = count
        self.discounts = [
            [
                min(value, strength * one)
                for value, one in enumerate(discounts([count for row in level.values() for count in row.values()]))
            ]
            for level in self.levels
        ]

    def probability(self, context: Gram, token: int) -> float:
        shorter = self.probability(context[1:], token) if context else 1 / self.size
        following = self.levels[len(context)].get(context)
        if not following:
            return shorter
        count, total = following.get(token, 0), sum(following.values())
        if self.smoothing == "witten_bell":
            kinds = self.strength * len(following)
            return (count + kinds * shorter) / (total + kinds)
        off = self.discounts[len(context)]
        rest = sum(off[min(one, 3)] for one in following.values())
        return (count - off[min(count, 3)] + rest * shorter) / total

    def log_probabilities(self, texts: Texts) -> list[float]:
        order, found = len(self.levels), []
        for number, item in enumerate(texts):
            for end in range(1 if number else 0, len(item)):  # the boundary is the last token of the item before
                found.append(math.log(self.probability(tuple(item[max(0, end - order + 1) : end]), item[end])))
        return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, list[list[int]], list[list[int] | None]]:
    """Size of the vocabulary, order, two texts (the training text and another) and their items."""
    size = draw(st.sampled_from([1, 2, 4, 300, 5000, 3_000_000]))
    order = draw(st.integers(1, 8))
    used = draw(st.integers(1, min(size, 6)))
    ids = draw(st.lists(st.integers(size - used, size - 1), min_size=1, max_size=120))
    other = draw(st.lists(st.integers(max(0, size - 8), size - 1), min_size=1, max_size=60))
    if draw(st.booleans()):
        return size, order, [ids, other], [None, None]
    starts: list[list[int] | None] = []
    for text in (ids, other):
        found = draw(st.sets(st.integers(1, max(1, len(text) - 2)))) if len(text) > 2 else set()
        starts.append([0, *sorted(found)])
        for start in (*starts[-1], len(text) - 1):  # type: ignore[misc]
            text[start] = size - 1  # the boundary
    return size, order, [ids, other], starts


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from(SMOOTHINGS), st.sampled_from([1.0, 0.6, 1.7]))
def test_it_is_the_definition(
    case: tuple[int, int, list[list[int]], list[list[int] | None]], smoothing: Smoothing, strength: float
) -> None:
    size, highest, texts, starts = case
    counts = NGramCounts(texts[0], highest, size, starts[0])
    for order in range(1, highest + 1):
        model = NGramModel(counts, order, smoothing, strength)
        plain = Plain(items_of(texts[0], starts[0]), order, size, smoothing, strength)
        for text, places in zip(texts, starts, strict=True):
            expected = plain.log_probabilities(items_of(text, places))
            assert model.log_probabilities(text, places) == pytest.approx(expected, rel=1e-9, abs=1e-9)
            assert total_nats([model], counts.look_up(text, places)) == pytest.approx([-sum(expected[1:])], abs=1e-7)


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from(SMOOTHINGS), st.sampled_from([1.0, 0.6, 1.7]), st.data())
def test_the_probabilities_of_all_tokens_sum_to_one(
    case: tuple[int, int, list[list[int]], list[list[int] | None]],
    smoothing: Smoothing,
    strength: float,
    data: st.DataObject,
) -> None:
    size, order, (ids, other), (starts, _) = case
    size = min(size, 12)  # every token is asked for
    ids, other = [id % size for id in ids], [id % size for id in other]
    model = NGramModel(NGramCounts(ids, order, size, starts), None, smoothing, strength)
    place = data.draw(st.integers(0, len(ids)))
    for context in ([], ids[max(0, place - order) : place], other[:order], [0] * order):  # seen and unseen
        rows = [np.exp(model.log_probabilities([*context, token])[-1]) for token in range(size)]
        assert min(rows) > 0
        assert sum(rows) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("order", "size"), [(3, 7), (4, 300)])
def test_the_probabilities_of_a_longer_text_sum_to_one(order: int, size: int, smoothing: Smoothing) -> None:
    ids = np.random.default_rng(1).integers(0, min(size, 20), 4000).tolist()
    model = NGramModel(NGramCounts(ids, order, size), smoothing=smoothing)
    for context in ([], ids[:1], ids[50:56], [0] * 6, [size - 1] * 3):
        probabilities = [np.exp(model.log_probabilities([*context, token])[-1]) for token in range(size)]
        assert min(probabilities) > 0
        assert sum(probabilities) == pytest.approx(1, abs=1e-10)


def test_estimated_discounts_are_the_definition() -> None:
    ids = (np.random.default_rng(0).integers(0, 30, 3000) ** 2 // 30).tolist()  # enough for all four counts of counts
    model, plain = NGramModel(NGramCounts(ids, 3, 30)), Plain([ids], 3, 30, "kneser_ney", 1)
    assert plain.discounts[2] != list(DISCOUNTS)
    assert model.log_probabilities(ids) == pytest.approx(plain.log_probabilities([ids]), rel=1e-9)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_long_texts_are_looked_up_in_chunks(smoothing: Smoothing, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(3).integers(0, 4, 500)
    starts = [0, 7, 8, 64, 130, 300]
    whole = NGramModel(NGramCounts(ids, 5, 4, starts), smoothing=smoothing).log_probabilities(ids, starts)
    for chunk in (1, 7, 64):
        monkeypatch.setattr(ngram, "CHUNK", chunk)
        model = NGramModel(NGramCounts(ids, 5, 4, starts), smoothing=smoothing)
        assert np.array_equal(model.log_probabilities(ids, starts), whole)


def test_kneser_ney_of_order_one_written_out() -> None:
    # a twice, b once: counts too few to estimate discounts, so 1 and 0.5 are taken from them and shared out.
    model = NGramModel(NGramCounts([0, 0, 1], 1, 2))
    left = (1 + 0.5) / 3
    expected = [(2 - 1) / 3 + left / 2, (1 - 0.5) / 3 + left / 2]
    assert np.exp(model.log_probabilities([0, 1])) == pytest.approx(expected, rel=1e-12)
    assert model.cross_entropy([0, 1]) == pytest.approx(-np.log(expected).mean(), rel=1e-12)


def test_kneser_ney_of_order_two_written_out() -> None:
    # "aba": a stands at the start and after b, b after a. After a, b was seen once, after b, a was.
    model = NGramModel(NGramCounts([0, 1, 0], 2, 2))
    a = (2 - 1) / 3 + (1 + 0.5) / 3 / 2
    b = 1 - a
    assert np.exp(model.log_probabilities([0, 1, 0])) == pytest.approx([a, 0.5 + 0.5 * b, 0.5 + 0.5 * a], rel=1e-12)
    assert np.exp(model.log_probabilities([0, 0])) == pytest.approx([a, 0.5 * a], rel=1e-12)


def test_witten_bell_of_order_two_written_out() -> None:
    # "aba": a twice, b once: two kinds among three tokens. After a, b was seen once: one kind, one token.
    model = NGramModel(NGramCounts([0, 1, 0], 2, 2), smoothing="witten_bell")
    a = (2 + 2 * 1 / 2) / (3 + 2)
    assert np.exp(model.log_probabilities([0, 1, 0])) == pytest.approx([a, (1 + 1 - a) / 2, (1 + a) / 2], rel=1e-12)


def test_items_start_with_an_empty_memory() -> None:
    # Boundary 0; the items "1 2" and "2 1". What ends one item says nothing about the next.
    ids, starts = [0, 1, 2, 0, 2, 1, 0], [0, 3]
    model = NGramModel(NGramCounts(ids, 3, 3, starts))
    alone = model.log_probabilities([0, 2, 1, 0], [0])
    assert np.array_equal(model.log_probabilities(ids, starts)[4:], alone[1:])
    across = NGramModel(NGramCounts(ids, 3, 3))  # has seen what follows the end of the first item
    assert not np.array_equal(across.log_probabilities(ids)[4:], alone[1:])


def test_more_context_predicts_a_text_better() -> None:
    ids = np.frombuffer(b"the cat sat on the mat and the dog sat on the cat. " * 40, np.uint8)
    counts = NGramCounts(ids[:1500], 6, 128)
    nats = [NGramModel(counts, order).cross_entropy(ids[1500:]) for order in (1, 2, 4, 6)]
    assert nats == sorted(nats, reverse=True)
    assert nats[0] > 2
    assert nats[-1] < 0.15


def test_tuning_finds_an_order_and_a_strength() -> None:
    draw = np.random.default_rng(0)
    ids = [0, 1]
    while len(ids) < 9000:  # each token follows from the two before it, in one of four ways
        ids.append(int((3 * ids[-1] + 5 * ids[-2] + draw.integers(0, 4)) % 23))
    counts = NGramCounts(ids[:6000], 5, 23)
    looked_up = list(counts.look_up(ids[6000:]))
    best = tune(counts, looked_up)
    (lowest,) = total_nats([best], looked_up)
    assert best.order == 3
    others = [
        NGramModel(counts, order, smoothing, strength)
        for smoothing in SMOOTHINGS
        for order in range(1, 6)
        for strength in (0.5, 1, 2)
    ]
    assert lowest <= min(total_nats(others, looked_up))
    (near,) = total_nats([NGramModel(counts, 3, best.smoothing, best.strength * 1.2)], looked_up)
    assert lowest < near


def test_a_sample_follows_the_probabilities() -> None:
    ids = [0, 1, 0, 2, 2, 1, 0, 1, 1, 2, 0, 0, 1, 0, 2, 1]
    model = NGramModel(NGramCounts(ids, 4, 4), order=3)  # the token 3 was never seen
    sample = model.sample(20_000, seed=3)
    assert sample.shape == (20_000,)
    for context in ((0, 1), (2, 2), (1, 3)):
        after = [int(sample[i + 2]) for i in range(len(sample) - 2) if tuple(sample[i : i + 2]) == context]
        assert len(after) > 100
        for token in range(4):
            probability = float(np.exp(model.log_probabilities([*context, token])[-1]))
            deviation = math.sqrt(probability * (1 - probability) / len(after))
            # Contexts at the very start are others, but of 20,000 tokens only two stand there.
            assert after.count(token) / len(after) == pytest.approx(probability, abs=4 * deviation)


def test_a_sample_is_fixed_by_its_seed() -> None:
    model = NGramModel(NGramCounts(np.random.default_rng(0).integers(0, 5000, 2000), 5, 5000))
    first = model.sample(300, seed=1)
    assert np.array_equal(first, model.sample(300, seed=1))
    assert not np.array_equal(first, model.sample(300, seed=2))
    assert first.min() >= 0
    assert first.max() < 5000
    assert len(model.sample(0, seed=1)) == 0


def test_a_text_of_one_token() -> None:
    model = NGramModel(NGramCounts([0], 6, 1))
    assert model.cross_entropy([0, 0, 0]) == pytest.approx(0, abs=1e-6)
    assert model.sample(5, seed=1).tolist() == [0] * 5


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="order"):
        NGramCounts([0], 0, 5)
    with pytest.raises(ValueError, match="vocabulary"):
        NGramCounts([0], 2, 0)
    with pytest.raises(ValueError, match="no tokens"):
        NGramCounts([], 2, 5)
    with pytest.raises(ValueError, match="0 to 4, not 5"):
        NGramCounts([1, 5], 2, 5)
    with pytest.raises(ValueError, match="order from 1 to 2"):
        NGramModel(NGramCounts([1, 2], 2, 5), order=3)


def test_ranks() -> None:
    assert ranks(np.array([2, 5, 7]), np.array([7, 1, 5, 6, 9])).tolist() == [2, -1, 1, -1, -1]
    assert ranks(np.array([], np.uint64), np.array([1], np.uint64)).tolist() == [-1]


@pytest.mark.skipif(not PTB.is_dir(), reason="needs Penn Treebank in ../shared/data/ptb")
def test_published_perplexities_of_penn_treebank() -> None:
    # Mikolov et al. (2011): 148.3 and 141.2; sentences by themselves, one end of sentence each.
    ids: dict[str, int] = {"<eos>": 0}

    def read(name: str) -> tuple[list[int], list[int]]:
        tokens, starts = [0], []
        for line in (PTB / f"ptb.{name}.txt").read_text(encoding="utf-8").splitlines():
            starts.append(len(tokens) - 1)
            tokens += [*(ids.setdefault(word, len(ids)) for word in line.split()), 0]
        return tokens, starts

    (train, starts), test = read("train"), read("test")
    assert (len(train) - 1, len(test[0]) - 1, len(ids)) == (929_589, 82_430, 10_000)
    counts = NGramCounts(train, 5, len(ids), starts)
    nats = total_nats([NGramModel(counts, 3), NGramModel(counts, 5)], counts.look_up(*test))
    assert [math.exp(one / 82_430) for one in nats] == pytest.approx([148.3, 141.2], abs=0.05)
