"""Scores: how probable each token of a text is, and the most probable tokens at its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.config.protocols import CARRIED, Protocol
from charlm.evaluation.likelihood import Evaluation, evaluate
from charlm.network.model import LanguageModel
from charlm.text.stream import TokenStream


@dataclass(frozen=True)
class TokenScores:
    """The scores that a model gives to each token of a text.

    Attributes:
        stream: The text, in the order in which the model reads it. The arrays have the same order.
        nats: (tokens,) -ln p of each token; 0 for tokens that are not predicted (see `predicted`).
        ranks: (tokens,) how many tokens of the vocabulary the model found more probable than the
            token of the text; an empty array if no preferred tokens are kept.
        preferred: (tokens, preferred) ids of the tokens that the model found most probable at each
            place, the most probable one first.
        preferred_nats: (tokens, preferred) -ln p of these tokens.
        protocol: How the text was read.
    """

    stream: TokenStream
    nats: NDArray[np.float64]
    ranks: NDArray[np.int32]
    preferred: NDArray[np.int32]
    preferred_nats: NDArray[np.float32]
    protocol: Protocol

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation of the whole text, from the sum of `nats`."""
        return Evaluation(float(self.nats.sum()), self.stream.predicted, self.stream.unknown_tokens, self.protocol)

    @property
    def bits(self) -> NDArray[np.float64]:
        """The bits of each token, -log2 p, (tokens,)."""
        return self.nats / math.log(2)

    @property
    def item_nats(self) -> NDArray[np.float64]:
        """The nats of each item, summed over its predicted tokens, (items,), in the order of the text."""
        return self._item_sums(self.nats)

    def item_unknown(self, unknown: int | None) -> NDArray[np.int64]:
        """Return how often the unknown token occurs in each item, (items,), in the order of the text.

        Args:
            unknown: The id of the unknown token; None if the vocabulary has none.
        """
        return self._item_sums(np.asarray(self.stream.ids) == (-1 if unknown is None else unknown)).astype(np.int64)

    def _item_sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        begin, end = self.stream.ranges
        sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        return self._in_text_order(sums[end + 1] - sums[begin + 1])

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The positions of all tokens that are predicted, (predicted,), in the order of the text.

        The token of an item that is read first is not predicted, unless it is also the last token of the item
        read before. A text that is one stream counts as one item.
        """
        begin, end = self.stream.ranges
        inside = np.zeros(len(self.stream) + 1, np.int64)
        np.add.at(inside, begin + 1, 1)
        np.add.at(inside, end + 1, -1)
        return self._in_text_order(np.flatnonzero(np.cumsum(inside[:-1])))

    def _in_text_order(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.stream.direction == "forward" else values[::-1]


def score(
    model: LanguageModel, stream: TokenStream, protocol: Protocol = CARRIED, *, preferred: int = 0, **options: Any
) -> TokenScores:
    """Compute the scores of every token of a text.

    Args:
        model: The model.
        stream: The text.
        protocol: How the text is read.
        preferred: How many of the most probable tokens to keep for each token of the text.
        options: Further arguments of `likelihood.evaluate`.
    """
    count, ids = min(preferred, model.vocab_size), np.asarray(stream.ids)
    nats, ranks = np.zeros(len(stream)), np.zeros(len(stream) if count else 0, np.int32)
    best = np.zeros((len(stream), count), np.int32)
    best_nats = np.zeros((len(stream), count), np.float32)

    def look(positions: NDArray[np.int64], log_probabilities: Tensor) -> None:
        targets = torch.from_numpy(ids[positions].astype(np.int64)).to(log_probabilities.device)[:, None]
        own = log_probabilities.gather(1, targets)
        nats[positions] = -own[:, 0].cpu().double().numpy()
        if not count:
            return
        ranks[positions] = (log_probabilities > own).sum(1).cpu().numpy()
        top = log_probabilities.topk(count)
        best[positions] = top.indices.cpu().numpy()
        best_nats[positions] = -top.values.cpu().numpy()

    evaluate(model, stream, protocol, look=look, **options)
    return TokenScores(stream, nats, ranks, best, best_nats, protocol)
