"""The settings of a generation, except those of the logits processors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from charlm.config.fields import NonNegativeInteger, PositiveInteger, SampleCount, Seed, setting
from charlm.errors import CharlmError

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
    dedupe: bool = setting(
        False, "only texts that are no line or document of the training text and differ from each other"
    )


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
