"""How well a model predicts a text: nats per token, bits per character, perplexity.

The nats and the characters of a text are summed separately and divided once at the end. Models with
different tokenizers can be compared by their bits per character. Their losses per token cannot be
compared, because their tokens differ in length.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.config.protocols import CARRIED, Protocol
from charlm.errors import CharlmError
from charlm.evaluation.dynamic import DynamicWeights, gradient_sizes
from charlm.evaluation.neural_cache import NeuralCache
from charlm.evaluation.spans import spans
from charlm.network.loss import logits, parts, summed_cross_entropy
from charlm.network.model import LanguageModel, evaluating
from charlm.network.recurrence import run_in_lanes
from charlm.text.batching import IGNORED, PAGE, POOL, RESIDENT, Batch, ItemBatches, Lanes, batches, gather
from charlm.text.corpus import Progress, no_progress
from charlm.text.stream import Counts, TokenStream


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: how well a model predicted a text.

    Args:
        nats: Sum over all predicted tokens of -ln p(token | the tokens before it).
        predicted: How many tokens were predicted, and how many characters, bytes and words they
            make.
        unknown: Number of tokens of the text that are not in the vocabulary.
        protocol: How the text was read.
    """

    nats: float
    predicted: Counts
    unknown: int
    protocol: Protocol = CARRIED

    @property
    def loss(self) -> float:
        """The mean loss in nats per token."""
        return self.nats / self.predicted.tokens

    @property
    def bits_per_token(self) -> float:
        """The mean loss in bits per token."""
        return self.loss / math.log(2)

    @property
    def bits_per_character(self) -> float:
        """The mean loss in bits per character (Unicode code point)."""
        return self.nats / math.log(2) / self.predicted.characters

    @property
    def bits_per_byte(self) -> float:
        """The mean loss in bits per byte of the text in UTF-8."""
        return self.nats / math.log(2) / self.predicted.bytes

    @property
    def perplexity(self) -> float:
        """The perplexity per token: exp(nats per token)."""
        return _exp(self.loss)

    @property
    def word_perplexity(self) -> float:
        """The perplexity per word: exp(nats per word).

        White space separates words, and each line end counts as a word (as in Mikolov's RNNLM
        toolkit).
        """
        return _exp(self.nats / max(1, self.predicted.words))

    def to_dict(self) -> dict[str, Any]:
        """Return all measures by name, with the protocol, as a dictionary for JSON.

        Infinite values and NaN, which JSON cannot hold, become None.
        """
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
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        return finite | {"protocol": self.protocol.to_dict()}


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


LANES, WINDOW = 32, 256
"""Lanes in which a text is read, and tokens of a lane that are read at once."""

Look = Callable[[np.ndarray, Tensor], object]
"""A function that is called with the positions of some predicted tokens, (tokens,) int64, and with
the log-probabilities of the whole vocabulary at each of these positions, (tokens, vocab_size). If a
position comes again, its latest log-probabilities count."""

Distribution = Callable[[Tensor, slice], Tensor]
"""A function of the features of some tokens, (tokens, hidden), and of a slice of these tokens. It
returns the log-probabilities of the whole vocabulary for the slice, (slice, vocab_size)."""


def evaluate(
    model: LanguageModel,
    stream: TokenStream,
    protocol: Protocol = CARRIED,
    *,
    train: TokenStream | None = None,
    lanes: int = LANES,
    window: int = WINDOW,
    look: Look | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compute how well a model predicts a text.

    Args:
        model: The model; it is in evaluation mode during the call.
        stream: The text; its first token is not predicted. If the text consists of items, each item
            starts from the zero state.
        protocol: How the text is read; by default the state is carried from the first token to the
            last. The protocol must have a value for each of its settings (see `tuning.tuned`).
        train: The training text; only dynamic evaluation needs it.
        lanes: The largest number of lanes in which the text is read. It changes the result only by
            rounding. Dynamic evaluation and the neural cache always read in one lane.
        window: Tokens of a lane per call of the model. It changes the result only by rounding.
        look: Called with the positions and the log-probabilities of predicted tokens; see `Look`.
        progress: A function that is told how many tokens have been read, and of how many.

    Raises:
        CharlmError: the text has fewer than two tokens, or the weights diverge in dynamic
            evaluation.
    """
    _check_length(stream)
    reading = _Reading(model, stream, protocol, lanes, window, look, progress)
    with torch.no_grad(), evaluating(model):
        if protocol.name == "dynamic":
            assert train is not None, "dynamic evaluation needs the training text"
            nats = reading.dynamic(train)
        elif protocol.name == "cache":
            nats = reading.cached()
        elif protocol.name == "carried" and stream.starts is None:
            nats = reading.carried()
        else:
            nats = reading.from_zero()
    progress("evaluating", stream.predicted.tokens, stream.predicted.tokens)
    return Evaluation(nats, stream.predicted, stream.unknown_tokens, protocol)


class _Reading:
    """One pass over a text by an evaluation protocol.

    The methods `carried`, `from_zero`, `cached` and `dynamic` each implement one way to read the
    text. They return the sum of the nats of all predicted tokens.

    Args: as for `evaluate`.
    """

    def __init__(
        self,
        model: LanguageModel,
        stream: TokenStream,
        protocol: Protocol,
        lanes: int,
        window: int,
        look: Look | None,
        progress: Progress,
    ) -> None:
        self.model, self.stream, self.protocol = model, stream, protocol
        self.lanes, self.window, self.look, self.progress = lanes, window, look, progress
        self.device = next(model.parameters()).device
        self.ids = np.asarray(stream.ids)
        self.targets = len(stream) - 1
        self._resident = self._read = 0

    def carried(self) -> float:
        """Read a text that is one stream; the state is carried from the first token to the last.

        The text is read in several lanes at once, with the same result (see `run_in_lanes`).
        """
        sums = np.zeros(-(-self.targets // self.window))

        def read(starts: list[int], size: int, state: Tensor) -> Tensor:
            ids = self._gather(starts, size)
            features, state = self.model.hidden(ids[:, :-1], state)
            numbers = np.array(starts) // self.window
            sums[numbers] = self._nats(np.array(starts), ids[:, 1:], features).sum(1)
            self._read += len(starts) * size  # some tokens are read again: the progress is a little ahead
            self.progress("evaluating", min(self._read, self.targets), self.targets)
            return state

        run_in_lanes(read, self.model.initial_state(1), self.targets, lanes=self.lanes, window=self.window)
        return float(sums.sum())

    def from_zero(self) -> float:
        """Read a text in spans that each start from the zero state (see `spans`).

        Spans of similar length are read together, one in each lane.
        """
        begin, skip, end = spans(self.protocol, *self.stream.ranges)
        total = 0.0
        for pool in range(0, len(begin), self.lanes * POOL):
            order = pool + np.argsort(end[pool : pool + self.lanes * POOL] - begin[pool : pool + self.lanes * POOL])
            for rows in np.split(order, range(self.lanes, len(order), self.lanes)):
                total += self._rows(begin[rows], skip[rows], end[rows])
                self._read += int((end[rows] - begin[rows] - skip[rows]).sum())
                self.progress("evaluating", self._read, self.targets)
        return total

    def _rows(self, begin: np.ndarray, skip: np.ndarray, end: np.ndarray) -> float:
        total, state, longest = 0.0, self.model.initial_state(len(begin)), int((end - begin).max())
        for offset in range(0, longest, self.window):
            starts, size = begin + offset, min(self.window, longest - offset)
            ids = self._gather(starts.tolist(), size)  # a shorter row reads on after its end; that does not count
            features, state = self.model.hidden(ids[:, :-1], state)
            places = starts[:, None] + np.arange(size)
            counted = (places >= (begin + skip)[:, None]) & (places < end[:, None])
            targets = ids[:, 1:].masked_fill(~torch.from_numpy(counted).to(self.device), IGNORED)
            total += float(self._nats(starts, targets, features).sum())
        return total

    def cached(self) -> float:
        """Read a text in one lane; a neural cache of recent tokens changes the predictions."""
        config, cache = self.protocol.cache, NeuralCache(self.protocol.cache.size, self.model.vocab_size)
        total, state = 0.0, self.model.initial_state(1)
        for start, ids, first in self._segments(self.window):
            if first:
                cache.reset()
                state = torch.zeros_like(state)
            features, state = self.model.hidden(ids[:, :-1], state)
            products, following = cache.similarities(features[0], ids[0, 1:])

            def mixed(
                features: Tensor, part: slice, products: Tensor = products, following: Tensor = following
            ) -> Tensor:
                return cache.mixed(self._distribution(features, part), products[part], following, config)

            total += float(self._nats(np.array([start]), ids[:, 1:], features, mixed).sum())
        return total

    def dynamic(self, train: TokenStream) -> float:
        """Read a text in one lane; each segment is first predicted and then used for training.

        A copy of the model is trained, so the model itself does not change.

        Args:
            train: The training text, from which the sizes of the gradients are computed.

        Raises:
            CharlmError: the weights diverge.
        """
        config = self.protocol.dynamic
        trained, self.model = self.model, copy.deepcopy(self.model)
        weights = DynamicWeights(
            self.model, gradient_sizes(self.model, train, config.segment), config.rate, config.decay
        )
        total: list[float] = []
        zero = state = self.model.initial_state(1)
        for start, ids, first in self._segments(config.segment):
            state = zero if first else state
            where, inputs, targets = np.array([start]), ids[:, :-1], ids[:, 1:]

            def predict(features: Tensor, where: np.ndarray = where, targets: Tensor = targets) -> None:
                total.append(float(self._nats(where, targets, features).sum()))

            state = weights.learn(inputs, targets, state, predict)
        self.model = trained
        if not math.isfinite(sum(total)):
            raise CharlmError(f"the weights diverge with `dynamic.rate` {config.rate:g}; name a smaller one")
        return math.fsum(total)

    def _segments(self, size: int) -> Iterator[tuple[int, Tensor, bool]]:
        """Yield the text in consecutive segments of at most `size` targets, none across two items.

        Yields:
            The position of the first input; the ids of the inputs and, after them, of the last
            target, (1, time + 1); and whether the segment is the first of its item, so that it
            starts from the zero state.
        """
        begin, end = self.stream.ranges
        for first, last in zip(begin.tolist(), end.tolist(), strict=True):
            for start in range(first, last, size):
                self.progress("evaluating", start, self.targets)
                yield start, self._gather([start], min(size, last - start)), start == first

    def _gather(self, starts: Sequence[int], size: int) -> Tensor:
        """Return `size + 1` token ids from each position in `starts` on, (starts, size + 1)."""
        self._resident += len(starts) * PAGE
        if self._resident > RESIDENT:  # pages that were read count as memory
            self._resident = 0
            self.stream.release()
        return gather(self.ids, starts, size + 1).to(self.device)

    def _distribution(self, features: Tensor, part: slice) -> Tensor:
        return torch.log_softmax(logits(self.model, features[part]) / self.protocol.temperature, -1)

    def _nats(
        self, starts: np.ndarray, targets: Tensor, features: Tensor, distribution: Distribution | None = None
    ) -> np.ndarray:
        """Return the nats of each target, (rows, size) float64; 0 for targets that are `IGNORED`.

        Args:
            starts: (rows,) position in the text of the first input of each row.
            targets: (rows, size) ids of the tokens to predict.
            features: (rows, size, hidden) or (rows * size, hidden), the features of the inputs.
            distribution: A function that computes the log-probabilities; None: they come from the
                logits at the softmax temperature of the protocol.
        """
        flat, features = targets.flatten(), features.reshape(targets.numel(), -1)
        counted = flat != IGNORED
        places = (starts[:, None] + 1 + np.arange(targets.shape[1])).ravel()
        nats = np.zeros(len(flat))
        for part in parts(len(flat), self.model.vocab_size):
            found = (distribution or self._distribution)(features, part)
            wanted = found.gather(1, flat[part].clamp(min=0)[:, None])[:, 0]
            nats[part] = wanted.masked_fill(~counted[part], 0.0).neg().cpu().double().numpy()
            if self.look is not None:
                self.look(places[part][counted[part].cpu().numpy()], found[counted[part]])
        return nats.reshape(targets.shape)


def evaluate_lanes(
    model: LanguageModel,
    stream: TokenStream,
    *,
    lanes: int,
    window: int = 512,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compute how well a model predicts a text, in lanes that all start from the zero state.

    Training uses this for validation. For a text of items the result is the same as that of
    `evaluate` with its default protocol, since each item starts from the zero state anyway. For one
    continuous text the result is approximate, because all lanes but the first start without the
    text before them.
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
    """Return the cross-entropy of a model in nats, summed over consecutive windows of a text."""
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64)
    state = None
    with evaluating(model):
        for batch in windows:
            features, state = model.hidden(batch.inputs.to(device), batch.enter(state))
            total += summed_cross_entropy(model, features.flatten(0, 1), batch.targets.flatten().to(device))
    return float(total)
