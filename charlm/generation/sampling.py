"""Draw tokens from logits (`Sampler`, `generate`) and decode them to text (`stream_text`)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from charlm.config.fields import NonNegativeInteger, PositiveInteger, SampleCount, Seed
from charlm.config.plain import checked
from charlm.errors import CharlmError
from charlm.generation.processors import check_read, log_probabilities, parameters, processors
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer


LINE_END = re.compile(r"(?=\n)")
SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]»]*(?=\s)|[。！？]+[」』”]*(?=[^。！？」』”]))")
"""Where a sentence ends: at a full stop before white space, or at a full stop of Chinese or Japanese. Abbreviations are
not recognised."""


class Sampler:
    """A source of random tokens: it draws the next token of each row of a batch from logits.

    Each row has its own random generator, seeded with `[seed, row]`, so its tokens do not depend on
    the number of rows.

    Args:
        seed: The same seed draws the same tokens from the same logits.
        batch: Number of rows.
        tokenizer: The vocabulary, for processors that read it.
        values: Values of logits processors and their parameters by name (`temperature=0.8,
            top_k=40`).

    Raises:
        CharlmError: an unknown processor, a value out of its range, a parameter that no processor
            reads, or a value that excludes every token of the vocabulary.
    """

    def __init__(self, seed: int, batch: int = 1, tokenizer: Tokenizer | None = None, **values: Any) -> None:
        seed = checked("seed", Seed, seed)
        self.batch = checked("batch", PositiveInteger, batch)
        own = {name: parameters[name].parse(values.pop(name)) for name in parameters.keys() & values.keys()}
        parsed = {name: processors[name].parse(value) for name, value in values.items()}
        check_read(parsed | own)
        used = [(processors[name], value) for name, value in parsed.items() if value != processors[name].default]
        self._processors = sorted(used, key=lambda entry: entry[0].order)
        self._generators = [np.random.default_rng([seed, row]) for row in range(batch)]
        self._needs = {name for processor, _ in self._processors for name in processor.needs}
        self._available: dict[str, Any] = {one.name: one.default for one in parameters.values()} | own
        self._available |= {"tokenizer": tokenizer, "step": 0}
        self._ids, self._bits = _Columns(batch, np.int64), _Columns(batch, np.float64)
        if tokenizer is not None and "tokenizer" in self._needs:
            self.weights(np.zeros((batch, len(tokenizer))))  # a value that excludes everything is found at once

    def start(self, ids: NDArray[np.int64]) -> None:
        """Take a prompt, (batch, time), for processors that read the tokens so far."""
        if "ids" in self._needs:
            self._ids.extend(ids)

    def weights(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities of the next token, not normalised: at most 1 each.

        They are exp of the processed logits, which are first shifted to a maximum of 0.

        Args:
            logits: The logits of the network, (batch, vocab_size).

        Returns:
            The unnormalised probabilities, (batch, vocab_size).

        Raises:
            CharlmError: the logits are not finite, as after a training that diverged, or the
                processors exclude every token.
        """
        values = logits.astype(np.float64)
        highest = values.max(-1, keepdims=True)
        if not np.isfinite(highest).all():
            raise CharlmError("the model's logits are not finite: its training diverged; use another checkpoint")
        if self._processors:
            self._available |= {"ids": self._ids.values, "bits": self._bits.values}
            if "draws" in self._needs:
                self._available["draws"] = np.array([generator.random() for generator in self._generators])
            for processor, value in self._processors:
                values = processor(values, value, **self._available)
                if "tokenizer" in processor.needs and np.isneginf(values.max(-1)).any():
                    named = [f"`{one.name}`" for one, _ in self._processors if "tokenizer" in one.needs]
                    raise CharlmError(f"{' and '.join(named)} leave no token that could follow; allow more")
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
        ids = (sums >= draws).argmax(-1)
        self._available["step"] += 1
        if "ids" in self._needs:
            self._ids.extend(ids[:, None])
        if "bits" in self._needs:
            log_p = log_probabilities(logits.astype(np.float64))
            self._bits.extend(-np.take_along_axis(log_p, ids[:, None], -1) / math.log(2))
        return ids


class _Columns:
    """An array (batch, time) to which columns are added."""

    def __init__(self, batch: int, dtype: Any) -> None:
        self._array, self._size = np.empty((batch, 256), dtype), 0

    @property
    def values(self) -> NDArray[Any]:
        """All columns so far, (batch, time)."""
        return self._array[:, : self._size]

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


def stream_text(
    stepper: Stepper,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    length: int,
    seed: int,
    stop: Sequence[str] = (),
    lines: int = 0,
    sentences: int = 0,
    samples: int = 1,
    **values: Any,
) -> Iterator[list[str]]:
    """Generate samples side by side and yield lists of their next pieces of text, one per sample.

    A piece consists of whole characters; some pieces of a list may be empty, but never all. The
    prompt is not repeated in the samples. A sample ends after `length` tokens, before the first
    stop string, or after `lines` lines or `sentences` sentences, whichever comes first. With a
    model of lines or documents it also ends where the item ends.

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        prompt: The text to continue; if it is empty, a sample is the start of a text or item.
        length: Largest number of tokens per sample.
        seed: The same seed gives the same texts; a sample does not depend on the number of samples.
        stop: Strings at which a sample ends; they are not part of the sample.
        lines: Largest number of lines of a sample, of which the first continues the prompt; 0: any
            number.
        sentences: Largest number of sentences of a sample; 0: any number.
        samples: Number of samples that are generated side by side.
        values: Values of logits processors and their parameters by name.

    Raises:
        CharlmError: a prompt with pieces that are not in the vocabulary, an empty stop string, or a
            value out of range. The call itself raises the error, not the first iteration.
    """
    if isinstance(stop, str):
        stop = (stop,)
    if "" in stop:
        raise CharlmError("a stop string must not be empty; leave `stop` out to generate up to the length")
    length = checked("length", NonNegativeInteger, length)
    samples = checked("samples", SampleCount, samples)
    limits = [
        (pattern, checked(name, NonNegativeInteger, number))
        for name, pattern, number in (("lines", LINE_END, lines), ("sentences", SENTENCE_END, sentences))
        if number
    ]
    encoded = tokenizer.prompt(prompt)  # some tokenizers leave a final blank to the next token
    ids = _prompt_ids(tokenizer, encoded)
    sampler = Sampler(seed, samples, tokenizer, **values)
    blank = " " if prompt.endswith(" ") and not encoded.endswith(" ") else ""
    rows = [_Row(tokenizer, stop, blank, limits) for _ in range(samples)]

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

    Args:
        tokenizer: The vocabulary.
        stop: The text ends before the first of these.
        blank: A space that is removed from the start of the text, because the prompt has it.
        limits: Patterns, and the number of their matches after which the text ends. To recognise a
            match, a pattern may look at one character after it, but no further.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        blank: str = "",
        limits: Sequence[tuple[re.Pattern[str], int]] = (),
    ) -> None:
        self.ended = False
        self._blank = blank
        self._boundary = tokenizer.boundary
        self._decoder = tokenizer.decoder()
        self._stop = stop
        self._limits = [_Limit(pattern, number) for pattern, number in limits]
        self._text = ""  # all text so far, if there are limits
        self._released = 0  # characters of it that were returned
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
        return self._limited(self._release(text))

    def flush(self) -> str:
        """End the sample and return the rest of its text."""
        if self.ended:
            return ""
        text = self._limited(self._release(self._decoder.flush()) + self._held)
        self.ended, self._held = True, ""
        return text

    def _limited(self, text: str) -> str:
        """Return the part of a further piece of text that is within the limits."""
        if not self._limits or not text:
            return text
        self._text += text
        ends = [end for limit in self._limits if (end := limit.reached(self._text)) is not None]
        self.ended = self.ended or bool(ends)
        end = min(ends, default=len(self._text))
        released, self._released = self._text[self._released : end], end
        return released

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


class _Limit:
    """A search for the n-th match of a pattern in a text that grows.

    Args:
        pattern: The pattern.
        number: Which match is looked for: 1 is the first.
    """

    def __init__(self, pattern: re.Pattern[str], number: int) -> None:
        self.pattern, self.left = pattern, number
        self.position = 0

    def reached(self, text: str) -> int | None:
        """Return where the match ends in the text so far, or None if it is not there yet."""
        while match := self.pattern.search(text, self.position):
            self.left -= 1
            if not self.left:
                return match.end()
            self.position = max(match.end(), match.start() + 1)  # a match may be empty
        return None


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `stop`.

    A complete `stop` does not count.
    """
    return next(size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size]))
