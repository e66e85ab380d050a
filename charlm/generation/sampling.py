"""Draw tokens from logits (`Sampler`, `generate`) and decode them to text (`stream_text`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from charlm.config.fields import NonNegativeInteger, PositiveInteger, Seed
from charlm.config.plain import checked
from charlm.errors import CharlmError
from charlm.generation.processors import processors
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer


class Sampler:
    """A source of random tokens: it draws the next token of each row of a batch from logits.

    Each row has its own random generator, seeded with `[seed, row]`, so its tokens do not depend on
    the number of rows.

    Args:
        seed: The same seed draws the same tokens from the same logits.
        batch: Number of rows.
        values: Values of logits processors by name (`temperature=0.8, top_k=40`).

    Raises:
        CharlmError: an unknown processor, or a value out of its range.
    """

    def __init__(self, seed: int, batch: int = 1, **values: float) -> None:
        seed = checked("seed", Seed, seed)
        self.batch = checked("batch", PositiveInteger, batch)
        parsed = [(processors[name], processors[name].parse(value)) for name, value in values.items()]
        used = [(processor, value) for processor, value in parsed if value != processor.default]
        self._processors = sorted(used, key=lambda entry: entry[0].order)
        self._generators = [np.random.default_rng([seed, row]) for row in range(batch)]

    def weights(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities of the next token, not normalised: at most 1 each.

        They are exp of the processed logits, which are first shifted to a maximum of 0.

        Args:
            logits: The logits of the network, (batch, vocab_size).

        Returns:
            The unnormalised probabilities, (batch, vocab_size).

        Raises:
            CharlmError: the logits are not finite, as after a training that diverged.
        """
        values = logits.astype(np.float64)
        highest = values.max(-1, keepdims=True)
        if not np.isfinite(highest).all():
            raise CharlmError("the model's logits are not finite: its training diverged; use another checkpoint")
        if self._processors:
            for processor, value in self._processors:
                values = processor(values, value)
            highest = values.max(-1, keepdims=True)
        np.subtract(values, highest, values)
        return np.exp(values, values)

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
        return (sums >= draws).argmax(-1)


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
    while True:
        tokens = sampler(logits)
        yield tokens
        logits, state = stepper.step(tokens, state)


def stream_text(
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
    """Generate samples side by side and yield lists of their next pieces of text, one per sample.

    A piece consists of whole characters; some pieces of a list may be empty, but never all. The
    prompt is not repeated in the samples. A sample ends after `length` tokens, before the first
    stop string, or, with a model of lines or documents, where the item ends.

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        prompt: The text to continue; if it is empty, a sample is the start of a text or item.
        length: Largest number of tokens per sample.
        seed: The same seed gives the same texts; a sample does not depend on the number of samples.
        stop: Strings at which a sample ends; they are not part of the sample.
        samples: Number of samples that are generated side by side.
        values: Values of logits processors by name.

    Raises:
        CharlmError: a prompt with pieces that are not in the vocabulary, an empty stop string, or a
            value out of range. The call itself raises the error, not the first iteration.
    """
    if isinstance(stop, str):
        stop = (stop,)
    if "" in stop:
        raise CharlmError("a stop string must not be empty; leave `stop` out to generate up to the length")
    length = checked("length", NonNegativeInteger, length)
    samples = checked("samples", PositiveInteger, samples)
    encoded = tokenizer.prompt(prompt)  # some tokenizers leave a final blank to the next token
    ids = _prompt_ids(tokenizer, encoded)
    sampler = Sampler(seed, samples, **values)
    blank = " " if prompt.endswith(" ") and not encoded.endswith(" ") else ""
    rows = [_Row(tokenizer, stop, blank) for _ in range(samples)]

    def pieces() -> Iterator[list[str]]:
        for _, tokens in zip(range(length), generate(stepper, ids, sampler), strict=False):
            new = [row.push(int(token)) for row, token in zip(rows, tokens, strict=True)]
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
            f"the prompt has {named}{more}, which the vocabulary of the model lacks; leave that out, "
            "or set `prompt_unknown` to nearest or drop"
        )
    ids = [int(token) for token in tokenizer.encode(prompt)]
    if tokenizer.boundary is not None:
        return [tokenizer.boundary, *ids]
    return ids or [tokenizer.start()]


class _Row:
    """The text of one sample, which is decoded token by token to whole characters.

    The text ends before the first stop string.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], blank: str = "") -> None:
        self.ended = False
        self._blank = blank  # removed from the start of the text, because the prompt has it
        self._boundary = tokenizer.boundary
        self._decoder = tokenizer.decoder()
        self._stop = stop
        self._held = ""  # text in which a stop string may have started

    def push(self, token: int) -> str:
        """Return the text that this token completes.

        Text that may be the beginning of a stop string is held back until the next tokens decide.
        """
        if self.ended:
            return ""
        if token == self._boundary:
            return self.flush()
        text = self._decoder.push(token)
        if text and self._blank:
            text, self._blank = text.removeprefix(self._blank), ""
        return self._release(text)

    def flush(self) -> str:
        """End the sample and return the rest of its text."""
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
            # The match that ends first, however the text is cut into pieces.
            end, negative_length = min(found)
            released, self._held, self.ended = self._held[: end + negative_length], "", True
            return released
        keep = max(_overlap(self._held, stop) for stop in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `stop`.

    A complete `stop` does not count.
    """
    return next(size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size]))
