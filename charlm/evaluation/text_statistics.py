"""Properties of a text from which text metrics are computed: its characters, words and n-grams."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.ngram import NGramCounts, NGramModel
from charlm.evaluation.overlap import Overlap, SubstringIndex

ORDER = 6  # order of the character n-gram model of a text
MOST_COUNTED = 3_000_000  # first characters of a text, to which its n-gram models are fitted
BLOCK = 1 << 20  # characters converted at once, because this needs many times their memory

CODE_POINTS = 0x110000
INNER = "'’-‐_"  # inside words only: don't, well-known, snake_case
UNSPACED = re.compile(  # letters of scripts written without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
SPACE = re.compile(r"\s")
LONGEST_WORDS = 20  # mean length from space to space; if it is longer, spaces do not separate words
LONGEST_UNSPACED_WORDS = 4  # the same for unspaced scripts, whose texts may have been segmented into words


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the Unicode code point of each character of a text, (characters,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Alphabet:
    """A mapping between characters and ids.

    The ids start at 0 and follow the order of the code points. All characters that are not known
    share one more id, the last one.

    Args:
        texts: The texts whose characters are known.
    """

    def __init__(self, *texts: str) -> None:
        present = np.zeros(CODE_POINTS, bool)
        for text in texts:
            for start in range(0, len(text), BLOCK):
                present[code_points(text[start : start + BLOCK])] = True
        self.known = np.flatnonzero(present)
        self._ids = np.full(CODE_POINTS, len(self.known), np.min_scalar_type(len(self.known)))
        self._ids[self.known] = np.arange(len(self.known))

    def __len__(self) -> int:
        """Return the number of ids, including the one for unknown characters."""
        return len(self.known) + 1

    def encode(self, text: str) -> NDArray[Any]:
        """Return the id of each character of a text, (characters,), as small unsigned integers."""
        ids = np.empty(len(text), self._ids.dtype)
        for start in range(0, len(text), BLOCK):
            ids[start : start + BLOCK] = self._ids[code_points(text[start : start + BLOCK])]
        return ids

    def decode(self, ids: NDArray[Any]) -> str:
        """Return the text that some ids encode; all of them must be ids of known characters."""
        return self.known[ids].astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass")


def words(text: str) -> list[str]:
    """Return the words of a text.

    A word is a sequence of letters, combining marks and digits, with apostrophes, hyphens and
    underscores only inside it.

    >>> words("'Tis well-known: 3 don't.")
    ['Tis', 'well-known', '3', "don't"]
    """
    return [part.strip(INNER) for part in _parts(text) if _is_word(part)]


def _parts(text: str) -> list[str]:
    """Split a text at all characters that cannot belong to a word."""
    separators = {ord(character): " " for character in set(text) if not _belongs_to_word(character)}
    return text.translate(separators).split()


def _blocks(text: str) -> Iterator[str]:
    """Cut a text into blocks of about `BLOCK` characters, only at white space, not inside words."""
    start = 0
    while len(text) - start > BLOCK:
        space = SPACE.search(text, start + BLOCK)
        end = space.end() if space else len(text)
        yield text[start:end]
        start = end
    yield text[start:]


def _belongs_to_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "Cf" or character in INNER  # Cf: joiners, soft hyphens


def _is_word(part: str) -> bool:
    return any(map(str.isalnum, part))  # not only joiners and marks, as in many emoji


def has_words(text: str) -> bool:
    """Return whether spaces separate the words of a text; in Chinese or a genome they do not."""
    parts = text.split()
    if not parts:
        return False
    characters = sum(map(len, parts))
    unspaced = len(UNSPACED.findall(text)) > characters / 2
    return characters / len(parts) <= (LONGEST_UNSPACED_WORDS if unspaced else LONGEST_WORDS)


class TextStatistics:
    """A text with the properties that text metrics need, each of which is computed on first use.

    Args:
        text: The text.
        alphabet: Ids of the characters of the text.
    """

    def __init__(self, text: str, alphabet: Alphabet) -> None:
        self.text = text
        self.alphabet = alphabet
        self._character_ngrams: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}
        self._word_ngrams: dict[int, set[tuple[str, ...]]] = {}
        self._overlaps: dict[TextStatistics, Overlap] = {}

    @cached_property
    def characters(self) -> NDArray[Any]:
        """The ids of the characters of the text, (characters,)."""
        return self.alphabet.encode(self.text)

    @cached_property
    def words(self) -> list[str]:
        """The words of the text in order."""
        return words(self.text)

    @cached_property
    def vocabulary(self) -> set[str]:
        """The different words of the text."""
        parts: set[str] = set()
        for block in _blocks(self.text):
            parts.update(_parts(block))
        return {part.strip(INNER) for part in parts if _is_word(part)}

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text, without empty lines."""
        return [line for line in self.text.split("\n") if line]

    @cached_property
    def different_lines(self) -> set[str]:
        """The different lines of the text, without the empty line."""
        return set(self.lines)

    @cached_property
    def model(self) -> NGramModel:
        """An n-gram model of the characters of the text, which must not be empty.

        It is fitted to at most the first `MOST_COUNTED` characters.
        """
        return NGramModel(NGramCounts(self.characters[:MOST_COUNTED], ORDER, len(self.alphabet)))

    @cached_property
    def index(self) -> SubstringIndex:
        """An index of the substrings of the text."""
        return SubstringIndex(self.characters, len(self.alphabet))

    def overlap(self, source: TextStatistics) -> Overlap:
        """Return the substrings of this text that also occur in another text, the source."""
        if source not in self._overlaps:
            self._overlaps[source] = Overlap(source.index, self.characters)
        return self._overlaps[source]

    def character_ngrams(self, length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the different n-grams of `length` characters of the text with their frequencies.

        Both arrays are (n-grams,). The n-grams are encoded as numbers, in ascending order.
        """
        if length not in self._character_ngrams:
            base = np.uint64(len(self.alphabet) | 1)  # odd: past 64 bits, different n-grams rarely share a code
            codes = np.zeros(max(0, len(self.characters) - length + 1), np.uint64)
            for offset in range(length):
                codes *= base
                codes += self.characters[offset : offset + len(codes)].astype(np.uint64)
            self._character_ngrams[length] = np.unique(codes, return_counts=True)
        return self._character_ngrams[length]

    def word_ngrams(self, length: int) -> set[tuple[str, ...]]:
        """Return the different n-grams of `length` words of the text."""
        if length not in self._word_ngrams:
            self._word_ngrams[length] = set(ngrams(self.words, length))
        return self._word_ngrams[length]


def ngrams(tokens: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Return all n-grams of `length` tokens in order.

    >>> ngrams("abc", 2)
    [('a', 'b'), ('b', 'c')]
    """
    return list(zip(*(itertools.islice(tokens, start, None) for start in range(length)), strict=False))
