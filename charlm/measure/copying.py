"""What of a text was copied: every substring of a long text, looked up at once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.measure.ngram import WORD, ranks

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]

MULTIPLIER = 0x9E3779B97F4A7C15  # odd and well mixed: 2**64 over the golden ratio


class SubstringIndex:
    """Tells of any text which of its substrings, of any length, occur in this one.

    The places of the text are sorted by what stands there (a suffix array: Manber and Myers, 1993), as far as one
    64-bit number holds it: 8 of 65 letters, 4 of 5,000 signs. Shorter substrings are looked up among them; of a
    longer one they name the few places where it may stand, and there hashes of any length are compared (Karp and
    Rabin, 1987). The hashes have 64 bits: that 10,000 characters and a text of 10 million agree in one where they
    differ has a probability of one in a hundred million for each length.

    Args:
        ids: (n,) the text.
        size: Places of this text and of those it is asked about are below it.
    """

    def __init__(self, ids: NDArray[Any], size: int) -> None:
        self.bits = size.bit_length()
        self.depth = WORD // self.bits
        codes = self.codes(ids, self.depth)
        order = np.argsort(codes, kind="stable")
        self._codes = codes[order]
        self._places = order.astype(np.int32)
        self._hashes = _Hashes(ids)

    def codes(self, ids: NDArray[Any], length: int) -> Places:
        """The first `length` ids (at most `depth`) of every suffix as digits of a number, 0 past the end; (n,)."""
        codes = np.zeros(len(ids), np.int64)
        for offset in range(length):
            codes <<= self.bits
            codes[: max(0, len(ids) - offset)] += ids[offset:] + 1
        return codes

    def interval(self, codes: Places, length: int) -> tuple[Places, Places]:
        """From where to where among the sorted suffixes stand those that begin with these substrings."""
        rest = self.bits * (self.depth - length)
        return np.searchsorted(self._codes, codes << rest), np.searchsorted(self._codes, (codes + 1) << rest)

    def places(self, ids: NDArray[Any]) -> Places:
        """Where in the text anything stands that begins like a suffix of `ids`, to the depth of the index."""
        codes = np.unique(self.codes(ids, self.depth)[: max(0, len(ids) - self.depth + 1)])
        first, last = self.interval(codes, self.depth)
        counts = last - first
        skipped = first - (np.cumsum(counts) - counts)
        places = self._places[np.repeat(skipped, counts) + np.arange(counts.sum())]
        return np.sort(places).astype(np.int64)  # in the order of memory they are read faster

    def equal(self, places: Places, hashes: Hashes, length: int) -> tuple[Flags, Places]:
        """Which of these hashes a substring of `length` at one of these places has, and the places that have one."""
        places = places[places <= len(self._hashes) - length]
        own = self._hashes.of(places, length)
        marked = np.zeros(1 << 20, bool)  # most are ruled out by 20 of their bits
        marked[_top(hashes)] = True
        keep = marked[_top(own)]
        same = ranks(np.unique(hashes), own[keep]) >= 0
        places, own = places[keep][same], own[keep][same]
        return ranks(np.unique(own), hashes) >= 0, places


class Copies:
    """The substrings of a text that occur in another.

    Args:
        index: Of the other text.
        ids: (n,) this text.
    """

    def __init__(self, index: SubstringIndex, ids: NDArray[Any]) -> None:
        self.index = index
        self.ids = ids
        self._places: dict[int, Places] = {}  # by length: where in the other text such a substring stands

    @cached_property
    def _hashes(self) -> _Hashes:
        return _Hashes(self.ids)

    def substrings(self, length: int) -> Flags:
        """Whether each substring of so many ids (at least 1) occurs in the other text, (n - length + 1,)."""
        starts = np.arange(max(0, len(self.ids) - length + 1))
        if length <= self.index.depth:
            first, last = self.index.interval(self.index.codes(self.ids, length)[starts], length)
            return last > first
        if not self._places:
            self._places[self.index.depth] = self.index.places(self.ids)
        # A longer substring stands nowhere but where a shorter one does.
        places = self._places[max(shorter for shorter in self._places if shorter <= length)]
        occurs, self._places[length] = self.index.equal(places, self._hashes.of(starts, length), length)
        return occurs

    def characters(self, length: int) -> Flags:
        """Whether each id stands in a substring of at least `length` that occurs in the other text, (n,)."""
        steps = np.zeros(len(self.ids) + 1, np.int64)
        starts = np.flatnonzero(self.substrings(length))
        steps[starts] += 1
        steps[starts + length] -= 1
        return np.cumsum(steps[:-1]) > 0

    def longest(self) -> int:
        """Places of the longest substring that occurs in the other text."""
        longest, absent = 0, len(self.ids) + 1
        while absent - longest > 1:
            length = min(max(1, 2 * longest), (longest + absent) // 2)
            if self.substrings(length).any():
                longest = length
            else:
                absent = length
        return longest


class _Hashes:
    """Hashes of all substrings of a text: polynomials over its ids, taken from their running sums."""

    def __init__(self, ids: NDArray[Any]) -> None:
        self._sums = np.zeros(len(ids) + 1, np.uint64)
        self._sums[1:] = ids
        self._sums[1:] += np.uint64(1)
        self._sums[1:] *= _powers(MULTIPLIER, len(ids))
        np.cumsum(self._sums, out=self._sums)
        self._inverse = _powers(pow(MULTIPLIER, -1, 1 << 64), len(ids))  # brings every sum to where a text begins

    def __len__(self) -> int:
        return len(self._inverse)

    def of(self, starts: Places, length: int) -> Hashes:
        """The hash of each substring of so many ids, (starts,)."""
        return (self._sums[starts + length] - self._sums[starts]) * self._inverse[starts]


def _powers(base: int, count: int) -> Hashes:
    """1, base, base ** 2, ... modulo 2 ** 64, (count,)."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, out=powers)


def _top(hashes: Hashes) -> Places:
    return (hashes >> np.uint64(44)).astype(np.int64)
