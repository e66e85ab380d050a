"""N-gram models: they predict a text from counts and are fitted in seconds.

Their texts are the baselines that the text of a network is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int32]
Ranks = NDArray[np.int64]  # indices in an ascending list
Numbers = NDArray[np.float64]

WORD = 62  # bits of a number that ids are packed into
DISCOUNTS = np.array([0, 0.5, 1, 1.5])  # of counts 0, 1, 2, 3 and more, if there are too few counts to estimate them


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length (contexts), and the n-grams one token longer that begin with them (pairs).

    Contexts and pairs are represented by their rank among all n-grams of their length in lexicographic order, so that
    the pairs of one level are the contexts of the next. The rank of an n-gram that was not seen is -1.

    Args:
        pairs: (pairs,) `rank of the context * (vocabulary + 1) + token + 1`, ascending.
        kept: (pairs + 1,) probability of the token after the context by its discounted count; the last is 0, for a
            pair that was not seen.
        rest: (contexts + 1,) probability that the context passes to the next shorter one; the last is 1, for a
            context that was not seen.
    """

    pairs: Ranks
    kept: NDArray[np.float32]
    rest: NDArray[np.float32]

    @cached_property
    def cumulative(self) -> Numbers:
        """(pairs + 1,) the sum of `kept` before each pair, for sampling."""
        return np.concatenate([[0], np.cumsum(self.kept[:-1], dtype=np.float64)])


class NGramModel:
    """Predicts a token from the `order - 1` tokens before it: an n-gram model with modified Kneser-Ney smoothing.

    A token that followed a context c times gets the probability (c - D(c)) / (sum of the counts of the context). The
    probability that the discounts D leave is distributed by the next shorter context, whose counts are the numbers of
    different longer contexts in which a token occurred (Kneser and Ney, 1995; interpolated, with three discounts: Chen
    and Goodman, 1998). The empty context passes its rest to a uniform distribution, so that no token is impossible.

    Args:
        order: Tokens of the longest n-gram; a model of order 1 has only token frequencies.
        vocabulary_size: Number of token ids, from 0.
    """

    def __init__(self, order: int, vocabulary_size: int) -> None:
        if order < 1 or vocabulary_size < 1:
            raise ValueError("an n-gram model needs an order and a vocabulary of at least 1")
        self.order = order
        self.vocabulary_size = vocabulary_size
        self._base = vocabulary_size + 1  # symbols: 0 is the padding before and after a text, i + 1 is token i
        self._levels: list[_Level] = []  # by the length of the context: 0, 1, ..., order - 1

    def fit(self, ids: ArrayLike) -> Self:
        """Fit the model to a text, (tokens,); earlier counts are discarded."""
        symbols = np.append(self._symbols(ids), np.zeros(self.order - 1, np.int32))
        positions, new = _sorted_ngrams(symbols, self.order, self._base)
        rank = np.cumsum(new[-1]) - 1
        inside = positions <= len(symbols) - 2 * self.order + 1  # the others extend past the end
        counts = np.bincount(rank[inside], minlength=rank[-1] + 1)
        levels = []
        for length in reversed(range(self.order)):
            first = np.flatnonzero(new[length])  # of each pair, among the sorted n-grams
            starts = positions[first]
            rank = np.cumsum(new[length - 1]) - 1 if length else np.zeros(len(positions), np.int64)
            contexts = rank[first]
            levels.append(self._level(contexts, symbols[starts + length], counts))
            if length:  # a shorter pair counts the pairs that end with it
                rank[positions] = rank.copy()  # by position in the text
                counts = np.bincount(rank[starts[counts > 0] + 1], minlength=contexts[-1] + 1)
        self._levels = levels[::-1]
        return self

    def _level(self, contexts: Ranks, symbols: Ids, counts: Ranks) -> _Level:
        off = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(contexts, counts)
        rest = np.divide(np.bincount(contexts, off), totals, out=np.ones(len(totals)), where=totals > 0)
        kept = (counts - off) / np.maximum(totals, 1)[contexts]
        pairs = contexts * self._base + symbols
        return _Level(pairs, np.append(kept, 0).astype(np.float32), np.append(rest, 1).astype(np.float32))

    def log_probabilities(self, ids: ArrayLike) -> Numbers:
        """ln p(token | the tokens before it) of each token of a text, (tokens,), which starts with an empty context."""
        symbols = self._symbols(ids)
        probabilities = np.full(len(symbols) - self.order + 1, 1 / self.vocabulary_size)
        contexts = np.zeros(len(symbols), np.int64)  # by their start
        for length, level in enumerate(self._levels):
            contexts = contexts[: len(symbols) - length]
            pairs = ranks(level.pairs, contexts * self._base + symbols[length:])
            before = self.order - 1 - length  # contexts that end before the first token
            probabilities = level.kept[pairs[before:]] + level.rest[contexts[before:]] * probabilities
            contexts = pairs
        return np.log(probabilities)

    def cross_entropy(self, ids: ArrayLike) -> float:
        """Nats per token of a text of at least one token."""
        return float(-self.log_probabilities(ids).mean())

    def sample(self, length: int, seed: int) -> Ids:
        """Sample `length` tokens from the start of a text; the same seed gives the same tokens."""
        contexts = [0] + [-1] * (self.order - 1)
        for _ in range(self.order - 1):
            contexts = self._longer(contexts, 0)
        tokens = np.empty(length, np.int32)
        for index, number in enumerate(np.random.default_rng(seed).random(length).tolist()):
            tokens[index] = token = self._draw(contexts, number)
            contexts = self._longer(contexts, token + 1)
        return tokens

    def _longer(self, contexts: list[int], symbol: int) -> list[int]:
        """The ranks of the contexts of 0, 1, ... symbols after one more symbol."""
        known = zip(contexts[:-1], self._levels[:-1], strict=True)
        return [0, *(_rank(level.pairs, context * self._base + symbol) for context, level in known)]

    def _draw(self, contexts: list[int], number: float) -> int:
        """The token that a uniform `number` from 0 to below 1 selects by the inverse cumulative distribution."""
        for context, level in zip(reversed(contexts), reversed(self._levels), strict=True):
            kept = 1 - float(level.rest[context])
            if number < kept:
                first = int(level.pairs.searchsorted(context * self._base))
                last = int(level.pairs.searchsorted((context + 1) * self._base)) - 1
                pair = int(level.cumulative.searchsorted(level.cumulative[first] + number, side="right")) - 1
                return int(level.pairs[min(pair, last)]) % self._base - 1
            number = (number - kept) / (1 - kept)
        return min(int(number * self.vocabulary_size), self.vocabulary_size - 1)

    def _symbols(self, ids: ArrayLike) -> Ids:
        """The symbols of a text after those of an empty context, (order - 1 + tokens,)."""
        tokens = np.asarray(ids, np.int32)
        if not len(tokens):
            raise ValueError("a text of no tokens cannot be counted")
        return np.append(np.zeros(self.order - 1, np.int32), tokens + 1)


def _sorted_ngrams(ids: Ids, length: int, size: int) -> tuple[Ranks, list[NDArray[np.bool_]]]:
    """The starts of all n-grams of `length` ids below `size` in lexicographic order, and where they differ.

    Returns:
        (n-grams,) starts, and for n = 1, 2, ..., `length` whether an n-gram differs from the one before it in its first
        n ids, (n-grams,) each.
    """
    bits = max(1, (size - 1).bit_length())
    count, held = len(ids) - length + 1, WORD // bits
    words, widths = [], []  # of each n-gram: several ids as the digits of one number
    for first in range(0, length, held):
        word = np.zeros(count, np.int64)
        for offset in range(first, min(first + held, length)):
            word <<= bits
            word |= ids[offset : offset + count]
        words.append(word)
        widths.append(min(held, length - first))
    positions = np.argsort(words[0], kind="stable") if len(words) == 1 else np.lexsort(words[::-1])
    new = [np.arange(count) == 0]
    for word, width in zip(words, widths, strict=True):
        word = word[positions]
        for digits in reversed(range(width)):
            head = word >> (digits * bits)
            differs = new[-1].copy()
            differs[1:] |= head[1:] != head[:-1]
            new.append(differs)
    return positions, new[1:]


def ranks(known: NDArray[Any], wanted: NDArray[Any]) -> Ranks:
    """The index of each of `wanted` in the ascending `known`, (wanted,); -1 if it is not there."""
    if not len(known):
        return np.full(len(wanted), -1)
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[index] == wanted, index, -1)


def _rank(known: Ranks, wanted: int) -> int:
    """The same for a single value."""
    index = int(known.searchsorted(wanted))
    return index if index < len(known) and known[index] == wanted else -1


def _discounts(counts: Ranks) -> Numbers:
    """The discounts of counts of 0, 1, 2, 3 and more, estimated from how many counts are 1, 2, 3 and 4.

    The estimate assumes that most n-grams are rare. For a small vocabulary it can be negative; then fixed discounts are
    used, those of KenLM (Heafield et al., 2013).
    """
    ones, twos, threes, fours = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not (ones and twos and threes):
        return DISCOUNTS
    y = ones / (ones + 2 * twos)  # the name in Chen and Goodman
    discounts = np.array([0, 1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes])
    return discounts if (discounts[1:] > 0).all() else DISCOUNTS
