"""Steppers: numpy and torch, one token and many, give the same logits, for every registered cell."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from charlm.config import ModelConfig
from charlm.generation import stepper as stepper_module
from charlm.generation.stepper import NumpyFunctions, NumpyStepper, Stepper, TorchStepper
from charlm.network.cells import Cell, cells
from charlm.network.model import LanguageModel

VARIANTS: list[dict[str, Any]] = [
    {"tie": tie, "residual": residual, "layer_norm": layer_norm, "embedding": embedding}
    for tie, residual, layer_norm, embedding in itertools.product((False, True), (False, True), (False, True), (6, 8))
]
VOCABULARY, HIDDEN, TIME = 20, 8, 9


def make_model(cell: str, **options: Any) -> LanguageModel:
    """A model of random parameters, biases and gains included."""
    torch.manual_seed(1)
    sizes = {"layers": 3, "hidden": HIDDEN, "embedding": HIDDEN, "dropout": 0.0, "tie": False, "context": 4}
    model = LanguageModel(ModelConfig(cell, **{**sizes, **options}), VOCABULARY).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def make_stepper(model: LanguageModel) -> NumpyStepper:
    return NumpyStepper(
        {name: value.numpy() for name, value in model.state_dict().items()}, model.config, model.vocab_size
    )


def make_ids(batch: int, time: int = TIME) -> np.ndarray:
    return np.random.default_rng(2).integers(VOCABULARY, size=(batch, time))


def make_state(batch: int) -> np.ndarray:
    """The state of a network of one array per layer, in the middle of a text."""
    return np.random.default_rng(3).normal(size=(3, 1, batch, HIDDEN))


def agree(model: LanguageModel, batch: int) -> None:
    """Reading at once and step by step, in numpy and in torch, gives what the model gives."""
    ids = make_ids(batch)
    with torch.no_grad():
        logits, last = model(torch.from_numpy(ids))
    steppers: list[Stepper] = [make_stepper(model), TorchStepper(model)]
    for stepper in steppers:
        read, state = stepper.prefill(ids, stepper.initial_state(batch))
        assert read.shape == (batch, VOCABULARY)
        np.testing.assert_allclose(read, logits[:, -1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(state, last, rtol=0, atol=1e-12)
        state = stepper.initial_state(batch)
        for time in range(TIME):
            actual, state = stepper.step(ids[:, time], state)
            np.testing.assert_allclose(actual, logits[:, time], rtol=0, atol=1e-12)
        np.testing.assert_allclose(state, last, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("cell", cells)
def test_numpy_is_torch(cell: str, options: dict[str, Any], batch: int) -> None:
    if not cells[cell].gates:
        options = {**options, "embedding": HIDDEN}
    agree(make_model(cell, **options), batch)


class Delayed(Cell):
    """Returns a part of its state unchanged."""

    states, products = 2, {"U": 1, "V": 1}

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, before = state
        return f.tanh(x + w.U(h) + w.V(before)), h


@pytest.mark.parametrize("batch", [1, 3])
def test_numpy_is_torch_for_a_user_defined_cell(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setitem(cells._load(), "example", Delayed)
    agree(make_model("example", residual=True), batch)


@pytest.mark.parametrize("cell", cells)
def test_generation_uses_the_mean_of_what_training_draws(cell: str) -> None:
    agree(make_model(cell, zoneout=0.3, recurrent_dropout=0.2, weight_drop=0.2).eval(), 3)


@pytest.mark.parametrize("cell", cells)
def test_a_first_layer_too_large_to_fold_gives_the_same(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    monkeypatch.setattr(stepper_module, "MAX_FOLDED", 0)
    agree(make_model(cell), 1)
    agree(make_model(cell), 3)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_long_prompt_is_read_in_windows(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(stepper_module, "WINDOW", 6)  # 8 tokens before the last: 6 + 2 for one row
    monkeypatch.setattr(stepper_module, "MOST_TOKENS", 6)  # 2 of 9 at once for three rows
    agree(make_model("lstm"), batch)


@pytest.mark.parametrize("cell", cells)
def test_a_very_long_prompt_is_read_in_lanes(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    ids, model = make_ids(1, 400), make_model(cell)
    with torch.no_grad():
        logits, last = model(torch.from_numpy(ids))
    monkeypatch.setattr(stepper_module, "WINDOW", 10)  # 39 windows before the last 9 tokens: 4 lanes of 9 windows
    steppers: list[Stepper] = [make_stepper(model), TorchStepper(model)]
    for stepper in steppers:
        read, state = stepper.prefill(ids, stepper.initial_state(1))
        np.testing.assert_allclose(read, logits[:, -1], rtol=0, atol=1e-11)
        np.testing.assert_allclose(state, last, rtol=0, atol=1e-11)


@pytest.mark.parametrize("cell", cells)
def test_a_step_leaves_the_state_it_was_given(cell: str) -> None:
    model = make_model(cell)
    steppers: list[Stepper] = [make_stepper(model), TorchStepper(model)]
    for stepper in steppers:
        _, state = stepper.prefill(make_ids(2), stepper.initial_state(2))
        before = torch.as_tensor(state).clone()
        first, _ = stepper.step(np.array([3, 4]), state)
        second, _ = stepper.step(np.array([3, 4]), state)
        assert np.array_equal(first, second)
        assert torch.equal(torch.as_tensor(state), before)


@pytest.mark.parametrize("cell", cells)
def test_rows_can_be_reordered_by_the_state(cell: str) -> None:
    stepper = make_stepper(make_model(cell))
    _, state = stepper.prefill(make_ids(3), stepper.initial_state(3))
    logits, _ = stepper.step(np.array([5, 5, 5]), state)
    chosen, _ = stepper.step(np.array([5]), state[:, :, [2]])
    np.testing.assert_allclose(chosen, logits[2:], rtol=0, atol=1e-12)


def test_weights_come_straight_from_a_file(tmp_path: Path) -> None:
    model = make_model("lstm", tie=True, embedding=6, layer_norm=True).float()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    stepper = NumpyStepper(load_file(tmp_path / "model.safetensors"), model.config, model.vocab_size)
    ids = make_ids(1)
    logits, state = stepper.prefill(ids, stepper.initial_state(1))
    expected, _ = model(torch.from_numpy(ids))
    assert logits.dtype == state.dtype == np.float32
    np.testing.assert_allclose(logits, expected[:, -1].detach(), rtol=0, atol=1e-5)


def test_generation_on_a_cpu_imports_no_torch(tmp_path: Path) -> None:
    model = make_model("gru").float()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    code = f"""
import sys
from itertools import islice
from safetensors.numpy import load_file
from charlm.generation.sampling import Sampler, generate
from charlm.generation.stepper import NumpyStepper
from charlm.config import ModelConfig
config = ModelConfig("gru", 3, {HIDDEN}, {HIDDEN}, 0.0, tie=False)
stepper = NumpyStepper(load_file({str(tmp_path / "model.safetensors")!r}), config, {VOCABULARY})
print(len(list(islice(generate(stepper, [1, 2], Sampler(1, temperature=0.5, top_p=0.9)), 10))))
print([name for name in ("torch", "lightning") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "10\n[]\n"


def test_a_stepper_keeps_its_weights_while_the_model_is_trained() -> None:
    model = make_model("lstm", tie=True)
    stepper, ids = make_stepper(model), make_ids(1)
    before, _ = stepper.prefill(ids, stepper.initial_state(1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    after, _ = stepper.prefill(ids, stepper.initial_state(1))
    assert np.array_equal(before, after)


def test_weights_that_do_not_fit_are_refused() -> None:
    model = make_model("lstm")
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"there is no layers\.1\.U$"):
        NumpyStepper(
            {name: value for name, value in weights.items() if name != "layers.1.U"}, model.config, model.vocab_size
        )
    with pytest.raises(ValueError, match=r"output\.bias has the shape \(19,\), not \(20,\)"):
        NumpyStepper({**weights, "output.bias": weights["output.bias"][1:]}, model.config, model.vocab_size)


def test_the_torch_stepper_switches_dropout_off_and_back() -> None:
    model = make_model("lstm", dropout=0.5).train()
    stepper = TorchStepper(model)
    ids = make_ids(2)
    first, _ = stepper.prefill(ids, stepper.initial_state(2))
    second, state = stepper.prefill(ids, stepper.initial_state(2))
    assert np.array_equal(first, second)
    assert not state.requires_grad
    assert model.training


def test_the_sigmoid_holds_at_the_ends() -> None:
    x = np.array([-1000, -1, 0, 1, 1000], dtype=np.float32)
    result = NumpyFunctions.sigmoid(x)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1], rtol=1e-6)
    assert x[0] == -1000


@pytest.mark.parametrize("cell", cells)
def test_torch_steps_in_bf16_agree_to_its_rounding(cell: str) -> None:
    model, ids = make_model(cell, residual=True, layer_norm=True).float().eval(), make_ids(4)
    exact, rounded = TorchStepper(model), TorchStepper(model, torch.bfloat16)
    state, other = exact.initial_state(4), rounded.initial_state(4)
    for time in range(TIME):
        expected, state = exact.step(ids[:, time], state)
        close, other = rounded.step(ids[:, time], other)
        assert close.dtype == np.float32
        assert other.dtype == torch.float32
        np.testing.assert_allclose(close, expected, rtol=0, atol=0.15)


def test_a_torch_stepper_leaves_a_model_training() -> None:
    model = make_model("gru", dropout=0.5, zoneout=0.3, recurrent_dropout=0.2, weight_drop=0.2).train()
    stepper, expected = TorchStepper(model), make_stepper(model)
    state, other = torch.from_numpy(make_state(2)), make_state(2)
    for time in range(TIME):  # nothing is drawn, in no step
        logits, state = stepper.step(make_ids(2)[:, time], state)
        wanted, other = expected.step(make_ids(2)[:, time], other)
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-12)
    assert model.training


@pytest.mark.parametrize("limit", [0, 6_000, 1_000_000])
def test_rows_in_small_products_are_the_same_as_alone(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(stepper_module, "SMALL_PRODUCT", limit)
    stepper = make_stepper(make_model("lstm", hidden=40, embedding=40))  # 160 rows: five blocks of 32, or ten of 16
    for batch in (2, 3, 8, 40):
        ids = make_ids(batch)
        logits, state = stepper.prefill(ids, stepper.initial_state(batch))
        logits, state = stepper.step(ids[:, 0], state)
        for row in range(batch):
            alone, own = stepper.prefill(ids[row : row + 1], stepper.initial_state(1))
            alone, own = stepper.step(ids[row : row + 1, 0], own)
            np.testing.assert_allclose(logits[row], alone[0], rtol=1e-9)
            np.testing.assert_allclose(state[:, :, row], own[:, :, 0], rtol=1e-9)
