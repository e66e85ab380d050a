"""Rows of a text on the screen: as wide as the screen at most, the same after every change as computed anew."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("wcwidth")

from charlm.generation.text_tree import Node
from charlm.views.play_rows import Rows, columns, displayed

PIECES = [
    "a",
    "b",
    " ",
    "the ",
    "cat",
    "\n",
    "中",
    "文字",
    "e\u0301",
    "😀",
    "",
    "supercalifragil",
    ".\n",
    "\t",
    "  ",
]


def path_of(pieces: list[str], parent: Node | None = None) -> list[Node]:
    path, node = [], parent or Node(None, 0, "")
    for piece in pieces:
        node = Node(node, 0, piece)
        path.append(node)
    return path


def wrapped(pieces: list[str], width: int, rest: str = "") -> list[str]:
    rows = Rows()
    rows.update(path_of(pieces), rest, width)
    return lines(rows)


def lines(rows: Rows) -> list[str]:
    return ["".join(text for _, text in rows.line(number)) for number in range(len(rows.rows))]


@pytest.mark.parametrize(
    ("pieces", "width", "expected"),
    [
        ([], 5, [""]),
        (["the ", "cat ", "sat"], 7, ["the cat", "sat"]),
        (["the ", "cat ", "sat"], 6, ["the ", "cat ", "sat"]),
        (["the", "   ", "cat"], 4, ["the ", "cat"]),
        (["abcdefgh", "ij k"], 4, ["abcd", "efgh", "ij k"]),
        (["a ", "bcdef"], 4, ["a ", "bcde", "f"]),
        (["a\n", "\n", "b"], 9, ["a", "", "b"]),
        (["a\n"], 9, ["a", ""]),
        (["中文字", "中文"], 5, ["中文", "字中", "文"]),
        (["a", "中", "\u0301", "中"], 3, ["a中\u0301", "中"]),
        (["e\u0301e\u0301", "e\u0301"], 2, ["e\u0301e\u0301", "e\u0301"]),
        (["a\tb"], 9, ["a    b"]),
        (["\x1b[2J\u202e"], 99, ["␛[2J\\u202e"]),
    ],
)
def test_rows_end_between_words(pieces: list[str], width: int, expected: list[str]) -> None:
    assert wrapped(pieces, width) == expected
    assert wrapped([], width, "".join(pieces)) == expected
    assert wrapped(list("".join(pieces)), width) == expected


@pytest.mark.parametrize("seed", range(30))
def test_rows_after_changes_are_those_of_the_whole_text(seed: int) -> None:
    draw = random.Random(seed)
    rows, path, width = Rows(), path_of([]), draw.randint(2, 12)
    for _ in range(60):
        kept = draw.choice([len(path), draw.randint(0, len(path)), max(0, len(path) - 1)])
        added = draw.choices(PIECES, k=draw.randint(0, 4))
        path = path[:kept] + path_of(added, path[kept - 1] if kept else None)
        rest = draw.choice(["", "", " c", "wor", "\ufffd"])
        rows.update(path, rest, width)
        text = "".join(node.text for node in path) + rest
        assert lines(rows) == wrapped([node.text for node in path], width, rest)
        assert "".join(lines(rows)).replace(" ", "") == displayed(text).replace("\n", "").replace(" ", "")
        assert all(columns(line) <= width for line in lines(rows))
        for position in {0, len(path) // 2, len(path)}:
            row, column = rows.cursor(position)
            before = "".join(node.text for node in path[:position])
            assert column <= width
            shown = "".join(lines(rows)[:row]) + "".join(t for i, t in rows.line(row) if i < position)
            assert shown.replace(" ", "") == displayed(before).replace("\n", "").replace(" ", "")
        if not draw.randrange(10):
            width = draw.randint(2, 12)


def test_the_cursor_and_the_tokens_of_rows() -> None:
    rows = Rows()
    rows.update(path_of(["the ", "cat ", "sat\n", "on"]), " th", 8)
    assert lines(rows) == ["the cat ", "sat", "on th"]
    assert [rows.cursor(position) for position in (0, 1, 2, 3, 4, None)] == [
        (0, 0),
        (0, 4),
        (1, 0),
        (2, 0),
        (2, 2),
        (2, 5),
    ]
    assert [rows.token_at(row) for row in (-1, 0, 1, 2, 5)] == [0, 0, 2, 3, 3]
