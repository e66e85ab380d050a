"""Hashes of spans of characters: polynomials that can be joined (Karp and Rabin, 1987).

A span is a number of consecutive characters c_1 ... c_n. Its hash is

    sum over i of mixed(c_i) * MULTIPLIER ** (n - i), modulo 2 ** 64

where `mixed` scrambles the code point of a character. So the hash of two spans in a row comes from
the hashes of both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MULTIPLIER = 0x9E3779B97F4A7C15  # odd and well mixed: 2**64 over the golden ratio
SCRAMBLE = np.uint64(0xBF58476D1CE4E5B9)

Hashes = NDArray[np.uint64]


def codes(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text, (characters,)."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def mixed(codes: NDArray[np.uint32]) -> Hashes:
    """Return the hash of each character as a span of its own, of the shape of `codes`."""
    hashes = codes * np.uint64(MULTIPLIER)
    hashes ^= hashes >> np.uint64(32)
    hashes *= SCRAMBLE
    hashes ^= hashes >> np.uint64(29)
    return hashes


def span_hashes(characters: Hashes, length: int) -> Hashes:
    """Return the hash of each span of a text, (characters - length + 1,).

    Args:
        characters: The hash of each character, (characters,).
        length: Number of characters of a span, at least 1.
    """
    if len(characters) < length:
        return np.empty(0, np.uint64)
    hashes, size = characters, 1  # of spans of `size` characters: from the binary digits of `length`, the highest first
    for digit in bin(length)[3:]:
        hashes = hashes[:-size] * power(size) + hashes[size:]
        size *= 2
        if digit == "1":
            hashes = hashes[:-1] * power(1) + characters[size:]
            size += 1
    return hashes


def power(exponent: int) -> np.uint64:
    """Return MULTIPLIER ** exponent modulo 2 ** 64."""
    return np.uint64(pow(MULTIPLIER, exponent, 1 << 64))
