"""N-gram models: what can be known of a text by counting, in seconds and without a gradient.

They are the reference beside which a network is seen: their texts are the floor that its own are to leave behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int64]
Tokens = NDArray[np.int32]
Codes = NDArray[np.uint64]
Numbers = NDArray[np.float64]

MULTIPLIER = 0x9E3779B97F4A7C15  # odd and well mixed: 2**64 over the golden ratio
BLOCK = 1 << 18  # tokens counted at once
DISCOUNTS = np.array([0, 0.5, 1, 1.5])  # of counts 0, 1, 2, 3 and more, where too little was counted to estimate them


def window_codes(ids: NDArray[Any], length: int, size: int, starts: Ids | None = None) -> Codes:
    """One number for each run of `length` consecutive ids, the same number for the same run.

    While `size ** length` is at most 2**64 these are the digits of a number in base `size`, and the codes of
    different runs differ. Beyond, they are 64-bit hashes: that any two of ten million different runs share one has
    a probability of three in a million.

    Args:
        ids: (n,) from 0 to `size - 1`.
        length: Ids of a run. The n + 1 runs of no id at all are alike.
        size: How many different ids there are.
        starts: (runs,) where the runs begin; None: everywhere, (n - length + 1,), or nowhere in a shorter text.
    """
    base = np.uint64(_base(length, size))
    runs = max(0, len(ids) - length + 1) if starts is None else len(starts)
    codes = np.zeros(runs, np.uint64)
    for offset in range(length):
        codes *= base
        codes += (ids[offset : offset + runs] if starts is None else ids[starts + offset]).astype(np.uint64)
    return codes


def _code(ids: list[int], size: int) -> np.uint64:
    """The code of one run."""
    base, code = _base(len(ids), size), 0
    for id in ids:
        code = (code * base + id) % 2**64
    return np.uint64(code)


def _base(length: int, size: int) -> int:
    return size if size**length <= 2**64 else MULTIPLIER


def found(known: NDArray[Any], wanted: NDArray[Any]) -> tuple[Ids, NDArray[np.bool_]]:
    """Where each of `wanted` stands in the ascending `known`, (wanted,), and whether it does: if not, some place."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return index, known[index] == wanted


@dataclass(frozen=True)
class _Level:
    """What follows the contexts of one length.

    Args:
        contexts: (contexts,) their codes, ascending.
        pairs: (pairs,) `index of a context * vocabulary + token`, ascending, for every token seen after a context.
        kept: (pairs,) probability of that token by its discounted count.
        rest: (contexts,) probability left to the next shorter context.
    """

    contexts: Codes
    pairs: Ids
    kept: Numbers
    rest: Numbers

    @cached_property
    def heaped(self) -> Numbers:
        """(pairs + 1,) sums of `kept` up to each pair: to draw from a context is to look a number up in its part."""
        return np.concatenate([[0.0], np.cumsum(self.kept)])


class NGramModel:
    """Predicts a token from the `order - 1` tokens before it by counting: interpolated modified Kneser-Ney.

    A token counted c times after a context has the probability (c - D(c)) / (all counts of the context). What the
    discounts D leave is shared out by the next shorter context, where it does not count how often a token followed,
    but in how many different longer contexts (Kneser and Ney, 1995; with three discounts and interpolation: Chen
    and Goodman, 1998, equations 23 to 26). Below the context of no token all tokens are equally likely, so none is
    impossible.

    Args:
        order: Tokens of the longest n-gram; a model of order 1 knows frequencies alone.
        vocabulary_size: Ids run from 0 to one less.
    """

    def __init__(self, order: int, vocabulary_size: int) -> None:
        if order < 1 or vocabulary_size < 1:
            raise ValueError("an n-gram model needs an order and a vocabulary of at least 1")
        self.order = order
        self.vocabulary_size = vocabulary_size
        self._levels: list[_Level] = []  # by the length of the context: 0, 1, ..., order - 1

    def fit(self, ids: ArrayLike) -> Self:
        """Count a text, (tokens,); what was counted before is forgotten."""
        padded = self._padded(_tokens(ids))
        starts, counts = self._counted(padded)
        levels = []
        for length in reversed(range(self.order)):
            # Each n-gram of so many tokens and the one after them: where it starts in `padded`, and its count.
            contexts, _, owner = _ranked(window_codes(padded, length, self.vocabulary_size + 1, starts))
            pairs = owner * self.vocabulary_size + padded[starts + length]
            order = np.argsort(pairs)
            levels.append(self._level(contexts, pairs[order], counts[order]))
            if length:  # the first token is cut off, and what is then alike counts how often it was different
                _, places, index = _ranked(window_codes(padded, length, self.vocabulary_size + 1, starts + 1))
                starts, counts = starts[places] + 1, np.bincount(index)
        self._levels = levels[::-1]
        return self

    def _counted(self, padded: Tokens) -> tuple[Ids, Ids]:
        """A start of each n-gram of full length and how often it occurs, (different n-grams,) both."""
        codes, starts, counts = [], [], []
        for first in range(0, len(padded) - self.order + 1, BLOCK):  # what fits the cache is sorted many times faster
            block = padded[first : first + BLOCK + self.order - 1]
            found, places, index = _ranked(window_codes(block, self.order, self.vocabulary_size + 1))
            codes.append(found)
            starts.append(places + first)
            counts.append(np.bincount(index))
        _, places, index = _ranked(np.concatenate(codes))
        return np.concatenate(starts)[places], np.bincount(index, np.concatenate(counts)).astype(np.int64)

    def _level(self, contexts: Codes, pairs: Ids, counts: Ids) -> _Level:
        owner = pairs // self.vocabulary_size
        off = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(owner, counts, len(contexts))
        return _Level(contexts, pairs, (counts - off) / totals[owner], np.bincount(owner, off, len(contexts)) / totals)

    def log_probabilities(self, ids: ArrayLike) -> Numbers:
        """ln p(token | the tokens before it) of a text, (tokens,); its start is taken for the start of a text."""
        tokens = _tokens(ids)
        padded = self._padded(tokens)
        probabilities = np.full(len(tokens), 1 / self.vocabulary_size)
        for length, level in enumerate(self._levels):
            context, known = found(level.contexts, self._contexts(padded, length))
            pair, seen = found(level.pairs, context * self.vocabulary_size + tokens)
            interpolated = np.where(seen, level.kept[pair], 0) + level.rest[context] * probabilities
            probabilities = np.where(known, interpolated, probabilities)
        return np.log(probabilities)

    def cross_entropy(self, ids: ArrayLike) -> float:
        """Nats a token of a text of at least one token."""
        return float(-self.log_probabilities(ids).mean())

    def sample(self, length: int, seed: int) -> Ids:
        """Write `length` tokens from the start of a text; the same seed writes the same tokens."""
        tokens = [self.vocabulary_size] * (self.order - 1)
        for number in np.random.default_rng(seed).random(length).tolist():
            tokens.append(self._draw(tokens, number))
        return np.array(tokens[self.order - 1 :], np.int64)

    def _draw(self, tokens: list[int], number: float) -> int:
        """The token at `number`, from 0 to below 1, of all probability laid end to end, level after level."""
        for length in reversed(range(self.order)):
            level = self._levels[length]
            code = _code(tokens[len(tokens) - length :], self.vocabulary_size + 1)
            context = level.contexts.searchsorted(code)
            if context == len(level.contexts) or level.contexts[context] != code:
                continue
            kept = 1 - level.rest[context]
            if number < kept:
                first = level.pairs.searchsorted(context * self.vocabulary_size)
                last = level.pairs.searchsorted((context + 1) * self.vocabulary_size) - 1
                pair = level.heaped.searchsorted(level.heaped[first] + number, side="right") - 1
                return int(level.pairs[min(pair, last)]) % self.vocabulary_size
            number = (number - kept) / (1 - kept)
        return min(int(number * self.vocabulary_size), self.vocabulary_size - 1)

    def _padded(self, tokens: Tokens) -> Tokens:
        """Tokens after as many of the id past the vocabulary as a context is long: the start of a text."""
        return np.concatenate([np.full(self.order - 1, self.vocabulary_size, tokens.dtype), tokens])

    def _contexts(self, padded: Tokens, length: int) -> Codes:
        """Code of the `length` tokens before each token, (tokens,)."""
        return window_codes(padded[self.order - 1 - length : len(padded) - 1], length, self.vocabulary_size + 1)


def _tokens(ids: ArrayLike) -> Tokens:
    tokens = np.asarray(ids, np.int32)
    if not len(tokens):
        raise ValueError("there is nothing to count in a text of no tokens")
    return tokens


def _ranked(codes: Codes) -> tuple[Codes, Ids, Ids]:
    """Different codes in ascending order, a place of each, and for every place the rank of its code."""
    order = np.argsort(codes)
    ordered = codes[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.cumsum(new) - 1
    return ordered[new], order[new], rank


def _discounts(counts: Ids) -> Numbers:
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
