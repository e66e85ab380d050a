"""What the files of a text contain: line ends, long lines, control characters and rare characters.

1. `survey` reads all files and counts what they contain. If there are rare characters, it reads the
   files again to find the places of these characters.
2. `find_passages` finds the places where given passages begin.

Neither function holds much more than a block of the text in memory.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.text_statistics import CODE_POINTS, code_points
from charlm.text.corpus import Corpus, with_unix_newlines
from charlm.text.encodings import encoding_of_mark
from charlm.text.items import blocks

Integers = NDArray[np.int64]

RARE = 5
"""A character that occurs fewer times than this is rare."""

MOST_PLACES = 3
"""Largest number of places that are kept of a character or a passage: the first ones."""

BLOCK = 1 << 20  # characters that are looked at together
LINE_END = ord("\n")
SPACES = np.array([chr(code).isspace() for code in range(0x3001)])  # there is no space above
ORDINARY_CONTROLS = "\n\r\t"
NAMES = {"\0": "NULL", "\x07": "BELL", "\x08": "BACKSPACE", "\x0b": "VERTICAL TAB", "\x0c": "FORM FEED"}
NAMES |= {"\x1a": "SUBSTITUTE (end of file in DOS)", "\x1b": "ESCAPE", "\x7f": "DELETE", "\x85": "NEXT LINE"}


class Place(NamedTuple):
    """A place in a file; `line` and `column` are counted from 1, and a line feed ends a line.

    A table is read like a file in which each text of the chosen column is a line.
    """

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass
class Survey:
    """The result of `survey`: counts of what the files of a text contain.

    Attributes:
        files, bytes, characters, words, lines: Their numbers; words are separated by white space.
        marks: Number of files that begin with a byte-order mark, by the encoding of the mark.
        line_ends: Number of line ends LF and CR LF, and of CR characters that no LF follows.
        longest_line: Number of characters of the longest line.
        longest_place: Where the longest line begins; None if the text is empty.
        counts: Number of occurrences of each character.
        places: For each rare character, its first `MOST_PLACES` places in the files.
    """

    files: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    lines: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    line_ends: dict[str, int] = field(default_factory=lambda: {"LF": 0, "CR LF": 0, "CR": 0})
    longest_line: int = 0
    longest_place: Place | None = None
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[Place]] = field(default_factory=dict)

    @property
    def rare(self) -> list[str]:
        """The characters that occur fewer than `RARE` times.

        They are sorted: suspicious characters before all others, then from the rarest to the most
        frequent, then by code point.
        """
        rare = [character for character, count in self.counts.items() if count < RARE]
        return sorted(rare, key=lambda one: (not is_suspicious(one), self.counts[one], one))

    @property
    def controls(self) -> dict[str, int]:
        """The number of occurrences of each control character except LF, CR and tab."""
        return {
            character: count
            for character, count in self.counts.items()
            if unicodedata.category(character) == "Cc" and character not in ORDINARY_CONTROLS
        }


def is_suspicious(character: str) -> bool:
    """Return whether a character is unusual in a text.

    Such are control and format characters, surrogates, characters for private use, code points to
    which no character is assigned, and U+FFFD.
    """
    return character == "\ufffd" or unicodedata.category(character)[0] == "C"


def character_name(character: str) -> str:
    """Return the Unicode name of a character.

    Unicode gives control characters no names, so common ones have a name in `NAMES`. For all other
    characters without a name, the result is "control character" or "no name".
    """
    fallback = NAMES.get(character, "control character" if unicodedata.category(character) == "Cc" else "no name")
    return unicodedata.name(character, fallback)


class _File:
    """A file that is read block by block; it converts a position in a block to line and column.

    Args:
        name: The name of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 1  # line of the first character of the block
        self.column = 1
        self._ends: Integers = np.empty(0, np.int64)
        self._size = 0

    def read(self, points: NDArray[Any]) -> Integers:
        """Go to the next block of the file, and return the positions of the line feeds in it.

        Args:
            points: The code points of the block.
        """
        if len(self._ends):
            self.line += len(self._ends)
            self.column = self._size - int(self._ends[-1])
        else:
            self.column += self._size
        self._ends, self._size = np.flatnonzero(points == LINE_END), len(points)
        return self._ends

    def place(self, position: int) -> Place:
        """Return the line and column in the file for a position in the current block."""
        before = int(np.searchsorted(self._ends, position))
        column = position - int(self._ends[before - 1]) if before else self.column + position
        return Place(self.name, self.line + before, column)


def survey(corpus: Corpus) -> Survey:
    """Count what the files of a text contain, and find the places of its rare characters."""
    found = Survey()
    totals = np.zeros(CODE_POINTS, np.int64)
    first: list[bytes] = []  # the beginning of the file that is being read

    def on_bytes(data: bytes) -> None:
        found.bytes += len(data)
        first.append(data[:4])

    for name, pieces in corpus.files(on_bytes):
        first.clear()
        found.files += 1
        _count(name, pieces, found, totals)
        if mark := encoding_of_mark(b"".join(first[:1])):
            found.marks[mark] = found.marks.get(mark, 0) + 1
    found.line_ends["LF"] = int(totals[LINE_END]) - found.line_ends["CR LF"]
    found.line_ends["CR"] = int(totals[ord("\r")]) - found.line_ends["CR LF"]
    found.characters = int(totals.sum())
    found.counts = {chr(code): int(totals[code]) for code in np.flatnonzero(totals)}
    rare = (totals > 0) & (totals < RARE)
    found.places = _places(corpus, rare) if rare.any() else {}
    return found


def _count(name: str, pieces: Iterator[str], found: Survey, totals: Integers) -> None:
    """Add the counts of one file to those of the files before it.

    Args:
        name: The name of the file.
        pieces: The text of the file in pieces.
        found: The result, in which CR LF line ends, words, lines and the longest line are updated.
        totals: (code points,) number of occurrences of each character; updated as well.
    """
    file, last, start = _File(name), " ", 0  # start of the current line, negative before the block
    length = 0
    for block in blocks(pieces, BLOCK):
        points = code_points(block)
        totals += np.bincount(points, minlength=CODE_POINTS)
        ends = file.read(points)
        length = len(block)
        found.line_ends["CR LF"] += block.count("\r\n") + (last == "\r" and block[0] == "\n")
        space = SPACES[np.minimum(points, len(SPACES) - 1)] & (points < len(SPACES))
        found.words += int(np.count_nonzero(~space[1:] & space[:-1])) + int(last.isspace() and not space[0])
        found.lines += len(ends)
        bounds = np.concatenate([[start - 1], ends])
        if len(ends):
            longest = int(np.argmax(np.diff(bounds)))
            _note_line(found, int(np.diff(bounds)[longest]) - 1, file.place(int(ends[longest])))
        start = int(bounds[-1]) + 1 - length
        last = block[-1]
    if start < 0:  # a last line without an end
        found.lines += 1
        _note_line(found, -start, file.place(length))


def _note_line(found: Survey, length: int, end: Place) -> None:
    """Record a line in `found` if it is the longest one so far.

    Args:
        found: The result.
        length: Characters of the line.
        end: The place of the end of the line.
    """
    if length > found.longest_line or found.longest_place is None:
        found.longest_line, found.longest_place = length, end._replace(column=1)


def _places(corpus: Corpus, wanted: NDArray[np.bool_]) -> dict[str, list[Place]]:
    """Find the first `MOST_PLACES` places of each of some characters.

    Args:
        corpus: The text.
        wanted: (code points,) whether to find each character.
    """
    places: dict[str, list[Place]] = {}
    for name, pieces in corpus.files():
        file = _File(name)
        for block in blocks(pieces, BLOCK):
            points = code_points(block)
            file.read(points)
            for position in np.flatnonzero(wanted[points]).tolist():
                known = places.setdefault(block[position], [])
                if len(known) < MOST_PLACES:
                    known.append(file.place(position))
    return places


def find_passages(corpus: Corpus, passages: Sequence[str]) -> list[list[Place]]:
    """Find the places in the files where each of some passages begins.

    Only the first `MOST_PLACES` places of each passage are returned. A line end CR LF in a file
    counts as LF.
    """
    places: list[list[Place]] = [[] for _ in passages]
    longest = max(map(len, passages), default=0)
    for name, pieces in corpus.files() if longest else ():
        file, kept, start = _File(name), "", Place(name, 1, 1)
        for block in blocks(with_unix_newlines(pieces), BLOCK):
            file.read(code_points(block))
            text = kept + block  # a passage may begin in the block before

            def place(at: int, kept: str = kept, start: Place = start, file: _File = file) -> Place:
                return file.place(at - len(kept)) if at >= len(kept) else _after(start, kept[:at])

            for passage, known in zip(passages, places, strict=True):
                at = text.find(passage, max(0, len(kept) - len(passage) + 1))
                while at >= 0 and len(known) < MOST_PLACES:
                    known.append(place(at))
                    at = text.find(passage, at + 1)
            first = max(0, len(text) - longest)
            kept, start = text[first:], place(first)
    return places


def _after(start: Place, text: str) -> Place:
    """Return the place at the end of a text that begins at the place `start`."""
    ends = text.count("\n")
    column = len(text) - text.rfind("\n") if ends else start.column + len(text)
    return Place(start.file, start.line + ends, column)
