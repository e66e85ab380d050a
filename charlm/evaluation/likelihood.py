"""How well a model predicts a text: nats per token, bits per character, perplexity.

Nats and characters are summed separately and divided once at the end. Bits per character of models with different
tokenizers can be compared; their losses per token cannot, because their tokens differ in length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.network.loss import summed_cross_entropy, token_cross_entropy
from charlm.network.model import LanguageModel, evaluating
from charlm.network.recurrence import run_in_lanes
from charlm.text.batching import PAGE, RESIDENT, Batch, ItemBatches, Lanes, batches, gather
from charlm.text.corpus import Progress, no_progress
from charlm.text.stream import Counts, TokenStream


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicted a text.

    Args:
        nats: Sum over all predicted tokens of -ln p(token | the tokens before it).
        predicted: Numbers of predicted tokens, and of their characters, bytes and words.
        unknown: Tokens of the text that are not in the vocabulary.
    """

    nats: float
    predicted: Counts
    unknown: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.predicted.tokens

    @property
    def bits_per_token(self) -> float:
        """Bits per token."""
        return self.loss / math.log(2)

    @property
    def bits_per_character(self) -> float:
        """Bits per character (a Unicode code point)."""
        return self.nats / math.log(2) / self.predicted.characters

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of the text in UTF-8."""
        return self.nats / math.log(2) / self.predicted.bytes

    @property
    def perplexity(self) -> float:
        """Perplexity per token: exp(nats per token)."""
        return _exp(self.loss)

    @property
    def word_perplexity(self) -> float:
        """Perplexity per word: exp(nats per word).

        White space separates words, and each line end counts as a word (as in Mikolov's RNNLM toolkit).
        """
        return _exp(self.nats / max(1, self.predicted.words))

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """Plain values by name, for JSON; None for infinite ones."""
        values = {
            "nats_per_token": self.loss,
            "bits_per_token": self.bits_per_token,
            "bits_per_character": self.bits_per_character,
            "bits_per_byte": self.bits_per_byte,
            "perplexity_per_token": self.perplexity,
            "perplexity_per_word": self.word_perplexity,
            "tokens": self.predicted.tokens,
            "characters": self.predicted.characters,
            "bytes": self.predicted.bytes,
            "words": self.predicted.words,
            "unknown_tokens": self.unknown,
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


LANES, WINDOW = 32, 256
"""Lanes in which a text is read, and tokens of a lane that are read at once."""


def evaluate(
    model: LanguageModel,
    stream: TokenStream,
    *,
    lanes: int = LANES,
    window: int = WINDOW,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compute how well a model predicts a text, with the state carried from the first token to the last.

    Args:
        model: The model; it is in evaluation mode meanwhile.
        stream: The text; its first token is not predicted. Each item of a stream of items starts from the zero state.
        lanes: Most lanes in which the text is read; the result depends on it by rounding only.
        window: Tokens of a lane per call of the model; the result depends on it by rounding only.
        progress: Called with the number of windows read.

    Raises:
        CharlmError: the text has fewer than two tokens.
    """
    if stream.starts is not None:
        return evaluate_lanes(model, stream, lanes=lanes, window=window, progress=progress)
    _check_length(stream)
    targets = len(stream) - 1
    sums = np.zeros(-(-targets // window))
    device, ids_on_disk = next(model.parameters()).device, np.asarray(stream.ids)
    calls = itertools.count(1)

    def read(starts: list[int], size: int, state: Tensor) -> Tensor:
        ids = gather(ids_on_disk, starts, size + 1).to(device)
        if next(calls) * lanes * PAGE % RESIDENT < lanes * PAGE:  # pages that were read count as memory
            stream.release()
        features, state = model.hidden(ids[:, :-1], state)
        nats = token_cross_entropy(model, features.flatten(0, 1), ids[:, 1:].flatten())
        numbers = np.array(starts) // window
        sums[numbers] = nats.reshape(len(starts), size).sum(1).numpy()
        progress("evaluating", int(numbers[0]), len(sums))
        return state

    with torch.no_grad(), evaluating(model):
        run_in_lanes(read, model.initial_state(1), targets, lanes=lanes, window=window)
    progress("evaluating", len(sums), len(sums))
    return Evaluation(float(sums.sum()), stream.predicted, stream.unknown_tokens)


def evaluate_lanes(
    model: LanguageModel,
    stream: TokenStream,
    *,
    lanes: int,
    window: int = 512,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compute what `evaluate` computes, in lanes that all start from the zero state.

    Validation during training uses it. The result is exact for a stream of items. For other streams
    it is approximate, because all lanes but the first start without the text before them.
    """
    _check_length(stream)
    if stream.starts is None:
        lanes = max(1, min(lanes, stream.predicted.tokens))
    nats = total_nats(model, _reported(batches(stream, lanes, window, training=False), progress))
    return Evaluation(nats, stream.predicted, stream.unknown_tokens)


def _check_length(stream: TokenStream) -> None:
    if stream.predicted.tokens < 1:
        raise CharlmError("the text is too short to evaluate: it needs at least two tokens")


def _reported(windows: Lanes | ItemBatches, progress: Progress) -> Iterator[Batch]:
    for number, window in enumerate(windows):
        progress("evaluating", number, len(windows))
        yield window
    progress("evaluating", len(windows), len(windows))


@torch.no_grad()
def total_nats(model: LanguageModel, windows: Iterable[Batch]) -> float:
    """The summed cross-entropy of consecutive windows in nats."""
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64)
    state = None
    with evaluating(model):
        for batch in windows:
            features, state = model.hidden(batch.inputs.to(device), batch.enter(state))
            total += summed_cross_entropy(model, features.flatten(0, 1), batch.targets.flatten().to(device))
    return float(total)
