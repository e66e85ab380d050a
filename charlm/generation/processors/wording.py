"""Processors that prefer or exclude tokens by what they spell."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import Number
from charlm.config.plain import checked
from charlm.errors import CharlmError, nearest
from charlm.generation.processors import Logits, processor
from charlm.text.tokenization import Tokenizer

Flags = NDArray[np.bool_]
Pairs = tuple[tuple[str, float], ...]


def _parse_bias(value: Any) -> Pairs:
    """Return pairs of a text and its bias, from a dictionary, or from texts such as `e:-2`."""
    pairs: list[Any]
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        given = [value] if isinstance(value, str) else list(value)
        pairs = [one.rpartition(":")[::2] if isinstance(one, str) else one for one in given]
    for text, _ in pairs:
        if not text:
            raise CharlmError("`logit_bias` needs a text and a number, such as e:-2")
    return tuple((checked("logit_bias", str, text), checked("logit_bias", Number, number)) for text, number in pairs)


@processor(1, (), "add a number to the logit of a token: TEXT:NUMBER, such as e:-2", tuple[str, ...], _parse_bias)
def logit_bias(logits: Logits, value: Pairs, *, tokenizer: Tokenizer) -> Logits:
    """Add a number to the logits of the tokens that spell a text, with or without a space before it."""
    return logits + _bias(tokenizer, value)


@lru_cache(maxsize=8)
def _bias(tokenizer: Tokenizer, pairs: Pairs) -> NDArray[np.float64]:
    bias = np.zeros(len(tokenizer))
    places: dict[str, list[int]] = {}
    for id, token in enumerate(tokenizer.tokens):
        places.setdefault(token, []).append(id)
    for text, number in pairs:
        found = {*places.get(text, ()), *places.get(f" {text}", ())}
        if not found:
            raise CharlmError(
                f"`logit_bias`: no token of the vocabulary spells {text!r}; name one token{nearest(text, places)}"
            )
        bias[sorted(found)] += number
    return bias


@processor(2, (), "texts that are never written, such as a character or a word", tuple[str, ...])
def ban(logits: Logits, value: Sequence[str], *, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Logits:
    """Exclude every token that contains, or would complete, one of the banned texts.

    If several tokens together spell a banned text, the last of them is excluded. The boundary
    between items is never excluded.
    """
    banned = tuple(text.encode() for text in value)
    longest = max(map(len, banned))
    rows = [_not_banned(tokenizer, banned, _beginning(_tail(tokenizer, row, longest - 1), banned)) for row in ids]
    return np.where(rows, logits, -np.inf)


def _tail(tokenizer: Tokenizer, ids: NDArray[np.int64], size: int) -> bytes:
    """Return the last bytes of the text that tokens spell: at least `size`, if it has so many."""
    found, place = b"", len(ids) - 1
    while len(found) < size and place >= 0 and ids[place] >= 0:
        found = tokenizer.spellings[ids[place]] + found
        place -= 1
    return found


def _beginning(tail: bytes, banned: Sequence[bytes]) -> bytes:
    """Return the longest end of a text that is the beginning of a banned text, but not all of it."""
    for size in range(min(len(tail), max(map(len, banned)) - 1), 0, -1):
        if any(len(text) > size and text.startswith(tail[-size:]) for text in banned):
            return tail[-size:]
    return b""


@lru_cache(maxsize=256)
def _not_banned(tokenizer: Tokenizer, banned: tuple[bytes, ...], before: bytes) -> Flags:
    """Return whether each token may follow some bytes, (vocab_size,).

    Raises:
        CharlmError: no token may.
    """
    if b"" in banned:
        raise CharlmError("`ban` needs texts that are not empty")
    kept = np.array([not any(text in before + spelling for text in banned) for spelling in tokenizer.spellings], bool)
    if tokenizer.boundary is not None:
        kept[tokenizer.boundary] = True
    if not kept.any():
        raise CharlmError("`ban` excludes every token of the vocabulary; leave some out")
    return kept


@processor(3, (), "the characters that may be written, and no others, such as 'abc '", tuple[str, ...])
def allow(logits: Logits, value: Sequence[str], *, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Logits:
    """Keep only tokens that spell nothing but characters that occur in `value`.

    A token that begins or completes such a character in UTF-8 is kept too, if it fits the bytes
    before it. The boundary between items is always kept.
    """
    characters = "".join(sorted(set("".join(value))))
    rows = [_allowed(tokenizer, characters, _incomplete(_tail(tokenizer, row, 3)[-3:])) for row in ids]
    return np.where(rows, logits, -np.inf)


def _incomplete(tail: bytes) -> bytes:
    """Return the bytes at the end of a text that begin a character of UTF-8 but do not complete it."""
    for size in range(1, len(tail) + 1):
        lead = tail[-size]
        if lead >= 0xC0:
            return tail[-size:] if size < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4) else b""
    return b""


@lru_cache(maxsize=256)
def _allowed(tokenizer: Tokenizer, characters: str, before: bytes) -> Flags:
    """Return whether each token spells nothing but the given characters, (vocab_size,).

    The bytes in `before`, if any, begin a character, which the token then continues.

    Raises:
        CharlmError: no token does.
    """
    encoded = [character.encode() for character in characters]

    def fits(spelling: bytes) -> bool:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(before + spelling)
        except UnicodeDecodeError:
            return False
        rest = decoder.getstate()[0]
        return set(text) <= set(characters) and (not rest or any(one.startswith(rest) for one in encoded))

    kept = np.array([bool(spelling) and fits(spelling) for spelling in tokenizer.spellings], bool)
    if not kept.any():
        raise CharlmError(f"`allow`: no token of the vocabulary consists of {characters!r}; name other characters")
    if tokenizer.boundary is not None:
        kept[tokenizer.boundary] = True
    return kept
