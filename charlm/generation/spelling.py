"""How typed text becomes tokens after other tokens, and how tokens become text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from charlm.generation.text_tree import Node
from charlm.text.items import lines

if TYPE_CHECKING:
    from charlm.text.tokenization import Decoder, Tokenizer


class Spelling:
    """The tokens of a text that grows.

    Args:
        tokenizer: The vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._beginnings: dict[str, NDArray[np.bool_]] = {}

    def split(self, text: str) -> tuple[list[tuple[int, str]], str]:
        """Split what was typed into tokens, and the end that is not yet a token.

        The end is a last piece that the vocabulary lacks, if it has tokens that begin with the
        piece; a space, if it has tokens that begin with a space and have more; and white space that
        no token encodes. If the vocabulary has the first word of a line only with a space before it, this
        token stands for the word.

        Returns:
            The ids, each with the part of the text that it encodes, and the end.

        Raises:
            CharlmError: the text is no Unicode text.
        """
        unknown, pending = self._tokenizer.unknown, ""
        parts: list[tuple[int, str]] = []
        for line in lines(text):
            found, rest = self._tokenizer.parts(pending + line)
            if found and found[0][0] == unknown:
                (id, _), *others = self._tokenizer.parts(f" {line}")[0]
                found[0] = (id if len(others) == len(found) - 1 else unknown, found[0][1])
            parts += found
            pending = rest
        if parts and not pending:
            id, last = parts[-1]
            if (id == unknown or last == " ") and self.beginning_with(last).any():
                pending = parts.pop()[1]
        return parts, pending

    def beginning_with(self, text: str) -> NDArray[np.bool_]:
        """Return whether each token begins with a text, or a space and the text, and has more, (vocab_size,)."""
        if text not in self._beginnings:
            lower = text.lower() if self._tokenizer.lowercase else text
            starts = (lower.encode(), f" {lower}".encode())
            flags = [
                any(spelling.startswith(start) and len(spelling) > len(start) for start in starts)
                for spelling in self._tokenizer.spellings
            ]
            self._beginnings = {text: np.array(flags, bool)}
        return self._beginnings[text]

    def added(self, node: Node, id: int, typed: str = "") -> str:
        """Return what a token adds to the text after a node; empty while a character is incomplete.

        Args:
            node: The token before it.
            id: The token.
            typed: What of it was typed. If it begins a line without a space, the text does, too.
        """
        text = self._decoder(node).push(id)
        if typed and not typed.startswith(" ") and (node.parent is None or node.text.endswith("\n")):
            return text.removeprefix(" ")
        return text

    def typed(self, node: Node, id: int, part: str) -> str:
        """Return what the first token of a typed text adds to the text: the part of the typed text that it encodes.

        Before it stands what the token itself adds there: the space before a word, or U+FFFD in
        place of bytes that are no character.
        """
        text = self.added(node, id, part)
        more = text.endswith(part) and not text.removesuffix(part).strip(" \ufffd")
        return text if more and id != self._tokenizer.unknown else part

    def unfinished(self, node: Node) -> str:
        """Return U+FFFD if the last tokens up to a node are bytes of an incomplete character, else nothing."""
        return self._decoder(node).flush()

    def _decoder(self, node: Node) -> Decoder:
        """Return a decoder that has read the text up to a node."""
        ids = [node.id]
        while not node.text and node.parent is not None:
            node = node.parent
            ids.append(node.id)
        decoder = self._tokenizer.decoder()
        for id in reversed(ids):
            decoder.push(id)
        return decoder
