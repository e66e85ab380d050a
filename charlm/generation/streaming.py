"""Generation of several texts side by side: `Generation` streams them, `generate_texts` makes many."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import Direction
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.generation.generated_text import BackwardRow, GeneratedText, Row
from charlm.generation.processors import log_probabilities
from charlm.generation.prompts import prompt_ids
from charlm.generation.sampling import Sampler
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer

MOST_ROWS = 256
"""Texts that are generated side by side; more would only need more memory."""

MOST_DRAWS = 20
"""Texts that are drawn for each text that `dedupe` asks for; a small model may know no other text."""


SPELLING = {"ban", "allow"}
"""Logits processors that join the bytes of tokens in the order in which they are generated."""


class Generation:
    """A generation of texts side by side, one for each prompt.

    An iteration yields lists of the next pieces of the texts, one piece per text. A piece consists
    of whole characters; some pieces of a list may be empty, but never all. The prompt is not
    repeated. A text ends after `length` tokens, before the first stop string, or after `lines`
    lines or `sentences` sentences, whichever comes first. With a model of lines or documents it
    also ends where the item ends.

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        prompts: The texts to continue. If a prompt is empty, its continuation is the start of a
            text or item.
        config: Where the texts end, and the seed of the first text; each further text has the next
            seed. A text does not depend on the other texts, except that the logits of a batch may
            be rounded differently. `config.samples` is not used here.
        direction: The direction of the network. Backward, a text comes before its prompt, and it is
            yielded as one piece when it is complete. Stop strings and limits are met from its end:
            the text begins after a stop string, or with the start of the last line or sentence.
        record: Whether the tokens and their log probabilities are recorded in `texts`; with
            `config.alternatives` they always are.
        values: Values of logits processors and their parameters by name.

    Attributes:
        texts: The texts so far, one for each prompt; they are complete when the iteration ends.

    Raises:
        CharlmError: a prompt with pieces that are not in the vocabulary, an empty stop string, or a
            value out of range.
    """

    def __init__(
        self,
        stepper: Stepper,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        config: GenerationConfig,
        *,
        direction: Direction = "forward",
        record: bool = False,
        **values: Any,
    ) -> None:
        if direction == "backward" and (spelling := SPELLING & values.keys()):
            raise CharlmError(
                f"`{min(spelling)}` reads what tokens spell from the start of a text, and this model writes it from "
                "its end; leave it out, or take a model that is trained forward"
            )
        self._stepper, self._config = stepper, config
        self._record = record or config.alternatives > 0
        encoded = {
            prompt: tokenizer.prompt(prompt) for prompt in prompts
        }  # a final blank may be left to the next token
        self._ids = {prompt: prompt_ids(tokenizer, read, direction) for prompt, read in encoded.items()}
        self._sampler = Sampler(config.seed, len(prompts), tokenizer, **values)
        self.texts = [GeneratedText(prompt, config.seed + number, direction) for number, prompt in enumerate(prompts)]
        row = Row if direction == "forward" else BackwardRow
        self._rows = [
            row(tokenizer, text, config, _blank(text.prompt, encoded[text.prompt], direction)) for text in self.texts
        ]

    def __iter__(self) -> Iterator[list[str]]:
        stepper, sampler, length = self._stepper, self._sampler, self._config.length
        if not length:
            return
        logits, state = self._prefilled()
        places = np.arange(len(self._rows))  # the number of the text in each row of the batch
        for left in range(length - 1, -1, -1):
            ids = sampler(logits)
            if self._record:
                self._recorded(places, ids, logits)
            pieces = [""] * len(self._rows)
            for place, id in zip(places.tolist(), ids.tolist(), strict=True):
                pieces[place] = self._rows[place].push(id)
            if any(pieces):
                yield pieces
            kept = np.array([index for index, place in enumerate(places) if not self._rows[place].ended], int)
            if not len(kept):
                return
            if left and len(kept) <= len(places) // 2:  # the rows of texts that have ended are left out
                places, ids, state = places[kept], ids[kept], stepper.select(state, kept)
                sampler.select(kept)
            if left:
                logits, state = stepper.step(ids, state)
        rest = [row.flush() for row in self._rows]
        if any(rest):
            yield rest

    def finish(self) -> list[GeneratedText]:
        """Generate the rest and return the texts."""
        for _ in self:
            pass
        return self.texts

    def _prefilled(self) -> tuple[NDArray[Any], Any]:
        """Return the logits (rows, vocab_size) and the state after the prompts; each prompt is read once."""
        stepper, prompts = self._stepper, list(self._ids)
        read = [stepper.prefill(np.array([self._ids[prompt]]), stepper.initial_state(1)) for prompt in prompts]
        rows = np.array([prompts.index(text.prompt) for text in self.texts])
        longest = max(map(len, self._ids.values()))
        padded = [[-1] * (longest - len(self._ids[text.prompt])) + self._ids[text.prompt] for text in self.texts]
        self._sampler.start(np.array(padded))
        logits = np.concatenate([logits for logits, _ in read])
        return logits[rows], stepper.select(stepper.join([state for _, state in read]), rows)

    def _recorded(self, places: NDArray[np.int64], ids: NDArray[np.int64], logits: NDArray[Any]) -> None:
        """Record the drawn tokens of the texts that have not ended.

        Args:
            places: The number of the text in each row.
            ids: The tokens, (batch,).
            logits: The logits of the network from which they were drawn, (batch, vocab_size).
        """
        log_p = log_probabilities(logits.astype(np.float64))
        order = np.argsort(-log_p, -1, kind="stable")[:, : self._config.alternatives]
        for row, (place, id) in enumerate(zip(places.tolist(), ids.tolist(), strict=True)):
            if not self._rows[place].ended:
                others = [(other, float(log_p[row, other])) for other in order[row].tolist()]
                self._rows[place].record(id, float(log_p[row, id]), others)


def _blank(prompt: str, encoded: str, direction: Direction) -> str:
    """Return the space between prompt and text that only one of the prompt and its encoded form has.

    It is removed from the start of a text that continues a prompt, and added to the end of a text
    that comes before one.
    """
    if direction == "forward":
        return " " if prompt.endswith(" ") > encoded.endswith(" ") else ""
    return " " if encoded.startswith(" ") > prompt.startswith(" ") else ""


def generate_texts(
    stepper: Stepper,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    config: GenerationConfig,
    *,
    direction: Direction = "forward",
    record: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    known: Container[str] = (),
    **values: Any,
) -> Iterator[GeneratedText]:
    """Generate `config.samples` texts from each prompt and yield them in the order of their seeds.

    With `config.dedupe`, another text is drawn in place of each one that is known or has been
    yielded. Drawing ends after `MOST_DRAWS` times the number of texts that were asked for, so that
    fewer texts may be yielded.

    Args:
        stepper, tokenizer, direction, record, values: As for `Generation`.
        prompts: The prompts. The texts of the first prompt come first.
        config: How many texts are generated, and where they end.
        progress: A function that is told what is being done, how much of it is done, and how much
            there is to do.
        known: The texts that `config.dedupe` excludes, without line ends.
    """
    rows = max(1, min(MOST_ROWS, 2**22 // len(tokenizer)))
    wanted = [prompt for prompt in prompts for _ in range(config.samples)]
    total, drawn, seen = len(wanted), 0, set[str]()
    while wanted and drawn < MOST_DRAWS * total:
        own, wanted = wanted[:rows], wanted[rows:]
        generation = Generation(
            stepper,
            tokenizer,
            own,
            replace(config, seed=config.seed + drawn),
            direction=direction,
            record=record,
            **values,
        )
        drawn += len(own)
        for step, _ in enumerate(generation):
            left = len(wanted) + len(own) * (1 - step / config.length)
            progress("generating", round(config.length * (total - left)), config.length * total)
        for text in generation.texts:
            whole = text.whole.strip("\n")
            if config.dedupe and (whole in seen or whole in known):
                wanted.append(text.prompt)
            else:
                yield text
            if config.dedupe:
                seen.add(whole)
    progress("generating", total, total)
