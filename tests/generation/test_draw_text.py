"""draw_text: as long as asked for, from lanes that start as texts start and end between words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from charlm.config import ModelConfig, TokenizerConfig
from charlm.generation.draw_text import LANES, draw_text, uncut
from charlm.generation.stepper import NumpyStepper, TorchStepper
from charlm.network.model import LanguageModel
from charlm.text.tokenization import Tokenizer, learn

TEXT = "the cat sat on the mat\nthe dog ran\n" * 20


def learned(kind: str, unit: str = "stream") -> Tokenizer:
    return learn(TokenizerConfig(kind=kind, min_frequency=1), [TEXT], unit=unit)  # type: ignore[arg-type]


def network(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(ModelConfig("lstm", 2, 12, 8, 0.0, tie=False), len(tokenizer))


def stepper_of(tokenizer: Tokenizer) -> NumpyStepper:
    model = network(tokenizer)
    return NumpyStepper(
        {name: value.numpy() for name, value in model.state_dict().items()}, model.config, model.vocab_size
    )


class Counting:
    """Generates the ids of `script`; its state counts the tokens since it was last zero."""

    def __init__(self, vocabulary: int, script: list[int]) -> None:
        self.vocabulary, self.script = vocabulary, script

    def initial_state(self, batch: int) -> np.ndarray:
        return np.zeros((1, 1, batch, 1))

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.zeros((len(ids), self.vocabulary), dtype=np.float32)
        places = state[0, 0, :, 0].astype(int)
        logits[np.arange(len(ids)), np.take(self.script, places, mode="clip")] = 100
        return logits, state + 1

    def prefill(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def select(self, state: Any, rows: np.ndarray) -> Any:
        raise NotImplementedError

    def join(self, states: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("kind", ["char", "word", "byte", "bpe"])
@pytest.mark.parametrize("characters", [0, 1, 300, 1001])
def test_it_has_the_length_asked_for_and_depends_on_the_seed(kind: str, characters: int) -> None:
    tokenizer = learned(kind)
    texts = [draw_text(stepper_of(tokenizer), tokenizer, characters, seed=seed) for seed in (1, 1, 2)]
    assert [len(text) for text in texts] == [characters] * 3
    assert texts[0] == texts[1]
    assert texts[0] != texts[2] or characters < 2


def test_the_stepper_makes_no_difference() -> None:
    tokenizer = learned("char")
    model = network(tokenizer)
    assert draw_text(TorchStepper(model), tokenizer, 500) == draw_text(stepper_of(tokenizer), tokenizer, 500)


@pytest.mark.parametrize("unit", ["line", "document"])
def test_every_item_starts_from_nothing(unit: str) -> None:
    tokenizer = learned("char", unit)
    assert tokenizer.boundary is not None
    item = [*tokenizer.encode("the cat").tolist(), tokenizer.boundary]
    end = "\n" if unit == "line" else "\n\n"
    text = draw_text(Counting(len(tokenizer), item), tokenizer, 400)
    assert text == (("the cat" + end) * 400)[:400]


def test_lanes_end_between_words() -> None:
    tokenizer = learned("char")
    written = "the cat sat on the mat and"
    stepper = Counting(len(tokenizer), tokenizer.encode(written).tolist())
    text = draw_text(stepper, tokenizer, 22 * LANES)
    assert text.startswith("the cat sat on the mat the cat sat on the mat ")
    assert set(text.split()) <= set(written.split())


@pytest.mark.parametrize(
    ("text", "end", "kept"),
    [
        ("one two th", "", "one two "),
        ("one two ", "", "one two "),
        ("a\nb", "", "a\n"),
        ("海辺の家", "", "海辺の家"),
        ("a longer", "", "a longer"),
        ("", "", ""),
        ("one two\nth re", "\n", "one two\n"),
        ("one\n\nmuch longer te", "\n\n", "one\n\nmuch longer "),
        ("", "\n", ""),
    ],
)
def test_a_text_is_cut_at_its_last_end_unless_that_is_far_back(text: str, end: str, kept: str) -> None:
    assert uncut(text, end) == kept


def test_a_network_that_writes_nothing_ends() -> None:
    tokenizer = learned("byte")
    incomplete = [tokenizer.tokens.index("\\xe4")] * 2
    assert len(draw_text(Counting(len(tokenizer), incomplete), tokenizer, 10)) <= 10
