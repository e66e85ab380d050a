"""Join sources into one text and cut it into train, validation and test splits.

1. `read_corpus` finds the sources that the settings name, and reads them once to check them, to
   count their characters and to hash their bytes.
2. It returns a `Corpus`, which uses the counts to cut the text. The methods `blocks` and `items`
   read a split from the sources again, as often as needed, and never hold more than a block or an
   item in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from charlm.config import DataConfig
from charlm.errors import CharlmError, count, nearest
from charlm.text import builtin, items, tables
from charlm.text.items import SEPARATORS, Unit
from charlm.text.sources import Note, Source, WrongEncodingError, check_encoding, decoded, find, ignore

Progress = Callable[[str, int, int], None]
"""A function (what, done, total) that is told the task, the amount done and the amount in all."""

CHECKED = 50_000_000  # characters of all files that `check_text` reads, before torch is loaded
CHECKED_FILES = 1_000
GUESSED = 100  # files that are checked for a probable other encoding, which takes a while
SPLITS = ("train", "val", "test")
SPLIT_SEED = 0  # decides which lines go to which split; not the seed of a run, so that runs can be compared


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore a report of progress: the default callback of functions that take one."""


@dataclass(frozen=True)
class _JoinedSources:
    """Several files that are read one after the other as one text."""

    sources: list[Source]
    encoding: str
    unit: Unit
    newlines: Literal["lf", "keep"] = "lf"
    column: str = ""

    def pieces(
        self, on_bytes: Callable[[bytes], object] = ignore, note: Callable[[Source, str], object] | None = None
    ) -> Iterator[str]:
        """Yield the text: a stream in arbitrary pieces, or whole items with a separator after each.

        Args:
            on_bytes: A function that is called with all bytes that are read, in order.
            note: A function that is called with a source and a sentence that tells the user how
                this source is read.
        """
        for number, source in enumerate(self.sources):
            told = ignore if note is None else partial(note, source)
            guess = note is not None and number < GUESSED
            text = self._decoded(source, on_bytes, told, guess=guess)
            if self.newlines == "lf":
                text = with_unix_newlines(text, told)
            if self.column:
                yield from self._rows(tables.column(text, self.column, source.name))
            elif self.unit == "stream":
                yield from text
            else:  # the end of a file ends an item, with or without a newline
                separator = SEPARATORS[self.unit]
                yield from (item + separator for item in items.items(text, self.unit))

    def files(self, on_bytes: Callable[[bytes], object] = ignore) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield the name and the text (an iterator of pieces) of each file.

        Line ends of a plain text stay as they are. Of a table, the text is the chosen column, with
        a line end after each row.

        Args:
            on_bytes: A function that is called with all bytes that are read, in order.
        """
        for source in self.sources:
            text = self._decoded(source, on_bytes)
            rows = self._rows(tables.column(text, self.column, source.name)) if self.column else None
            yield source.name, text if rows is None else (row.rstrip("\n") + "\n" for row in rows)

    def _decoded(
        self, source: Source, on_bytes: Callable[[bytes], object], note: Note = ignore, *, guess: bool = False
    ) -> Iterator[str]:
        """Yield the text of one of the sources in pieces; see `sources.decoded`."""
        try:
            yield from decoded(source, self.encoding, on_bytes, note, guess=guess)
        except WrongEncodingError as error:
            if len(self.sources) < 2:
                raise
            other = f"{error}, or save this file as {self.encoding} if the other files are {self.encoding}"
            raise WrongEncodingError(other, error.likely) from error

    def _rows(self, rows: Iterable[str]) -> Iterator[str]:
        """Yield the texts of a table's column, each followed by the separator of items.

        In a stream the separator is a line end. If the items are lines, a line end within a text
        becomes a space.
        """
        for row in rows:
            if self.newlines == "lf":
                row = row.replace("\r\n", "\n")  # JSON may hold them as escapes
            text = " ".join(row.split("\n")) if self.unit == "line" else row.strip("\r\n")
            yield text + SEPARATORS.get(self.unit, "\n")


class Corpus:
    """The training, validation and test splits of a text.

    A split can be read repeatedly, with only a block of it in memory at once.

    A text that is one stream is cut by position: training comes first, then validation, then test.
    With the fractions `val` and `test`, the training text has `int((1 - val - test) * characters)`
    characters. A document belongs to the split in which it begins. Lines are assigned to splits at
    random with a fixed seed, because a list of lines is often sorted, and its end would then not
    represent the rest.

    Attributes:
        unit: What the text consists of: one stream, lines or documents.
        characters: Number of characters of each split; an item includes its separator, which is one
            newline for lines and two for documents.
        fingerprint: Hash of the bytes of the text and of all settings that decide how it is cut.
        description: A short description to print.
        notes: Sentences that tell the user how the text was read.
    """

    def __init__(
        self, text: _JoinedSources, separate: dict[str, _JoinedSources], shares: tuple[float, float], size: int
    ) -> None:
        """Make a corpus from a text that is cut and from separate texts for some splits.

        Args:
            text: The text that is cut.
            separate: The texts of the splits that are not cut from `text`.
            shares: The fractions of `text` for validation and for test.
            size: Number of characters of `text`; if its items are lines, number of lines.
        """
        self.unit = text.unit
        self.fingerprint = ""
        self.description = ""
        self.notes: list[str] = []
        self._text = text
        self._separate = separate
        val, test = shares
        # Rounded, because 1 - 0.8 - 0.1 is a little less than 0.1 in floating point.
        first, second = int(round(1 - val - test, 12) * size), int(round(1 - test, 12) * size)
        self._ranges = {"train": (0, first), "val": (first, second), "test": (second, size)}
        self._split_of_line = np.zeros(size if text.unit == "line" else 0, np.uint8)
        if text.unit == "line":
            for index, split in enumerate(SPLITS):
                self._split_of_line[slice(*self._ranges[split])] = index
            np.random.default_rng(SPLIT_SEED).shuffle(self._split_of_line)
        self.characters: dict[str, int] = {}

    def blocks(self, split: str) -> Iterator[str]:
        """Yield the text of a split in blocks of at most `items.BLOCK` characters.

        Blocks end between lines where possible.
        """
        return items.blocks(self._pieces(split))

    def items(self, split: str) -> Iterator[str]:
        """Yield the items of a split in the order of the text, without separators.

        The unit of the corpus must be line or document.
        """
        separator = SEPARATORS[self.unit]
        return (piece.removesuffix(separator) for piece in self._pieces(split))

    def files(self, on_bytes: Callable[[bytes], object] = ignore) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield the name and the text (an iterator of pieces) of each file of all splits.

        Line ends of a plain text stay as they are. Of a table, the text is the chosen column, with
        a line end after each row.

        Args:
            on_bytes: A function that is called with all bytes that are read, in order.
        """
        for text in (self._text, *self._separate.values()):
            yield from text.files(on_bytes)

    def _count_characters(self, split: str) -> int:
        if self.unit == "stream":
            start, stop = self._ranges[split]
            return stop - start
        return sum(map(len, self._pieces(split)))

    def _pieces(self, split: str) -> Iterator[str]:
        if split not in SPLITS:
            raise CharlmError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}{nearest(split, SPLITS)}")
        if split in self._separate:
            return self._separate[split].pieces()
        start, stop = self._ranges[split]
        if start == stop:
            return iter(())
        pieces = self._text.pieces()
        if self.unit == "stream":
            return _characters_in(pieces, start, stop)
        if self.unit == "document":
            return _texts_that_begin_in(pieces, start, stop)
        index = SPLITS.index(split)
        return (piece for piece, assigned in zip(pieces, self._split_of_line, strict=True) if assigned == index)


def with_unix_newlines(pieces: Iterable[str], note: Note = ignore) -> Iterator[str]:
    r"""Replace every `\r\n` of a text by `\n`.

    Args:
        pieces: The text in pieces, which may also end between `\r` and `\n`.
        note: A function that is called with a sentence about the first replacement.
    """
    rest, found = "", False
    for piece in pieces:
        text = rest + piece
        rest = "\r" if text.endswith("\r") else ""
        text = text[:-1] if rest else text
        if not found and "\r\n" in text:
            found = True
            note("CR LF line ends become LF (data.newlines keep: they stay)")
        if text:
            yield text.replace("\r\n", "\n") if found else text
    if rest:
        yield rest


def _characters_in(pieces: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """Yield the characters of a text at the positions `start` to `stop - 1`, in pieces."""
    position = 0
    for piece in pieces:
        part = piece[max(start - position, 0) : max(stop - position, 0)]
        position += len(piece)
        if part:
            yield part
        if position >= stop:
            return


def _texts_that_begin_in(texts: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """Yield those of several consecutive texts that begin in a range of positions.

    The first character of such a text is at a position from `start` to `stop - 1`.
    """
    position = 0
    for text in texts:
        if start <= position < stop:
            yield text
        position += len(text)


def read_corpus(data: DataConfig, progress: Progress = no_progress) -> Corpus:
    r"""Find the sources of a text, read them once to check and count them, and cut the text.

    The sources are files, folders (all files in them that match `data.pattern`), globs and `-` for
    standard input. They are joined in the order given, the files of a folder or glob in the order
    of their paths. If none is given, the text is the built-in corpus. A byte-order mark decides the
    encoding of its file and is dropped. `\r\n` becomes `\n`, unless `data.newlines` is keep.

    Args:
        data: The settings: what to read and how to cut it.
        progress: A function that is told how many bytes have been read, and of how many.

    Raises:
        CharlmError: for example, a source is missing or cannot be decoded, the text is empty, or
            nothing is left to train on.
    """
    encoding = check_encoding(data.encoding)
    joined = partial(_JoinedSources, encoding=encoding, unit=data.unit, newlines=data.newlines, column=data.column)
    if data.text:
        text = joined([source for place in data.text for source in find(place, data.pattern)])
    else:
        text = _JoinedSources([builtin.source()], "utf-8", data.unit)
    places = {"val": data.val, "test": data.test}
    separate = {split: joined(find(place, data.pattern)) for split, place in places.items() if place}
    reading = _FirstReading(progress, sum(s.size for part in (text, *separate.values()) for s in part.sources))
    characters, lines = reading.count(text)
    counts = {split: reading.count(part)[0] for split, part in separate.items()}
    for name, part, size in (("text", text, characters), *((f"{s} text", separate[s], counts[s]) for s in separate)):
        if not size:
            names = ", ".join(source.name for source in part.sources[:3])
            raise CharlmError(f"the {name} is empty ({names}); name a file with text in it")
    shares = (0.0 if data.val else data.val_fraction, 0.0 if data.test else data.test_fraction)
    corpus = Corpus(text, separate, shares, lines if data.unit == "line" else characters)
    corpus.characters = {split: counts.get(split) or corpus._count_characters(split) for split in SPLITS}
    if not corpus.characters["train"]:
        raise CharlmError(
            "the text is too short to be split: nothing is left to train on; "
            "give a longer text or lower `data.val_fraction`"
        )
    corpus.fingerprint = reading.fingerprint(
        f"{encoding} {data.unit} {data.newlines} {data.column} {shares} {sorted(separate)}"
    )
    corpus.notes = reading.notes()
    files = len(text.sources) + sum(len(part.sources) for part in separate.values())
    what = count(files, "file") if data.text else f"the built-in corpus ({builtin.WHAT})"
    corpus.description = f"{what}, {sum(corpus.characters.values()):,} characters"
    return corpus


def check_text(data: DataConfig) -> None:
    """Check in a fraction of a second that the files of a text exist and begin with readable text.

    Of more than `CHECKED_FILES` files, only the first are read. Standard input and pipes are not
    checked, because they can be read only once.

    Args:
        data: The settings that name the files.

    Raises:
        CharlmError: a text is missing or cannot be read as the settings say.
    """
    encoding = check_encoding(data.encoding)
    found: list[Source] = []
    for place in (*data.text, data.val, data.test):
        path = Path(place).expanduser()
        if place not in ("", "-") and (path.is_file() or path.is_dir() or not path.exists()):
            found += find(place, data.pattern)
    most = CHECKED // max(1, len(found))
    for source in found[:CHECKED_FILES]:
        read = 0
        for piece in _JoinedSources([source], encoding, "stream", data.newlines, data.column).pieces():
            read += len(piece)
            if read > most:
                break


class _FirstReading:
    """The first pass over all texts, which counts their characters and hashes their bytes."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0
        self.hash = hashlib.blake2b(digest_size=16)
        self._notes: dict[str, list[str]] = {}

    def count(self, text: _JoinedSources) -> tuple[int, int]:
        """Return the number of characters of a text, and the number of its pieces.

        If the items of the text are lines, the pieces are its lines.
        """
        characters = pieces = 0
        for piece in text.pieces(self._add, self._note):
            characters += len(piece)
            pieces += 1
        return characters, pieces

    def _add(self, data: bytes) -> None:
        # The length comes first, so that the files "ab", "c" and "a", "bc" have different hashes.
        self.hash.update(len(data).to_bytes(8, "little"))
        self.hash.update(data)
        self.done += len(data)
        self.progress("reading", min(self.done, self.total), max(self.done, self.total))

    def _note(self, source: Source, sentence: str) -> None:
        self._notes.setdefault(sentence, []).append(source.name)

    def notes(self) -> list[str]:
        """Return the notes about how the files were read, each sentence only once.

        A sentence names the first file that it is about, and how many others there are.
        """
        return [
            f"{'warning: ' if 'probably' in sentence else ''}"
            f"{names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {sentence}"
            for sentence, names in self._notes.items()
        ]

    def fingerprint(self, settings: str) -> str:
        """Return a hash of all bytes that were read, and of `settings`.

        Args:
            settings: The settings that decide how the text is cut, as one string.
        """
        self.hash.update(settings.encode())
        return self.hash.hexdigest()
