"""The rules for cutting a text into lines, items and blocks.

All code that reads text uses these rules, so the ids of a text never depend on the pieces in which
the text was read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Literal

from charlm.errors import CharlmError

Unit = Literal["stream", "line", "document"]

BLOCK = 4_000_000  # most characters of a text held in memory at once, except for copies
LONGEST_LINE = 16_384  # characters: a longer line is cut, because tokenizers are slow on long pieces
LONGEST_ITEM = 4_000_000  # characters: an item is held in memory as a whole

SEPARATORS: dict[Unit, str] = {"line": "\n", "document": "\n\n"}  # between two items


def lines(text: str) -> list[str]:
    r"""Return the lines of a text, each with its `\n`; lines longer than `LONGEST_LINE` are cut.

    Joined, the lines are the text again. Only `\n` ends a line: form feeds, carriage returns and
    Unicode separators are characters like any other.
    """
    parts = text.split("\n")
    last = parts.pop()
    found = [part + "\n" for part in parts]
    if last:
        found.append(last)
    if max(map(len, found), default=0) <= LONGEST_LINE:
        return found
    return [line[start : start + LONGEST_LINE] for line in found for start in range(0, len(line), LONGEST_LINE)]


def blocks(pieces: Iterable[str], size: int = BLOCK) -> Iterator[str]:
    """Cut a text into blocks of at most `size` characters, only where `lines` also cuts.

    Args:
        pieces: The text in arbitrary pieces.
        size: Largest number of characters of a block, at least `LONGEST_LINE`.
    """
    rest = ""
    for piece in pieces:
        text, start = rest + piece, 0
        while len(text) - start > size:
            end = text.rfind("\n", start, start + size) + 1 or start + size - size % LONGEST_LINE
            yield text[start:end]
            start = end
        rest = text[start:]
    if rest:
        yield rest


def items(pieces: Iterable[str], unit: Unit) -> Iterator[str]:
    r"""Yield the items of a text: its lines, or its documents, which are separated by blank lines.

    Items of white space alone are left out. An item comes without the line ends (`\n` or `\r\n`)
    after it; line ends within a document are kept.

    Args:
        pieces: The text in arbitrary pieces.
        unit: Whether the items are lines or documents.

    Raises:
        CharlmError: an item is longer than `LONGEST_ITEM` characters, so the text is probably one
            stream.
    """
    if unit == "line":
        yield from (line.rstrip("\r\n") for line in _complete_lines(pieces, unit) if line.strip())
        return
    for blank, group in itertools.groupby(_complete_lines(pieces, unit), lambda line: not line.strip()):
        if blank:
            continue
        parts, length = [], 0
        for line in group:
            length += len(line)
            _check_length(length, unit)
            parts.append(line)
        yield "".join(parts).rstrip("\r\n")


def _complete_lines(pieces: Iterable[str], unit: Unit) -> Iterator[str]:
    """Yield the lines of a text, each with its line end; long lines are not cut."""
    rest = ""
    for piece in pieces:
        parts = (rest + piece).split("\n")
        rest = parts.pop()
        _check_length(len(rest), unit)
        for part in parts:
            yield part + "\n"
    if rest:
        yield rest


def _check_length(length: int, unit: Unit) -> None:
    if length > LONGEST_ITEM:
        raise CharlmError(
            f"a {unit} of the text is longer than {LONGEST_ITEM:,} characters; "
            "is it one long text? then set `data.unit` to stream"
        )


def batched(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Group consecutive texts into lists of at most `characters` characters in all.

    A longer text is a list of its own.
    """
    group: list[str] = []
    total = 0
    for text in texts:
        if group and total + len(text) > characters:
            yield group
            group, total = [], 0
        group.append(text)
        total += len(text) + 1
    if group:
        yield group
