"""Sources become a text, and the text is cut into train, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from charlm.config import DataConfig
from charlm.errors import CharlmError, nearest
from charlm.text import builtin, items
from charlm.text.items import BETWEEN, Unit
from charlm.text.sources import Source, check_encoding, decoded, find

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""

SPLITS = ("train", "val", "test")
SPLIT_SEED = 0  # decides which lines are kept for validation: the same ones whatever the seed of a run


def silent(what: str, done: int, total: int) -> None:
    """The progress of those who do not want to see it."""


@dataclass(frozen=True)
class _Text:
    """Sources read one after the other."""

    sources: list[Source]
    encoding: str
    unit: Unit

    def pieces(self, seen: Callable[[bytes], object] | None = None) -> Iterator[str]:
        """A stream cut anywhere, or items, each with what parts it from the next."""
        for source in self.sources:
            text = decoded(source, self.encoding, seen)
            if self.unit == "stream":
                yield from text
            else:  # the end of a file ends an item, with or without a newline
                between = BETWEEN[self.unit]
                yield from (item + between for item in items.items(text, self.unit))


class Corpus:
    """The splits of a text, which can be read again and again; nothing large of it is held in memory.

    A stream is cut by position: the training text is the first `int((1 - val - test) * characters)`
    characters, then comes validation, then test. A document belongs to the split where it begins. Lines are
    drawn with a fixed seed, for a list of names is often sorted, and its end says little about the rest.

    Attributes:
        unit: What the text is made of: one stream, lines or documents.
        characters: Characters of each split; an item counts what parts it from the next (`\\n`, `\\n\\n`).
        fingerprint: Hash of the bytes that were read and of all that decides how they are cut.
        description: A few words for a person.
    """

    def __init__(self, text: _Text, own: dict[str, _Text], shares: tuple[float, float], whole: int) -> None:
        """A corpus of a text, of which shares for validation and test are taken, and splits with a text of their own.

        Args:
            text: What is cut.
            own: Texts of splits that are not cut from it.
            shares: Of validation and of test.
            whole: Characters of `text`, or its lines if those are its items.
        """
        self.unit = text.unit
        self.fingerprint = ""
        self.description = ""
        self._text = text
        self._own = own
        val, test = shares
        # Rounded, for in floating point 1 - 0.8 - 0.1 is a little less than 0.1.
        first, second = int(round(1 - val - test, 12) * whole), int(round(1 - test, 12) * whole)
        self._ranges = {"train": (0, first), "val": (first, second), "test": (second, whole)}
        self._drawn = np.zeros(whole if text.unit == "line" else 0, np.uint8)
        if text.unit == "line":
            for index, split in enumerate(SPLITS):
                self._drawn[slice(*self._ranges[split])] = index
            np.random.default_rng(SPLIT_SEED).shuffle(self._drawn)
        self.characters: dict[str, int] = {}

    def blocks(self, split: str) -> Iterator[str]:
        """The text of a split in blocks of at most `items.BLOCK` characters, cut between lines where there are any."""
        return items.blocks(self._pieces(split))

    def items(self, split: str) -> Iterator[str]:
        """The items of a split in the order of the text, without what parts them (unit line or document)."""
        between = BETWEEN[self.unit]
        return (piece.removesuffix(between) for piece in self._pieces(split))

    def _length(self, split: str) -> int:
        if self.unit == "stream":
            start, stop = self._ranges[split]
            return stop - start
        return sum(map(len, self._pieces(split)))

    def _pieces(self, split: str) -> Iterator[str]:
        if split not in SPLITS:
            raise CharlmError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}{nearest(split, SPLITS)}")
        if split in self._own:
            return self._own[split].pieces()
        start, stop = self._ranges[split]
        if start == stop:
            return iter(())
        pieces = self._text.pieces()
        if self.unit == "stream":
            return _between(pieces, start, stop)
        if self.unit == "document":
            return _beginning_between(pieces, start, stop)
        index = SPLITS.index(split)
        return (piece for piece, drawn in zip(pieces, self._drawn, strict=True) if drawn == index)


def _between(pieces: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """The characters of a text from `start` to before `stop`."""
    position = 0
    for piece in pieces:
        part = piece[max(start - position, 0) : max(stop - position, 0)]
        position += len(piece)
        if part:
            yield part
        if position >= stop:
            return


def _beginning_between(texts: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """Those of consecutive texts whose first character stands from `start` to before `stop`."""
    position = 0
    for text in texts:
        if start <= position < stop:
            yield text
        position += len(text)


def read_corpus(data: DataConfig, progress: Progress = silent) -> Corpus:
    """Find the sources of a text, read them once to check, count and hash them, and cut them into splits.

    Files, folders (all in them that fits `data.pattern`), globs and `-` are joined in the order given, the files
    of a folder or glob in the order of their paths; nothing at all is the built-in corpus. A byte-order mark is
    dropped and newlines are kept as they are.

    Raises:
        CharlmError: a source is missing, cannot be read or decoded, or holds no text.
    """
    encoding = check_encoding(data.encoding)
    if data.text:
        text = _Text([s for place in data.text for s in find(place, data.pattern)], encoding, data.unit)
    else:
        text = _Text([builtin.source()], "utf-8", data.unit)
    named = {"val": data.val, "test": data.test}
    own = {split: _Text(find(place, data.pattern), encoding, data.unit) for split, place in named.items() if place}
    reading = _Reading(progress, sum(source.size for part in (text, *own.values()) for source in part.sources))
    characters, lines = reading.measure(text)
    counts = {split: reading.measure(part)[0] for split, part in own.items()}
    for name, part, count in (("text", text, characters), *((f"{s} text", own[s], counts[s]) for s in own)):
        if not count:
            names = ", ".join(source.name for source in part.sources[:3])
            raise CharlmError(f"the {name} is empty ({names}); name a file with text in it")
    shares = (0.0 if data.val else data.val_fraction, 0.0 if data.test else data.test_fraction)
    corpus = Corpus(text, own, shares, lines if data.unit == "line" else characters)
    corpus.characters = {split: counts.get(split) or corpus._length(split) for split in SPLITS}
    if not corpus.characters["train"]:
        raise CharlmError(
            "the text is too short to be split: nothing is left to train on; "
            "give a longer text or lower --data.val_fraction"
        )
    corpus.fingerprint = reading.fingerprint(f"{encoding} {data.unit} {shares} {sorted(own)}")
    files = len(text.sources) + sum(len(part.sources) for part in own.values())
    what = f"{files:,} file{'s' if files > 1 else ''}" if data.text else f"the built-in corpus ({builtin.WHAT})"
    corpus.description = f"{what}, {sum(corpus.characters.values()):,} characters"
    return corpus


class _Reading:
    """The first pass over all texts."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0
        self.hash = hashlib.blake2b(digest_size=16)

    def measure(self, text: _Text) -> tuple[int, int]:
        """The characters of a text and its pieces (of a text of lines: its lines)."""
        characters = pieces = 0
        for piece in text.pieces(self._seen):
            characters += len(piece)
            pieces += 1
        return characters, pieces

    def _seen(self, data: bytes) -> None:
        # The length in front keeps "ab" + "c" from looking like "a" + "bc" in two files.
        self.hash.update(len(data).to_bytes(8, "little"))
        self.hash.update(data)
        self.done += len(data)
        self.progress("reading", min(self.done, self.total), max(self.done, self.total))

    def fingerprint(self, settings: str) -> str:
        self.hash.update(settings.encode())
        return self.hash.hexdigest()
