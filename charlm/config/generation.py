"""The settings of a generation, except those of the logits processors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from charlm.config.fields import (
    BeamCount,
    NonNegativeInteger,
    NonNegativeNumber,
    PositiveInteger,
    SampleCount,
    Seed,
    setting,
)
from charlm.errors import CharlmError

Engine = Literal["float", "exact"]
"""How logits are computed: as fast as possible, or such that they are the same bits on every machine."""

Unknown = Literal["error", "drop", "nearest"]
"""What happens to the pieces of a prompt that are not in the vocabulary."""


LONGEST_GAP = 100
"""Most tokens of a gap."""


@dataclass(frozen=True)
class GenerationConfig:
    """How many texts are generated from each prompt, and where they end.

    Every setting is an option of `charlm generate` and an argument of `run.generate`.
    """

    HEADING: ClassVar[str] = "Texts"

    prompt_unknown: Unknown = setting(
        "error", "what the vocabulary lacks: an error, left out, or the nearest by case, accents and quotation marks"
    )
    length: NonNegativeInteger = setting(
        500, "tokens to generate: characters of a character model, words of a word model"
    )
    samples: SampleCount = setting(1, "how many texts, of each prompt")
    seed: Seed = setting(1, "the same seed gives the same text; each further text has the next seed")
    stop: tuple[str, ...] = setting((), "the text ends before any of these")
    lines: NonNegativeInteger = setting(0, "the text ends with its N-th line (0: no limit)")
    sentences: NonNegativeInteger = setting(0, "the text ends with its N-th sentence (0: no limit)")
    alternatives: NonNegativeInteger = setting(0, "list the N most probable tokens at each place of the text (0: none)")
    engine: Engine = setting(
        "float", "exact: the same seed gives the same text on every machine (weights of 8 bits, on a CPU)"
    )
    dedupe: bool = setting(
        False, "only texts that are no line or document of the training text and differ from each other"
    )
    best_of: SampleCount = setting(1, "draw N texts for each one, and keep the one the model finds most probable")
    beams: BeamCount = setting(
        0, "beam search: instead of drawing, find the most probable texts with so many hypotheses (0: off)"
    )
    length_penalty: Annotated[float, Meta(ge=0, le=10)] = setting(
        1.0, "the score of a text is log p / tokens ** A, with beams and best_of (0: log p; 1: log p per token)"
    )
    beam_groups: PositiveInteger = setting(1, "groups of beams, which differ from each other by diversity_penalty")
    diversity_penalty: NonNegativeNumber = setting(
        0.0,
        "what log p of a token loses for each hypothesis of earlier groups that has it at the same place",
    )

    def __post_init__(self) -> None:
        if self.beams and self.best_of > 1:
            raise CharlmError("`beams` and `best_of` exclude each other: a search draws no texts; use one")
        if self.beams and self.samples > self.beams:
            raise CharlmError(f"`samples` must be at most `beams` ({self.beams}), not {self.samples}")
        if self.beam_groups > 1 and (not self.beams or self.beams % self.beam_groups):
            raise CharlmError(f"`beams` must be a multiple of `beam_groups` ({self.beam_groups}), not {self.beams}")
        if (self.beam_groups > 1) != (self.diversity_penalty > 0):
            raise CharlmError("`beam_groups` and `diversity_penalty` change nothing alone; name both or none")
        if self.length_penalty != 1 and not self.beams and self.best_of == 1:
            raise CharlmError("`length_penalty` changes nothing without `beams` or `best_of`; name one of them")

    @property
    def whole(self) -> bool:
        """Whether nothing of a text can be shown before its end, because it is chosen among complete texts."""
        return self.beams > 0 or self.best_of > 1 or self.dedupe

    def score(self, log_probability: float, tokens: int) -> float:
        """Return the score by which texts are compared: log p / tokens ** length_penalty (Wu et al. 2016).

        Args:
            log_probability: The natural log probability of the whole text.
            tokens: Number of its tokens; a text without tokens has the score 0.
        """
        return log_probability / max(1, tokens) ** self.length_penalty


@dataclass(frozen=True)
class FillConfig:
    """How a gap of a text is filled; every setting is an option of `charlm fill`."""

    gap: str = setting("1-12", "tokens of the gap: a number, or the least and the most, such as 3-8")
    mark: str = setting("___", "what stands for the gap in the text")
    samples: SampleCount = setting(5, "how many fillings, the best ones")
    beams: PositiveInteger = setting(32, "hypotheses that each model keeps for a length of the gap")
    context: NonNegativeInteger = setting(20, "tokens after the gap that count, as each model reads it")


def gap_lengths(gap: str) -> tuple[int, int]:
    """Return the least and the most tokens of a gap.

    Raises:
        CharlmError: `gap` is neither a number nor two numbers in ascending order.
    """
    shortest, dash, longest = gap.partition("-")
    try:
        found = int(shortest), int(longest if dash else shortest)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1] <= LONGEST_GAP:
        raise CharlmError(f"`gap` is a number of tokens or a range such as 3-8, at most {LONGEST_GAP}, not {gap!r}")
    return found
