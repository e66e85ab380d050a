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
    tails = _tails(tokenizer, ids, value - 1)
    text = "".join([text.rjust(value - 1, PADDING) for text, _ in tails])
    characters = mixed(codes(text)).reshape(len(ids), value - 1)
    powers = _powers(value - 1)  # of the last character first
    common = value - min(value // 2, _completions(tokenizer, tokenizer.decoder().state, value).longest)
    known = np.ones(len(ids), bool)
    if common < value:
        known = training_text.contains((characters[:, -common:] * powers[-common:]).sum(-1), common)
    kept = None
    for row, (text, state) in enumerate(tails):
        spans = _completions(tokenizer, state, value)
        size = spans.sizes[min(len(text), value - 1 if known[row] else common - 1)]
        if size:
            # The hash of the last n characters, at n; that of no characters is 0.
            hashes = np.append(np.zeros(1, np.uint64), (characters[row] * powers)[::-1].cumsum())
            own = hashes[spans.shared[:size]] * spans.factors[:size] + spans.hashes[:size]
            kept = np.ones(logits.shape, bool) if kept is None else kept
            kept[row, spans.ids[:size][training_text.contains(own, value)]] = False
    return logits if kept is None else keep(logits, kept)


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
    factors = _powers(length + 1)[shared]
    sizes = np.searchsorted(shared, np.arange(length), "right").tolist()
    return _Completions(ids, shared, factors, hashes, sizes, longest)


def _tails(tokenizer: Tokenizer, ids: NDArray[np.int64], size: int) -> list[tuple[str, Any]]:
    """Return the last characters of each row's text, and the state of the row's decoder after them.

    Args:
        tokenizer: The vocabulary.
        ids: The tokens, (batch, time). The text of a row begins after its last boundary.
        size: Number of characters, if the text has so many.
    """
    found, boundary = [], tokenizer.boundary
    read = size + MARGIN + 1
    for row, recent in enumerate(ids[:, -read:].tolist()):
        while True:
            whole = len(recent) == ids.shape[1]
            if recent and recent[0] < 0:  # before a prompt that is shorter than others
                recent, whole = recent[recent.count(-1) :], True
            if boundary is not None and boundary in recent:
                recent, whole = recent[len(recent) - recent[::-1].index(boundary) :], True
            decoder = tokenizer.decoder()
            text = decoder.extend(recent)
            if whole or len(text) >= size + MARGIN:
                break
            recent = ids[row, -2 * len(recent) :].tolist()
        found.append((text[max(0, len(text) - size) :], decoder.state))
    return found


@lru_cache(maxsize=8)
def _powers(count: int) -> Hashes:
    """Return the powers of the multiplier of the hashes with exponents below `count`, descending."""
    return np.array([power(exponent) for exponent in reversed(range(count))], np.uint64)
