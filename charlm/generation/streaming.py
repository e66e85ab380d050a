"""Generation of several texts side by side: `Generation` streams them, `generate_texts` makes many."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import Direction
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.generation.exact import ExactFunctions
from charlm.generation.generated_text import BackwardRow, GeneratedText, Row, most_probable
from charlm.generation.processors import log_probabilities
from charlm.generation.prompts import Prompts
from charlm.generation.sampling import Sampler
from charlm.generation.search import BeamSearch
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer

MOST_ROWS = 256
"""Texts that are generated side by side; more would only need more memory."""

MOST_DRAWS = 20
"""Texts that are drawn for each text that `dedupe` asks for; a small model may know no other text."""


SPELLING = ("allow", "ban", "no_copy")
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
            be rounded differently. `config.samples` and `config.dedupe` are not used here.
        direction: The direction of the network. Backward, a text comes before its prompt, and it is
            yielded as one piece when it is complete. Stop strings and limits are met from its end:
            the text begins after a stop string, or with the start of the last line or sentence.
        record: Whether the tokens and their log probabilities are recorded in `texts`; with
            `config.alternatives` they always are.
        values: Values of logits processors and their parameters by name.

    Attributes:
        texts: The texts so far, one for each prompt; they are complete when the iteration ends.

    Raises:
        CharlmError: a prompt with pieces that are not in the vocabulary, an empty stop string, a
            value out of range, or `config.beams` or `config.best_of`.
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
        if config.beams or config.best_of > 1:
            raise CharlmError("`beams` and `best_of` know no text before its end; use `generate_texts`")
        spelling = [name for name in SPELLING if values.get(name)]
        if direction == "backward" and spelling:
            raise CharlmError(
                f"`{spelling[0]}` reads what tokens spell from the start of a text, and this model writes it from "
                "its end; leave it out, or take a model that is trained forward"
            )
        self._stepper, self._config = stepper, config
        self._record = record or config.alternatives > 0
        self._prompts = Prompts(tokenizer, prompts, direction)
        exp = ExactFunctions.exp if config.engine == "exact" else np.exp
        self._sampler = Sampler(config.seed, len(prompts), tokenizer, exp=exp, **values)
        self.texts = [GeneratedText(prompt, config.seed + number, direction) for number, prompt in enumerate(prompts)]
        row = Row if direction == "forward" else BackwardRow
        self._rows = [
            row(tokenizer, text, config, blank) for text, blank in zip(self.texts, self._prompts.blanks, strict=True)
        ]

    def __iter__(self) -> Iterator[list[str]]:
        stepper, sampler, length = self._stepper, self._sampler, self._config.length
        if not length:
            return
        logits, state = self._prompts.read(stepper)
        sampler.start(self._prompts.ids)
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

    def _recorded(self, places: NDArray[np.int64], ids: NDArray[np.int64], logits: NDArray[Any]) -> None:
        """Record the drawn tokens of the texts that have not ended.

        Args:
            places: The number of the text in each row.
            ids: The tokens, (batch,).
            logits: The logits of the network from which they were drawn, (batch, vocab_size).
        """
        log_p = log_probabilities(logits.astype(np.float64))
        drawn = log_p[np.arange(len(ids)), ids].tolist()
        others = most_probable(log_p, self._config.alternatives) if self._config.alternatives else [[]] * len(ids)
        for place, id, value, alternatives in zip(places.tolist(), ids.tolist(), drawn, others, strict=True):
            if not self._rows[place].ended:
                self._rows[place].record(id, value, alternatives)


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
    """Generate `config.samples` texts from each prompt and yield them in the order of the prompts.

    The texts are drawn, or found by beam search if `config.beams` is not 0.

    Texts that are drawn are in the order of their seeds. With `config.best_of`, each of them is the
    one with the highest `config.score` of several, which are drawn with consecutive seeds; its own
    seed draws it again alone. With `config.dedupe`, another text is drawn in place of each one that
    is known or has been yielded. Drawing ends after about `MOST_DRAWS` times the number of texts
    that were asked for, so that fewer texts may be yielded.

    Texts that are found by beam search are in the order of `BeamSearch.run`. There may be fewer than
    were asked for: a search has at most `config.beams` texts, and `config.dedupe` leaves some out.

    Args:
        stepper, tokenizer, direction, record, values: As for `Generation`.
        prompts: The prompts. The texts of the first prompt come first.
        config: How many texts are generated, how, and where they end.
        progress: A function that is told what is being done, how much of it is done, and how much
            there is to do.
        known: The texts that `config.dedupe` excludes, without line ends.
    """
    excluded = _Excluded(known if config.dedupe else None)
    if config.beams:
        if direction == "backward":
            raise CharlmError("`beams` finds texts of forward models only; leave it out, or use `best_of`")
        yield from _found(stepper, tokenizer, prompts, config, progress, excluded, values)
        return
    wanted = [prompt for prompt in prompts for _ in range(config.samples)]
    total, drawn, best_of = len(wanted), 0, config.best_of
    record = record or best_of > 1
    while wanted and drawn < MOST_DRAWS * total:
        now, wanted = wanted, []

        def told(done: float, still: int = len(now)) -> None:
            progress("generating", round(config.length * (total - still * (1 - done))), config.length * total)

        drawing = replace(config, seed=config.seed + drawn * best_of, best_of=1, length_penalty=1.0)
        several = (prompt for prompt in now for _ in range(best_of))
        texts = _drawn(stepper, tokenizer, several, len(now) * best_of, drawing, direction, record, told, values)
        drawn += len(now)
        for prompt in now:
            choice = [text for text in islice(texts, best_of) if text not in excluded]
            if choice:
                text = max(choice, key=lambda text: config.score(sum(text.log_probabilities), len(text.ids)))
                excluded.add(text)
                yield text
            else:
                wanted.append(prompt)
    progress("generating", total, total)


def _drawn(
    stepper: Stepper,
    tokenizer: Tokenizer,
    prompts: Iterator[str],
    total: int,
    config: GenerationConfig,
    direction: Direction,
    record: bool,
    told: Callable[[float], None],
    values: dict[str, Any],
) -> Iterator[GeneratedText]:
    """Yield a drawn text for each of `total` prompts, with consecutive seeds; `told` is told which part is done."""
    done = 0
    while own := list(islice(prompts, most_rows(tokenizer))):
        block = replace(config, seed=config.seed + done)
        generation = Generation(stepper, tokenizer, own, block, direction=direction, record=record, **values)
        for step, _ in enumerate(generation):
            told((done + len(own) * step / config.length) / total)
        yield from generation.texts
        done += len(own)


def _found(
    stepper: Stepper,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    config: GenerationConfig,
    progress: Callable[[str, int, int], None],
    excluded: _Excluded,
    values: dict[str, Any],
) -> Iterator[GeneratedText]:
    """Yield the texts that beam search finds; for the arguments see `generate_texts`."""
    rows, total = max(1, most_rows(tokenizer) // config.beams), config.length * len(prompts)
    for start in range(0, len(prompts), rows):
        own = prompts[start : start + rows]
        search = BeamSearch(stepper, tokenizer, own, replace(config, seed=config.seed + start), **values)

        def told(step: int, done: int = config.length * start, share: int = len(own)) -> None:
            progress("searching", done + step * share, total)

        for texts in search.run(told):
            for text in islice((text for text in texts if text not in excluded), config.samples):
                excluded.add(text)
                yield text
    progress("searching", total, total)


def most_rows(tokenizer: Tokenizer) -> int:
    """Return how many texts are generated side by side."""
    return max(1, min(MOST_ROWS, 2**22 // len(tokenizer)))


class _Excluded:
    """The texts that `dedupe` excludes: known ones, and those that were yielded.

    Args:
        known: The known texts, without line ends; None: nothing is excluded.
    """

    def __init__(self, known: Container[str] | None) -> None:
        self._known, self._yielded = known, set[str]()

    def __contains__(self, text: GeneratedText) -> bool:
        whole = self._whole(text)
        return self._known is not None and (whole in self._known or whole in self._yielded)

    def add(self, text: GeneratedText) -> None:
        if self._known is not None:
            self._yielded.add(self._whole(text))

    @staticmethod
    def _whole(text: GeneratedText) -> str:
        return text.whole.strip("\n")
