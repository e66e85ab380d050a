"""The options of every command that evaluates a text by a protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from charlm.config.fields import PositiveInteger, PositiveNumber, setting
from charlm.config.protocols import CacheConfig, DynamicConfig, Protocol, ProtocolName
from charlm.errors import CharlmError


@dataclass(frozen=True)
class ProtocolOptions:
    """The options of an evaluation: the weights, the device, the encoding, and how the text is read."""

    protocol: ProtocolName = setting(
        "carried",
        "how the text is read: state carried through it; every window from zero; last half of each window; weights "
        "trained on it meanwhile; with a neural cache",
    )
    window: PositiveInteger = setting(Protocol.window, "tokens of a window, for the protocols window and last_half")
    temperature: PositiveNumber | Literal["tuned"] = setting(
        1.0, "softmax temperature (tuned: the best one for the validation split)"
    )
    encoding: str = setting("utf-8", "character encoding of files without a byte-order mark")
    column: str = setting("", "the text is this column of CSV or TSV files, or this key of JSON Lines")
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("auto", "cpu, cuda or auto")
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)

    def chosen(self) -> Protocol:
        """Return the evaluation protocol that the options describe.

        Raises:
            CharlmError: a setting that belongs to another protocol differs from its default.
        """
        for name, given, default in (
            ("dynamic", self.dynamic, DynamicConfig()),
            ("cache", self.cache, CacheConfig()),
        ):
            if given != default and self.protocol != name:
                raise CharlmError(f"the settings of the group {name} need `protocol` {name}, not {self.protocol}")
        if self.window != Protocol.window and self.protocol not in ("window", "last_half"):
            raise CharlmError(f"`window` needs `protocol` window or last_half, not {self.protocol}")
        temperature = None if self.temperature == "tuned" else self.temperature
        return Protocol(self.protocol, self.window, temperature, self.dynamic, self.cache)  # type: ignore[arg-type]
