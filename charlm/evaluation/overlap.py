"""Find which substrings of a text occur in another text, or more than once in the text itself.

All substrings of one length are looked up at once.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.ngram import ranks

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

WORD = 62  # bits of a number that ids are packed into
MULTIPLIER = 0x9E3779B97F4A7C15  # odd and well mixed: 2**64 over the golden ratio
ROW = 1 << 14  # ids whose hashes are computed together


class SubstringIndex:
    """An index of a text, by which substrings of other texts are found in it.

    The suffixes of the text are sorted by their first `depth` ids (a suffix array: Manber and
    Myers, 1993). `depth` is the number of ids that fit into `WORD` bits: 8 ids if there are 65
    different ones, 4 if there are 5,000. Substrings of at most `depth` ids are looked up directly.
    For longer substrings, the index gives the few positions where they may occur, and hashes are
    compared there (Karp and Rabin, 1987). The hashes have 64 bits. If 10,000 substrings of one
    length are looked up in a text of 10 million characters, a false match has a probability below
    1e-8.

    Args:
        ids: (n,) the text.
        size: Number of different ids in this text and in the texts to look up; ids start at 0.
    """

    def __init__(self, ids: NDArray[Any], size: int) -> None:
        self.bits = size.bit_length()
        self.depth = WORD // self.bits
        codes = self.codes(ids, self.depth)
        self._positions = np.argsort(codes, kind="stable").astype(np.int32)
        self._codes = codes[self._positions]
        del codes  # before the next large array
        self._hashes = _Hashes(ids)

    def codes(self, ids: NDArray[Any], length: int) -> Integers:
        """Encode the first `length` ids of each suffix of a text as one number, (n,).

        The ids are the digits of the number: an id is the digit id + 1, and a place after the end
        of the text is the digit 0.

        Args:
            ids: (n,) the text.
            length: Number of ids to encode, at most `depth`.
        """
        codes = np.zeros(len(ids), np.int64)
        for offset in range(length):
            codes <<= self.bits
            rest = codes[: max(0, len(ids) - offset)]
            rest += ids[offset:]
            rest += 1
        return codes

    def interval(self, codes: Integers, length: int) -> tuple[Integers, Integers]:
        """Return the first and the end index of the sorted suffixes that begin with each substring.

        Args:
            codes: The substrings, as numbers that the method `codes` returned.
            length: Number of ids of each substring.
        """
        rest = self.bits * (self.depth - length)
        return np.searchsorted(self._codes, codes << rest), np.searchsorted(self._codes, (codes + 1) << rest)

    def positions(self, ids: NDArray[Any]) -> Integers:
        """Return where any substring of `depth` ids of another text occurs in the indexed text.

        Args:
            ids: The other text.

        Returns:
            The positions in the indexed text, ascending.
        """
        codes = np.unique(self.codes(ids, self.depth)[: max(0, len(ids) - self.depth + 1)])
        first, last = self.interval(codes, self.depth)
        counts = last - first
        skipped = first - (np.cumsum(counts) - counts)
        positions = self._positions[np.repeat(skipped, counts) + np.arange(counts.sum())]
        return np.sort(positions).astype(np.int64)  # ascending positions are read faster

    def equal(self, positions: Integers, hashes: Hashes, length: int) -> tuple[Flags, Integers]:
        """Find which substrings occur at any of some positions of the text, by their hashes.

        Args:
            positions: The positions.
            hashes: The hash of each substring.
            length: Number of ids of each substring.

        Returns:
            Whether each substring occurs, (hashes,), and the positions at which one of them occurs.
        """
        positions = positions[positions <= len(self._hashes) - length]
        own = self._hashes.of(positions, length)
        marked = np.zeros(1 << 20, bool)  # 20 bits rule out most positions
        marked[_top(hashes)] = True
        keep = marked[_top(own)]
        same = ranks(np.unique(hashes), own[keep]) >= 0
        positions, own = positions[keep][same], own[keep][same]
        return ranks(np.unique(own), hashes) >= 0, positions


class Overlap:
    """The substrings of a text that also occur in another text.

    Args:
        index: The index of the other text.
        ids: (n,) the text itself.
    """

    def __init__(self, index: SubstringIndex, ids: NDArray[Any]) -> None:
        self.index = index
        self.ids = ids
        self._positions: dict[int, Integers] = {}  # by length: where in the other text such a substring occurs

    @cached_property
    def _hashes(self) -> _Hashes:
        return _Hashes(self.ids)

    def substrings(self, length: int) -> Flags:
        """Return whether each substring of `length` ids (at least 1) occurs in the other text.

        The result has the shape (n - length + 1,).
        """
        starts = np.arange(max(0, len(self.ids) - length + 1))
        if length <= self.index.depth:
            first, last = self.index.interval(self.index.codes(self.ids, length)[starts], length)
            return last > first
        if not self._positions:
            self._positions[self.index.depth] = self.index.positions(self.ids)
        # A longer substring can only occur where a shorter one does.
        positions = self._positions[max(shorter for shorter in self._positions if shorter <= length)]
        occurs, self._positions[length] = self.index.equal(positions, self._hashes.of(starts, length), length)
        return occurs

    def characters(self, length: int) -> Flags:
        """Return for each id whether it is part of a copied substring, (n,).

        A copied substring has at least `length` ids and occurs in the other text.
        """
        steps = np.zeros(len(self.ids) + 1, np.int64)
        starts = np.flatnonzero(self.substrings(length))
        steps[starts] += 1
        steps[starts + length] -= 1
        return np.cumsum(steps[:-1]) > 0

    def longest(self) -> int:
        """Return the number of ids of the longest substring that occurs in the other text."""
        longest, absent = 0, len(self.ids) + 1
        while absent - longest > 1:
            length = min(max(1, 2 * longest), (longest + absent) // 2)
            if self.substrings(length).any():
                longest = length
            else:
                absent = length
        return longest


def repeated(ids: NDArray[Any], length: int) -> Flags:
    """Return whether each substring of `length` ids (at least 1) of a text occurs more than once.

    The result has the shape (n - length + 1,). Substrings are compared by hashes of 64 bits, as in
    `SubstringIndex`.
    """
    starts = np.arange(max(0, len(ids) - length + 1))
    found = np.zeros(len(starts), bool)
    hashes = _Hashes(ids).of(starts, length)
    order = np.argsort(hashes)
    hashes = hashes[order]
    same = hashes[1:] == hashes[:-1]
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


class _Hashes:
    """Polynomial hashes of all substrings of a text, which are computed from prefix sums."""

    def __init__(self, ids: NDArray[Any]) -> None:
        self._sums = np.zeros(len(ids) + 1, np.uint64)
        powers = _Powers(MULTIPLIER, len(ids))
        for start in range(0, len(ids), ROW):
            part = self._sums[start + 1 : start + 1 + ROW]
            part[:] = ids[start : start + ROW]
            part += np.uint64(1)
            part *= powers.of(np.arange(start, start + len(part)))
        np.cumsum(self._sums, out=self._sums)
        self._inverse = _Powers(pow(MULTIPLIER, -1, 1 << 64), len(ids))  # makes a hash independent of the position

    def __len__(self) -> int:
        return len(self._sums) - 1

    def of(self, starts: Integers, length: int) -> Hashes:
        """Return the hash of the substring of `length` ids from each of `starts` on, (starts,)."""
        return (self._sums[starts + length] - self._sums[starts]) * self._inverse.of(starts)


class _Powers:
    """The powers of a number modulo 2 ** 64, for fast access.

    Each power is the product of one entry of a table of small powers and one of a table of large
    powers.

    Args:
        base: The number.
        count: All exponents are smaller than this.
    """

    def __init__(self, base: int, count: int) -> None:
        self._small = _powers(base, ROW)
        self._large = _powers(pow(base, ROW, 1 << 64), count // ROW + 1)

    def of(self, exponents: Integers) -> Hashes:
        """Return base ** exponent modulo 2 ** 64 for each exponent, (exponents,)."""
        return self._large[exponents // ROW] * self._small[exponents % ROW]


def _powers(base: int, count: int) -> Hashes:
    """Return the powers 1, base, base ** 2, ... modulo 2 ** 64, (count,)."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, out=powers)


def _top(hashes: Hashes) -> Integers:
    """Return the 20 highest bits of each hash."""
    return (hashes >> np.uint64(44)).astype(np.int64)
