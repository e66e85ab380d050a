"""A text as the measures read it: its characters as ids, its words, its n-grams, its substrings."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charlm.measure.copying import Copies, SubstringIndex
from charlm.measure.ngram import NGramModel

ORDER = 6  # of the character n-gram model of a text

CODE_POINTS = 0x110000
INNER = "'’-‐_"  # part of a word, but neither its beginning nor its end: don't, well-known, snake_case
UNSPACED = re.compile(  # letters of scripts written without blanks between words: Thai, Lao, Burmese, Khmer, kana, Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
LONGEST_WORDS = 20  # characters from blank to blank, on average: beyond, blanks do not part words
LONGEST_UNSPACED_WORDS = 4  # the same for those scripts, where a text may have been cut into words beforehand


def code_points(text: str) -> NDArray[np.uint32]:
    """The characters of a text as numbers, (characters,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Alphabet:
    """Ids for the characters of texts: from 0 in the order of their code points, and one past all for any other.

    Args:
        texts: Those whose characters are known.
    """

    def __init__(self, *texts: str) -> None:
        present = np.zeros(CODE_POINTS, bool)
        for text in texts:
            present[code_points(text)] = True
        self.known = np.flatnonzero(present)
        self._ids = np.full(CODE_POINTS, len(self.known), np.int32)
        self._ids[self.known] = np.arange(len(self.known))

    def __len__(self) -> int:
        """Ids, the one for unknown characters among them."""
        return len(self.known) + 1

    def encode(self, text: str) -> NDArray[np.int32]:
        """The id of each character, (characters,)."""
        return self._ids[code_points(text)]

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The text of ids of known characters."""
        return self.known[ids].astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass")


def words(text: str) -> list[str]:
    """The words of a text: runs of letters, marks and digits, with apostrophes and hyphens inside them.

    >>> words("'Tis well-known: 3 don't.")
    ['Tis', 'well-known', '3', "don't"]
    """
    return [part.strip(INNER) for part in _parts(text) if _is_word(part)]


def _parts(text: str) -> list[str]:
    """A text cut wherever no word can go on."""
    blanks = {ord(character): " " for character in set(text) if not _belongs_to_word(character)}
    return text.translate(blanks).split()


def _belongs_to_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "Cf" or character in INNER  # Cf: joiners, soft hyphens


def _is_word(part: str) -> bool:
    return any(map(str.isalnum, part))  # and not only what joins or marks the signs around it, as in many an emoji


def has_words(text: str) -> bool:
    """Whether blanks part the words of a text, as they do not in Chinese, in Thai or in a genome."""
    parts = text.split()
    if not parts:
        return False
    characters = sum(map(len, parts))
    unspaced = len(UNSPACED.findall(text)) > characters / 2
    return characters / len(parts) <= (LONGEST_UNSPACED_WORDS if unspaced else LONGEST_WORDS)


class Writing:
    """A text, and what the measures ask of it, worked out once and only when asked for.

    Args:
        text: The text.
        alphabet: Ids of its characters.
    """

    def __init__(self, text: str, alphabet: Alphabet) -> None:
        self.text = text
        self.alphabet = alphabet
        self._character_ngrams: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}
        self._word_ngrams: dict[int, set[tuple[str, ...]]] = {}
        self._copies: dict[Writing, Copies] = {}

    @cached_property
    def characters(self) -> NDArray[np.int32]:
        """Their ids, (characters,)."""
        return self.alphabet.encode(self.text)

    @cached_property
    def words(self) -> list[str]:
        return words(self.text)

    @cached_property
    def vocabulary(self) -> set[str]:
        """Its different words."""
        return {part.strip(INNER) for part in set(_parts(self.text)) if _is_word(part)}

    @cached_property
    def lines(self) -> list[str]:
        """Its lines, without the empty ones."""
        return [line for line in self.text.split("\n") if line]

    @cached_property
    def different_lines(self) -> set[str]:
        return set(self.lines)

    @cached_property
    def model(self) -> NGramModel:
        """An n-gram model of its characters, of which there is at least one."""
        return NGramModel(ORDER, len(self.alphabet)).fit(self.characters)

    @cached_property
    def index(self) -> SubstringIndex:
        return SubstringIndex(self.characters, len(self.alphabet))

    def copies(self, source: Writing) -> Copies:
        """What of this text occurs in another."""
        if source not in self._copies:
            self._copies[source] = Copies(source.index, self.characters)
        return self._copies[source]

    def character_ngrams(self, length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Its different runs of so many characters as ascending numbers, and how often each occurs."""
        if length not in self._character_ngrams:
            base = np.uint64(len(self.alphabet) | 1)  # odd: past 64 bits, different runs still hardly ever meet
            codes = np.zeros(max(0, len(self.characters) - length + 1), np.uint64)
            for offset in range(length):
                codes *= base
                codes += self.characters[offset : offset + len(codes)].astype(np.uint64)
            self._character_ngrams[length] = np.unique(codes, return_counts=True)
        return self._character_ngrams[length]

    def word_ngrams(self, length: int) -> set[tuple[str, ...]]:
        """Its different runs of so many words."""
        if length not in self._word_ngrams:
            self._word_ngrams[length] = set(ngrams(self.words, length))
        return self._word_ngrams[length]


def ngrams(tokens: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """All runs of `length` tokens in their order.

    >>> ngrams("abc", 2)
    [('a', 'b'), ('b', 'c')]
    """
    return list(zip(*(itertools.islice(tokens, start, None) for start in range(length)), strict=False))
