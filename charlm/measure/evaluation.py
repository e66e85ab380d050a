"""How well a model predicts a text: nats, bits a character, perplexity.

Nats and characters are summed apart and divided once at the end, so that a model of characters, one of words
and one of bytes can be compared: the loss per token cannot be, for their tokens differ in length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.errors import CharlmError
from charlm.network.model import LanguageModel, evaluating
from charlm.text.batching import IGNORED, Batch, Items, Lanes, batches
from charlm.text.corpus import Progress, silent
from charlm.text.stream import Counts, TokenStream

LOGITS = 2**24
"""Scores held in memory at once; a larger window of a larger vocabulary is projected in pieces."""


@dataclass(frozen=True)
class Evaluation:
    """The measures of one text under one model.

    Args:
        nats: Sum over all predicted tokens of -ln p(token | what came before).
        predicted: What the predicted tokens stand for: tokens, characters, bytes, words.
        unknown: Tokens of the text that the vocabulary lacks.
        lanes: Places in the text that were read side by side; with more than one the numbers are an
            approximation, for each lane but the first starts without knowing what came before it.
    """

    nats: float
    predicted: Counts
    unknown: int
    lanes: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.predicted.tokens

    @property
    def bits_per_token(self) -> float:
        return self.loss / math.log(2)

    @property
    def bits_per_character(self) -> float:
        return self.nats / math.log(2) / self.predicted.characters

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.predicted.bytes

    @property
    def perplexity(self) -> float:
        """exp(nats a token): among how many equally likely tokens the model hesitates."""
        return _exp(self.loss)

    @property
    def word_perplexity(self) -> float:
        """exp(nats a word), a word being white-space separated text or a line's end (Mikolov's count)."""
        return _exp(self.nats / max(1, self.predicted.words))

    @property
    def exact(self) -> bool:
        return self.lanes == 1

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """Plain values under the names that `charlm evaluate --json` prints; None for what is infinite."""
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
            "lanes": self.lanes,
            "exact": self.exact,
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def evaluate(
    model: LanguageModel,
    stream: TokenStream,
    *,
    lanes: int = 1,
    window: int = 512,
    progress: Progress = silent,
) -> Evaluation:
    """Run a whole text through a model, the state carried from its first token to its last.

    Args:
        model: The model; it is put into evaluation mode for the time being.
        stream: The text; its first token is what the second is predicted from.
        lanes: How many places of the text are read side by side. One is exact, whatever the window.
        window: Tokens of a lane in one call.
        progress: Told how many windows have been read.

    Raises:
        CharlmError: the text has fewer than two tokens, so that there is nothing to predict.
    """
    if stream.predicted.tokens < 1:
        raise CharlmError("the text is too short to evaluate: it needs at least two tokens")
    if stream.starts is None:
        lanes = max(1, min(lanes, stream.predicted.tokens))
    nats = total_nats(model, _followed(batches(stream, lanes, window, whole=True), progress))
    items = stream.starts is not None  # the state is reset between items: side by side changes nothing
    return Evaluation(nats, stream.predicted, stream.unknown_tokens, 1 if items else lanes)


def _followed(windows: Lanes | Items, progress: Progress) -> Iterator[Batch]:
    for number, window in enumerate(windows):
        progress("evaluating", number, len(windows))
        yield window
    progress("evaluating", len(windows), len(windows))


@torch.no_grad()
def total_nats(model: LanguageModel, windows: Iterable[Batch]) -> float:
    """The summed cross-entropy of consecutive windows, in nats."""
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64)
    state = None
    with evaluating(model):
        for batch in windows:
            features, state = model.hidden(batch.inputs.to(device), batch.enter(state))
            total += summed_nats(model, features.flatten(0, 1), batch.targets.flatten().to(device))
    return float(total)


@torch.no_grad()
def summed_nats(model: LanguageModel, features: Tensor, targets: Tensor) -> Tensor:
    """The summed cross-entropy, in nats (float64), of `targets` (tokens,) given `features` (tokens, hidden)."""
    total = torch.zeros((), dtype=torch.float64)
    size = max(1, LOGITS // model.shape.vocabulary)
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        logits = model.project(features[part])
        if logits.dtype != torch.float64:
            logits = logits.float()
        nats = F.cross_entropy(logits, targets[part], reduction="none", ignore_index=IGNORED)
        total += nats.cpu().double().sum()
    return total
