"""Read the texts in one column of a table: CSV, TSV or JSON Lines."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator

from charlm.errors import CharlmError, nearest
from charlm.text.items import LONGEST_ITEM

DELIMITERS = (",", "\t", ";", "|")
SHOWN = 200  # most characters of column names in a message


def column(pieces: Iterable[str], name: str, file: str) -> Iterator[str]:
    """Yield the texts in one column of a table, without those that are empty or white space.

    A file that starts with `{` is JSON Lines: each line is an object, and the column is one of its
    keys. In any other file the first row has the names of the columns, separated by commas, tabs,
    semicolons or vertical bars.

    Args:
        pieces: The text of the file in pieces.
        name: Name of the column.
        file: Name of the file in messages.

    Raises:
        CharlmError: there is no such column, or a row cannot be read.
    """
    lines = _lines(pieces)
    first = next((line for line in lines if line.strip()), "")
    rows = itertools.chain([first], lines)
    found = _keys(rows, name, file) if first.lstrip().startswith("{") else _cells(rows, first, name, file)
    return (value for value in found if value.strip())


def _cells(lines: Iterable[str], first: str, name: str, file: str) -> Iterator[str]:
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter), []) for delimiter in DELIMITERS}
    delimiter = next((one for one, header in headers.items() if name in header), None)
    if delimiter is None:
        raise _missing(file, name, max(headers.values(), key=len))
    index = headers[delimiter].index(name)
    csv.field_size_limit(LONGEST_ITEM)  # of the whole csv module; the default is 131,072 characters
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        next(reader)
        for row in reader:
            if index < len(row):
                yield row[index]
    except csv.Error as error:
        raise CharlmError(
            f"{file}: row {reader.line_num:,} cannot be read ({error}); is a quotation mark open?"
        ) from None


def _keys(lines: Iterable[str], name: str, file: str) -> Iterator[str]:
    there, keys = False, list[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise CharlmError(f"{file}: line {number:,} is not JSON; give one object per line") from None
        if not isinstance(row, dict):
            raise CharlmError(f"{file}: line {number:,} is not an object; give one object per line")
        keys = keys or list(row)
        there = there or name in row
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise CharlmError(f"{file}: line {number:,} has no text under {name!r}; choose another `data.column`")
        yield value or ""
    if not there:
        raise _missing(file, name, keys)


def _missing(file: str, name: str, names: list[str]) -> CharlmError:
    listed = ", ".join(names)
    listed = listed if len(listed) <= SHOWN else f"{listed[:SHOWN]}..."
    return CharlmError(
        f"{file} has no column {name!r}{nearest(name, names)}; set `data.column` to one that it has ({listed})"
    )


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text, each with its line end."""
    rest = ""
    for piece in pieces:
        rest += piece
        if len(rest) > LONGEST_ITEM + len(piece):
            raise CharlmError(f"a row of the table is longer than {LONGEST_ITEM:,} characters; check `data.column`")
        *whole, rest = io.StringIO(rest, newline="\n")
        if rest.endswith("\n"):
            whole, rest = [*whole, rest], ""
        yield from whole
    if rest:
        yield rest
