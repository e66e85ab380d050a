"""How well a model predicts a text: nats per token, bits per character, perplexity.

Nats and characters are summed separately and divided once at the end. Bits per character of models with different
tokenizers can be compared; their losses per token cannot, because their tokens differ in length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from charlm.errors import CharlmError
from charlm.network.loss import summed_cross_entropy
from charlm.network.model import LanguageModel, evaluating
from charlm.text.batching import Batch, ItemBatches, Lanes, batches
from charlm.text.corpus import Progress, no_progress
from charlm.text.stream import Counts, TokenStream


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicted a text.

    Args:
        nats: Sum over all predicted tokens of -ln p(token | the tokens before it).
        predicted: Numbers of predicted tokens, and of their characters, bytes and words.
        unknown: Tokens of the text that are not in the vocabulary.
        lanes: Places in the text that were read side by side. With more than one, the numbers are approximate, because
            all lanes but the first start from the zero state.
    """

    nats: float
    predicted: Counts
    unknown: int
    lanes: int

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

    @property
    def exact(self) -> bool:
        """Whether the text was read in one pass with the state carried."""
        return self.lanes == 1

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
    progress: Progress = no_progress,
) -> Evaluation:
    """Compute how well a model predicts a text, with the state carried from the first token to the last.

    Args:
        model: The model; it is in evaluation mode meanwhile.
        stream: The text; its first token is not predicted.
        lanes: Places of the text that are read side by side. One is exact; more are faster.
        window: Tokens of a lane per call of the model; the result does not depend on it.
        progress: Called with the number of windows read.

    Raises:
        CharlmError: the text has fewer than two tokens.
    """
    if stream.predicted.tokens < 1:
        raise CharlmError("the text is too short to evaluate: it needs at least two tokens")
    if stream.starts is None:
        lanes = max(1, min(lanes, stream.predicted.tokens))
    nats = total_nats(model, _reported(batches(stream, lanes, window, training=False), progress))
    items = stream.starts is not None  # exact, because the state is reset between items
    return Evaluation(nats, stream.predicted, stream.unknown_tokens, 1 if items else lanes)


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
