"""Draw tokens from logits: `Sampler` draws one token of each row, `generate` draws tokens without end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from charlm.config.fields import PositiveInteger, Seed
from charlm.config.plain import checked
from charlm.errors import CharlmError
from charlm.generation.processors import check_read, log_probabilities, parameters, processors
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.spans import TrainingText
    from charlm.text.tokenization import Tokenizer


class Sampler:
    """A source of random tokens: it draws the next token of each row of a batch from logits.

    Each row has its own random generator, seeded with `seed` plus the number of the row, counted
    from 0. So the tokens of a row do not depend on the number of rows.

    Args:
        seed: Seed of the first row; the same seed draws the same tokens from the same logits.
        batch: Number of rows.
        tokenizer: The vocabulary, for processors that read it.
        training_text: The text that the network was trained on, for processors that read it.
        exp: The exponential function that makes weights of logits.
        values: Values of logits processors and their parameters by name (`temperature=0.8,
            top_k=40`).

    Raises:
        CharlmError: an unknown processor, a value out of its range, a parameter that no processor
            reads, or a value that excludes every token of the vocabulary.
    """

    def __init__(
        self,
        seed: int,
        batch: int = 1,
        tokenizer: Tokenizer | None = None,
        training_text: TrainingText | None = None,
        *,
        exp: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.exp,
        **values: Any,
    ) -> None:
        seed = checked("seed", Seed, seed)
        self.batch = checked("batch", PositiveInteger, batch)
        own = {name: parameters[name].parse(values.pop(name)) for name in parameters.keys() & values.keys()}
        parsed = {name: processors[name].parse(value) for name, value in values.items()}
        check_read(parsed | own)
        used = [(processors[name], value) for name, value in parsed.items() if value != processors[name].default]
        self._processors = sorted(used, key=lambda entry: entry[0].order)
        self._generators = [np.random.default_rng(seed + row) for row in range(batch)]
        self._exp = exp
        self._needs = {name for processor, _ in self._processors for name in processor.needs}
        self._available: dict[str, Any] = {one.name: one.default for one in parameters.values()} | own
        self._available |= {"tokenizer": tokenizer, "training_text": training_text, "step": 0}
        if training_text is None and "training_text" in self._needs:
            raise CharlmError("`no_copy` needs the training text, which is not known here; leave it out")
        self._ids, self._bits = _Columns(batch, np.int64), _Columns(batch, np.float64)
        if tokenizer is not None and "tokenizer" in self._needs:
            self.weights(np.zeros((batch, len(tokenizer))))  # a value that excludes everything is found at once

    def start(self, ids: NDArray[np.int64], bits: NDArray[np.float64] | None = None) -> None:
        """Take the texts so far, for processors that read them.

        Args:
            ids: The tokens, (batch, time); -1 stands before the first token of a text that is
                shorter than others.
            bits: -log2 of the probability of each of these tokens that was generated, not
                prompted, (batch, generated); None: all belong to the prompts.
        """
        if "ids" in self._needs:
            self._ids.extend(ids)
        if bits is not None:
            self._available["step"] = bits.shape[1]
            self._bits.extend(bits)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep only some rows, in this order, with their random generators and all that was drawn.

        A row may be selected several times. Its copies share one random generator, so that
        processors see the same random number in all of them.
        """
        self.batch = len(rows)
        self._generators = [self._generators[row] for row in rows.tolist()]
        if "ids" in self._needs:
            self._ids.select(rows)
        if "bits" in self._needs:
            self._bits.select(rows)

    @property
    def changes(self) -> bool:
        """Whether a processor changes the logits."""
        return bool(self._processors)

    def processed(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return the logits after all processors, (batch, vocab_size); an excluded token has -inf.

        Args:
            logits: The logits of the network, (batch, vocab_size).

        Raises:
            CharlmError: the logits are not finite, as after a training that diverged, or the
                processors exclude every token.
        """
        return self._checked(logits)[0]

    def _checked(self, logits: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the logits after all processors, see `processed`, and the highest of each row, (batch, 1)."""
        values = logits.astype(np.float64)
        if self._processors and math.isfinite(values.max()):
            values = self._processed(values)
        highest = values.max(-1, keepdims=True)
        if not math.isfinite(highest.sum()):
            finite(logits)
            named = [f"`{one.name}`" for one, _ in self._processors if "tokenizer" in one.needs]
            raise CharlmError(f"{' and '.join(named)} leave no token that could follow; allow more")
        return values, highest

    def weights(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities of the next token, not normalised: at most 1 each.

        They are exp of the processed logits, which are first shifted to a maximum of 0.

        Args:
            logits: The logits of the network, (batch, vocab_size).

        Returns:
            The unnormalised probabilities, (batch, vocab_size).

        Raises:
            CharlmError: see `processed`.
        """
        values, highest = self._checked(logits)
        return self._exp(np.subtract(values, highest, values))

    @np.errstate(invalid="ignore")  # of -inf minus -inf, where no token is left
    def _processed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the processors make of the logits, (batch, vocab_size).

        The highest number of a row is not finite afterwards if the processors exclude every token.
        """
        known = self._available
        known["ids"], known["bits"] = self._ids.values, self._bits.values
        if "draws" in self._needs:
            drawn = {generator: generator.random() for generator in dict.fromkeys(self._generators)}
            known["draws"] = np.array([drawn[generator] for generator in self._generators])
        for processor, value in self._processors:
            values = processor.function(values, value, **{name: known[name] for name in processor.needs})
        return values

    def __call__(self, logits: NDArray[Any]) -> NDArray[np.int64]:
        """Draw a token id for each row of the logits, by inversion sampling.

        Args:
            logits: The logits of the network, (batch, vocab_size).

        Returns:
            Token ids, (batch,).
        """
        sums = self.weights(logits).cumsum(-1)
        # In (0, total], so that a token is always found, and never one of probability 0.
        draws = sums[:, -1:] * [[1 - generator.random()] for generator in self._generators]
        ids = (sums >= draws).argmax(-1)
        self.take(ids, logits)
        return ids

    def take(self, ids: NDArray[np.int64], logits: NDArray[Any]) -> None:
        """Take the tokens that were chosen, for processors that read the tokens so far.

        Args:
            ids: The tokens, (batch,).
            logits: The logits of the network from which they were chosen, (batch, vocab_size).
        """
        self._available["step"] += 1
        if "ids" in self._needs:
            self._ids.extend(ids[:, None])
        if "bits" in self._needs:
            log_p = log_probabilities(logits.astype(np.float64))
            self._bits.extend(log_p[np.arange(len(ids)), ids, None] / -math.log(2))


def finite(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return logits as float64.

    Raises:
        CharlmError: they are not finite, as after a training that diverged.
    """
    values = logits.astype(np.float64)
    if not np.isfinite(values.max(-1)).all():
        raise CharlmError("the model's logits are not finite: its training diverged; use another checkpoint")
    return values


class _Columns:
    """An array (batch, time) to which columns are added."""

    def __init__(self, batch: int, dtype: Any) -> None:
        self._array, self._size = np.empty((batch, 256), dtype), 0

    @property
    def values(self) -> NDArray[Any]:
        """All columns so far, (batch, time)."""
        return self._array[:, : self._size]

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep only some rows, in this order."""
        self._array = self._array[rows]

    def extend(self, columns: NDArray[Any]) -> None:
        """Add columns, (batch, added)."""
        size = self._size + columns.shape[1]
        if size > self._array.shape[1]:
            grown = np.empty((len(self._array), 2 * size), self._array.dtype)
            grown[:, : self._size] = self.values
            self._array = grown
        self._array[:, self._size : size] = columns
        self._size = size


def generate(stepper: Stepper, prompt: ArrayLike, sampler: Sampler, state: Any = None) -> Iterator[NDArray[np.int64]]:
    """Yield the token ids after a prompt, (batch,) for each time step, without end.

    Args:
        stepper: The network.
        prompt: At least one id: (time,), the same for every row, or (batch, time). The prompt is
            not repeated in the result.
        sampler: The `Sampler` that draws the tokens; it also sets the number of rows.
        state: The network's state before the prompt; None: the initial state.
    """
    ids = np.atleast_2d(np.asarray(prompt, dtype=np.int64))
    ids = np.broadcast_to(ids, (sampler.batch, ids.shape[1]))
    logits, state = stepper.prefill(ids, stepper.initial_state(sampler.batch) if state is None else state)
    sampler.start(ids)
    while True:
        tokens = sampler(logits)
        yield tokens
        logits, state = stepper.step(tokens, state)
