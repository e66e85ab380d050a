"""The ids of a text, on disk or in memory, with what they stand for counted."""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from charlm.errors import CharlmError
from charlm.text import items
from charlm.text.items import BETWEEN, Unit
from charlm.text.tokenization import SURROGATE, Tokenizer

CHUNK = 1 << 14  # characters looked at together: what fits the processor's cache
GROUP = 1 << 20  # characters of the items that are encoded together
NAMED = 20  # unknown pieces that are kept by name
KEPT = 100_000  # unknown pieces that are counted by name while a text is read
LINE_END, SPACE, WORD = 0, 1, 2  # classes of characters
# Class of each code point; the last entry stands for all above, of which none is white space.
CLASSES = np.array([SPACE if chr(code).isspace() else WORD for code in range(0x3001)] + [WORD], np.uint8)
CLASSES[ord("\n")] = LINE_END
ASCII_CLASSES = CLASSES[:256].tobytes()


@dataclass(frozen=True)
class Counts:
    """What some text amounts to; words are parted by white space, and each line end counts as one more.

    That is how Penn Treebank and WikiText count words: an end of line is predicted as well.
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
    """The ids of a text, memory-mapped where they come from a file, and the text behind them in numbers.

    Items stand in one row with one boundary B between two of them and one at each end: `B x x B y y y B`.

    Attributes:
        ids: `(tokens,)`, the smallest unsigned type that holds the vocabulary.
        starts: `(items,)` int64: where in `ids` the boundary in front of each item stands; None for a stream.
        counts: Of the whole text.
        predicted: Of what the targets `ids[1:]` stand for, so that bits per character are
            nats / ln 2 / predicted.characters.
        unknown: The most frequent pieces that the vocabulary lacks and how often each occurs.
        unknown_tokens: How often the vocabulary lacks a piece.
    """

    ids: np.ndarray
    starts: np.ndarray | None
    counts: Counts
    predicted: Counts
    unknown: dict[str, int] = field(default_factory=dict)
    unknown_tokens: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def release(self) -> None:
        """Let go of the pages of the file that were read; they come back when they are touched.

        Pages of a memory map count as resident memory of the process, so a reader that passes through a large
        stream calls this now and then.
        """
        for array in (self.ids, self.starts):
            if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
                array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    @classmethod
    def load(cls, folder: Path, split: str) -> TokenStream:
        """The stream of a split from the folder that `store.build` filled.

        Raises:
            CharlmError: it is not there, or damaged.
        """
        try:
            facts = json.loads((folder / "streams.json").read_text(encoding="utf-8"))["splits"][split]
            ids = np.load(folder / f"{split}.npy", mmap_mode="r")
            items = facts.pop("items")
            starts = None if items is None else np.load(folder / f"{split}.starts.npy", mmap_mode="r")
            counts, predicted = Counts(**facts.pop("counts")), Counts(**facts.pop("predicted"))
            if len(ids) != counts.tokens or (starts is not None and len(starts) != items):
                raise ValueError("wrong length")
            return cls(ids, starts, counts, predicted, **facts)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise CharlmError(
                f"the tokens of the {split} text in {folder} are missing or damaged; train anew on the same text"
            ) from error


def encode_text(tokenizer: Tokenizer, text: str, unit: Unit = "stream") -> TokenStream:
    """The ids of a text in memory.

    Raises:
        CharlmError: the text holds a lone surrogate, or an item is too long.
    """
    encoding = Encoding(tokenizer, unit)
    pieces: Iterable[str] = items.blocks([text]) if unit == "stream" else items.items([text], unit)
    ids, starts = zip(*encoding.of(pieces), strict=True)
    return TokenStream(np.concatenate(ids), None if unit == "stream" else np.concatenate(starts), **encoding.facts())


def id_type(vocabulary: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds the ids of a vocabulary of this size."""
    return np.min_scalar_type(max(vocabulary - 1, 0))


class Encoding:
    """One pass over a text: ids come out in pieces while what they stand for is counted."""

    def __init__(self, tokenizer: Tokenizer, unit: Unit) -> None:
        self.tokenizer = tokenizer
        self.unit = unit
        self.counts = Counts()
        self.opening = Counts()  # what the first token stands for, which nothing predicts
        self.unknown: Counter[str] = Counter()
        self.unknown_tokens = 0
        self._in_word = False
        self._dtype = id_type(len(tokenizer))

    def of(self, pieces: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and starts of a text that comes in blocks (stream) or items, piece by piece."""
        if self.unit == "stream":
            yield np.empty(0, self._dtype), np.empty(0, np.int64)
            for block in pieces:
                ids = self.tokenizer.encode(block)
                if not self.counts.tokens and len(ids):
                    self.opening = self._first(block)
                self._count(block, ids)
                yield ids.astype(self._dtype), np.empty(0, np.int64)
            return
        boundary = np.array([self.tokenizer.boundary], self._dtype)
        between = BETWEEN[self.unit]
        self._count(between, boundary)
        self.opening = self.counts
        yield boundary, np.empty(0, np.int64)
        for group in items.batched(pieces, GROUP):
            yield self._items(group, boundary, between)

    def _items(self, group: list[str], boundary: np.ndarray, between: str) -> tuple[np.ndarray, np.ndarray]:
        encoded = [part for ids in self.tokenizer.encode_items(group) for part in (ids, boundary)]
        lengths = np.array([len(ids) + 1 for ids in encoded[::2]])
        first = self.counts.tokens - 1  # the boundary in front of the first of the group is written already
        ids = np.concatenate(encoded)
        self._count(between.join(group) + between, ids)
        return ids.astype(self._dtype), first + np.cumsum(lengths) - lengths

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
            self.unknown_tokens += sum(found.values())
            self.unknown += found
            if len(self.unknown) > KEPT:
                self.unknown = Counter(dict(self.unknown.most_common(KEPT // 2)))

    def _first(self, text: str) -> Counts:
        """What the first token of a text stands for."""
        characters, length = self.tokenizer.first(text)
        rest = text[characters : characters + CHUNK]
        with_it, without = _words(text[:characters] + rest), _words(rest)
        return Counts(1, characters, length, with_it - without)

    def facts(self) -> dict[str, Any]:
        """All of a `TokenStream` but its arrays, at the end of the text."""
        return {
            "counts": self.counts,
            "predicted": self.counts - self.opening,
            "unknown": dict(self.unknown.most_common(NAMED)),
            "unknown_tokens": self.unknown_tokens,
        }


def _classes(text: str) -> tuple[np.ndarray, int]:
    """The class of each character, `(characters,)`, and the bytes of the text."""
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
