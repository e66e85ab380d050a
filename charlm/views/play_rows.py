"""The rows of a text of tokens that is wrapped to the width of a screen while it is written."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wcwidth import wcwidth

from charlm.generation.text_tree import Node
from charlm.views.text import visible

TAB = 4  # columns

HIDDEN = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)}
"""Characters that would change the order of other characters on the screen, or end a line."""


class Place(NamedTuple):
    """A place in a text: a token, and a character of the text that it adds, both counted from 0."""

    token: int
    character: int


class Row(NamedTuple):
    """The beginning of a row, and why it begins there: after a line end, between words, or within a word."""

    start: Place
    after: str


def displayed(text: str) -> str:
    """Return a text as the screen shows it: control characters become visible, and tabs become spaces."""
    return visible(text).translate(HIDDEN).replace("\t", " " * TAB)


def columns(text: str) -> int:
    """Return how many columns a text takes on the screen."""
    return len(text) if text.isascii() else sum(max(0, wcwidth(character)) for character in text)


class Rows:
    """The rows of a text.

    Lines are wrapped between words, before and after wide characters (as in Chinese), and within
    words that are longer than a row. When the text changes, only the rows from shortly before the
    first change on are computed again.
    """

    def __init__(self) -> None:
        self.width = 0
        self.rows: list[Row] = []
        self._path: list[Node] = []
        self._rest = ""

    def update(self, path: Sequence[Node], rest: str, width: int) -> None:
        """Wrap a text.

        Args:
            path: The tokens of the text.
            rest: What follows them.
            width: Columns of a row, at least 2.
        """
        if width != self.width:
            self.width, self.rows, self._path = width, [Row(Place(0, 0), "end")], []
        same = bisect_left(range(min(len(path), len(self._path))), True, key=lambda i: path[i] is not self._path[i])
        if same == len(path) == len(self._path) and rest == self._rest:
            return
        first = bisect_right(self.rows, Place(same, 0), key=lambda row: row.start) - 1
        while self.rows[first].after == "part":
            first -= 1
        if self.rows[first].after == "word":  # which may now fit into the row before
            first -= 1
        self._path, self._rest = list(path), rest
        del self.rows[first + 1 :]
        self._wrap(self.rows[first].start)

    def line(self, number: int) -> Iterator[tuple[int, str]]:
        """Yield the parts of a row: the index of a token, and the part of its text that is in the row."""
        (token, character), _ = self.rows[number]
        end = self.rows[number + 1].start if number + 1 < len(self.rows) else Place(len(self._path) + 1, 0)
        left = self.width
        while (token, character) < end:
            stop = end.character if token == end.token else None
            text = self._shown(token)[character:stop].removesuffix("\n")
            while columns(text) > left:  # spaces at the end of the row
                text = text[:-1]
            left -= columns(text)
            yield token, text
            token, character = token + 1, 0

    def cursor(self, position: int | None) -> tuple[int, int]:
        """Return the row and the column before a token; None: at the end of the text.

        Args:
            position: The index of the token.
        """
        place = Place(len(self._path) + 1 if position is None else position, 0)
        row = bisect_right(self.rows, place, key=lambda row: row.start) - 1
        parts = [text for token, text in self.line(row) if token < place.token]
        return row, min(self.width, sum(map(columns, parts)))

    def token_at(self, row: int) -> int:
        """Return the index of the first token that begins in a row."""
        token, character = self.rows[max(0, min(row, len(self.rows) - 1))].start
        return token + (character > 0)

    def _shown(self, token: int) -> str:
        return displayed(self._path[token].text if token < len(self._path) else self._rest)

    def _wrap(self, start: Place) -> None:
        """Add the rows after the one that begins at `start`."""
        column, gap, gap_column = 0, start, 0  # the last place where the row may end, and the column there
        token, character = start
        while token <= len(self._path):
            text = self._shown(token)
            for index in range(character, len(text)):
                sign, here, after = text[index], Place(token, index), _next(text, token, index)
                size = max(0, wcwidth(sign))
                if sign == "\n":
                    self.rows.append(Row(after, "end"))
                    column, gap, gap_column = 0, after, 0
                    continue
                if size == 2:
                    gap, gap_column = here, column
                elif size == 0 and gap == here:  # a mark belongs to the character before it
                    gap = after
                if column + size > self.width and sign != " ":
                    if gap_column:
                        self.rows.append(Row(gap, "word"))
                        column -= gap_column
                    else:
                        self.rows.append(Row(here, "part"))
                        column = 0
                    gap, gap_column = here, 0
                column += size
                if sign == " " or size == 2:
                    gap, gap_column = after, column
            token, character = token + 1, 0


def _next(text: str, token: int, index: int) -> Place:
    return Place(token, index + 1) if index + 1 < len(text) else Place(token + 1, 0)
