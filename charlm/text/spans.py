"""Look up spans of characters in a text: `TrainingText` finds what a model copied from its training text.

A span is a number of consecutive characters. All spans of one length are known by their hashes:

    hash(c_1 ... c_n) = sum over i of mixed(c_i) * MULTIPLIER ** (n - i), modulo 2 ** 64

where `mixed` scrambles the code point of a character (Karp and Rabin, 1987). So the hash of a text
that is followed by another one comes from the hashes of both.
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.files import atomic, drop_leftovers
from charlm.text import cache
from charlm.text.corpus import Progress, no_progress
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer

FORMAT = 1  # increase it when hashes are computed or stored in another way
MULTIPLIER = 0x9E3779B97F4A7C15  # odd and well mixed: 2**64 over the golden ratio
SCRAMBLE = np.uint64(0xBF58476D1CE4E5B9)
DECODED = 1 << 20  # ids that are decoded at once
HASHED = 1 << 16  # spans that are hashed at once: few enough to stay in the processor's cache
STORED = np.dtype("<u8")

Hashes = NDArray[np.uint64]


class TrainingText:
    """The text that a model was trained on, in which spans of characters are looked up.

    The text is what the training tokens decode to. When spans of a length are looked up for the
    first time, the hashes of all spans of this length are sorted and written to the cache (see
    `cache`), 8 bytes for each character of the text; later they are mapped into memory from there.
    A span of the text is always found. Another span is found by mistake with a probability of about
    the length of the text over 2 ** 64.

    Args:
        tokenizer: The vocabulary.
        load: A function that returns the training tokens. It is called when they are needed.
        progress: A function that is told how many spans have been hashed, and of how many.
    """

    def __init__(self, tokenizer: Tokenizer, load: Callable[[], TokenStream], progress: Progress = no_progress) -> None:
        self._tokenizer, self._load, self._progress = tokenizer, load, progress
        self._sorted: dict[int, Hashes] = {}

    def contains(self, hashes: Hashes, length: int) -> NDArray[np.bool_]:
        """Return whether the text has the spans with these hashes.

        Args:
            hashes: The hashes of the spans, of any shape.
            length: Number of characters of each span, at least 1.

        Returns:
            An array of the shape of `hashes`.
        """
        if length not in self._sorted:
            self._sorted[length] = self._cached(length)
        known = self._sorted[length]
        if not len(known):
            return np.zeros(hashes.shape, bool)
        places = np.minimum(known.searchsorted(hashes), len(known) - 1)
        return known[places] == hashes

    def count(self, text: str, length: int, prompt: str = "") -> int:
        """Return how many spans of a text are in the training text.

        Args:
            text: The text.
            length: Number of characters of a span.
            prompt: What stands before the text. A span may begin in the prompt, but spans that lie
                wholly within the prompt are not counted.
        """
        before = prompt[max(0, len(prompt) - length + 1) :]
        return int(self.contains(span_hashes(mixed(codes(before + text)), length), length).sum())

    @cached_property
    def _stream(self) -> TokenStream:
        return self._load()

    def _cached(self, length: int) -> Hashes:
        """Return the sorted hashes of all spans of a length, from the cache if they are there."""
        digest = hashlib.blake2b(f"{FORMAT} {length} {self._tokenizer.definition()}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self._stream.ids))
        path = cache.directory() / f"spans-{digest.hexdigest()}"
        found = _read(path)
        if found is None:
            found = self._computed(length)
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                drop_leftovers(path.parent, path.name)
                with atomic(path, "wb") as file:
                    file.write(found)
                    file.write(np.array([zlib.crc32(found)], STORED))
        cache.touch(path)
        cache.drop_unused()
        return found

    def _computed(self, length: int) -> Hashes:
        ids, what = self._stream.ids, f"indexing the training text ({length:,} characters)"
        decoder, parts = self._tokenizer.decoder(), [np.empty(0, np.uint32)]
        for start in range(0, len(ids), DECODED):
            parts.append(codes(decoder.extend(ids[start : start + DECODED].tolist())))
            self._progress(what, start // 2, len(ids))
        text = np.concatenate([*parts, codes(decoder.flush())])
        del parts
        found = np.empty(max(0, len(text) - length + 1), STORED)
        for start in range(0, len(found), HASHED):
            part = found[start : start + HASHED]
            part[:] = span_hashes(mixed(text[start : start + len(part) + length - 1]), length)
        del text
        found.sort()
        self._progress(what, len(ids), len(ids))
        return found


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


def _read(path: Path) -> Hashes | None:
    """Return the hashes of a file, mapped into memory; None if it is missing or damaged."""
    try:
        stored: NDArray[Any] = np.asarray(np.memmap(path, STORED, "r"))
    except (OSError, ValueError):
        return None
    return stored[:-1] if zlib.crc32(stored[:-1]) == stored[-1] else None
