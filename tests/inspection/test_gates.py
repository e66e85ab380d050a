"""Gates are recorded as the cell uses them; a gate with a bias of 20 is always open."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from charlm.config import ModelConfig
from charlm.inspection.gates import gate_activations, saturation
from charlm.network.cells import cells
from charlm.network.model import LanguageModel

HIDDEN = 5
IDS = torch.arange(24).view(2, 12) % 7


def model_of(cell: str) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(ModelConfig(cell, 2, HIDDEN, HIDDEN, dropout=0.5, tie=False), 7).train()


def test_a_gate_with_a_bias_of_twenty_is_open_and_one_of_minus_twenty_closed() -> None:
    model = model_of("lstm")
    with torch.no_grad():
        model.layers[1].get_parameter("b").copy_(torch.tensor([-20.0, 20.0, 0.0, 0.0]).repeat_interleave(HIDDEN))
    first, second = gate_activations(model, IDS)
    assert list(first) == list(second) == ["forget", "input", "output"]
    assert saturation(second["forget"]) == (0.0, 1.0)
    assert saturation(second["input"]) == (1.0, 0.0)
    assert saturation(second["output"]) == (0.0, 0.0)
    assert model.training


def test_half_of_the_values_is_half() -> None:
    assert saturation(torch.tensor([0.0, 0.04, 0.06, 0.5, 0.94, 0.96, 0.97, 1.0])) == (0.25, 0.375)


def test_they_are_the_gates_by_which_the_state_moves() -> None:
    """h' = n + z (h - n): where the update gate is open, the state stays."""
    model = model_of("gru").eval()
    with torch.no_grad():
        model.layers[0].get_parameter("b")[HIDDEN : 2 * HIDDEN] = torch.tensor([30.0, 30.0, 0.0, 0.0, 0.0])
        _, before = model.hidden(IDS[:, :4])
        _, after = model.hidden(IDS[:, 4:], before)
    update = gate_activations(model, IDS[:, 4:], before)[0]["update"]
    stays = (after[0, 0] - before[0, 0]).abs().amax(0) < 1e-6
    assert stays.tolist() == [True, True, False, False, False]
    assert ((update > 0.9999).all(0).all(0) == stays).all()


@pytest.mark.parametrize("name", cells)
def test_every_sigmoid_of_every_cell_is_a_gate(name: str) -> None:
    model = model_of(name)
    before = [parameter.clone() for parameter in model.parameters()]
    layers = gate_activations(model, IDS)
    assert len(layers) == 2
    for gates in layers:
        assert len(cells[name].sigmoids) in (0, len(gates))
        for values in gates.values():
            assert values.shape[:2] == IDS.shape
            assert (values > 0).all()
            assert (values < 1).all()
    torch.testing.assert_close(list(model.parameters()), before, rtol=0, atol=0)
    assert not any(isinstance(layer, nn.Module) and layer._forward_pre_hooks for layer in model.layers)


def test_a_cell_without_gates_has_none() -> None:
    assert gate_activations(model_of("rnn"), IDS) == [{}, {}]
