"""Sampler draws tokens from scores, `generate` repeats it without end, `write` makes text of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from charlm.errors import CharlmError
from charlm.generation.processors import processors
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer


class Sampler:
    """Draws the next token of each row of a batch from its scores.

    Every row has a random generator of its own, seeded with `[seed, row]`: a row does not depend on how many
    others are drawn beside it.

    Args:
        seed: The same seed draws the same tokens from the same scores.
        batch: Rows.
        values: Settings of logits processors by name (`temperature=0.8, top_k=40`).

    Raises:
        CharlmError: an unknown processor, or a value out of its range.
    """

    def __init__(self, seed: int, batch: int = 1, **values: float) -> None:
        if seed < 0:
            raise CharlmError(f"--seed must be at least 0, not {seed}")
        if batch < 1:
            raise CharlmError(f"--samples must be at least 1, not {batch}")
        self.batch = batch
        chosen = [(processors[name], processors[name].parse(value)) for name, value in values.items()]
        used = [(processor, value) for processor, value in chosen if value != processor.default]
        self._processors = sorted(used, key=lambda entry: entry[0].order)
        self._generators = [np.random.default_rng([seed, row]) for row in range(batch)]

    def weights(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """What the probabilities (batch, vocabulary) are in proportion to: exp of the processed scores.

        Raises:
            CharlmError: the scores are not finite, as after a training that diverged.
        """
        values = logits.astype(np.float64)
        highest = values.max(-1, keepdims=True)
        if not np.isfinite(highest).all():
            raise CharlmError("the model's scores are not finite: its training diverged; use another checkpoint")
        if self._processors:
            for processor, value in self._processors:
                values = processor(values, value)
            highest = values.max(-1, keepdims=True)
        np.subtract(values, highest, values)
        return np.exp(values, values)

    def __call__(self, logits: NDArray[Any]) -> NDArray[np.int64]:
        """One token id for each row of the scores (batch, vocabulary), by inversion of the cumulative sum."""
        sums = self.weights(logits).cumsum(-1)
        # Above 0 and at most the total, so that a token is always found, and never one of probability 0.
        draws = sums[:, -1:] * [[1 - generator.random()] for generator in self._generators]
        return (sums >= draws).argmax(-1)


def generate(stepper: Stepper, prompt: ArrayLike, sampler: Sampler, state: Any = None) -> Iterator[NDArray[np.int64]]:
    """Token ids (batch,) after token ids, without end; slice it.

    Args:
        stepper: The network.
        prompt: At least one id: (time,), the same for every row, or (batch, time). It is read in one pass and
            not repeated.
        sampler: Draws the tokens; its batch is the batch.
        state: The network's state before the prompt; None: nothing was read.
    """
    ids = np.atleast_2d(np.asarray(prompt, dtype=np.int64))
    ids = np.broadcast_to(ids, (sampler.batch, ids.shape[1]))
    logits, state = stepper.read(ids, stepper.initial_state(sampler.batch) if state is None else state)
    while True:
        drawn = sampler(logits)
        yield drawn
        logits, state = stepper.step(drawn, state)


def write(
    stepper: Stepper,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    length: int,
    seed: int,
    stop: Sequence[str] = (),
    samples: int = 1,
    **values: float,
) -> Iterator[list[str]]:
    """Text as it is made: at each turn the new piece of every sample, of whole characters, perhaps empty.

    The prompt is not repeated. A sample ends after `length` tokens, before the first stop string, or, from a
    model of lines or documents, where the item ends.

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        prompt: What the text starts with; empty: as texts (or items) start.
        length: Most tokens of a sample.
        seed: The same seed gives the same texts; sample i does not depend on how many there are.
        stop: Strings at which a sample ends; they are not written themselves.
        samples: How many texts to write side by side.
        values: Settings of logits processors by name.

    Raises:
        CharlmError: a prompt with pieces that the vocabulary lacks, an empty stop string, or a value out of
            range; it is raised at once, before the first piece is asked for.
    """
    if isinstance(stop, str):
        stop = (stop,)
    if "" in stop:
        raise CharlmError("a stop string must not be empty; leave --stop out to write on to the length")
    if length < 0:
        raise CharlmError(f"--length must be at least 0, not {length}")
    read = tokenizer.prompt(prompt)
    ids = _prompt_ids(tokenizer, read)
    sampler = Sampler(seed, samples, **values)
    blank = " " if prompt.endswith(" ") and not read.endswith(" ") else ""  # stands in the prompt already
    rows = [_Row(tokenizer, stop, blank) for _ in range(samples)]

    def pieces() -> Iterator[list[str]]:
        for _, drawn in zip(range(length), generate(stepper, ids, sampler), strict=False):
            new = [row.push(int(token)) for row, token in zip(rows, drawn, strict=True)]
            if any(new):
                yield new
            if all(row.ended for row in rows):
                return
        rest = [row.flush() for row in rows]
        if any(rest):
            yield rest

    return pieces()


def _prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    unknowns = tokenizer.unknowns(prompt)
    if unknowns:
        named = ", ".join(f"{piece!r}" for piece, _ in unknowns.most_common(8))
        more = ", ..." if len(unknowns) > 8 else ""
        raise CharlmError(
            f"the prompt has {named}{more}, which the vocabulary of the model lacks; write the prompt without"
        )
    ids = [int(token) for token in tokenizer.encode(prompt)]
    if tokenizer.boundary is not None:
        return [tokenizer.boundary, *ids]
    return ids or [tokenizer.start()]


class _Row:
    """One sample on its way from tokens to text: whole characters, cut before the first stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], blank: str = "") -> None:
        self.ended = False
        self._blank = blank  # left out where the text starts with it
        self._boundary = tokenizer.boundary
        self._decoder = tokenizer.decoder()
        self._stop = stop
        self._held = ""  # written only once it is certain that no stop string starts in it

    def push(self, token: int) -> str:
        """The text that the token settles."""
        if self.ended:
            return ""
        if token == self._boundary:
            return self.flush()
        text = self._decoder.push(token)
        if text and self._blank:
            text, self._blank = text.removeprefix(self._blank), ""
        return self._release(text)

    def flush(self) -> str:
        """What is left of a sample that ends here."""
        if self.ended:
            return ""
        text = self._release(self._decoder.flush()) + self._held
        self.ended, self._held = True, ""
        return text

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        self._held += text
        found = [(self._held.find(stop) + len(stop), -len(stop)) for stop in self._stop if stop in self._held]
        if found:
            # The match that is complete first, whatever the pieces in which the text arrives.
            end, negative_length = min(found)
            released, self._held, self.ended = self._held[: end + negative_length], "", True
            return released
        keep = max(_overlap(self._held, stop) for stop in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` starts."""
    return next(size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size]))
