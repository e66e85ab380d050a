"""Generated texts as `charlm generate` writes them: plain, coloured, as JSON, or one file each."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.views.text import json_line, shown, visible

if TYPE_CHECKING:
    from charlm.generation.generated_text import GeneratedText
    from charlm.text.tokenization import Tokenizer

COLOURS = (230, 222, 215, 209, 203)
"""Backgrounds of characters with more bits than each of `BOUNDS`, in the palette of 256 colours."""

BOUNDS = (1, 2, 4, 6, 8)
"""Bits of information above which a character has the colour of the same place in `COLOURS`."""


def coloured(text: str, bits: Sequence[float]) -> str:
    """Return a text in which the background of each character shows its bits of information.

    The text is returned unchanged if standard output is no terminal, or if NO_COLOR is set.
    """
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return shown(text)
    parts: list[str] = []
    before = -1
    for character, value in zip(text, bits, strict=False):
        step = -1 if character == "\n" else sum(value > bound for bound in BOUNDS) - 1
        if step != before:
            parts.append("\x1b[0m" if step < 0 else f"\x1b[38;5;16;48;5;{COLOURS[step]}m")
            before = step
        parts.append(visible(character))
    return "".join(parts) + ("\x1b[0m" if before >= 0 else "")


def legend() -> str:
    """Return one line that explains the colours of `coloured`; empty where it uses none."""
    steps = [coloured(f" more than {bound} ", [bound + 0.5] * 20) for bound in BOUNDS]
    return f"bits of a character: {' '.join(steps)}" if steps[0] != " more than 1 " else ""


def print_texts(texts: Iterable[GeneratedText], tokenizer: Tokenizer, *, by_line: bool, colour: bool) -> int:
    """Print texts, each after its prompt, and return how many there are.

    With alternatives, a table of the tokens follows each text.

    Args:
        texts: The texts.
        tokenizer: The vocabulary.
        by_line: Whether each text is one line. Otherwise its number stands above it.
        colour: Whether the background of a character shows its bits.
    """
    number = 0
    for number, text in enumerate(texts, 1):
        if not by_line:
            print(f"--- {number}")
        body = coloured(text.text, text.character_bits) if colour else shown(text.text)
        prompt = shown(text.prompt)
        print(prompt + body if text.direction == "forward" else body + prompt)
        print_alternatives(text, tokenizer)
    return number


def print_alternatives(text: GeneratedText, tokenizer: Tokenizer) -> None:
    """Print a line for each token: its text and probability, then those of the most probable tokens."""
    if not text.alternatives:
        return

    def named(id: int, log_p: float) -> str:
        return f"{json_line(tokenizer.tokens[id])} {math.exp(log_p):.1%}"

    for id, log_p, others in zip(text.ids, text.log_probabilities, text.alternatives, strict=True):
        print("\t".join([named(id, log_p), *(named(*other) for other in others)]))


def print_json(texts: Iterable[GeneratedText], tokenizer: Tokenizer) -> int:
    """Print each text as one line of JSON, and return how many there are."""
    number = 0
    for number, text in enumerate(texts, 1):
        print(as_json(number, text, tokenizer))
    return number


def as_json(number: int, text: GeneratedText, tokenizer: Tokenizer) -> str:
    """Return a text and its tokens as one line of JSON.

    Args:
        number: The number of the text, counted from 1.
        text: The text.
        tokenizer: The vocabulary.
    """
    record = {
        "sample": number,
        "seed": text.seed,
        "prompt": text.prompt,
        "direction": text.direction,
        "text": text.text,
        "end": text.end,
        "tokens": [tokenizer.tokens[id] for id in text.ids],
        "log_probabilities": [round(value, 6) for value in text.log_probabilities],
    }
    if text.alternatives:
        record["alternatives"] = [
            [[tokenizer.tokens[id], round(value, 6)] for id, value in others] for others in text.alternatives
        ]
    return json_line(record)


def write_files(texts: Iterable[GeneratedText], tokenizer: Tokenizer, folder: Path, total: int, *, json: bool) -> int:
    """Write each text to a file of its own and return how many there are: 001.txt, 002.txt, ...

    Args:
        texts: The texts.
        tokenizer: The vocabulary.
        folder: The folder of the files; it is made if it does not exist.
        total: Largest number of texts.
        json: Whether the files hold JSON instead of the prompt and the text.
    """
    number = 0
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts, 1):
        content = as_json(number, text, tokenizer) if json else text.whole
        with atomic(folder / f"{number:0{len(str(total))}}.{'json' if json else 'txt'}") as file:
            file.write(f"{content}\n")
    return number


def check_folder(folder: Path) -> None:
    """Raise CharlmError unless a folder can take new files: it is empty, or does not exist."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CharlmError(f"{folder} exists and is not an empty folder; name a new one with `output`")
