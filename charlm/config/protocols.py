"""Evaluation protocols: how a text is read when a model is evaluated on it.

A protocol says which tokens the model has read when it predicts the next one, and whether its
weights or its predictions change on the way. Results of different protocols cannot be compared.
Therefore every output names its protocol. `evaluation.likelihood` reads a text by any of them:

- carried: the state is carried from the first token to the last. In a text of items, each item
  starts from the zero state.
- window: the text is cut into windows that all start from the zero state, as transformers are
  usually evaluated.
- last_half: the text is cut into windows that overlap by half, and only the second half of each is
  predicted. The first window of a text or of an item is predicted as a whole.
- dynamic: the weights are trained on the text while it is read (see `evaluation.dynamic`).
- cache: a neural cache of the last tokens changes the predictions (see `evaluation.neural_cache`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from charlm.config.fields import Auto, NonNegativeNumber, PositiveInteger, PositiveNumber, Probability, setting
from charlm.errors import CharlmError

ProtocolName = Literal["carried", "window", "last_half", "dynamic", "cache"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)

SMALL_VOCABULARY = 1000
"""Largest number of tokens of a vocabulary that is taken for one of characters.

With such a vocabulary, a segment of dynamic evaluation has more tokens unless a setting says
otherwise.
"""


@dataclass(frozen=True)
class DynamicConfig:
    """Settings of dynamic evaluation, which trains the weights on the text (Krause et al. 2018)."""

    rate: Auto[PositiveNumber] = setting(None, "learning rate (default: tuned on the validation split)")
    decay: Auto[Probability] = setting(
        None, "how fast weights return to the trained ones (default: tuned on the validation split)"
    )
    segment: Auto[PositiveInteger] = setting(
        None, "tokens per training step (default: 20, or 5 if the vocabulary has more than 1,000 tokens)"
    )


@dataclass(frozen=True)
class CacheConfig:
    """Settings of a neural cache, which makes recent tokens more probable (Grave et al. 2017)."""

    size: PositiveInteger = setting(2000, "tokens that the cache holds")
    flatness: Auto[NonNegativeNumber] = setting(
        None,
        "factor of the similarity; 0: all tokens in the cache count alike (default: tuned on the validation split)",
    )
    weight: Auto[Annotated[float, Meta(ge=0, lt=1)]] = setting(
        None, "weight of the cache beside the model (default: tuned on the validation split)"
    )


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol: how a text is read, and the softmax temperature of the predictions.

    Attributes:
        name: The protocol; the docstring of the module describes each.
        window: Tokens of a window, for the protocols window and last_half.
        temperature: Number by which the logits are divided; None: it is still to be tuned on the
            validation split.
        dynamic, cache: Settings of these two protocols.
        tuned_on: The text on which settings were tuned, in words; empty if no setting was tuned.
    """

    name: ProtocolName = "carried"
    window: int = 256
    temperature: Auto[float] = 1.0
    dynamic: DynamicConfig = DynamicConfig()
    cache: CacheConfig = CacheConfig()
    tuned_on: str = ""

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise CharlmError(f"`protocol` must be one of {', '.join(PROTOCOLS)}, not {self.name!r}")
        if self.window < 1 or (self.temperature is not None and not self.temperature > 0):
            raise CharlmError("`window` and `temperature` must be above 0")

    @property
    def untuned(self) -> list[str]:
        """The names of this protocol's settings that have no value yet, such as `cache.weight`."""
        used = {f"{self.name}.{name}": value for name, value in self._used().items()} | {
            "temperature": self.temperature
        }
        return [name for name, value in used.items() if value is None]

    def _used(self) -> dict[str, Any]:
        """Return the settings that this protocol uses, by name, except the temperature."""
        if self.name in ("window", "last_half"):
            return {"window": self.window}
        if self.name in ("dynamic", "cache"):
            group = getattr(self, self.name)
            return {definition.name: getattr(group, definition.name) for definition in fields(group)}
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the settings of the protocol as a dictionary for JSON."""
        return {"name": self.name, "temperature": self.temperature, **self._used(), "tuned_on": self.tuned_on or None}

    def describe(self, items: bool = False) -> str:
        """Describe the protocol in words for the output of an evaluation.

        Args:
            items: Whether the text consists of separate items.
        """
        start = "the state is carried from the first token to the last"
        if items:
            start = "each item starts from the zero state"
        if self.name == "window":
            start = f"every window of {self.window:,} tokens starts from the zero state"
        if self.name == "last_half":
            start = f"windows of {self.window:,} tokens start from the zero state, and the last half is predicted"
        used = ", ".join(f"{name} {value:g}" for name, value in self._used().items() if value is not None)
        if self.name == "dynamic":
            start = f"dynamic evaluation, {used}: {start} and the weights are trained on what was read"
        if self.name == "cache":
            start = f"neural cache, {used}: {start} and the last tokens change the predictions"
        if self.temperature is not None and self.temperature != 1:
            start += f"; softmax temperature {self.temperature:.4g}"
        return start + (f"; tuned on {self.tuned_on}" if self.tuned_on else "")


CARRIED = Protocol()
