"""Networks and vocabularies so simple that what they write is known."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from charlm.config import ModelConfig
from charlm.generation.stepper import NumpyStepper
from charlm.network.model import LanguageModel

# -- networks


class Successor:
    """Always predicts id + 1; the state is the ids that were read."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.calls: list[str] = []

    def initial_state(self, batch: int) -> np.ndarray:
        return np.zeros((batch, 0), dtype=int)

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append("step")
        return self._after(ids[:, None], state)

    def prefill(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append(f"read {ids.tolist()}")
        return self._after(ids, state)

    def select(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[rows]

    def join(self, states: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.pad(one, ((0, 0), (max(map(np.size, states)) - one.size, 0))) for one in states])

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.zeros((len(ids), self.vocabulary), dtype=np.float32)
        logits[np.arange(len(ids)), (ids[:, -1] + 1) % self.vocabulary] = 100
        return logits, np.concatenate([state, ids], 1)


class Script(Successor):
    """Predicts the ids of a script (time, batch), whatever it reads."""

    def __init__(self, script: list[list[int]], vocabulary: int) -> None:
        super().__init__(vocabulary)
        self.script = script

    def _after(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        now = self.script[min(state.shape[1], len(self.script) - 1)]
        return super()._after(np.array(now)[:, None] - 1, state)


def small_stepper(cell: str = "lstm", vocab_size: int = 12) -> NumpyStepper:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell, 2, 16, 16, 0.0, tie=False), vocab_size).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return NumpyStepper(
        {name: value.numpy() for name, value in model.state_dict().items()}, model.config, model.vocab_size
    )


# -- vocabularies


class Alphabet:
    """A tokenizer whose tokens are the given texts; a prompt is encoded character by character."""

    kind, unknown, reversible = "alphabet", None, True

    def __init__(self, tokens: list[str], boundary: str | None = None) -> None:
        self.tokens = tokens
        self.spellings = [token.encode() for token in tokens]
        self.boundary = None if boundary is None else tokens.index(boundary)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        return np.array([self.tokens.index(character) for character in text], dtype=np.int32)

    def prompt(self, text: str) -> str:
        return text

    def unknowns(self, text: str) -> Counter[str]:
        return Counter(character for character in text if character not in self.tokens)

    def start(self) -> int:
        return len(self.tokens) - 1 if self.boundary is None else self.boundary

    def decoder(self) -> Any:
        return self

    def copy(self) -> Any:
        return self

    def push(self, token: int) -> str:
        return self.tokens[token]

    def flush(self) -> str:
        return ""


class Utf8(Alphabet):
    """Tokens are bytes."""

    def __init__(self) -> None:
        super().__init__([chr(byte) for byte in range(256)])

    def decoder(self) -> Any:
        return Utf8Decoder()


class Utf8Decoder:
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def copy(self) -> Utf8Decoder:
        new = Utf8Decoder()
        new.decoder.setstate(self.decoder.getstate())
        return new

    def push(self, token: int) -> str:
        return self.decoder.decode(bytes([token]))

    def flush(self) -> str:
        return self.decoder.decode(b"", final=True)


class BlankFirst(Alphabet):
    """Tokens carry the blank before them: one at the end of a prompt is left to the next."""

    def prompt(self, text: str) -> str:
        return text.removesuffix(" ")


LETTERS = Alphabet(list("abcdefghij\n"))
