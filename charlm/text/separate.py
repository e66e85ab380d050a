"""Texts that are scored on their own, each from its first token.

To predict this token, the network first reads the token `Tokenizer.start()`, as when it generates a
text without a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from charlm.config import DataConfig
from charlm.config.fields import Direction
from charlm.text.corpus import read_corpus
from charlm.text.items import SEPARATORS, Unit
from charlm.text.sources import find
from charlm.text.stream import Counts, TokenStream, encode_text, id_type
from charlm.text.tokenization import Tokenizer


def read_files(
    texts: Sequence[str],
    *,
    encoding: str = "utf-8",
    newlines: Literal["lf", "keep"] = "lf",
    column: str = "",
    pattern: str = "*.txt",
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file that `texts` names.

    Args:
        texts: Files, folders, globs or `-` for standard input, see `sources.find`.
        encoding, newlines, column, pattern: As in `DataConfig`. With a column, the files are
            tables, and each row of the column becomes a line.

    Raises:
        CharlmError: for example, a text is missing, cannot be decoded, or is empty.
    """
    for place in texts:
        path = Path(place).expanduser()
        # What is no file, such as a pipe, can be read only once: here, `find` would read it.
        once = place == "-" or path.exists() and not path.is_file() and not path.is_dir()
        names = [place] if once else [source.name for source in find(place, pattern)]
        for name in names:
            unit: Literal["stream", "line"] = "line" if column else "stream"
            data = DataConfig(
                text=(name,), val_fraction=0.0, encoding=encoding, newlines=newlines, column=column, unit=unit
            )
            corpus = read_corpus(data)
            pieces = [f"{row}\n" for row in corpus.items("train")] if column else corpus.blocks("train")
            yield "standard input" if name == "-" else name, "".join(pieces)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without their line ends.

    The last line counts with or without a newline at its end.
    """
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def encode_whole(tokenizer: Tokenizer, text: str, unit: Unit, direction: Direction = "forward") -> TokenStream:
    """Return the ids of a text in such a form that every token of the text is predicted.

    The network reads the token `Tokenizer.start()` first, so that the first token that it reads of
    the text is predicted, too.

    Args:
        tokenizer: The tokenizer of the model.
        text: The text.
        unit: What the model was trained on. If it is lines or documents, the text is split into
            such items.
        direction: The order in which the model reads the tokens.
    """
    stream = encode_text(tokenizer, text, unit).in_order(direction)
    if unit != "stream":
        return stream  # it begins with a boundary
    ids = np.concatenate([np.array([tokenizer.start()], stream.ids.dtype), stream.ids])
    return replace(stream, ids=ids, predicted=stream.counts)


def encode_lines(
    tokenizer: Tokenizer, lines: Sequence[str], unit: Unit, direction: Direction = "forward"
) -> TokenStream:
    """Return the ids of lines, each of which is read on its own.

    Of each line the token `Tokenizer.start()` is read first, and the end of the line is predicted
    as well. Backward, this is the end of the line before it.

    Args:
        tokenizer: The tokenizer of the model.
        lines: Lines without their line ends, at least one.
        unit: What the model was trained on: if it is lines or documents, each line is such an item.
        direction: The order in which the model reads the tokens.
    """
    end = "\n" if unit == "stream" else SEPARATORS[unit]
    texts = [line + end if direction == "forward" else end + line for line in lines]
    first = np.array([tokenizer.start()])
    last = [] if tokenizer.boundary is None else [np.array([tokenizer.boundary])]
    encoded = tokenizer.encode_items(lines if last else texts)
    # The whole text is reversed in the end.
    parts = [np.concatenate([first, ids, *last][:: 1 if direction == "forward" else -1]) for ids in encoded]
    lengths = np.array([len(part) for part in parts])
    begin = np.cumsum(lengths) - lengths
    ids = np.concatenate(parts).astype(id_type(len(tokenizer)))
    unknown = 0 if tokenizer.unknown is None else int(np.count_nonzero(ids == tokenizer.unknown))
    counts = Counts(len(ids) - len(lines), *np.sum([sizes(text) for text in texts], 0).tolist())
    return TokenStream(ids, begin, counts, counts, {}, unknown, begin + lengths - 1).in_order(direction)


def sizes(text: str) -> tuple[int, int, int]:
    """Return the number of characters, bytes and words of a text; see `stream.Counts`."""
    return len(text), len(text.encode()), len(text.split()) + text.count("\n")
