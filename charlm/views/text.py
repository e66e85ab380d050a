"""The preparation of text for display: visible control characters, and wrapped lines."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

# C0 controls and DEL have Unicode symbols, C1 controls have none; new lines and tabs keep their effect.
_SYMBOLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_SYMBOLS |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}


def visible(text: str) -> str:
    """Replace the control characters of a text by visible signs (ESC by ␛).

    Such a text cannot control a terminal. New lines and tabs stay, and CR LF becomes LF.
    """
    return text.replace("\r\n", "\n").translate(_SYMBOLS)


def shown(text: str) -> str:
    """Return a text in the form in which standard output should get it.

    On a terminal the control characters are made visible; a pipe or a file gets the text unchanged.
    """
    return visible(text) if sys.stdout.isatty() else text


def json_line(value: Any) -> str:
    """Return a value as one line of JSON without control characters.

    JSON allows some control characters in strings, such as DEL; these are escaped too.
    """
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def wrap(text: str, width: int) -> str:
    """Break a text into lines that are at most `width` columns wide, at spaces where possible.

    Control characters are made visible, tabs become spaces, spaces at the ends of lines are
    removed, and wide (East Asian) characters count as two columns.
    """
    from rich.console import Console  # imported late: `charlm generate` needs only `visible`
    from rich.text import Text

    lines = Text(visible(text)).wrap(Console(), width, tab_size=4)
    return "\n".join(line.plain.rstrip() for line in lines)
