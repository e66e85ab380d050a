"""Layer: fused, stepped, whole, chunked and token by token are one and the same; every registered cell."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from charlm.network.cells import Cell, cells, parameters
from charlm.network.recurrence import Layer

FUSED = [name for name in cells if cells[name].fused]
BATCH, TIME, FEATURES, HIDDEN = 3, 11, 7, 5


def make_layer(name: str, dtype: torch.dtype = torch.float64, features: int = FEATURES) -> Layer:
    """A layer of random parameters, biases included."""
    torch.manual_seed(1)
    layer = Layer(cells[name](), features if cells[name].gates else HIDDEN, HIDDEN)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.to(dtype)


def make_inputs(layer: Layer) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    dtype = next(layer.parameters()).dtype
    inputs = torch.randn(BATCH, TIME, layer.features, dtype=dtype)
    state = torch.randn(layer.cell.slots, BATCH, HIDDEN, dtype=dtype)
    return inputs, state


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", cells)
def test_whole_is_chunked_is_stepwise(name: str, stepped: bool) -> None:
    layer = make_layer(name)
    layer.stepped |= stepped
    inputs, state = make_inputs(layer)
    whole, last = layer(inputs, state)
    for size in (1, 4, TIME - 1):
        parts, now = [], state
        for window in inputs.split(size, dim=1):
            part, now = layer(window, now)
            parts.append(part)
        close(torch.cat(parts, 1), whole)
        close(now, last)
    close(last[0], whole[:, -1])  # the first part of the state is the output


def gradients(layer: Layer, stepped: bool) -> tuple[list[Tensor], list[Tensor]]:
    layer.stepped = stepped
    layer.zero_grad()
    inputs, state = (tensor.requires_grad_() for tensor in make_inputs(layer))
    outputs, new = layer(inputs, state)
    torch.manual_seed(3)
    # randn of a shape, not randn_like: the kernels lay their outputs out differently in memory
    loss = (outputs * torch.randn(outputs.shape)).sum() + (new * torch.randn(new.shape)).sum()
    loss.backward()
    grads = [inputs.grad, state.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(grad is not None for grad in grads)
    return [outputs, new], [grad.clone() for grad in grads if grad is not None]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("name", FUSED)
def test_fused_is_stepped(name: str, dtype: torch.dtype, tolerance: float) -> None:
    layer = make_layer(name, dtype).eval()  # gradients flow in evaluation mode too
    for fused, stepped in zip(gradients(layer, False), gradients(layer, True), strict=True):
        for a, b in zip(fused, stepped, strict=True):
            close(a, b, tolerance)


@pytest.mark.parametrize("name", FUSED)
def test_equals_the_torch_module_with_the_same_weights(name: str) -> None:
    layer = make_layer(name)
    kernel = cells[name].fused
    assert kernel is not None
    module = getattr(nn, kernel)(FEATURES, HIDDEN, batch_first=True).double()
    (product,) = layer.cell.products
    vectors = [layer.get_parameter(vector) for vector in layer.cell.vectors]
    with torch.no_grad():
        module.weight_ih_l0.copy_(layer.W)
        module.weight_hh_l0.copy_(layer.get_parameter(product))
        module.bias_ih_l0.copy_(layer.b)
        module.bias_hh_l0.zero_()
        if vectors:
            module.bias_hh_l0[-HIDDEN:] = vectors[0]
    inputs, state = make_inputs(layer)
    parts = tuple(state[:, None])
    expected, expected_state = module(inputs, parts if len(parts) > 1 else parts[0])
    for layer.stepped in (False, True):
        outputs, new = layer(inputs, state)
        close(outputs, expected)
        close(new, torch.cat(expected_state) if isinstance(expected_state, tuple) else expected_state)


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", cells)
def test_lanes_do_not_see_each_other(name: str, stepped: bool) -> None:
    layer = make_layer(name)
    layer.stepped |= stepped
    inputs, state = make_inputs(layer)
    together, last = layer(inputs, state)
    for lane in range(BATCH):
        alone, own = layer(inputs[lane : lane + 1], state[:, lane : lane + 1])
        close(alone, together[lane : lane + 1])
        close(own, last[:, lane : lane + 1])


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", cells)
def test_the_state_keeps_its_digits_in_every_precision(
    name: str, dtype: torch.dtype, mixed: bool, stepped: bool
) -> None:
    exact = make_layer(name)
    inputs, state = make_inputs(exact)
    expected, _ = exact(inputs, state)
    layer = make_layer(name, dtype)
    layer.stepped |= stepped
    precision = torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext()
    with precision:
        outputs, new = layer(inputs.to(dtype), state.float())
        _, again = layer(inputs.to(dtype), new)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    assert new.dtype == again.dtype == kept
    outputs.sum().backward()
    # bf16 has 8 bits; a state rounded to float32 on the way in costs float64 no more than 1e-7.
    rounded = mixed and dtype != torch.float64 or dtype == torch.bfloat16
    assert (outputs.double() - expected).abs().max() < (0.1 if rounded else 1e-5)
    # What bf16 training leaves behind is where fp32 evaluation goes on.
    make_layer(name, torch.float32)(inputs.float(), new)


@pytest.mark.parametrize("name", cells)
def test_parameters_are_as_many_as_declared(name: str) -> None:
    layer = make_layer(name)
    assert sum(p.numel() for p in layer.parameters()) == parameters(layer.cell, layer.features, HIDDEN)


@pytest.mark.parametrize("name", cells)
def test_initial_weights(name: str) -> None:
    torch.manual_seed(4)
    layer = Layer(cells[name](), HIDDEN, HIDDEN, forget_bias=1.5)
    for product, width in layer.cell.products.items():
        blocks = layer.get_parameter(product).split(HIDDEN)
        assert len(blocks) == width
        for block in blocks:
            close(block @ block.T, torch.eye(HIDDEN), 1e-5)
    for vector in layer.cell.vectors:
        value = 1.0 if vector in layer.cell.ones else 0.0
        assert (layer.get_parameter(vector) == value).all()
    for gate, bias in enumerate(layer.b.split(HIDDEN) if layer.cell.gates else ()):
        assert (bias == (1.5 if gate == layer.cell.forget_gate else 0.0)).all()
    if layer.cell.gates:
        wide = Layer(cells[name](), 400, 100)
        assert abs(wide.W.std().item() * 400**0.5 - 1) < 0.05
    torch.manual_seed(4)
    again = Layer(cells[name](), HIDDEN, HIDDEN, forget_bias=1.5)
    for a, b in zip(layer.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


class NormalisedRaw(Cell):
    """Reads its input unprojected, has two products of its own and a gain."""

    gates, products, vectors, ones = 0, {"A": 1, "B": 2}, {"gain": 1, "bias": 1}, ("gain",)

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        left, right = f.split(w.B(x), 2)
        return (f.tanh(f.norm(w.A(state[0]) + left, w.gain, w.bias)) * f.sigmoid(right),)


def test_a_cell_may_read_raw_inputs_and_normalise() -> None:
    layer = Layer(NormalisedRaw(), HIDDEN, HIDDEN).double()
    assert sorted(layer.state_dict()) == ["A", "B", "bias", "gain"]
    inputs, state = make_inputs(layer)
    outputs, _ = layer(inputs[:, :1], state)
    left, right = (inputs[:, 0] @ layer.get_parameter("B").T).chunk(2, -1)
    raw = state[0] @ layer.get_parameter("A").T + left
    centred = raw - raw.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    close(outputs[:, 0], normed.tanh() * right.sigmoid())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", FUSED)
def test_fused_is_stepped_on_a_gpu(name: str) -> None:
    layer = make_layer(name).cuda()
    inputs, state = (tensor.cuda() for tensor in make_inputs(layer))
    fused, last = layer(inputs, state)
    layer.stepped = True
    stepped, last_stepped = layer(inputs, state)
    close(fused, stepped, 1e-10)
    close(last, last_stepped, 1e-10)
