"""Look up spans of characters in a text: `TrainingText` finds what a model copied from its training text."""

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
from charlm.text.hashing import Hashes, codes, mixed, span_hashes
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer

FORMAT = 1  # increase it when hashes are computed or stored in another way
DECODED = 1 << 20  # ids that are decoded at once
HASHED = 1 << 16  # spans that are hashed at once: few enough to stay in the processor's cache
STORED = np.dtype("<u8")


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

    Attributes:
        progress: A function that is told what is being done, how much of it is done, and how much
            there is to do, while a text is indexed.
    """

    def __init__(self, tokenizer: Tokenizer, load: Callable[[], TokenStream]) -> None:
        self._tokenizer, self._load = tokenizer, load
        self.progress: Progress = no_progress
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
        digest.update(np.ascontiguousarray(self._stream.ids).data)
        path = cache.directory() / f"spans-{digest.hexdigest()}"
        found = _read(path)
        if found is None:
            found = self._computed(length)
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                drop_leftovers(path.parent, path.name)
                with atomic(path, "wb") as file:
                    file.write(found)
                    file.write(np.array([zlib.crc32(found.data)], STORED))
        cache.touch(path)
        cache.drop_unused()
        return found

    def _computed(self, length: int) -> Hashes:
        ids, what = self._stream.ids, f"indexing the training text (spans of {length:,} characters)"
        decoder, parts = self._tokenizer.decoder(), [np.empty(0, np.uint32)]
        for start in range(0, len(ids), DECODED):
            parts.append(codes(decoder.extend(ids[start : start + DECODED].tolist())))
            self.progress(what, start // 2, len(ids))
        text = np.concatenate([*parts, codes(decoder.flush())])
        del parts
        found = np.empty(max(0, len(text) - length + 1), STORED)
        for start in range(0, len(found), HASHED):
            part = found[start : start + HASHED]
            part[:] = span_hashes(mixed(text[start : start + len(part) + length - 1]), length)
        del text
        found.sort()
        self.progress(what, len(ids), len(ids))
        return found


def _read(path: Path) -> Hashes | None:
    """Return the hashes of a file, mapped into memory; None if it is missing or damaged."""
    try:
        stored: NDArray[Any] = np.asarray(np.memmap(path, STORED, "r"))
    except (OSError, ValueError):
        return None
    return stored[:-1] if zlib.crc32(stored[:-1].data) == stored[-1] else None
