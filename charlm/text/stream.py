"""The ids of a text, on disk or in memory, and exact counts of the text that they encode.

1. `Encoding` takes a text in blocks or items and yields its ids in pieces. Meanwhile it counts
   characters, bytes and words.
2. `encode_text` joins these pieces in memory; `store` writes them to files, which
   `TokenStream.load` maps into memory.
"""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from charlm.config.fields import Direction
from charlm.errors import CharlmError
from charlm.text import items
from charlm.text.items import SEPARATORS, Unit
from charlm.text.tokenization import SURROGATE, Tokenizer

CHUNK = 1 << 14  # characters that are classified at once: few enough to stay in the processor's cache
GROUP = 1 << 20  # characters of the items that are encoded together
REPORTED = 20  # unknown pieces that are kept with their counts in a stream
COUNTED = 100_000  # most different unknown pieces counted; then the rarer half is dropped
COUNTED_AT_ONCE = 1 << 20  # ids that are counted at once; np.bincount needs 8 bytes for each
STARTS = np.dtype("<i8")
LINE_END, SPACE, WORD = 0, 1, 2  # classes of characters
# The class of each code point; the last entry is for all higher ones, none of which is white space.
CLASSES = np.array([SPACE if chr(code).isspace() else WORD for code in range(0x3001)] + [WORD], np.uint8)
CLASSES[ord("\n")] = LINE_END
ASCII_CLASSES = CLASSES[:256].tobytes()


@dataclass(frozen=True)
class Counts:
    """The size of a text in tokens, characters, bytes of UTF-8 and words.

    Words are separated by white space, and each line end counts as one more word. This is how words
    are counted for Penn Treebank and WikiText, where a model also predicts the end of each line.
    """

    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    words: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


@dataclass
class TokenStream:
    """The ids of a text, memory-mapped if they come from a file, and counts of that text.

    In a text of items, the boundary token B stands between items and at both ends, for example
    `B x x B y y y B`.

    Attributes:
        ids: The token ids, `(tokens,)`, of the smallest unsigned type that holds the vocabulary, in
            the order in which a network reads them.
        starts: `(items,)` int64: the position in `ids` of the boundary before each item; None for a
            text that is one stream.
        counts: Counts of the whole text.
        predicted: Counts of the part of the text that is predicted: all tokens but the first of
            the text or, if `ends` is not None, all but the first of each item. Bits per character
            are nats / ln 2 / predicted.characters.
        unknown: The most frequent pieces of text that are not in the vocabulary, with their counts.
        unknown_tokens: How many pieces of the text are not in the vocabulary.
        ends: `(items,)` int64: the position in `ids` of the last token of each item (see
            `separate.encode_lines`); None: an item ends at the boundary before the next item.
        direction: The order of `ids`: that of the text, or backward from the end of the text.
        predicted_reversed: What `predicted` is in the other direction, in which the last token of
            this one is not predicted; None: the same.
    """

    ids: np.ndarray
    starts: np.ndarray | None
    counts: Counts
    predicted: Counts
    unknown: dict[str, int] = field(default_factory=dict)
    unknown_tokens: int = 0
    ends: np.ndarray | None = None
    direction: Direction = "forward"
    predicted_reversed: Counts | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def in_order(self, direction: Direction) -> TokenStream:
        """Return the text with its tokens in the order in which a network of a direction reads them.

        Only the order of the tokens changes, not the characters of a token. The arrays are views of
        the same memory, except `starts` and `ends`.
        """
        if direction == self.direction:
            return self
        last = len(self) - 1
        first, end = (last - positions[::-1] for positions in reversed(self.ranges))
        return replace(
            self,
            ids=self.ids[::-1],
            starts=None if self.starts is None else first,
            ends=None if self.ends is None else end,
            direction=direction,
            predicted=self.predicted_reversed or self.predicted,
            predicted_reversed=self.predicted,
        )

    def text(self, tokenizer: Tokenizer, tokens: int | None = None) -> str:
        """Return the text of the first `tokens` tokens that the network reads; None: of all.

        The result is text in its normal order, whatever the direction is.
        """
        ids = self.ids[:tokens]
        return tokenizer.decode(ids if self.direction == "forward" else ids[::-1])

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """The positions of the first and of the last token of each item, `(items,)` int64 each.

        A text that is one stream counts as one item.
        """
        first = np.zeros(1, np.int64) if self.starts is None else np.asarray(self.starts, np.int64)
        return first, np.append(first[1:], len(self) - 1) if self.ends is None else self.ends

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """Return how often each token of the vocabulary occurs, `(vocab_size,)` int64."""
        counts = np.zeros(vocab_size, np.int64)
        for start in range(0, len(self), COUNTED_AT_ONCE):
            counts += np.bincount(self.ids[start : start + COUNTED_AT_ONCE], minlength=vocab_size)
            self.release()
        return counts

    def release(self) -> None:
        """Give back the memory of all pages that were read from a memory-mapped file.

        The pages are read again from the file when they are needed. They count as resident memory
        of the process, so code that reads a large stream calls this method now and then.
        """
        for array in (self.ids, self.starts):
            if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
                array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    @staticmethod
    def exists(folder: Path, split: str) -> bool:
        """Return whether a folder that `store.build` filled has the ids of a split.

        The ids may be damaged.
        """
        return (folder / f"{split}.ids").exists()

    @classmethod
    def load(cls, folder: Path, split: str) -> TokenStream:
        """Map the ids of a split into memory, from a folder that `store.build` filled.

        Raises:
            CharlmError: the split is missing or damaged.
        """
        try:
            facts = json.loads((folder / "streams.json").read_text(encoding="utf-8"))["splits"][split]
            counts, predicted = Counts(**facts.pop("counts")), Counts(**facts.pop("predicted"))
            if (reverse := facts.pop("predicted_reversed", None)) is not None:
                facts["predicted_reversed"] = Counts(**reverse)
            ids = _map(folder / f"{split}.ids", np.dtype(facts.pop("dtype")), counts.tokens)
            count = facts.pop("items")
            starts = None if count is None else _map(folder / f"{split}.starts", STARTS, count)
            return cls(ids, starts, counts, predicted, **facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise CharlmError(
                f"the tokens of the {split} text in {folder} are missing or damaged; train again on the same text"
            ) from error


def _map(path: Path, dtype: np.dtype[Any], length: int) -> np.ndarray:
    """Return the numbers of a file, `(length,)`, memory-mapped.

    Raises:
        ValueError: the file has another length.
    """
    if path.stat().st_size != length * dtype.itemsize:
        raise ValueError("wrong length")
    return np.memmap(path, dtype, "r") if length else np.empty(0, dtype)  # an empty file cannot be mapped


def encode_text(tokenizer: Tokenizer, text: str, unit: Unit = "stream") -> TokenStream:
    """Encode a text into a stream that is held in memory.

    Raises:
        CharlmError: the text holds a lone surrogate, or an item is too long.
    """
    encoding = Encoding(tokenizer, unit)
    pieces: Iterable[str] = items.blocks([text]) if unit == "stream" else items.items([text], unit)
    ids, starts = zip(*encoding.encode(pieces), strict=True)
    return TokenStream(np.concatenate(ids), None if unit == "stream" else np.concatenate(starts), **encoding.facts())


def id_type(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type that holds the ids of a vocabulary of this size.

    The type is little-endian.
    """
    return np.min_scalar_type(max(vocab_size - 1, 0)).newbyteorder("<")


class Encoding:
    """One pass over a text, which encodes the text piece by piece and counts it.

    Attributes:
        dtype: Type of the ids.
        counts: Counts of the text that has been encoded so far.
        items: Number of items that have been encoded so far; None for a text that is one stream.
    """

    def __init__(self, tokenizer: Tokenizer, unit: Unit) -> None:
        self.tokenizer = tokenizer
        self.unit = unit
        self.dtype = id_type(len(tokenizer))
        self.counts = Counts()
        self.items = None if unit == "stream" else 0
        self._first_token = Counts()  # this token is not predicted
        self._last_token = Counts()  # this token is not predicted backward
        self._tail = ""  # the last characters of a text that is one stream
        self._unknown: Counter[str] = Counter()
        self._unknown_tokens = 0
        self._in_word = False

    def encode(self, pieces: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encode a text piece by piece.

        Args:
            pieces: The blocks of a text that is one stream, or the items of a text.

        Yields:
            Pairs (ids, starts) of arrays. All ids together are `TokenStream.ids`, and all starts
            together are `TokenStream.starts`.
        """
        no_starts = np.empty(0, STARTS)
        if self.unit == "stream":
            yield np.empty(0, self.dtype), no_starts
            for block in pieces:
                ids = self.tokenizer.encode(block)
                if not self.counts.tokens and len(ids):
                    self._first_token = self._count_first_token(block)
                self._count(block, ids)
                self._tail = (self._tail + block)[-CHUNK:]
                yield ids.astype(self.dtype), no_starts
            if self.counts.tokens:
                self._last_token = self._count_last_token(self._tail)
            return
        boundary = np.array([self.tokenizer.boundary], self.dtype)
        separator = SEPARATORS[self.unit]
        self._count(separator, boundary)
        self._first_token = self._last_token = self.counts
        yield boundary, no_starts
        for group in items.batched(pieces, GROUP):
            yield self._encode_items(group, boundary, separator)

    def _encode_items(self, group: list[str], boundary: np.ndarray, separator: str) -> tuple[np.ndarray, np.ndarray]:
        encoded = [part for ids in self.tokenizer.encode_items(group) for part in (ids, boundary)]
        lengths = np.array([len(ids) + 1 for ids in encoded[::2]])
        first = self.counts.tokens - 1  # the boundary before the first item of the group came with the last group
        ids = np.concatenate(encoded)
        self._count(separator.join(group) + separator, ids)
        self.items = (self.items or 0) + len(group)
        return ids.astype(self.dtype), (first + np.cumsum(lengths) - lengths).astype(STARTS)

    def _count(self, text: str, ids: np.ndarray) -> None:
        words = length = 0
        for start in range(0, len(text), CHUNK):
            classes, size = _classes(text[start : start + CHUNK])
            inside = classes == WORD
            words += int(np.count_nonzero(inside[1:] & ~inside[:-1])) + bool(inside[0] and not self._in_word)
            words += int(np.count_nonzero(classes == LINE_END))
            self._in_word = bool(inside[-1])
            length += size
        self.counts += Counts(len(ids), len(text), length, words)
        unknown = self.tokenizer.unknown
        if unknown is not None and (ids == unknown).any():
            found = self.tokenizer.unknowns(text)
            self._unknown_tokens += sum(found.values())
            self._unknown += found
            if len(self._unknown) > COUNTED:
                self._unknown = Counter(dict(self._unknown.most_common(COUNTED // 2)))

    def _count_first_token(self, text: str) -> Counts:
        """Return the counts of that part of a text which its first token encodes.

        This part is not predicted.
        """
        characters, length = self.tokenizer.first(text)
        rest = text[characters : characters + CHUNK]
        with_it, without = _words(text[:characters] + rest), _words(rest)
        return Counts(1, characters, length, with_it - without)

    def _count_last_token(self, text: str) -> Counts:
        """Return the counts of that part of a text which its last token encodes."""
        characters, length = self.tokenizer.last(text)
        return Counts(1, characters, length, _words(text) - _words(text[: len(text) - characters]))

    def facts(self) -> dict[str, Any]:
        """Return all attributes of a `TokenStream` except its arrays, by name.

        They are final once the whole text is encoded.
        """
        return {
            "counts": self.counts,
            "predicted": self.counts - self._first_token,
            "predicted_reversed": self.counts - self._last_token,
            "unknown": dict(self._unknown.most_common(REPORTED)),
            "unknown_tokens": self._unknown_tokens,
        }


def _classes(text: str) -> tuple[np.ndarray, int]:
    """Return the class of each character, and the size of the text in bytes of UTF-8.

    The classes are an array `(characters,)` of `LINE_END`, `SPACE` and `WORD`.
    """
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(ASCII_CLASSES), np.uint8), len(text)
    try:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except UnicodeEncodeError as error:
        raise CharlmError(SURROGATE) from error
    size = len(text) + sum(int(np.count_nonzero(codes >= least)) for least in (0x80, 0x800, 0x10000))
    return CLASSES.take(codes, mode="clip"), size


def _words(text: str) -> int:
    return len(text.split()) + text.count("\n")
