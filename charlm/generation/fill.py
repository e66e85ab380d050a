"""Search for the text of a gap with two networks: a forward one, and one that reads backward.

Let L be the text left of the gap, R the text right of it, and g the tokens of the gap. A filling
is ranked by the sum of two log probabilities,

    log p_forward(g R | L) + log p_backward(g L | R).

Each of them is the log probability of the whole text L g R under one model, less a constant: the
forward model reads the text from its start, the backward model from its end. The sum is, up to a
factor, the log of the geometric mean of the two distributions over texts (a product of experts;
Hinton, 2002). Fillings of different lengths are compared without a correction for the length,
because every filling is judged as a part of the whole text.

1. A beam search by the forward model from L, and one by the backward model from R, find probable
   beginnings and endings of the gap, of every length.
2. The candidates are what each beam search found alone, and the most probable pairs of a beginning
   and an ending that together have a length of the gap.
3. Both models score each candidate, together with the tokens that follow it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.generation import FillConfig, gap_lengths
from charlm.errors import CharlmError
from charlm.generation.processors import log_probabilities
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer

ROWS = 256
"""Candidates that are scored side by side; more would only need more memory."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Filling:
    """A text with a filled gap.

    Attributes:
        gap: The text of the gap.
        text: The whole text.
        ids: The tokens of the gap.
        forward_bits: -log2 p_forward(g R | L), see the top of this module.
        backward_bits: -log2 p_backward(g L | R).
    """

    gap: str
    text: str
    ids: list[int]
    forward_bits: float
    backward_bits: float

    @property
    def bits(self) -> float:
        """The sum of the bits under both models, by which fillings are ranked."""
        return self.forward_bits + self.backward_bits


def fill(
    forward: Stepper, backward: Stepper, tokenizer: Tokenizer, text: str, config: FillConfig | None = None
) -> list[Filling]:
    """Return the best fillings of the gap of a text, the best one first.

    The tokens left and right of the gap are those that each side has by itself. A filling never has
    the unknown token, the boundary between items, or part of a character.

    Args:
        forward: A network that reads a text from its start.
        backward: A network that reads a text from its end.
        tokenizer: The vocabulary of both.
        text: The text, with one mark in place of the gap.
        config: The mark, the length of the gap, and the size of the search.

    Raises:
        CharlmError: the text has no mark or several ones, or text that the vocabulary lacks; or the
            gap has no valid length.
    """
    config = config or FillConfig()
    shortest, longest = gap_lengths(config.gap)
    left, right = _parts(text, config.mark)
    read = tokenizer.prompt(left)
    before, after = (_known_ids(tokenizer, part) for part in (read, right))
    sides = both_sides(forward, backward, tokenizer, before, after, config.context)
    begin, end = (side.beams(config.beams, longest) for side in sides)
    found: list[Filling] = []
    for length in range(shortest, longest + 1):
        candidates = candidates_of(begin, end, length, config.beams)
        nats = -sides[0].scores(candidates), -sides[1].scores(candidates[:, ::-1])
        for ids, own, other in zip(candidates.tolist(), nats[0], nats[1], strict=True):
            gap = tokenizer.decode(ids)
            if "\ufffd" not in gap:
                whole = _joined(tokenizer, left, read, right, before, ids, after)
                found.append(Filling(gap, whole, ids, float(own) / math.log(2), float(other) / math.log(2)))
    unique: dict[str, Filling] = {}  # several tokenizations of a text: only the most probable one
    for one in sorted(found, key=lambda filling: filling.bits):
        unique.setdefault(one.text, one)
    return list(unique.values())[: config.samples]


def _parts(text: str, mark: str) -> tuple[str, str]:
    if not mark:
        raise CharlmError("`mark` must not be empty; leave it out for ___")
    if (number := text.count(mark)) != 1:
        raise CharlmError(f"the text has {number} gaps; mark exactly one by {mark}")
    left, _, right = text.partition(mark)
    return left, right


def _known_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    if unknowns := tokenizer.unknowns(text):
        named = ", ".join(f"{piece!r}" for piece, _ in unknowns.most_common(8))
        raise CharlmError(f"the text has {named}, which the vocabulary of the models lacks; leave that out")
    return [int(id) for id in tokenizer.encode(text)]


def _joined(
    tokenizer: Tokenizer, left: str, read: str, right: str, before: list[int], ids: list[int], after: list[int]
) -> str:
    """Return the text with the gap filled; `read` is the left side as it was encoded."""
    if not tokenizer.reversible:  # the blanks between words come from the decoder
        return tokenizer.decode([*before, *ids, *after])
    gap = tokenizer.decode(ids)
    return left + (gap.removeprefix(" ") if left.endswith(" ") > read.endswith(" ") else gap) + right


def both_sides(
    forward: Stepper, backward: Stepper, tokenizer: Tokenizer, before: list[int], after: list[int], context: int
) -> tuple[Side, Side]:
    """Return the forward and the backward network, each of which has read the text on its side of a gap.

    Args:
        forward, backward, tokenizer: As for `fill`.
        before, after: The ids left and right of the gap, in the order of the text.
        context: How many ids of the other side count in the scores of each network.
    """
    return (
        Side(forward, tokenizer, before, after[:context]),
        Side(backward, tokenizer, after[::-1], before[::-1][:context]),
    )


class Side:
    """One network, which has read the text on its side of the gap.

    Ids are in the order in which this network reads them.

    Args:
        stepper: The network.
        tokenizer: The vocabulary.
        before: The ids that the network reads before the gap.
        after: The ids after the gap that count in `scores`.
    """

    def __init__(self, stepper: Stepper, tokenizer: Tokenizer, before: list[int], after: list[int]) -> None:
        first = [] if tokenizer.boundary is None else [tokenizer.boundary]
        ids = [*first, *before] or [tokenizer.start()]
        self.stepper = stepper
        self.after = np.array([*after, *first], np.int64)
        logits, self.state = stepper.prefill(np.array([ids]), stepper.initial_state(1))
        self.log_p = _log_p(logits)
        self.excluded = [id for id in (tokenizer.unknown, tokenizer.boundary) if id is not None]  # no gap has them

    def beams(self, width: int, longest: int) -> list[tuple[Ids, NDArray[np.float64]]]:
        """Return for each length, from 0 on, the most probable gaps of this length as a beam search finds them.

        They are pairs of ids (rows, length) and log probabilities (rows,), the best row first.
        """
        ids, scores = np.empty((1, 0), np.int64), np.zeros(1)
        log_p, state = self.log_p, self.state
        found = [(ids, scores)]
        for length in range(1, longest + 1):
            log_p[:, self.excluded] = -np.inf
            total = (scores[:, None] + log_p).ravel()
            best = np.argsort(-total, kind="stable")[:width]
            best = best[np.isfinite(total[best])]
            parents, tokens = np.divmod(best, log_p.shape[1])
            ids, scores = np.concatenate([ids[parents], tokens[:, None]], 1), total[best]
            found.append((ids, scores))
            if length < longest:
                logits, state = self.stepper.step(tokens, self.stepper.select(state, parents))
                log_p = _log_p(logits)
        return found

    def scores(self, gaps: Ids) -> NDArray[np.float64]:
        """Return the log probability of each gap (rows, length) with the tokens after it, (rows,)."""
        parts = [gaps[start : start + ROWS] for start in range(0, len(gaps), ROWS)]
        return np.concatenate([self._scores(part) for part in parts]) if parts else np.zeros(0)

    def _scores(self, gaps: Ids) -> NDArray[np.float64]:
        rows = np.arange(len(gaps))
        ids = np.concatenate([gaps, np.tile(self.after, (len(gaps), 1))], 1)
        state = self.stepper.select(self.state, np.zeros(len(gaps), np.int64))
        log_p, total = np.repeat(self.log_p, len(gaps), 0), np.zeros(len(gaps))
        for place in range(ids.shape[1]):
            total += log_p[rows, ids[:, place]]
            if place + 1 < ids.shape[1]:
                logits, state = self.stepper.step(ids[:, place], state)
                log_p = _log_p(logits)
        return total


def _log_p(logits: NDArray[Any]) -> NDArray[np.float64]:
    return log_probabilities(logits.astype(np.float64))


Beams = Sequence[tuple[Ids, NDArray[np.float64]]]


def candidates_of(forward: Beams, backward: Beams, length: int, width: int) -> Ids:
    """Return different candidates for a gap of a length, (candidates, length), in the order of the text.

    They are what each search found, and the `width` most probable pairs of a beginning and an
    ending.
    """
    alone = [forward[length][0], backward[length][0][:, ::-1]]
    pairs, scores = zip(*_pairs(forward, backward, length), strict=True) if length > 1 else ((), ())
    if pairs:
        best = np.argsort(-np.concatenate(scores), kind="stable")[:width]
        alone.append(np.concatenate(pairs)[best])
    return np.unique(np.concatenate(alone), axis=0)


def _pairs(forward: Beams, backward: Beams, length: int) -> Iterator[tuple[Ids, NDArray[np.float64]]]:
    """Yield all candidates that join a beginning and an ending of a gap, one array for each place of the join.

    Each is the ids (candidates, length) and the sums of both log probabilities (candidates,).
    """
    for size in range(1, length):
        (begin, begin_scores), (end, end_scores) = forward[size], backward[length - size]
        ids = np.concatenate([begin.repeat(len(end), 0), np.tile(end[:, ::-1], (len(begin), 1))], 1)
        yield ids, (begin_scores[:, None] + end_scores).ravel()
