"""N-gram models, which predict a token from the few tokens before it.

They are fitted in seconds and serve as baselines for networks.

1. `NGramCounts` counts the n-grams of a text, of every length up to a largest one (the order).
2. An `NGramModel` computes probabilities from these counts with Kneser-Ney or Witten-Bell
   smoothing. Its order may be lower than that of the counts.
3. `total_nats` scores a text by several models of the same counts at once; `tune` finds the model
   that predicts a text best.

Equations and sources are in the docstrings of `_kneser_ney` and `_witten_bell`.
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
LARGEST_BITMAP = 1 << 28  # and their range is below this
BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # (256, 8)
ABSENT = -128
RANK_IN_BYTE = np.where(BITS, BITS.cumsum(axis=1) - 1, ABSENT).astype(np.int8).ravel()  # (256 * 8,)


class _KeySet:
    """A set of integer keys in ascending order, with fast look-up of the rank (index) of a key.

    If the keys are dense, the look-up uses a bitmap and, for each byte of it, the number of keys
    before this byte. Otherwise it is a binary search.

    Args:
        keys: (keys,) the keys, ascending.
        present: (size,) whether each number from 0 on is a key, for the bitmap; None: binary
            search.
    """

    def __init__(self, keys: Ids, present: NDArray[np.bool_] | None = None) -> None:
        self.keys = keys
        self._bitmap = None if present is None else np.packbits(present, bitorder="little")
        if self._bitmap is not None:
            per_byte = BITS.sum(axis=1, dtype=np.int32)[self._bitmap]
            self._before = np.cumsum(per_byte, dtype=np.int32) - per_byte

    @classmethod
    def of(cls, keys: Ids, size: int) -> tuple[_KeySet, Ranks]:
        """Return the set of some keys from 0 to `size - 1`, and the rank of each key, (keys,)."""
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
        """Return the rank of each wanted key, (wanted,).

        The rank is -1 if the key is negative or not in the set.
        """
        if self._bitmap is None:
            return ranks(self.keys, wanted)
        byte = np.maximum(wanted, 0) >> 3
        inside = RANK_IN_BYTE[(self._bitmap[byte].astype(np.int64) << 3) | (wanted & 7)]
        return np.where((inside >= 0) & (wanted >= 0), self._before[byte] + inside, -1)


class _Level:
    """The n-grams of one length, called contexts, and those one token longer, called pairs.

    A pair consists of a context and the token after it. A context is represented by its rank among
    all contexts of the level, and a pair by the number `rank of the context * vocabulary size +
    token`. The pairs are the contexts of the next level, where each is represented by its rank
    among the pairs.

    Args:
        pairs: The numbers that represent the pairs.
        vocabulary_size: Number of different tokens.
        contexts: Number of contexts.
        occurrences: (pairs,) how often each pair occurs.

    Attributes:
        predecessors: (pairs,) how many different tokens precede each pair, plus how often the pair
            stands at the start of an item; None at the last level.
    """

    def __init__(self, pairs: _KeySet, vocabulary_size: int, contexts: int, occurrences: Ranks) -> None:
        self.pairs = pairs
        self.vocabulary_size = vocabulary_size
        self.contexts = contexts
        self.occurrences = occurrences
        self.predecessors: Ranks | None = None

    @property
    def context_of_pair(self) -> Ranks:
        """The rank of the context with which each pair begins, (pairs,)."""
        return self.pairs.keys // self.vocabulary_size


class NGramCounts:
    """Counts of all n-grams of a text up to a largest length.

    Args:
        ids: (tokens,) the text, at least one token.
        order: Tokens of the longest n-gram.
        vocabulary_size: Number of different token ids; they start at 0.
        starts: (items,) for a text of items, the position of the boundary token at the start of
            each item, which is also the last token of the item before (see `TokenStream.starts`).
            An n-gram may begin or end with this token but does not cross it. None: the text is one
            item.
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
            inside = contexts >= 0  # other contexts would begin before their item
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
        """Find the counted n-grams in another text, and yield them in chunks of tokens.

        Yields:
            For each chunk, a list that has, for each length of the context from 0 on, two arrays
            (chunk,): the rank of the context before each token, and the rank of the n-gram that
            this context and the token form. A rank is -1 if the context or n-gram was not counted,
            or would begin before the item.
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
    """Return the tokens of a text and whether each is the first of an item, both (tokens,)."""
    tokens = np.asarray(ids)
    if not len(tokens):
        raise ValueError("a text of no tokens cannot be counted")
    if tokens.min() < 0 or tokens.max() >= vocabulary_size:
        raise ValueError(f"the ids of this vocabulary are 0 to {vocabulary_size - 1}, not {tokens.max()}")
    first = np.zeros(len(tokens), np.bool_)
    first[0 if starts is None else np.asarray(starts)] = True
    return tokens, first


def _next_contexts(pairs: Ranks, first: NDArray[np.bool_], length: int, before: int) -> Ranks:
    """Return the context of `length + 1` tokens before each token.

    This context is the pair that ends at the token before; it is -1 if it was not counted, or if it
    would begin before the item of the token.

    Args:
        pairs: (tokens,) the pair that ends at each token. It consists of this token and the
            context of `length` tokens before it.
        first: (tokens,) whether each token is the first of an item.
        length: Tokens of the context of a pair.
        before: The context to return for the first token.
    """
    contexts = np.empty_like(pairs)
    contexts[0] = before
    contexts[1:] = pairs[:-1]
    if length:
        contexts[1:][first[:-1]] = -1
    return contexts


class _Smoothed(NamedTuple):
    """The parts from which the smoothed probabilities of one level are computed.

    The probability of a token after a context is `kept` of the pair that both form, plus `rest` of
    the context times the probability of the token after the next shorter context.

    Args:
        kept: (pairs + 1,) the part of the probability that comes from the count of the pair itself.
            The last entry is 0, for a pair that was not counted.
        rest: (contexts + 1,) the probability that a context passes to the next shorter one. The
            last entry is 1, for a context that was not counted.
    """

    kept: Numbers
    rest: Numbers

    @classmethod
    def of(cls, kept: NDArray[Any], passed: NDArray[Any], totals: NDArray[Any]) -> _Smoothed:
        """Make the smoothed probabilities of a level.

        Args:
            kept: (pairs,) the part of the probability that comes from the count of each pair.
            passed: (contexts,) how much of its total count each context passes to the next shorter
                one.
            totals: (contexts,) the total count of each context.
        """
        rest = np.divide(passed, totals, out=np.ones(len(totals)), where=totals > 0)
        return cls(np.append(kept, 0), np.append(rest, 1))


def _kneser_ney(level: _Level, strength: float, longest: bool) -> _Smoothed:
    """Compute probabilities by interpolated Kneser-Ney smoothing with three discounts D.

    If a token followed a context c times, its count gives it the probability (c - D(c)) / (sum of
    the counts of the context). The probability that the discounts leave over is distributed in
    proportion to the probabilities after the next shorter context. For shorter contexts, c is not
    the number of occurrences, but the number of different tokens that precede context and token
    (Kneser and Ney, 1995; interpolated, with discounts for counts of 1, 2, and 3 or more: Chen and
    Goodman, 1998).

    Args:
        level: The counts.
        strength: The factor by which the estimated discounts are multiplied; D(c) is at most c.
        longest: Whether the contexts of the level are the longest ones of the model.
    """
    counts = level.occurrences if longest or level.predecessors is None else level.predecessors
    contexts = level.context_of_pair
    discounts = np.minimum(strength * _discounts(counts), range(4))[np.minimum(counts, 3)]
    totals = np.bincount(contexts, counts, level.contexts)
    passed = np.bincount(contexts, discounts, level.contexts)
    return _Smoothed.of((counts - discounts) / totals[contexts], passed, totals)


def _witten_bell(level: _Level, strength: float, longest: bool) -> _Smoothed:
    """Compute probabilities by interpolated Witten-Bell smoothing.

    Suppose that n tokens followed a context, k different ones. If a token occurs c times among
    them, its count gives it the probability c / (n + k). The remaining k / (n + k) is distributed
    in proportion to the probabilities after the next shorter context (Witten and Bell, 1991, method
    C; interpolated: Chen and Goodman, 1998).

    Args:
        level: The counts.
        strength: The factor by which k is multiplied.
        longest: Not used; `_kneser_ney` needs it.
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
    """An n-gram model, which predicts a token from the `order - 1` tokens before it.

    The probability of a token is interpolated over this context and all shorter ones. The empty
    context is interpolated with a uniform distribution, so every token is possible.

    Args:
        counts: The n-grams of the text to which the model is fitted.
        order: Tokens of the longest n-gram; a model of order 1 uses only token frequencies. None:
            the order of the counts.
        smoothing: How the probabilities after contexts of different length are combined.
        strength: How much probability a context passes to the next shorter one; 1: as much as the
            smoothing estimates, a higher value: more.
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
        """The order and the smoothing of the model in words, and its strength if this is not 1."""
        smoothing = {"kneser_ney": "Kneser-Ney", "witten_bell": "Witten-Bell"}[self.smoothing]
        strength = "" if self.strength == 1 else f", strength {self.strength:.2f}"
        return f"{self.order}-gram, {smoothing}{strength}"

    def log_probabilities(self, ids: ArrayLike, starts: ArrayLike | None = None) -> Numbers:
        """Return ln p(token | tokens before it in its item) for each token of a text, (tokens,)."""
        return np.concatenate([np.log(self.probabilities(found)) for found in self.counts.look_up(ids, starts)])

    def probabilities(self, found: LookedUp) -> Numbers:
        """Return the probability of each token of a chunk, (chunk,).

        Args:
            found: The chunk, as `NGramCounts.look_up` yields it.
        """
        probabilities = np.full(len(found[0][0]), 1 / self.vocabulary_size)
        for level, (contexts, pairs) in zip(self._levels, found, strict=False):  # the counts may have more levels
            probabilities = level.kept[pairs] + level.rest[contexts] * probabilities
        return probabilities

    def cross_entropy(self, ids: ArrayLike) -> float:
        """Return the mean loss of all tokens of a text in nats per token.

        Args:
            ids: The text, at least one token.
        """
        return float(-self.log_probabilities(ids).mean())

    def sample(self, length: int, seed: int) -> NDArray[np.int32]:
        """Generate a text of `length` tokens; the same seed gives the same tokens."""
        contexts = [0] + [-1] * (self.order - 1)
        tokens = np.empty(length, np.int32)
        for index, number in enumerate(np.random.default_rng(seed).random(length).tolist()):
            tokens[index] = token = self._draw(contexts, number)
            keys = [context * self.vocabulary_size + token for context in contexts[:-1]]
            known = zip(self.counts.levels, keys, strict=False)
            contexts = [0, *(_rank(level.pairs.keys, key) for level, key in known)]
        return tokens

    def _draw(self, contexts: list[int], number: float) -> int:
        """Return the token that a random number selects by the inverse cumulative distribution.

        Args:
            contexts: The rank of the context of each length, from 0 on; -1 if it was not counted.
            number: A uniform random number, at least 0 and below 1.
        """
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
        """For each level, the cumulative sums of `kept` over its pairs, after a 0, (pairs + 1,)."""
        return [np.concatenate([[0], np.cumsum(level.kept[:-1])]) for level in self._levels]


def total_nats(models: Sequence[NGramModel], looked_up: Iterable[LookedUp]) -> list[float]:
    """Return the summed cross-entropy in nats of a text under each of several models.

    The first token of the text is not predicted, just as for a network (see
    `TokenStream.predicted`).

    Args:
        models: Models of the same counts.
        looked_up: What `NGramCounts.look_up` yields for the text; it is read once.
    """
    nats = [0.0] * len(models)
    for number, found in enumerate(looked_up):
        for index, model in enumerate(models):
            nats[index] -= float(np.log(model.probabilities(found)[number == 0 :]).sum())
    return nats


def tune(counts: NGramCounts, looked_up: Sequence[LookedUp]) -> NGramModel:
    """Find the order, smoothing and strength with which these counts predict a text best.

    For each smoothing, the search starts at the best order with a strength of 1. Again and again it
    moves to the best neighbour, until no neighbour is better. A neighbour has an order that is one
    higher or lower, or a strength that is multiplied or divided by `2**step`. The search is done
    with a `step` of 1, then of 1/2, 1/4 and 1/8.

    Args:
        counts: The n-grams of the training text.
        looked_up: What `NGramCounts.look_up` yields for the text to predict, which must not be the
            training text.
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
    """Return the index in `known`, which is ascending, of each value of `wanted`, (wanted,).

    The index is -1 if `known` does not hold the value.
    """
    if not len(known):
        return np.full(len(wanted), -1)
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[index] == wanted, index, -1)


def _rank(known: Ids, wanted: int) -> int:
    """Return the index of a single value in `known`, which is ascending; -1 if it is not there."""
    index = int(known.searchsorted(wanted))
    return index if index < len(known) and known[index] == wanted else -1


def _discounts(counts: Ranks) -> Numbers:
    """Estimate the Kneser-Ney discounts of the counts 0, 1, 2, and 3 or more, (4,).

    They are computed from how many of the counts are 1, 2, 3 and 4. This assumes that most n-grams
    are rare. For a small vocabulary the estimate can be negative or undefined; then the fixed
    discounts of KenLM (Heafield et al., 2013) are returned.
    """
    ones, twos, threes, fours = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not (ones and twos and threes):
        return DISCOUNTS
    y = ones / (ones + 2 * twos)  # the name in Chen and Goodman
    discounts = np.array([0, 1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes])
    return discounts if (discounts[1:] > 0).all() else DISCOUNTS
