"""The settings of a generation, except those of the logits processors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from charlm.config.fields import NonNegativeInteger, SampleCount, Seed, setting

Engine = Literal["float", "exact"]
"""How logits are computed: as fast as possible, or such that they are the same bits on every machine."""

Unknown = Literal["error", "drop", "nearest"]
"""What happens to the pieces of a prompt that are not in the vocabulary."""


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
