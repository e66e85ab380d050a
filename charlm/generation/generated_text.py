"""`GeneratedText`: a text with its tokens; `Row` decodes tokens to such a text and finds its end."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import Direction
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer

LINE_END = re.compile(r"(?=\n)")
SENTENCE_START = re.compile(r"(?<=\S)(?=\s+[\"'”’)\]»]*[.!?…])|(?<=[^\s。！？」』”])(?=[」』”]*[。！？])")
SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]»]*(?=\s)|[。！？]+[」』”]*(?=[^。！？」』”]))")
"""Where a sentence ends: at a full stop before white space, or at a full stop of Chinese or Japanese. Abbreviations are
not recognised. `SENTENCE_START` finds where a sentence starts in a text that is written backward."""

Alternatives = list[tuple[int, float]]
"""The most probable tokens at one place, as pairs of id and natural log probability."""

End = Literal["length", "stop", "lines", "sentences", "item"]
"""Why a text ended: it has `length` tokens, another setting ended it, or the model ended the line or document."""


@dataclass
class GeneratedText:
    """A text that a model generated.

    Attributes:
        prompt: The text that was continued.
        seed: The seed that generates this text alone.
        direction: Whether the text continues the prompt or comes before it (backward).
        pieces: The text in pieces, without the prompt.
        ids: The tokens that were drawn, except those of the prompt. They include the token that
            ended an item, and the tokens of a stop string.
        log_probabilities: The natural log probability of each of these tokens under the model's own
            distribution, to which no logits processor was applied.
        alternatives: For each of these tokens, the most probable tokens at its place under that
            distribution.
        character_bits: For each character of the text, the bits of information of its token; if
            several tokens spell a character, the sum of their bits. It may have further values, of
            characters that a stop string or a limit cut off.
        end: Why the text ended.

    The lists of numbers are empty if the tokens were not recorded.
    """

    prompt: str
    seed: int
    direction: Direction = "forward"
    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    alternatives: list[Alternatives] = field(default_factory=list)
    character_bits: list[float] = field(default_factory=list)
    end: End = "length"

    @property
    def text(self) -> str:
        """The text without the prompt."""
        return "".join(self.pieces)

    @property
    def whole(self) -> str:
        """The text together with its prompt."""
        return self.prompt + self.text if self.direction == "forward" else self.text + self.prompt


def most_probable(log_p: NDArray[np.float64], count: int) -> list[Alternatives]:
    """Return the most probable tokens of each row, the most probable one first.

    Args:
        log_p: Natural log probabilities, (rows, vocab_size).
        count: How many tokens are wanted of each row.
    """
    ids = np.argsort(-log_p, -1, kind="stable")[:, :count]
    values = np.take_along_axis(log_p, ids, -1)
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)]


class Row:
    """A decoder of one text: it takes token after token and returns whole characters until the text ends.

    Args:
        tokenizer: The vocabulary.
        text: The text, which is extended by the tokens.
        config: The settings that say where the text ends.
        blank: A space that is removed from the start of the text, because the prompt has it.

    Raises:
        CharlmError: a stop string is empty.
    """

    sentence: ClassVar = SENTENCE_END

    def __init__(self, tokenizer: Tokenizer, text: GeneratedText, config: GenerationConfig, blank: str = "") -> None:
        if "" in config.stop:
            raise CharlmError("a stop string must not be empty; leave `stop` out to generate up to the length")
        self.text, self.ended = text, False
        self._blank = blank
        self._boundary = tokenizer.boundary
        self._decoder = tokenizer.decoder()
        self._stop: Sequence[str] = config.stop
        limits: list[tuple[End, re.Pattern[str], int]] = [
            ("lines", LINE_END, config.lines),
            ("sentences", self.sentence, config.sentences),
        ]
        self._limits = [_Limit(name, pattern, number) for name, pattern, number in limits if number]
        self._limited_text = ""  # all text so far, if there are limits
        self._released = 0  # characters of it that were returned
        self._held = ""  # text in which a stop string may have started
        self._bits = 0.0  # of tokens that have not completed a character

    def copy(self) -> Row:
        """Return a row that goes on from here on its own, with a text of its own."""
        new, text = copy(self), self.text
        new.text = replace(text, pieces=[*text.pieces], ids=[*text.ids], character_bits=[*text.character_bits])
        new.text.log_probabilities, new.text.alternatives = [*text.log_probabilities], [*text.alternatives]
        new._decoder, new._limits = self._decoder.copy(), [copy(limit) for limit in self._limits]
        return new

    def record(self, id: int, log_probability: float, alternatives: Alternatives) -> None:
        """Record a token, before it is pushed; for the arguments see `GeneratedText`."""
        self.text.ids.append(id)
        self.text.log_probabilities.append(log_probability)
        if alternatives:
            self.text.alternatives.append(alternatives)
        self._bits -= log_probability / math.log(2)

    def push(self, id: int) -> str:
        """Return the text that this token completes.

        Text that may be the beginning of a stop string is held back until the next tokens decide.
        """
        if self.ended:
            return ""
        if id == self._boundary:
            self.text.end = "item"
            return self.flush()
        text = self._decoder.push(id)
        if text and self._blank:
            text, self._blank = text.removeprefix(self._blank), ""
        self._count_bits(text)
        return self._kept(self._limited(self._release(text)))

    def flush(self) -> str:
        """End the text and return the rest of it."""
        if self.ended:
            return ""
        rest = self._decoder.flush()
        self._count_bits(rest)
        text = self._limited(self._release(rest) + self._held)
        self.ended, self._held = True, ""
        return self._kept(text)

    def _kept(self, text: str) -> str:
        if text:
            self.text.pieces.append(text)
        return text

    def _count_bits(self, text: str) -> None:
        if text and self.text.ids:
            self.text.character_bits += [self._bits] * len(text)
            self._bits = 0.0

    def _limited(self, text: str) -> str:
        """Return the part of a further piece of text that is within the limits."""
        if not self._limits or not text:
            return text
        self._limited_text += text
        ends = [(end, limit.name) for limit in self._limits if (end := limit.reached(self._limited_text)) is not None]
        end = len(self._limited_text)
        if ends:
            end, self.text.end = min(ends)
            self.ended = True
        released, self._released = self._limited_text[self._released : end], end
        return released

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        self._held += text
        found = [(self._held.find(stop) + len(stop), -len(stop)) for stop in self._stop if stop in self._held]
        if found:
            # The match that ends first, however the text is cut into pieces.
            end, negative_length = min(found)
            released, self._held, self.ended, self.text.end = self._held[: end + negative_length], "", True, "stop"
            return released
        keep = max(_overlap(self._held, stop) for stop in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released


class BackwardRow(Row):
    """The decoding of a text whose tokens come from its end to its start.

    The text, the stop strings and the limits are reversed, so that they are handled as in `Row`.
    Nothing is returned before the text is complete, because all further text stands before it.

    Args:
        tokenizer, text, config: As for `Row`.
        blank: A space that is added to the end of the text if it ends with no white space, because
            the prompt lacks it.
    """

    sentence: ClassVar = SENTENCE_START

    def __init__(self, tokenizer: Tokenizer, text: GeneratedText, config: GenerationConfig, blank: str = "") -> None:
        reverse = replace(config, stop=tuple(stop[::-1] for stop in config.stop))
        super().__init__(tokenizer, text, reverse)
        self._decoder = tokenizer.backward_decoder()
        self._after = blank
        self._written = ""

    def _kept(self, text: str) -> str:
        self._written += text
        if not self.ended:
            return ""
        found = self._written[: self._released] if self._limits else self._written
        one = self.text
        one.character_bits[:] = one.character_bits[: len(found)][::-1]
        for numbers in (one.ids, one.log_probabilities, one.alternatives):
            numbers.reverse()
        if self._after and found and not found[0].isspace():
            found = self._after + found
            one.character_bits += [0.0] * bool(one.character_bits)
        return super()._kept(found[::-1])


class _Limit:
    """A search for the n-th match of a pattern in a text that grows.

    Args:
        name: The setting that the limit belongs to.
        pattern: The pattern. To recognise a match, it may look at one character after it, but no
            further.
        number: Which match is looked for: 1 is the first.
    """

    def __init__(self, name: End, pattern: re.Pattern[str], number: int) -> None:
        self.name, self.pattern, self.left = name, pattern, number
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
