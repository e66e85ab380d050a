"""Initial weights of every registered cell."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from charlm.config import ModelConfig
from charlm.network.cells import cells
from charlm.network.initialisation import initialise
from charlm.network.layer import Layer

HIDDEN = 64
GATED = [name for name in cells if cells[name].forget_gate is not None]


def start(name: str, **options: Any) -> Layer:
    torch.manual_seed(4)
    config = ModelConfig(name, hidden=HIDDEN, **options)
    layer = Layer(cells[name](config), HIDDEN, config)
    initialise(layer, config)
    return layer


@pytest.mark.parametrize("name", cells)
def test_matrices(name: str) -> None:
    layer = start(name)
    cell = layer.cell
    for product in cell.products:
        for block in layer.get_parameter(product).split(HIDDEN):
            if product in cell.input_products:
                scale = cell.product_scale.get(product, 1.0)
                assert abs(block.std().item() * math.sqrt(block.shape[1]) / scale - 1) < 0.1
            else:
                torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN), rtol=0, atol=1e-5)
    if cell.gates:
        assert abs(layer.W.std().item() * math.sqrt(HIDDEN) / cell.input_scale - 1) < 0.1
    again = start(name)
    for a, b in zip(layer.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", cells)
def test_vectors(name: str) -> None:
    layer = start(name, forget_bias=1.5)
    cell = layer.cell
    for vector, width in cell.vectors.items():
        if vector == "b":
            continue
        value, start_at = layer.get_parameter(vector), cell.vector_init.get(vector, 0.0)
        assert value.shape == (width * HIDDEN,)
        if isinstance(start_at, tuple):
            low, high = start_at
            assert bool(((value >= low) & (value <= high)).all())
            assert value.std() > 0.2 * (high - low)
        else:
            assert bool((value == start_at).all())
    if cell.gates or "b" in cell.vectors:
        for gate, bias in enumerate(layer.get_parameter("b").split(HIDDEN)):
            assert (bias == (1.5 if gate == cell.forget_gate else 0.0)).all()


@pytest.mark.parametrize("how", ["identity", "normal", "orthogonal"])
@pytest.mark.parametrize("name", cells)
def test_recurrent_matrices_start_as_set(name: str, how: str) -> None:
    layer = start(name, recurrent_init=how)
    for product in set(layer.cell.products) - set(layer.cell.input_products):
        for block in layer.get_parameter(product).split(HIDDEN):
            square = block @ block.T
            identity = torch.equal(block, torch.eye(HIDDEN))
            assert identity == (how == "identity")
            assert ((square - torch.eye(HIDDEN)).abs().max() < 1e-5) == (how != "normal")
            assert abs(block.square().sum() / HIDDEN - 1) < 0.1


@pytest.mark.parametrize("name", cells)
def test_recurrent_matrices_are_scaled_and_nothing_else(name: str) -> None:
    plain, scaled = start(name), start(name, recurrent_scale=0.5)
    for matrix, a in plain.named_parameters():
        recurrent = matrix in set(plain.cell.products) - set(plain.cell.input_products)
        torch.testing.assert_close(a * (0.5 if recurrent else 1.0), scaled.get_parameter(matrix))


def test_relu_starts_as_the_identity_by_itself() -> None:
    assert torch.equal(start("rnn_relu").get_parameter("U"), torch.eye(HIDDEN))


@pytest.mark.parametrize("name", GATED)
def test_chrono_spreads_the_time_scales(name: str) -> None:
    """A gate of bias b keeps sigmoid(b) of the past a step, so that it forgets over 1 + exp(b) steps."""
    layer = start(name, chrono=100)
    cell = layer.cell
    biases = layer.get_parameter("b").split(HIDDEN)
    assert cell.forget_gate is not None
    steps = 1 + biases[cell.forget_gate].exp()
    assert steps.min() >= 2
    assert steps.max() <= 100
    assert steps.std() > 15
    if cell.input_gate is not None:
        assert torch.equal(biases[cell.input_gate], -biases[cell.forget_gate])


def test_chrono_closes_the_input_gate_of_a_cell_that_never_forgets() -> None:
    bias = start("lstm_1997", chrono=50).b.split(HIDDEN)[0]
    assert (bias <= 0).all()
    assert bias.min() < -3


@pytest.mark.parametrize("name", cells)
def test_gates_are_scaled_and_candidates_are_not(name: str) -> None:
    plain, scaled = start(name), start(name, gate_scale=0.5)
    cell = plain.cell
    for matrix in (["W"] if cell.gates else []) + list(cell.products):
        pairs = zip(plain.get_parameter(matrix).split(HIDDEN), scaled.get_parameter(matrix).split(HIDDEN), strict=True)
        for part, (a, b) in enumerate(pairs):
            factor = 1.0 if part in cell.candidates.get(matrix, ()) else 0.5
            torch.testing.assert_close(a * factor, b)
