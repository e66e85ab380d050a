"""Processors that make it less likely, or impossible, that the text repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import FINITE, NonNegativeInteger, NonNegativeNumber, Number, PositiveInteger, PositiveNumber
from charlm.generation.processors import Logits, keep, parameter, processor
from charlm.text.tokenization import Tokenizer

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

LONGEST = 50
"""Longest repetition, in tokens, that `dry_multiplier` tells from a longer one."""

parameter(
    "penalty_window", 64, "the last tokens in which the penalties look for repeated ones (0: all)", NonNegativeInteger
)
parameter("dry_base", 1.75, "the factor by which each further repeated token raises the penalty", PositiveNumber)
parameter(
    "dry_allowed_length",
    2,
    "repeated tokens without a penalty (for a model of characters, 10 or more are sensible)",
    PositiveInteger,
)
parameter(
    "dry_sequence_breakers",
    ("\n", ":", '"', "*"),
    "a token with one of these ends a repetition",
    tuple[str, ...],
)


@processor(
    4, 1.0, "divide the logits of tokens that occurred in the last tokens (above 1: fewer repetitions)", PositiveNumber
)
def repetition_penalty(logits: Logits, value: float, *, ids: Ids, penalty_window: int) -> Logits:
    """Divide positive logits by the penalty, and multiply negative ones by it (Keskar et al. 2019).

    Only the logits of tokens that have occurred are changed.
    """
    penalised = np.where(logits > 0, logits / value, logits * value)
    return np.where(_occurred(ids, penalty_window, logits.shape[-1]), penalised, logits)


@processor(5, 0.0, "subtract this from the logits of tokens that occurred in the last tokens", Number)
def presence_penalty(logits: Logits, value: float, *, ids: Ids, penalty_window: int) -> Logits:
    """Subtract a number from the logits of tokens that have occurred, as in the API of OpenAI."""
    return logits - value * _occurred(ids, penalty_window, logits.shape[-1])


@processor(6, 0.0, "subtract this from the logits once for each time a token occurred in the last tokens", Number)
def frequency_penalty(logits: Logits, value: float, *, ids: Ids, penalty_window: int) -> Logits:
    """Subtract a number from a token's logit once per occurrence, as in the API of OpenAI."""
    return logits - value * _occurrences(ids, penalty_window, logits.shape[-1])


@processor(7, 0.0, "penalty of a token that would continue a repetition (0: none)", NonNegativeNumber)
def dry_multiplier(
    logits: Logits,
    value: float,
    *,
    ids: Ids,
    tokenizer: Tokenizer,
    dry_base: float,
    dry_allowed_length: int,
    dry_sequence_breakers: Sequence[str],
) -> Logits:
    """Penalise each token that would lengthen a repetition of earlier text (DRY, p-e-w 2024).

    If the last n tokens have occurred before, the token that followed them there loses
    value * dry_base ** (n - dry_allowed_length). Repetitions of fewer than `dry_allowed_length`
    tokens cost nothing. A token that has a sequence breaker ends a repetition.
    """
    breakers = _with_any(tokenizer, tuple(dry_sequence_breakers))
    rows, tokens, lengths = _repetitions(ids, breakers, dry_allowed_length)
    if not len(rows):
        return logits
    with np.errstate(over="ignore"):
        penalty = value * dry_base ** (lengths - float(dry_allowed_length))
    result = logits.copy()
    result[rows, tokens] -= np.minimum(penalty, FINITE)
    return result


@processor(
    8, 0, "no sequence of N tokens occurs twice, as long as another token is left (0: any may)", NonNegativeInteger
)
def no_repeat_ngram(logits: Logits, value: int, *, ids: Ids, tokenizer: Tokenizer) -> Logits:
    """Exclude every token that would complete a sequence of n tokens a second time (Paulus et al. 2017).

    The boundary between items may be repeated. A row in which every token would be excluded stays
    as it is.
    """
    rows, after = _earlier_occurrences(ids, value - 1)
    if not len(rows):
        return logits
    kept = np.ones(logits.shape, bool)
    kept[rows, ids[rows, after]] = False
    if tokenizer.boundary is not None:
        kept[:, tokenizer.boundary] = True
    return keep(logits, kept)


def _occurred(ids: Ids, window: int, vocab_size: int) -> Flags:
    """Return whether each token occurs among the newest `window` tokens, (batch, vocab_size).

    Args:
        ids: The tokens so far, (batch, time).
        window: Number of newest tokens that are searched; 0: all.
        vocab_size: Number of tokens of the vocabulary.
    """
    occurred = np.zeros((len(ids), vocab_size + 1), bool)  # the last column is for -1 before a shorter prompt
    occurred[np.arange(len(ids))[:, None], ids[:, -window:]] = True
    return occurred[:, :-1]


def _occurrences(ids: Ids, window: int, vocab_size: int) -> NDArray[np.int64]:
    """Return how often each token occurs among the newest `window` tokens, (batch, vocab_size).

    Args:
        ids, window, vocab_size: As for `_occurred`.
    """
    batch, columns = len(ids), vocab_size + 1  # the first column is for -1 before a shorter prompt
    places = ids[:, -window:] + (1 + columns * np.arange(batch))[:, None]
    return np.bincount(places.ravel(), minlength=batch * columns).reshape(batch, columns)[:, 1:]


def _earlier_occurrences(ids: Ids, count: int) -> tuple[Ids, Ids]:
    """Find where the last `count` tokens of each row occurred before.

    Args:
        ids: The tokens so far, (batch, time).
        count: Number of tokens; after 0 tokens, every token is an occurrence.

    Returns:
        The row of each occurrence, and the position of the token that followed it.
    """
    if count == 0:
        rows, after = np.nonzero(ids >= 0)
        return rows, after
    same = ids[:, count - 1 : -1] == ids[:, -1:]
    if count > 1:
        same &= ids[:, count - 2 : -2] == ids[:, -2:-1]
    places = np.flatnonzero(same)
    if not len(places):
        return places, places
    rows, after = np.divmod(places, same.shape[1])
    after += count
    for back in range(3, count + 1):
        equal = ids[rows, after - back] == ids[rows, -back]
        rows, after = rows[equal], after[equal]
        if not len(rows):
            break
    return rows, after


def _repetitions(ids: Ids, breakers: Flags, shortest: int) -> tuple[Ids, Ids, Ids]:
    """Find the tokens that would continue a repetition, and how long it is.

    The length is the largest n for which the last n tokens of a row have occurred before, followed
    by this token; at most `LONGEST`, but at least `shortest`.

    Args:
        ids: The tokens so far, (batch, time).
        breakers: Whether each token of the vocabulary ends a repetition, (vocab_size,).
        shortest: Length of the shortest repetition that counts.

    Returns:
        Rows, tokens and lengths of the repetitions, (found,) each.
    """
    rows, after = _earlier_occurrences(ids, shortest)
    if not len(rows):
        return rows, after, rows
    ended: Flags = breakers[ids[:, -shortest:]].max(-1)
    rows, after = rows[~ended[rows]], after[~ended[rows]]
    lengths, length = np.zeros((len(ids), len(breakers)), np.int64), shortest
    while len(rows):
        lengths[rows, ids[rows, after]] = length
        if length >= LONGEST:
            break
        before = ids[rows, -1 - length]
        longer = (after > length) & (ids[rows, after - 1 - length] == before) & ~breakers[before]
        rows, after, length = rows[longer], after[longer], length + 1
    rows, tokens = lengths.nonzero()
    return rows, tokens, lengths[rows, tokens]


@lru_cache(maxsize=8)
def _with_any(tokenizer: Tokenizer, texts: tuple[str, ...]) -> Flags:
    """Return whether each token of the vocabulary has one of some texts in it, (vocab_size,)."""
    return np.array([any(text in token for text in texts) for token in tokenizer.tokens], bool)
