"""N-gram models: they predict a token from the few tokens before it, are fitted in seconds, and serve as baselines.

1. `NGramCounts` counts the n-grams of a text of every length up to an order.
2. An `NGramModel` smooths these counts: Kneser-Ney or Witten-Bell, of any order up to that of the counts.
3. `total_nats` scores a text by several models of the same counts at once, and `tune` finds the best model for a text.

Equations and sources are in the docstrings of the two smoothings, `_kneser_ney` and `_witten_bell`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int64]
Ranks = NDArray[np.int64]  # indices of values in an ascending list; -1: not in the list
Numbers = NDArray[np.float64]

LookedUp = list[tuple[Ranks, Ranks]]  # by context length: context and pair of each token

Smoothing = Literal["kneser_ney", "witten_bell"]
SMOOTHINGS: tuple[Smoothing, ...] = get_args(Smoothing)

DISCOUNTS = np.array([0, 0.5, 1, 1.5])  # of counts 0, 1, 2, 3 and more, if there are too few counts to estimate them
CHUNK = 1 << 15  # tokens that are looked up at once: few enough to stay in the processor's cache
DENSE = 64  # keys are stored as a bitmap if their range is below this times their number
LARGEST_BITMAP = 1 << 28  # and below this
BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # (256, 8)
ABSENT = -128
RANK_IN_BYTE = np.where(BITS, BITS.cumsum(axis=1) - 1, ABSENT).astype(np.int8).ravel()  # (256 * 8,)


class _KeySet:
    """A set of keys in ascending order, with fast look-up of the rank (index) of a key.

    The look-up uses a bitmap if the keys are dense, with the number of keys before each byte of it;
    else binary search.

    Args:
        keys: (keys,), ascending.
        present: (size,) whether each number is a key, to make the bitmap; None: binary search.
    """

    def __init__(self, keys: Ids, present: NDArray[np.bool_] | None = None) -> None:
        self.keys = keys
        self._bitmap = None if present is None else np.packbits(present, bitorder="little")
        if self._bitmap is not None:
            per_byte = BITS.sum(axis=1, dtype=np.int32)[self._bitmap]
            self._before = np.cumsum(per_byte, dtype=np.int32) - per_byte

    @classmethod
    def of(cls, keys: Ids, size: int) -> tuple[_KeySet, Ranks]:
        """The set of some keys from 0 to `size - 1`, and the rank of each of them, (keys,)."""
        if size >= min(DENSE * len(keys), LARGEST_BITMAP):
            different, rank = np.unique(keys, return_inverse=True)
            return cls(different), rank
        present = np.zeros(size, np.bool_)
        present[keys] = True
        found = cls(np.flatnonzero(present), present)
        parts = [found.ranks(keys[start : start + CHUNK]) for start in range(0, len(keys), CHUNK)]
        return found, np.concatenate(parts)

    def __len__(self) -> int:
        return len(self.keys)

    def ranks(self, wanted: Ids) -> Ranks:
        """The rank of each key, (wanted,); -1 for a key that is not in the set, or is negative."""
        if self._bitmap is None:
            return ranks(self.keys, wanted)
        byte = np.maximum(wanted, 0) >> 3
        inside = RANK_IN_BYTE[(self._bitmap[byte].astype(np.int64) << 3) | (wanted & 7)]
        return np.where((inside >= 0) & (wanted >= 0), self._before[byte] + inside, -1)


class _Level:
    """The n-grams of one length (contexts), and the n-grams one token longer that begin with them (pairs).

    A context is represented by its rank among all n-grams of its length, and a pair by the number
    `rank of the context * vocabulary size + token`. So the ranks of the pairs are the contexts of the next level.

    Args:
        pairs: The numbers of the pairs.
        vocabulary_size: Number of tokens.
        contexts: Number of contexts.
        occurrences: (pairs,) how often each occurs.

    Attributes:
        predecessors: (pairs,) how many different tokens precede each, plus how often it stands at
            the start of an item; None at the last level.
    """

    def __init__(self, pairs: _KeySet, vocabulary_size: int, contexts: int, occurrences: Ranks) -> None:
        self.pairs = pairs
        self.vocabulary_size = vocabulary_size
        self.contexts = contexts
        self.occurrences = occurrences
        self.predecessors: Ranks | None = None

    @property
    def context_of_pair(self) -> Ranks:
        """(pairs,) the context that each begins with."""
        return self.pairs.keys // self.vocabulary_size


class NGramCounts:
    """How often every n-gram of a text occurs, up to a length.

    Args:
        ids: The text, (tokens,), at least one.
        order: Tokens of the longest n-gram.
        vocabulary_size: Number of token ids, from 0.
        starts: (items,) positions of the first token of each item, for a text of items; no n-gram crosses such a token,
            which is also the last token of the item before (see `TokenStream.starts`). None: the text is one item.
    """

    def __init__(self, ids: ArrayLike, order: int, vocabulary_size: int, starts: ArrayLike | None = None) -> None:
        if order < 1 or vocabulary_size < 1:
            raise ValueError("an n-gram model needs an order and a vocabulary of at least 1")
        self.order = order
        self.vocabulary_size = vocabulary_size
        self.levels: list[_Level] = []  # by the length of the context: 0, 1, ..., order - 1
        tokens, first = _items(ids, starts, self.vocabulary_size)
        contexts, count = np.zeros(len(tokens), np.int64), 1
        shorter = np.empty(0, np.int64)  # the pairs of the level before, by the position of their last token
        for length in range(order):
            inside = contexts >= 0  # the others would reach beyond the start of their item
            pairs, found = _KeySet.of((contexts * vocabulary_size + tokens)[inside], count * vocabulary_size)
            self.levels.append(_Level(pairs, vocabulary_size, count, np.bincount(found)))
            rank = np.full(len(tokens), -1)
            rank[inside] = found
            if length:
                examples = np.empty(len(pairs), np.int64)  # a position of each pair
                examples[found] = np.flatnonzero(inside)
                known = len(self.levels[-2].pairs)
                at_start = shorter[~inside & (shorter >= 0)]
                self.levels[-2].predecessors = np.bincount(shorter[examples], minlength=known) + np.bincount(
                    at_start, minlength=known
                )
            shorter, count = rank, len(pairs)
            contexts = _next_contexts(rank, first, length, -1)

    def look_up(self, ids: ArrayLike, starts: ArrayLike | None = None) -> Iterator[LookedUp]:
        """Find the n-grams of another text, and yield them in chunks of tokens.

        Yields:
            For each length of the context from 0 on: the rank of the context before each token, and the rank of the
            n-gram that both form, (chunk,) each; -1 if it was not counted.
        """
        tokens, first = _items(ids, starts, self.vocabulary_size)
        before = [-1] * self.order  # for each level, the context of the first token of the chunk
        for start in range(0, len(tokens), CHUNK):
            chunk, first_here = tokens[start : start + CHUNK], first[start : start + CHUNK]
            contexts, found = np.zeros(len(chunk), np.int64), []
            for length, level in enumerate(self.levels):
                pairs = level.pairs.ranks(contexts * self.vocabulary_size + chunk)
                found.append((contexts, pairs))
                contexts = _next_contexts(np.append(pairs, 0), np.append(first_here, False), length, before[length])
                contexts, before[length] = contexts[:-1], int(contexts[-1])
            yield found


def _items(
    ids: ArrayLike, starts: ArrayLike | None, vocabulary_size: int
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """The tokens of a text, (tokens,), and whether each is the first of an item."""
    tokens = np.asarray(ids)
    if not len(tokens):
        raise ValueError("a text of no tokens cannot be counted")
    if tokens.min() < 0 or tokens.max() >= vocabulary_size:
        raise ValueError(f"the ids of this vocabulary are 0 to {vocabulary_size - 1}, not {tokens.max()}")
    first = np.zeros(len(tokens), np.bool_)
    first[0 if starts is None else np.asarray(starts)] = True
    return tokens, first


def _next_contexts(pairs: Ranks, first: NDArray[np.bool_], length: int, before: int) -> Ranks:
    """The context of `length + 1` tokens of each token: the pair that ends at the token before it.

    Args:
        pairs: (tokens,) the pair that ends at each token.
        first: (tokens,) whether a token is the first of an item; the token after it has no longer
            context than this one token.
        length: Tokens of the context of a pair.
        before: The context of the first of these tokens.
    """
    contexts = np.empty_like(pairs)
    contexts[0] = before
    contexts[1:] = pairs[:-1]
    if length:
        contexts[1:][first[:-1]] = -1
    return contexts


class _Smoothed(NamedTuple):
    """The smoothed probabilities of a level.

    Args:
        kept: (pairs + 1,) the part of the probability of a pair's token that its own count gives;
            the last is 0, for a pair that was not seen.
        rest: (contexts + 1,) the probability that a context passes to the next shorter one; the
            last is 1, for a context that was not seen.
    """

    kept: Numbers
    rest: Numbers

    @classmethod
    def of(cls, kept: NDArray[Any], passed: NDArray[Any], totals: NDArray[Any]) -> _Smoothed:
        """Make it from `kept` and the fraction `passed / totals` that each context passes on."""
        rest = np.divide(passed, totals, out=np.ones(len(totals)), where=totals > 0)
        return cls(np.append(kept, 0), np.append(rest, 1))


def _kneser_ney(level: _Level, strength: float, longest: bool) -> _Smoothed:
    """Interpolated Kneser-Ney smoothing with three discounts.

    A token that followed a context c times gets the probability (c - D(c)) / (sum of the counts of the context). The
    probability that the discounts D leave is distributed by the next shorter context. Its count of
    a token is the number of different tokens that precede context and token (Kneser and Ney, 1995;
    interpolated, with discounts for counts of 1, 2, and 3 or more: Chen and Goodman, 1998).
    `strength` multiplies the estimated discounts.
    """
    counts = level.occurrences if longest or level.predecessors is None else level.predecessors
    contexts = level.context_of_pair
    discounts = np.minimum(strength * _discounts(counts), range(4))[np.minimum(counts, 3)]
    totals = np.bincount(contexts, counts, level.contexts)
    passed = np.bincount(contexts, discounts, level.contexts)
    return _Smoothed.of((counts - discounts) / totals[contexts], passed, totals)


def _witten_bell(level: _Level, strength: float, longest: bool) -> _Smoothed:
    """Interpolated Witten-Bell smoothing.

    A token that followed a context c times gets the probability c / (n + k), where n tokens of k different kinds
    followed the context; k / (n + k) is distributed by the next shorter context (Witten and Bell, 1991, method C;
    interpolated: Chen and Goodman, 1998). `strength` multiplies k.
    """
    counts, contexts = level.occurrences, level.context_of_pair
    passed = strength * np.bincount(contexts, minlength=level.contexts)
    totals = passed + np.bincount(contexts, counts, level.contexts)
    return _Smoothed.of(counts / totals[contexts], passed, totals)


_SMOOTHINGS: dict[Smoothing, Callable[[_Level, float, bool], _Smoothed]] = {
    "kneser_ney": _kneser_ney,
    "witten_bell": _witten_bell,
}


class NGramModel:
    """Predicts a token from the `order - 1` tokens before it.

    The probability of a token is interpolated over this context and all shorter ones. The empty
    context passes its rest to a uniform distribution, so that no token is impossible.

    Args:
        counts: The n-grams of the text that the model is fitted to.
        order: Tokens of the longest n-gram; a model of order 1 has only token frequencies. None: that of the counts.
        smoothing: How the probabilities of contexts of different length are combined.
        strength: How much of its probability a context passes to shorter ones, relative to the smoothing's estimate.
    """

    def __init__(
        self,
        counts: NGramCounts,
        order: int | None = None,
        smoothing: Smoothing = "kneser_ney",
        strength: float = 1.0,
    ) -> None:
        self.counts = counts
        self.order = counts.order if order is None else order
        self.smoothing = smoothing
        self.strength = strength
        self.vocabulary_size = counts.vocabulary_size
        if not 1 <= self.order <= counts.order or strength <= 0:
            raise ValueError(f"these counts need an order from 1 to {counts.order} and a strength above 0")
        self._levels = [
            _SMOOTHINGS[smoothing](level, strength, length == self.order - 1)
            for length, level in enumerate(counts.levels[: self.order])
        ]

    @property
    def name(self) -> str:
        """Its order and smoothing in words; the strength is named where it is not 1."""
        smoothing = {"kneser_ney": "Kneser-Ney", "witten_bell": "Witten-Bell"}[self.smoothing]
        strength = "" if self.strength == 1 else f", strength {self.strength:.2f}"
        return f"{self.order}-gram, {smoothing}{strength}"

    def log_probabilities(self, ids: ArrayLike, starts: ArrayLike | None = None) -> Numbers:
        """ln p(token | the tokens before it in its item) of each token of a text, (tokens,)."""
        return np.concatenate([np.log(self.probabilities(found)) for found in self.counts.look_up(ids, starts)])

    def probabilities(self, found: LookedUp) -> Numbers:
        """The probability of each token of a chunk of `NGramCounts.look_up`, (chunk,)."""
        probabilities = np.full(len(found[0][0]), 1 / self.vocabulary_size)
        for level, (contexts, pairs) in zip(self._levels, found, strict=False):  # the counts may have more levels
            probabilities = level.kept[pairs] + level.rest[contexts] * probabilities
        return probabilities

    def cross_entropy(self, ids: ArrayLike) -> float:
        """Nats per token of a text of at least one token."""
        return float(-self.log_probabilities(ids).mean())

    def sample(self, length: int, seed: int) -> NDArray[np.int32]:
        """Sample `length` tokens from the start of a text; the same seed gives the same tokens."""
        contexts = [0] + [-1] * (self.order - 1)
        tokens = np.empty(length, np.int32)
        for index, number in enumerate(np.random.default_rng(seed).random(length).tolist()):
            tokens[index] = token = self._draw(contexts, number)
            keys = [context * self.vocabulary_size + token for context in contexts[:-1]]
            known = zip(self.counts.levels, keys, strict=False)
            contexts = [0, *(_rank(level.pairs.keys, key) for level, key in known)]
        return tokens

    def _draw(self, contexts: list[int], number: float) -> int:
        """The token that a uniform `number` from 0 to below 1 selects by the inverse cumulative distribution."""
        size = self.vocabulary_size
        for length in reversed(range(self.order)):
            context, rest = contexts[length], self._levels[length].rest
            kept = 1 - float(rest[context])
            if context >= 0 and number < kept:
                pairs, cumulative = self.counts.levels[length].pairs.keys, self._cumulative[length]
                first = int(pairs.searchsorted(context * size))
                last = int(pairs.searchsorted((context + 1) * size)) - 1
                pair = int(cumulative.searchsorted(cumulative[first] + number, side="right")) - 1
                return int(pairs[min(pair, last)]) % size
            number = (number - kept) / (1 - kept)
        return min(int(number * size), size - 1)

    @cached_property
    def _cumulative(self) -> list[Numbers]:
        """(pairs + 1,) of each level: the sum of `kept` before each pair."""
        return [np.concatenate([[0], np.cumsum(level.kept[:-1])]) for level in self._levels]


def total_nats(models: Sequence[NGramModel], looked_up: Iterable[LookedUp]) -> list[float]:
    """The summed cross-entropy in nats of a text by several models of the same counts, in one pass.

    The first token is not predicted: it is only context, as for a network (see `TokenStream.predicted`).

    Args:
        models: The models.
        looked_up: What `NGramCounts.look_up` found of the text.
    """
    nats = [0.0] * len(models)
    for number, found in enumerate(looked_up):
        for index, model in enumerate(models):
            nats[index] -= float(np.log(model.probabilities(found)[number == 0 :]).sum())
    return nats


def tune(counts: NGramCounts, looked_up: Sequence[LookedUp]) -> NGramModel:
    """Find the order, smoothing and strength with which a model of these counts predicts best.

    For each smoothing, the search starts at the best order with a strength of 1. It goes to a better neighbour as long
    as there is one. A neighbour has an order one higher or lower, or a strength multiplied or
    divided by `2**step`, where `step` is 1, then 1/2, 1/4 and 1/8.

    Args:
        counts: The n-grams of the training text.
        looked_up: What `NGramCounts.look_up` found of the text, which must not be the training text.
    """
    best: list[tuple[float, NGramModel]] = []
    for smoothing in SMOOTHINGS:
        models = [NGramModel(counts, order, smoothing) for order in range(1, counts.order + 1)]
        lowest = dict(zip([(model.order, 0.0) for model in models], total_nats(models, looked_up), strict=True))
        place = min(lowest, key=lowest.__getitem__)
        for step in (1, 1 / 2, 1 / 4, 1 / 8):
            while True:
                order, power = place
                for one in ((order, power + step), (order, power - step), (order + 1, power), (order - 1, power)):
                    if one not in lowest and 1 <= one[0] <= counts.order:
                        model = NGramModel(counts, one[0], smoothing, 2 ** one[1])
                        lowest[one] = total_nats([model], looked_up)[0]
                place = min(lowest, key=lowest.__getitem__)
                if place == (order, power):
                    break
        best.append((lowest[place], NGramModel(counts, place[0], smoothing, 2 ** place[1])))
    return min(best, key=lambda found: found[0])[1]


def ranks(known: NDArray[Any], wanted: NDArray[Any]) -> Ranks:
    """The index of each of `wanted` in the ascending `known`, (wanted,); -1 if it is not there."""
    if not len(known):
        return np.full(len(wanted), -1)
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[index] == wanted, index, -1)


def _rank(known: Ids, wanted: int) -> int:
    """`ranks` for a single value."""
    index = int(known.searchsorted(wanted))
    return index if index < len(known) and known[index] == wanted else -1


def _discounts(counts: Ranks) -> Numbers:
    """The discounts of counts 0, 1, 2, 3 and more, (4,), estimated from how many are 1, 2, 3 and 4.

    The estimate assumes that most n-grams are rare. For a small vocabulary it can be negative or
    undefined; then the fixed discounts of KenLM (Heafield et al., 2013) are used.
    """
    ones, twos, threes, fours = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not (ones and twos and threes):
        return DISCOUNTS
    y = ones / (ones + 2 * twos)  # the name in Chen and Goodman
    discounts = np.array([0, 1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes])
    return discounts if (discounts[1:] > 0).all() else DISCOUNTS
