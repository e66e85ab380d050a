"""No long span of the training text is written again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import NonNegativeInteger
from charlm.generation.processors import Logits, keep, processor
from charlm.text.hashing import Hashes, codes, mixed, power
from charlm.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from charlm.text.spans import TrainingText

MARGIN = 3
"""Characters at the start of a decoded text that may be wrong, because decoding began within a character."""

PADDING = "\U0010ffff"  # a code point that is no character


@processor(
    9,
    0,
    "no N characters in a row are written that the training text has, as long as another token is left (0: off)",
    NonNegativeInteger,
)
def no_copy(
    logits: Logits, value: int, *, ids: NDArray[np.int64], tokenizer: Tokenizer, training_text: TrainingText
) -> Logits:
    """Exclude every token that completes a span of n characters that is in the training text.

    A span may begin in the prompt. The boundary between items is never excluded. A row in which
    every token would be excluded stays as it is.

    A token of k characters completes k spans. The one that ends with its j-th character begins with
    the last n - j characters of the text so far. If even the last `common` of these are not in the
    training text, no span that begins with so many of them needs to be looked up; mostly this is so.
    """
    tails = [_tail(tokenizer, row, value - 1) for row in ids]
    characters = mixed(codes("".join(text.rjust(value - 1, PADDING) for text, _ in tails)))
    # In column n, the hash of the last n characters of each row; that of no characters is 0.
    hashes = np.zeros((len(ids), value), np.uint64)
    (characters.reshape(len(ids), value - 1)[:, ::-1] * _powers(value)[:-1]).cumsum(-1, out=hashes[:, 1:])
    common = value - min(value // 2, _completions(tokenizer, tokenizer.decoder().state, value).longest)
    known = training_text.contains(hashes[:, common], common) if common < value else np.ones(len(ids), bool)
    kept = np.ones(logits.shape, bool)
    for row, (text, state) in enumerate(tails):
        spans = _completions(tokenizer, state, value)
        size = spans.sizes[min(len(text), value - 1 if known[row] else common - 1)]
        if size:
            own = hashes[row, spans.shared[:size]] * spans.factors[:size] + spans.hashes[:size]
            kept[row, spans.ids[:size][training_text.contains(own, value)]] = False
    return logits if kept.all() else keep(logits, kept)


@dataclass(frozen=True)
class _Completions:
    """The spans of n characters that each token of a vocabulary would complete, after any text.

    The hash of such a span is that of the last `shared` characters of the text, times `factors`,
    plus `hashes`. All arrays are (spans,), ordered by `shared`.

    Attributes:
        ids: The token.
        shared: How many characters before the token belong to the span, from 0 to n - 1.
        factors, hashes: As above.
        sizes: The number of spans with at most as many shared characters as the index, from 0 to n - 1.
        longest: Number of characters of the longest token.
    """

    ids: NDArray[np.int64]
    shared: NDArray[np.int64]
    factors: Hashes
    hashes: Hashes
    sizes: list[int]
    longest: int


@lru_cache(maxsize=64)
def _completions(tokenizer: Tokenizer, state: Any, length: int) -> _Completions:
    """Return the spans that each token would complete.

    Args:
        tokenizer: The vocabulary.
        state: The state of the decoder before the token.
        length: Number of characters of a span.
    """
    decoder, texts = tokenizer.decoder(), []
    for id in range(len(tokenizer)):
        decoder.state = state
        texts.append("" if id == tokenizer.boundary else decoder.push(id))
    lengths = np.array([len(text) for text in texts])
    starts, characters = np.cumsum(lengths) - lengths, mixed(codes("".join(texts)))
    hashes, longest = np.zeros(len(texts), np.uint64), int(lengths.max())
    found = []
    for end in range(1, longest + 1):  # the span ends with this character of the token
        ids = np.flatnonzero(lengths >= end)
        hashes[ids] = hashes[ids] * power(1) + characters[starts[ids] + end - 1]
        if end > length:  # the span begins within the token
            hashes[ids] -= characters[starts[ids] + end - 1 - length] * power(length)
        found.append((ids, np.full(len(ids), max(0, length - end)), hashes[ids]))
    found.reverse()
    ids, shared, hashes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    factors = np.append(_powers(length), power(length))[length - shared]
    sizes = np.searchsorted(shared, np.arange(length), "right").tolist()
    return _Completions(ids, shared, factors, hashes, sizes, longest)


def _tail(tokenizer: Tokenizer, ids: NDArray[np.int64], size: int) -> tuple[str, Any]:
    """Return the last characters of the text that tokens spell, and the state of the decoder after them.

    Args:
        tokenizer: The vocabulary.
        ids: The tokens of one row, (time,). The text begins after the last boundary.
        size: Number of characters, if the text has so many.
    """
    read = size + MARGIN + 1
    while True:
        recent, decoder = ids[-read:].tolist(), tokenizer.decoder()
        for other in (-1, tokenizer.boundary):
            if other in recent:
                recent = recent[len(recent) - recent[::-1].index(other) :]
        text = decoder.extend(recent)
        if len(text) >= size + MARGIN or len(recent) < read:
            return text[max(0, len(text) - size) :], decoder.state
        read *= 2


@lru_cache(maxsize=8)
def _powers(count: int) -> Hashes:
    """Return the powers of the multiplier of the hashes with exponents below `count`."""
    return np.array([power(exponent) for exponent in range(count)], np.uint64)
