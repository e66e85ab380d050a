"""What `charlm play` shows: the text, the guesses for the next token, the status, and the help."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.layout import UIContent, UIControl
from prompt_toolkit.styles import Style

from charlm.generation.composition import Composition, Guess
from charlm.generation.processors import generation_settings
from charlm.views.generated import BOUNDS, COLOURS
from charlm.views.play_rows import Rows, columns, displayed
from charlm.views.play_session import COMMANDS, Session
from charlm.views.text import wrap

GUESSES, GUESS = 9, 20
"""Most guesses that are shown, and the least columns of one."""

KEYS = {
    "letters": "type at the cursor; what follows it is replaced",
    "Tab": "let the model write (its tokens: command length)",
    "Esc 1 ... Esc 9": "take a guess; also Alt with the digit",
    "Down, Up": "select a guess; Enter takes it",
    "Left, Right": "go back and forth by one token",
    "Home, End": "go to the beginning, to the end",
    "PgUp, PgDn": "go up or down by ten rows",
    "Backspace": "remove a character",
    "Ctrl+Z, Ctrl+Y": "undo, redo",
    "Ctrl+P": "type a command; Tab completes its name",
    "Ctrl+T": "set the temperature",
    "Ctrl+B, Ctrl+G": "set a bookmark, go to one",
    "Ctrl+S": "save the text",
    "Ctrl+C, Esc": "stop the model; every other key does, too",
    "Ctrl+C, Ctrl+D": "leave; a text that is not saved is printed",
}
"""The keys, and what they do."""

HINTS = ("F1 help", "Tab write", "Esc 1-9 take", "^Z undo", "^P command", "^S save", "^C leave")
HELP_HINTS = ("Esc close", "Up, Down, PgUp, PgDn scroll")
"""The keys of the last line of the screen, of the text and of the help, the most needed first."""


def style() -> Style:
    """Return the colours: those of bits are the backgrounds that `charlm generate --show probability` uses."""
    classes = {
        "typed": "bold",
        "pending": "bold underline",
        "unknown": "bold underline",
        "after": "ansibrightblack",
        "title": "",
        "number": "bold",
        "actual": "underline",
        "selected": "reverse",
        "status": "",
        "message": "bold",
        "hints": "reverse",
        "heading": "bold",
        "completion-menu.completion": "noreverse",
        "completion-menu.completion.current": "reverse",
    }
    for level, index in enumerate(COLOURS, 1):
        red, green, blue = (index - 16) // 36, (index - 16) // 6 % 6, (index - 16) % 6
        parts = (0 if part == 0 else 55 + 40 * part for part in (red, green, blue))
        classes[f"bits{level}"] = f"#000000 bg:#{''.join(f'{part:02x}' for part in parts)}"
    return Style.from_dict(classes)


class TextControl(UIControl):
    """The part of the screen that has the text."""

    def __init__(self, composition: Composition, bindings: KeyBindings) -> None:
        self._composition, self._bindings = composition, bindings
        self.rows = Rows()

    def is_focusable(self) -> bool:
        return True

    def get_key_bindings(self) -> KeyBindings:
        return self._bindings

    def create_content(self, width: int, height: int) -> UIContent:
        one = self._composition
        self.rows.update(one.path, one.unfinished + one.pending, max(2, width - 1))  # a column for the cursor
        row, column = self.rows.cursor(None if one.at_end else one.position)
        return UIContent(self._line, len(self.rows.rows), Point(column, row))

    def _line(self, number: int) -> StyleAndTextTuples:
        one, path = self._composition, self._composition.path
        parts: StyleAndTextTuples = []
        for token, text in self.rows.line(number):
            node = path[token] if token < len(path) else None
            if not one.at_end and token >= one.position:
                classes = "class:after"
            elif node is None:
                classes = "class:pending"
            elif node.typed is not None and node.id == one.tokenizer.unknown:
                classes = "class:unknown"
            else:
                level = sum((node.character_bits or 0.0) > bound for bound in BOUNDS)
                classes = ("class:typed " if node.typed is not None else "") + (f"class:bits{level}" if level else "")
            parts.append((classes, text))
        return parts


def shape(width: int, height: int) -> tuple[int, int]:
    """Return how many columns and rows of guesses fit on a screen of this size."""
    across = max(1, min(3, width // GUESS))
    return across, max(1, min(-(-GUESSES // across), height // 4))


def guess_rows(
    guesses: Sequence[Guess], selected: int, actual: int | None, across: int, width: int
) -> StyleAndTextTuples:
    """Return the guesses in columns, numbered from top to bottom.

    Args:
        guesses: The guesses, the most probable one first.
        selected: The rank of the one that is selected; 0: none.
        actual: The token that follows the cursor.
        across: Number of columns.
        width: Width of the screen.
    """
    down, size = -(-len(guesses) // across), width // across
    parts: StyleAndTextTuples = []
    for row in range(down):
        for rank in range(row + 1, len(guesses) + 1, down):
            guess = guesses[rank - 1]
            percent = f"{guess.probability:.0%}" if guess.probability > 0.0995 else f"{guess.probability:.1%}"
            token = quoted(guess.text, size - 10)
            chosen = "class:selected " if rank == selected else ""
            actually = "class:actual" if guess.id == actual else ""
            parts += [
                (f"{chosen}class:number", f"{rank} "),
                (chosen, f"{percent:>5} "),
                (chosen + actually, token),
                ("", " " * (size - 8 - columns(token))),
            ]
        parts.append(("", "\n"))
    return parts


def title(composition: Composition, unread: int, width: int) -> str:
    """Return the line above the guesses: what is before the cursor, and its bits.

    Args:
        composition: The text.
        unread: How many tokens before the cursor the model has not read.
        width: Columns of the line.
    """
    before = composition.path[composition.position - 1] if composition.position else None
    if unread:
        text = f"reading: {unread:,} tokens left"
    elif composition.pending and composition.at_end:
        text = f"tokens that begin with {quoted(composition.pending)}"
    elif before is None:
        text = "at the beginning"
    else:
        spelled = before.text or composition.tokenizer.tokens[before.id]
        text = f"after {quoted(spelled)}" + (", which is not in the vocabulary" if is_unknown(composition) else "")
        text += f", {before.character_bits:.2f} bits" if before.character_bits is not None else ""
        text += "; mixed state" if before.mixed is not None else ""
    text = shortened(text, width - 4)
    return f"── {text} " + "─" * max(0, width - columns(text) - 4)


def is_unknown(composition: Composition) -> bool:
    """Whether the token before the cursor was typed and is not in the vocabulary."""
    node = composition.path[composition.position - 1]
    return node.typed is not None and node.id == composition.tokenizer.unknown


def status(session: Session, width: int) -> list[str]:
    """Return the status in one or two lines.

    They show the values of the processors, the position, the seed, the bits per typed character and
    the bookmarks.
    """
    one = session.composition
    changed = [f"{name} {session.value(name)}" for name in generation_settings() if name in one.values]
    changed = changed if "temperature" in one.values else ["temperature 1", *changed]
    here = one.path[one.position - 1] if one.position else None
    typed = []
    if here is not None and here.bits is not None and here.typed_characters:
        typed = [f"typed: {here.typed_bits / here.typed_characters:.2f} bits per character"]
    place = f"token {one.position:,}" + ("" if one.at_end else f" of {len(one.path):,}")
    marks = [f"bookmarks: {' '.join(one.bookmarks)}"] if one.bookmarks else []
    lines = [""]
    for item in (*changed, place, f"seed {one.seed}", *typed, *marks):
        item = displayed(item).replace("\n", "␊")
        if lines[-1] and columns(lines[-1]) + columns(item) + 3 > width:
            lines.append("")
        lines[-1] += f" · {item}" if lines[-1] else item
    rest = " · ".join(lines[1:])
    return [shortened(line, width) for line in (lines[0], rest) if line]


def hints(keys: Sequence[str], width: int) -> str:
    """Return the last line of the screen: as many of the keys as fit."""
    text = " "
    for hint in keys:
        if len(text) + len(hint) + 2 > width:
            break
        text += f"{hint}  "
    return text.ljust(width)


def help_text(width: int) -> StyleAndTextTuples:
    """Return the page of all keys and commands."""
    settings = [(f"{name} VALUE", one.help) for name, one in generation_settings().items()]
    commands = [(f"{name} {one.arguments}", one.help) for name, one in COMMANDS.items()]
    parts: StyleAndTextTuples = [("class:heading", "Keys"), ("", "\n")]
    parts += _table(list(KEYS.items()), width)
    parts += [("", "\n"), ("class:heading", "Colours"), ("", "\nbits: -log2 of the probability\n")]
    for level, bound in enumerate(BOUNDS, 1):
        parts += [(f"class:bits{level}", f" > {bound} "), ("", " ")]
    parts += [("", "\n"), ("class:typed", "bold"), ("", ": typed; "), ("class:unknown", "underlined")]
    parts += [("", ": not a token\n"), ("", "\n"), ("class:heading", "Commands"), ("", "\n")]
    parts += _table(commands, width)
    parts += [("", "\n"), ("class:heading", "Logits processors"), ("", "\n(a name alone shows its value)\n")]
    return parts + _table(settings, width)


def _table(rows: Sequence[tuple[str, str]], width: int) -> StyleAndTextTuples:
    parts: StyleAndTextTuples = []
    first = max(len(name) for name, _ in rows) if width >= 60 else 2
    for name, text in rows:
        inside = width - first - 3
        lines = wrap(text, inside).split("\n")
        head = name.ljust(first) if width >= 60 else f"{name}\n  "
        parts.append(("class:number", head))
        parts.append(("", "  " + ("\n" + " " * (first + 2)).join(lines) + "\n"))
    return parts


def quoted(text: str, room: int = 40) -> str:
    """Return a token in quotation marks, cut to a number of columns; line ends and tabs are escaped."""
    text = displayed(text.replace("\n", "\\n").replace("\t", "\\t"))
    if text and unicodedata.combining(text[0]):
        text = f"\u25cc{text}"
    return f"'{shortened(text, max(1, room - 2))}'"


def shortened(text: str, room: int) -> str:
    """Return a text that takes at most `room` columns; an ellipsis stands for what is left out."""
    if columns(text) <= room:
        return text
    while text and columns(text) > room - 1:
        text = text[:-1]
    return f"{text}…"
