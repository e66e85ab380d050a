"""Lines, blocks and items: the rules by which any text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import CharlmError
from charlm.text import items
from charlm.text.items import LONGEST_LINE, batched, blocks, lines

# Few different characters, so that line ends meet often.
TEXT = st.text(alphabet="ab \n\r\x0c\u2028é", max_size=60)


def test_only_a_newline_ends_a_line() -> None:
    assert lines("a\nb\r\n\n\x0cc\u2028d\re") == ["a\n", "b\r\n", "\n", "\x0cc\u2028d\re"]
    assert lines("") == []


def test_long_lines_are_cut_at_a_fixed_size() -> None:
    text = "x" * (2 * LONGEST_LINE + 5) + "\nend"
    assert [len(line) for line in lines(text)] == [LONGEST_LINE, LONGEST_LINE, 6, 3]
    assert "".join(lines(text)) == text


@given(st.lists(TEXT))
def test_blocks_hold_whole_lines_whatever_the_pieces(pieces: list[str]) -> None:
    # One line can be long enough to be cut within a block.
    pieces = [*pieces, "y" * (2 * LONGEST_LINE + 3), *pieces]
    cut = list(blocks(pieces, size=LONGEST_LINE))
    assert "".join(cut) == "".join(pieces)
    assert all(0 < len(block) <= LONGEST_LINE for block in cut)
    assert [line for block in cut for line in lines(block)] == lines("".join(pieces))


def test_lines_as_items_lose_their_ends_and_empty_ones_are_dropped() -> None:
    assert list(items.items(["em", "ma\r\nolivia\n\n  \n av", "a"], "line")) == ["emma", "olivia", " ava"]
    assert list(items.items(["emma \t\r\n ava "], "line")) == ["emma \t", " ava "]
    assert list(items.items(["emma \n\nava \t\n"], "document")) == ["emma ", "ava \t"]


def test_documents_are_separated_by_blank_lines() -> None:
    text = "\n\nX:1\n  A B\r\n \t\r\n\nX:2\nC\n\n\n"
    assert list(items.items([text], "document")) == ["X:1\n  A B", "X:2\nC"]
    assert list(items.items(list(text), "document")) == ["X:1\n  A B", "X:2\nC"]


@pytest.mark.parametrize(("unit", "text"), [("line", "x" * 30), ("document", "xx\n" * 10)])
def test_an_endless_item_is_refused(monkeypatch: pytest.MonkeyPatch, unit: items.Unit, text: str) -> None:
    monkeypatch.setattr(items, "LONGEST_ITEM", 20)
    with pytest.raises(CharlmError, match=f"a {unit} .* longer than 20 characters.*set `data.unit` to stream"):
        list(items.items([text], unit))


def test_batches_of_texts_are_bounded_but_never_split_a_text() -> None:
    assert list(batched(["aa", "bb", "cccccc", "d"], 5)) == [["aa", "bb"], ["cccccc"], ["d"]]
    assert list(batched([], 5)) == []
