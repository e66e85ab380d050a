"""Text for display: no control characters, no long lines."""

from __future__ import annotations

import json

import pytest

from charlm.views.text import json_line, visible, wrap


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\x7f\x80\x9b", "␡\\x80\\x9b"),
        ("e\u0301 שלום 👩‍👩‍👧", "e\u0301 שלום 👩‍👩‍👧"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short\n\nlines", "short\n\nlines"),
        ("one two three", "one two\nthree"),
        ("abcdefghijklmno", "abcdefghij\nklmno"),
        ("一二三四五六七", "一二三四五\n六七"),
        ("a bcdefghijklm", "a\nbcdefghijk\nlm"),
        ("\n\nbegins and ends\n", "\n\nbegins and\nends\n"),
        ("a\tb\x1b", "a   b␛"),
        ("", ""),
    ],
)
def test_long_lines_are_wrapped(text: str, expected: str) -> None:
    assert wrap(text, 10) == expected


def test_json_has_no_control_characters() -> None:
    text = "\x00\x1b\x7f\x9b é 日本 \\"
    line = json_line({"text": text})
    assert not [character for character in line if ord(character) < 32 or 0x7F <= ord(character) < 0xA0]
    assert "é 日本" in line
    assert json.loads(line) == {"text": text}
