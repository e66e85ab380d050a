"""N-gram models: what can be known of a text by counting, in seconds and without a gradient.

They are the reference beside which a network is seen: their texts are the floor that its own are to leave behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int32]
Ranks = NDArray[np.int64]  # places in an ascending list
Numbers = NDArray[np.float64]

WORD = 62  # bits of a number that ids are packed into
DISCOUNTS = np.array([0, 0.5, 1, 1.5])  # of counts 0, 1, 2, 3 and more, where too little was counted to estimate them


@dataclass(frozen=True)
class _Level:
    """The runs of one length (contexts), and the runs one token longer that begin with them (pairs).

    Contexts and pairs are known by their rank among all runs of their length in the order of a dictionary, so that
    the pairs of one level are the contexts of the next. A rank of -1 is a run that was not seen.

    Args:
        pairs: (pairs,) `rank of the context * (vocabulary + 1) + token + 1`, ascending.
        kept: (pairs + 1,) probability of the token after the context by its discounted count; last: 0, of no pair.
        rest: (contexts + 1,) probability that the context leaves to a shorter one; last: 1, of no context.
    """

    pairs: Ranks
    kept: NDArray[np.float32]
    rest: NDArray[np.float32]

    @cached_property
    def heaped(self) -> Numbers:
        """(pairs + 1,) the sum of `kept` before each pair: a number within its context's part names a pair."""
        return np.concatenate([[0], np.cumsum(self.kept[:-1], dtype=np.float64)])


class NGramModel:
    """Predicts a token from the `order - 1` tokens before it by counting: interpolated modified Kneser-Ney.

    A token counted c times after a context has the probability (c - D(c)) / (all counts of the context). What the
    discounts D leave is shared out by the next shorter context, where it does not count how often a token followed,
    but in how many different longer contexts (Kneser and Ney, 1995; interpolated, with three discounts: Chen and
    Goodman, 1998). Below the context of no token all tokens are equally likely, so none is impossible.

    Args:
        order: Tokens of the longest n-gram; a model of order 1 knows frequencies alone.
        vocabulary_size: Ids run from 0 to one less.
    """

    def __init__(self, order: int, vocabulary_size: int) -> None:
        if order < 1 or vocabulary_size < 1:
            raise ValueError("an n-gram model needs an order and a vocabulary of at least 1")
        self.order = order
        self.vocabulary_size = vocabulary_size
        self._base = vocabulary_size + 1  # symbols: 0 is what stands before a text and after it, then come the tokens
        self._levels: list[_Level] = []  # by the length of the context: 0, 1, ..., order - 1

    def fit(self, ids: ArrayLike) -> Self:
        """Count a text, (tokens,); what was counted before is forgotten."""
        symbols = np.append(self._symbols(ids), np.zeros(self.order - 1, np.int32))
        places, new = _sorted_runs(symbols, self.order, self._base)
        rank = np.cumsum(new[-1]) - 1
        inside = places <= len(symbols) - 2 * self.order + 1  # the others reach past the end
        counts = np.bincount(rank[inside], minlength=rank[-1] + 1)
        levels = []
        for length in reversed(range(self.order)):
            first = np.flatnonzero(new[length])  # of each pair, among the sorted runs
            starts = places[first]
            rank = np.cumsum(new[length - 1]) - 1 if length else np.zeros(len(places), np.int64)
            contexts = rank[first]
            levels.append(self._level(contexts, symbols[starts + length], counts))
            if length:  # the shorter pair without its first token counts in how many pairs it is the rest
                rank[places] = rank.copy()  # by place in the text
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
        """ln p(token | the tokens before it) of a text, (tokens,); its start is taken for the start of a text."""
        symbols = self._symbols(ids)
        probabilities = np.full(len(symbols) - self.order + 1, 1 / self.vocabulary_size)
        contexts = np.zeros(len(symbols), np.int64)  # by where they start
        for length, level in enumerate(self._levels):
            contexts = contexts[: len(symbols) - length]
            pairs = ranks(level.pairs, contexts * self._base + symbols[length:])
            before = self.order - 1 - length  # starts before the context of the first token
            probabilities = level.kept[pairs[before:]] + level.rest[contexts[before:]] * probabilities
            contexts = pairs
        return np.log(probabilities)

    def cross_entropy(self, ids: ArrayLike) -> float:
        """Nats a token of a text of at least one token."""
        return float(-self.log_probabilities(ids).mean())

    def sample(self, length: int, seed: int) -> Ids:
        """Write `length` tokens from the start of a text; the same seed writes the same tokens."""
        contexts = [0] + [-1] * (self.order - 1)
        for _ in range(self.order - 1):
            contexts = self._longer(contexts, 0)
        tokens = np.empty(length, np.int32)
        for place, number in enumerate(np.random.default_rng(seed).random(length).tolist()):
            tokens[place] = token = self._draw(contexts, number)
            contexts = self._longer(contexts, token + 1)
        return tokens

    def _longer(self, contexts: list[int], symbol: int) -> list[int]:
        """The contexts of 0, 1, ... symbols, known by their ranks, after one symbol more."""
        known = zip(contexts[:-1], self._levels[:-1], strict=True)
        return [0, *(_rank(level.pairs, context * self._base + symbol) for context, level in known)]

    def _draw(self, contexts: list[int], number: float) -> int:
        """The token at `number`, from 0 to below 1, of all probability laid end to end, level after level."""
        for context, level in zip(reversed(contexts), reversed(self._levels), strict=True):
            kept = 1 - float(level.rest[context])
            if number < kept:
                first = int(level.pairs.searchsorted(context * self._base))
                last = int(level.pairs.searchsorted((context + 1) * self._base)) - 1
                pair = int(level.heaped.searchsorted(level.heaped[first] + number, side="right")) - 1
                return int(level.pairs[min(pair, last)]) % self._base - 1
            number = (number - kept) / (1 - kept)
        return min(int(number * self.vocabulary_size), self.vocabulary_size - 1)

    def _symbols(self, ids: ArrayLike) -> Ids:
        """A text with as much before it as a context is long, (order - 1 + tokens,)."""
        tokens = np.asarray(ids, np.int32)
        if not len(tokens):
            raise ValueError("there is nothing to count in a text of no tokens")
        return np.append(np.zeros(self.order - 1, np.int32), tokens + 1)


def _sorted_runs(ids: Ids, length: int, size: int) -> tuple[Ranks, list[NDArray[np.bool_]]]:
    """The starts of all runs of `length` ids below `size` in the order of a dictionary, and where they differ.

    Returns:
        (runs,), and for 1, 2, ..., `length` ids whether a run differs in the first so many from the one before.
    """
    bits = max(1, (size - 1).bit_length())
    count, held = len(ids) - length + 1, WORD // bits
    words, widths = [], []  # of each run, some ids after the other as digits of a number
    for first in range(0, length, held):
        word = np.zeros(count, np.int64)
        for offset in range(first, min(first + held, length)):
            word <<= bits
            word |= ids[offset : offset + count]
        words.append(word)
        widths.append(min(held, length - first))
    places = np.argsort(words[0], kind="stable") if len(words) == 1 else np.lexsort(words[::-1])
    new = [np.arange(count) == 0]
    for word, width in zip(words, widths, strict=True):
        word = word[places]
        for digits in reversed(range(width)):
            head = word >> (digits * bits)
            differs = new[-1].copy()
            differs[1:] |= head[1:] != head[:-1]
            new.append(differs)
    return places, new[1:]


def ranks(known: NDArray[Any], wanted: NDArray[Any]) -> Ranks:
    """Where each of `wanted` stands in the ascending `known`, (wanted,); -1 if it does not."""
    if not len(known):
        return np.full(len(wanted), -1)
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[index] == wanted, index, -1)


def _rank(known: Ranks, wanted: int) -> int:
    index = int(known.searchsorted(wanted))
    return index if index < len(known) and known[index] == wanted else -1


def _discounts(counts: Ranks) -> Numbers:
    """What is taken from counts of 0, 1, 2, 3 and more: estimated from how many counts are 1, 2, 3 and 4.

    The estimate supposes that most n-grams are rare. Of a few letters it may come out senseless; then fixed ones
    are taken, those of KenLM (Heafield et al., 2013).
    """
    ones, twos, threes, fours = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not (ones and twos and threes):
        return DISCOUNTS
    share = ones / (ones + 2 * twos)
    discounts = np.array(
        [0, 1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes]
    )
    return discounts if (discounts[1:] > 0).all() else DISCOUNTS
