"""Cells that see a fixed number of tokens: what they see, the empty start, and attention by its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import charlm.network.layer
from charlm.config import ModelConfig
from charlm.errors import CharlmError
from charlm.generation.stepper import NumpyFunctions, NumpyStepper
from charlm.network.cells import cells
from charlm.network.layer import Layer, TorchFunctions
from charlm.network.model import LanguageModel
from charlm.network.summary import parameter_count, parameter_table, unused_settings

PARALLEL = [name for name in cells if cells[name].context]
VOCABULARY, HIDDEN, CONTEXT, LAYERS = 20, 8, 4, 2


def make_model(cell: str, **options: Any) -> LanguageModel:
    """A model of random parameters in float64."""
    torch.manual_seed(1)
    sizes = {"layers": LAYERS, "hidden": HIDDEN, "embedding": HIDDEN, "dropout": 0.0, "tie": False, "context": CONTEXT}
    model = LanguageModel(ModelConfig(cell, **{**sizes, **options}), VOCABULARY).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def make_ids(batch: int, time: int) -> Tensor:
    return torch.randint(VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(2))


def test_there_are_such_cells() -> None:
    assert {"window", "transformer"} <= set(PARALLEL)


@pytest.mark.parametrize("name", PARALLEL)
def test_a_layer_sees_its_context_and_nothing_before(name: str) -> None:
    """Two layers of 4 tokens see 7 tokens."""
    model, ids = make_model(name), make_ids(1, 12)
    logits, _ = model(ids)
    for changed in range(12):
        other = ids.clone()
        other[0, changed] = (other[0, changed] + 1) % VOCABULARY
        moved = (model(other)[0] - logits)[0].abs().amax(-1)
        reach = LAYERS * (CONTEXT - 1)
        assert (moved[:changed] == 0).all()
        assert (moved[changed : changed + reach + 1] > 1e-9).all()
        assert (moved[changed + reach + 1 :] < 1e-12).all()


@pytest.mark.parametrize("name", PARALLEL)
def test_a_lane_that_is_reset_sees_nothing_of_before_and_the_others_all(name: str) -> None:
    model, ids = make_model(name), make_ids(3, 17)
    _, state = model(ids[:, :9])
    unbroken, _ = model(ids[:, 9:], state)
    state[:, :, 1] = 0.0
    fresh, _ = model(ids[1:2, 9:])
    after, _ = model(ids[:, 9:], state)
    torch.testing.assert_close(after[1:2], fresh, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after[[0, 2]], unbroken[[0, 2]], rtol=1e-12, atol=1e-12)
    assert (after[1, 0] - unbroken[1, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", PARALLEL)
def test_the_context_of_a_setting_is_that_of_the_network(name: str) -> None:
    assert cells[name](ModelConfig(name)).context == cells[name].context
    model = make_model(name, context=6, layers=1)
    assert model.cell.context == 6
    assert model.initial_state(2).shape == (1, model.cell.states, 2, HIDDEN)
    inputs = torch.randn(1, 9, HIDDEN).double().requires_grad_()
    outputs, _ = model.layers[0](inputs, model.initial_state(1)[0])
    (gradient,) = torch.autograd.grad(outputs[0, -1].sum(), inputs)
    assert (gradient[0].abs().sum(-1) > 0).tolist() == [False] * 3 + [True] * 6


def test_the_parameters_of_a_window_grow_with_its_context_and_those_of_others_do_not() -> None:
    counts = {
        name: [
            parameter_count(ModelConfig(name, 2, 8, 8, 0.0, tie=False, context=context), 65) for context in (2, 4, 6)
        ]
        for name in cells
    }
    for name, (two, four, six) in counts.items():
        assert six - four == four - two == (2 * 2 * (8 * 8 + 8) if name == "window" else 0)
    config = ModelConfig("window", 2, 8, 4, 0.0, tie=False, context=3)
    assert parameter_table(config, 65)[1:3] == [
        ("window 1", "4 -> 8, 3 tokens", 3 * (4 * 8 + 8)),
        ("window 2", "8 -> 8, 3 tokens", 3 * (8 * 8 + 8)),
    ]


def test_a_window_is_one_matrix_on_the_last_inputs_side_by_side() -> None:
    model = make_model("window", layers=1)
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    inputs = torch.randn(2, 9, HIDDEN).double()
    outputs, _ = layer(inputs, model.initial_state(2)[0])
    matrix = torch.cat(list(layer.W.view(CONTEXT, HIDDEN, HIDDEN)), 1)  # beside one another: the newest first
    bias = layer.b.view(CONTEXT, HIDDEN).sum(0)
    for time in range(CONTEXT - 1, 9):
        seen = torch.cat([inputs[:, time - distance] for distance in range(CONTEXT)], -1)
        torch.testing.assert_close(outputs[:, time], (seen @ matrix.T + bias).tanh(), rtol=1e-12, atol=1e-12)


def attend(q: Tensor, keys: Tensor, values: Tensor, count: Tensor, heads: int) -> Tensor:
    """Attention by its definition: one query, one head and one lane after the other."""
    time, batch, n = q.shape
    past, width = len(keys) - time, n // heads
    outputs = torch.zeros_like(q)
    for t in range(time):
        for lane in range(batch):
            seen = range(past + t - min(past, int(count[lane]) + t), past + t + 1)
            for head in range(heads):
                units, slope = slice(head * width, (head + 1) * width), 2 ** (-8 * (head + 1) / heads)
                scores = [
                    float(q[t, lane, units] @ keys[s, lane, units]) / math.sqrt(width) - slope * (past + t - s)
                    for s in seen
                ]
                total = sum(map(math.exp, scores))
                for s, score in zip(seen, scores, strict=True):
                    outputs[t, lane, units] += math.exp(score) / total * values[s, lane, units]
    return outputs


@pytest.mark.parametrize("block", [128, 3])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("past", [0, 1, 5])
def test_attention_is_its_definition(monkeypatch: pytest.MonkeyPatch, past: int, heads: int, block: int) -> None:
    monkeypatch.setattr(charlm.network.layer, "QUERIES", block)
    torch.manual_seed(3)
    q, keys, values = (torch.randn(size, 3, HIDDEN).double() for size in (7, past + 7, past + 7))
    count = torch.tensor([0.0, past // 2, past]).double()
    expected = attend(q, keys, values, count, heads)
    torch.testing.assert_close(
        TorchFunctions.attention(q, keys, values, count, heads), expected, rtol=1e-12, atol=1e-12
    )
    a, b, c, number = (tensor.numpy() for tensor in (q, keys, values, count))
    np.testing.assert_allclose(NumpyFunctions.attention(a, b, c, number, heads), expected, rtol=1e-12, atol=1e-12)
    for lane in range(3):  # without the axis of the batch
        alone = NumpyFunctions.attention(a[:, lane], b[:, lane], c[:, lane], number[lane], heads)
        np.testing.assert_allclose(alone, expected[:, lane], rtol=1e-12, atol=1e-12)


def test_heads_are_set_or_of_at_least_32_units() -> None:
    model = make_model("transformer", hidden=96, embedding=96, layers=1)
    wide, ids = model.state_dict(), make_ids(2, 9)
    for heads, same in ((3, True), (2, False), (1, False)):
        other = make_model("transformer", hidden=96, embedding=96, layers=1, heads=heads)
        other.load_state_dict(wide)
        assert torch.equal(other(ids)[0], model(ids)[0]) == same
    with pytest.raises(CharlmError, match=r"96 hidden units cannot be shared by 5 heads; set `model\.heads`"):
        make_model("transformer", hidden=96, embedding=96, heads=5)


def test_several_heads_are_the_same_in_numpy() -> None:
    model, ids = make_model("transformer", heads=4), make_ids(3, 11)
    stepper = NumpyStepper({k: v.numpy() for k, v in model.state_dict().items()}, model.config, VOCABULARY)
    logits, state = stepper.prefill(ids.numpy(), stepper.initial_state(3))
    expected, last = model(ids)
    np.testing.assert_allclose(logits, expected[:, -1].detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(state, last.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_context_fills_in_every_precision(dtype: torch.dtype) -> None:
    """In bf16, whose numbers above 256 are even, 256 + 1 is 256: the number of tokens is counted in float32."""
    model = make_model("transformer", context=300, layers=1).to(dtype)
    state = model.initial_state(1)
    for window in make_ids(1, 400).split(100, dim=1):
        _, state = model(window, state)
    assert state.dtype == torch.float32
    assert (state[0, 1] == 299).all()


@pytest.mark.parametrize("name", PARALLEL)
def test_settings_of_recurrent_networks_are_said_to_do_nothing(name: str) -> None:
    options: dict[str, Any] = {"zoneout": 0.1, "recurrent_dropout": 0.1, "weight_drop": 0.1, "forget_bias": 2.0}
    config = ModelConfig(name, 1, 8, 8, 0.0, tie=False, **options)
    assert [line.partition(":")[0] for line in unused_settings(config)] == [f"`model.{option}`" for option in options]
    plain, ids = make_model(name), make_ids(2, 9)
    regularised = make_model(name, **options).train()
    regularised.load_state_dict(plain.state_dict())
    assert torch.equal(plain(ids)[0], regularised(ids)[0])
    assert "all tokens of a window at once" in plain.describe("cpu")


def test_settings_of_other_cells_are_said_to_do_nothing() -> None:
    assert unused_settings(ModelConfig("lstm", 1, 8, 8, 0.0, tie=False, context=5, heads=2)) == [
        "`model.context`: lstm has no fixed context",
        "`model.heads`: lstm has no attention heads",
    ]
    assert unused_settings(ModelConfig("window", 1, 8, 8, 0.0, tie=False, context=5, heads=2)) == [
        "`model.heads`: window has no attention heads"
    ]
    config = ModelConfig("transformer", 1, 8, 8, 0.0, tie=False, residual=True, context=5, heads=2)
    assert unused_settings(config) == ["`model.residual`: transformer has residual connections of its own"]
