"""N-gram models, against the definition written out with dictionaries, and against their own samples."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.evaluation.ngram import DISCOUNTS, NGramModel, ranks

Gram = tuple[int, ...]
START = -1


def discounts(counts: list[int]) -> list[float]:
    n1, n2, n3, n4 = (counts.count(count) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return list(DISCOUNTS)
    y = n1 / (n1 + 2 * n2)
    found = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return found if min(found[1:]) > 0 else list(DISCOUNTS)


class Plain:
    """Interpolated modified Kneser-Ney as it is written in the books."""

    def __init__(self, order: int, size: int, ids: list[int]) -> None:
        padded = (START,) * (order - 1) + tuple(ids)
        counts = Counter(padded[end - order : end] for end in range(order, len(padded) + 1))
        self.size = size
        self.levels: dict[int, dict[Gram, dict[int, int]]] = {}
        self.discounts: dict[int, list[float]] = {}
        for length in reversed(range(order)):
            level: dict[Gram, dict[int, int]] = defaultdict(dict)
            for gram, count in counts.items():
                level[gram[:-1]][gram[-1]] = count
            self.levels[length], self.discounts[length] = level, discounts(list(counts.values()))
            counts = Counter(gram[1:] for gram in counts)

    def probability(self, before: Gram, token: int, length: int) -> float:
        if length < 0:
            return 1 / self.size
        shorter = self.probability(before, token, length - 1)
        following = self.levels[length].get(before[len(before) - length :])
        if not following:
            return shorter
        total, off = sum(following.values()), self.discounts[length]
        count = following.get(token, 0)
        rest = sum(off[min(count, 3)] for count in following.values())
        return (count - off[min(count, 3)] + rest * shorter) / total


def log_probabilities(plain: Plain, order: int, ids: list[int]) -> list[float]:
    padded = (START,) * (order - 1) + tuple(ids)
    return [
        math.log(plain.probability(padded[place : place + order - 1], token, order - 1))
        for place, token in enumerate(ids)
    ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_it_is_the_definition(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 2, 4, 300, 5000]))
    order = data.draw(st.integers(1, 6))  # of 5,000 tokens six do not fit one number
    ids = data.draw(st.lists(st.integers(0, min(size, 6) - 1), min_size=1, max_size=120))
    ids = [size - 1 - id for id in ids]  # the largest ids need the most bits
    other = data.draw(st.lists(st.integers(max(0, size - 8), size - 1), min_size=1, max_size=40))
    model, plain = NGramModel(order, size).fit(ids), Plain(order, size, ids)
    for text in (ids, other):
        assert model.log_probabilities(text) == pytest.approx(log_probabilities(plain, order, text), rel=1e-5, abs=1e-6)


def test_estimated_discounts_are_the_definition() -> None:
    ids = (np.random.default_rng(0).integers(0, 30, 3000) ** 2 // 30).tolist()  # enough for all four counts of counts
    model, plain = NGramModel(3, 30).fit(ids), Plain(3, 30, ids)
    assert plain.discounts[2] != list(DISCOUNTS)
    assert model.log_probabilities(ids) == pytest.approx(log_probabilities(plain, 3, ids), rel=1e-5, abs=1e-6)


def test_order_one_written_out() -> None:
    # a twice, b once: counts too few to estimate discounts, so 1 and 0.5 are taken from them and shared out.
    model = NGramModel(1, 2).fit([0, 0, 1])
    left = (1 + 0.5) / 3
    expected = [(2 - 1) / 3 + left / 2, (1 - 0.5) / 3 + left / 2]
    assert np.exp(model.log_probabilities([0, 1])) == pytest.approx(expected, rel=1e-6)
    assert model.cross_entropy([0, 1]) == pytest.approx(-np.log(expected).mean(), rel=1e-6)


def test_order_two_written_out() -> None:
    # "aba": a stands after the start and after b, b after a. After a, b was seen once.
    model = NGramModel(2, 2).fit([0, 1, 0])
    a = (2 - 1) / 3 + (1 + 0.5) / 3 / 2  # of three pairs two end in a
    b = 1 - a
    assert np.exp(model.log_probabilities([0, 1, 0])) == pytest.approx(
        [0.5 + 0.5 * a, 0.5 + 0.5 * b, 0.5 + 0.5 * a], rel=1e-6
    )
    assert np.exp(model.log_probabilities([0, 0])) == pytest.approx([0.5 + 0.5 * a, 0.5 * a], rel=1e-6)


@pytest.mark.parametrize(("order", "size"), [(1, 3), (3, 7), (5, 3), (4, 2000)])
def test_probabilities_sum_to_one(order: int, size: int) -> None:
    ids = np.random.default_rng(1).integers(0, min(size, 20), 400).tolist()
    model = NGramModel(order, size).fit(ids)
    for context in ([], ids[:1], ids[50:56], [0] * 6, [size - 1] * 3):
        probabilities = [np.exp(model.log_probabilities([*context, token])[-1]) for token in range(size)]
        assert min(probabilities) > 0
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_more_context_predicts_a_text_better() -> None:
    ids = np.frombuffer(b"the cat sat on the mat and the dog sat on the cat. " * 40, np.uint8)
    nats = [NGramModel(order, 128).fit(ids[:1500]).cross_entropy(ids[1500:]) for order in (1, 2, 4, 6)]
    assert nats == sorted(nats, reverse=True)
    assert nats[0] > 2
    assert nats[-1] < 0.15


def test_a_sample_follows_the_probabilities() -> None:
    ids = [0, 1, 0, 2, 2, 1, 0, 1, 1, 2, 0, 0, 1, 0, 2, 1]
    model = NGramModel(3, 4).fit(ids)  # the token 3 was never seen
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
    model = NGramModel(5, 5000).fit(np.random.default_rng(0).integers(0, 5000, 2000))
    first = model.sample(300, seed=1)
    assert np.array_equal(first, model.sample(300, seed=1))
    assert not np.array_equal(first, model.sample(300, seed=2))
    assert first.min() >= 0
    assert first.max() < 5000
    assert len(model.sample(0, seed=1)) == 0


def test_a_text_of_one_token() -> None:
    model = NGramModel(6, 1).fit([0])
    assert model.cross_entropy([0, 0, 0]) == pytest.approx(0, abs=1e-6)
    assert model.sample(5, seed=1).tolist() == [0] * 5


def test_fitting_again_forgets() -> None:
    model = NGramModel(3, 5).fit([0, 1, 2, 3]).fit([4, 4, 4])
    assert model.cross_entropy([4, 4]) == NGramModel(3, 5).fit([4, 4, 4]).cross_entropy([4, 4])


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="order"):
        NGramModel(0, 5)
    with pytest.raises(ValueError, match="vocabulary"):
        NGramModel(2, 0)
    with pytest.raises(ValueError, match="no tokens"):
        NGramModel(2, 5).fit([])


def test_ranks() -> None:
    assert ranks(np.array([2, 5, 7]), np.array([7, 1, 5, 6, 9])).tolist() == [2, -1, 1, -1, -1]
    assert ranks(np.array([], np.uint64), np.array([1], np.uint64)).tolist() == [-1]
