"""Files for TensorBoard's projector, which draws tokens with similar embeddings close together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from charlm.files import atomic

MOST = 1000
"""Largest number of tokens that are shown; a browser draws this many smoothly."""

KINDS = {"Lu": "capital", "L": "letter", "M": "mark", "N": "digit", "P": "punctuation", "S": "symbol"}
"""The words for the Unicode categories of a token's first character, by which TensorBoard's projector colours it."""


class Projector:
    """The writer of the files that TensorBoard's projector reads.

    It writes one table of embeddings for each recorded step, and one table of token labels for all
    steps. The tables hold the `MOST` most frequent tokens.

    Args:
        path: The run directory.
        tokens: The vocabulary.
        counts: How often each token occurs, (vocabulary,).
        step: Step at which training begins or resumes; tables of later steps are deleted, because
            they will be written again.
    """

    def __init__(self, path: Path, tokens: Sequence[str], counts: np.ndarray, step: int = 0) -> None:
        self.path = path
        self.folder = path / "projector"
        self.shown = np.argsort(-counts, kind="stable")[:MOST]
        self.folder.mkdir(exist_ok=True)
        with atomic(self.folder / "tokens.tsv") as file:
            file.write("token\tkind\tcount\n")
            file.writelines(f"{label(tokens[id])}\t{kind(tokens[id])}\t{counts[id]}\n" for id in self.shown)
        for late in [table for number, table in self._tables() if number > step]:
            late.unlink()
        self._list()

    def add(self, vectors: np.ndarray, step: int) -> None:
        """Write the table of embeddings of a step.

        Args:
            vectors: The embedding of every token, (vocabulary, width); the table gets only the rows
                of the most frequent tokens.
            step: The optimiser step.
        """
        with atomic(self.folder / f"step-{step}.tsv") as file:
            np.savetxt(file, vectors[self.shown], fmt="%.4g", delimiter="\t")
        self._list()

    def _tables(self) -> list[tuple[int, Path]]:
        """Return the recorded steps and the paths of their tables, the newest first."""
        found = [(re.fullmatch(r"step-(\d+)\.tsv", path.name), path) for path in self.folder.iterdir()]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    def _list(self) -> None:
        """Write the list of tables that the projector reads.

        The projector first shows the table whose name comes first in the alphabet. Therefore the
        name of the newest table begins with "newest".
        """
        tables = self._tables()
        names = [f"{'step' if number else 'newest: step'} {step:07}" for number, (step, _) in enumerate(tables)]
        with atomic(self.path / "projector_config.pbtxt") as file:
            for name, (_, table) in zip(names, tables, strict=True):
                file.write(
                    f'embeddings {{ tensor_name: "{name}" '
                    f'tensor_path: "projector/{table.name}" metadata_path: "projector/tokens.tsv" }}\n'
                )


def label(token: str) -> str:
    """Return a token as one line of visible characters.

    Symbols replace spaces and control characters, and escape codes replace other characters that
    cannot be seen. If the token begins with a combining mark, a dotted circle is put before it.
    """
    if not token:
        return "(nothing)"
    joins = unicodedata.category(token[0]).startswith("M")
    return "◌" * joins + "".join(map(_visible, token))


def _visible(character: str) -> str:
    code = ord(character)
    if character == " ":
        return "␣"
    if code < 32:
        return chr(0x2400 + code)
    return character if character.isprintable() else f"\\u{code:04x}"


def kind(token: str) -> str:
    """Return the kind of a token's first character: a value of `KINDS`, or "blank" if none fits."""
    category = unicodedata.category(token[0]) if token else ""
    return KINDS.get(category) or KINDS.get(category[:1], "blank")
