"""Layer: fused, stepped, whole, chunked and token by token give the same results, for every registered cell."""

from __future__ import annotations

import contextlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charlm.network.cells
import charlm.network.layer
from charlm.config import ModelConfig
from charlm.network.cells import Cell, LinearCell, cells
from charlm.network.initialisation import initialise
from charlm.network.layer import KERNELS, Layer, TorchFunctions

FUSED = [name for name in cells if cells[name].fused]
FAST = [name for name in cells if cells[name].fused or issubclass(cells[name], LinearCell)]
BATCH, TIME, FEATURES, HIDDEN = 3, 11, 7, 5
CONTEXT = 4  # of cells that see a fixed number of tokens: less than TIME, so that the oldest are forgotten


def make_layer(name: str, dtype: torch.dtype = torch.float64, features: int = FEATURES) -> Layer:
    """A layer of random parameters, biases included."""
    torch.manual_seed(1)
    config = ModelConfig(name, hidden=HIDDEN, context=CONTEXT)
    layer = Layer(cells[name](config), features if cells[name].gates else HIDDEN, config)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.to(dtype)


def make_inputs(layer: Layer) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    dtype = next(layer.parameters()).dtype
    inputs = torch.randn(BATCH, TIME, layer.features, dtype=dtype)
    state = torch.randn(layer.cell.states, BATCH, HIDDEN, dtype=dtype)
    return inputs, state


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are tested on a CPU also where our own loop over time is faster."""
    monkeypatch.setattr(charlm.network.cells, "FUSED_ON_CPU", dict.fromkeys(KERNELS, 1000))


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


def gradients(layer: Layer, stepped: bool, run: Any = Layer.__call__) -> tuple[list[Tensor], list[Tensor]]:
    layer.stepped = stepped
    layer.zero_grad()
    inputs, state = (tensor.requires_grad_() for tensor in make_inputs(layer))
    outputs, new = run(layer, inputs, state)
    torch.manual_seed(3)
    # randn of a shape, not randn_like: the kernels lay their outputs out differently in memory
    loss = (outputs * torch.randn(outputs.shape)).sum() + (new * torch.randn(new.shape)).sum()
    loss.backward()
    grads = [inputs.grad, state.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(grad is not None for grad in grads)
    return [outputs, new], [grad.clone() for grad in grads if grad is not None]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("name", FAST)
def test_the_fast_path_equals_the_cells_own_step(name: str, dtype: torch.dtype, tolerance: float) -> None:
    layer = make_layer(name, dtype).eval()  # gradients flow in evaluation mode too
    for fused, stepped in zip(gradients(layer, False), gradients(layer, True), strict=True):
        for a, b in zip(fused, stepped, strict=True):
            close(a, b, tolerance)


@pytest.mark.parametrize("name", FUSED)
def test_equals_the_torch_module_with_the_same_weights(name: str) -> None:
    layer = make_layer(name)
    kernel = cells[name].fused
    assert kernel is not None
    kind, _, nonlinearity = kernel.partition("_")
    options: dict[str, Any] = {"nonlinearity": nonlinearity.lower()} if nonlinearity else {}
    module = getattr(nn, kind)(FEATURES, HIDDEN, batch_first=True, **options).double()
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
    # fp32 evaluation starts from the state that bf16 training returned.
    make_layer(name, torch.float32)(inputs.float(), new)


def test_an_lstm_kernel_without_bf16_runs_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charlm.network.layer, "cpu_lstm_runs_in", lambda dtype: False)
    layer = make_layer("lstm", torch.float32)
    inputs, state = make_inputs(layer)
    expected, expected_state = layer(inputs, state)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, new = layer(inputs.bfloat16(), state)
        _, rounded = layer(inputs, state)
    assert outputs.dtype == new.dtype == torch.float32
    close(outputs, expected, 0.02)  # only the inputs were rounded
    assert torch.equal(rounded, expected_state)


@pytest.mark.parametrize("name", cells)
def test_parameters_are_as_many_as_declared(name: str) -> None:
    layer = make_layer(name)
    assert sum(p.numel() for p in layer.parameters()) == layer.cell.parameters(layer.features, HIDDEN)


def readable(layer: Layer, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition: plain autograd, one step after the other."""
    products = {
        name: partial(torch.nn.functional.linear, weight=layer.get_parameter(name)) for name in layer.cell.products
    }
    w = SimpleNamespace(**products, **{name: layer.get_parameter(name) for name in layer.cell.vectors})
    now: tuple[Tensor, ...] = tuple(state)
    outputs = []
    for x in inputs.unbind(1):
        now = layer.cell.step(TorchFunctions, w, x @ layer.W.T + layer.b if layer.cell.gates else x, *now)
        outputs.append(now[0])
    return torch.stack(outputs, 1), torch.stack(now)


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", cells)
def test_every_path_is_the_readable_definition(name: str, stepped: bool) -> None:
    layer = make_layer(name)
    outputs, grads = gradients(layer, stepped)
    layer.zero_grad()
    expected, expected_grads = gradients(layer, stepped, readable)
    for a, b in zip([*outputs, *grads], [*expected, *expected_grads], strict=True):
        close(a, b)


@pytest.mark.parametrize("name", cells)
def test_gradients_equal_finite_differences(name: str) -> None:
    layer = make_layer(name)
    inputs, state = make_inputs(layer)
    inputs, state = inputs[:2, :3].requires_grad_(), state[:, :2].contiguous().requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def run(inputs: Tensor, state: Tensor, *parameters: Tensor) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (inputs, state))

    assert torch.autograd.gradcheck(run, (inputs, state, *parameters))


@pytest.mark.parametrize("rows", [4, 100])  # fewer than the window has tokens, and more
@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", cells)
def test_a_table_with_ids_equals_the_rows_looked_up(name: str, stepped: bool, rows: int) -> None:
    layer = make_layer(name)
    layer.stepped = stepped
    _, state = make_inputs(layer)
    table = torch.randn(rows, layer.features, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(rows, (BATCH, TIME))
    results: list[list[Any]] = []
    for run in (lambda: layer(table, state, ids), lambda: layer(table[ids], state)):
        layer.zero_grad()
        table.grad = None
        outputs, new = run()
        (outputs.sin().sum() + new.sum()).backward()
        assert table.grad is not None
        results.append([outputs, new, table.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*results, strict=True):
        close(a, b)


@pytest.mark.parametrize("name", [name for name in cells if not cells[name].context])
def test_zoneout_keeps_units_with_its_probability_and_gives_the_mean_outside_training(name: str) -> None:
    torch.manual_seed(5)
    layer = Layer(cells[name](), 40 if cells[name].gates else 50, ModelConfig(name, hidden=50, zoneout=0.3)).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    inputs = torch.randn(200, 1, layer.features, dtype=torch.float64)
    state = torch.randn(layer.cell.states, 200, 50, dtype=torch.float64)
    assert layer.path("cpu") == "stepped"
    _, updated = readable(layer, inputs, state)
    _, sampled = layer(inputs, state)
    kept = sampled == state
    assert abs(kept[(updated - state).abs() > 1e-9].double().mean() - 0.3) < 0.02
    close(sampled[~kept], updated[~kept])
    _, mean = layer.eval()(inputs, state)
    close(mean, 0.3 * state + 0.7 * updated)


@pytest.mark.parametrize("name", [name for name in cells if cells[name].recurrent])
def test_recurrent_dropout_hides_the_same_units_for_a_window(name: str) -> None:
    layer = make_layer(name, features=HIDDEN)
    layer.recurrent_dropout = 0.5
    assert layer.path("cpu") == "stepped"
    inputs, state = make_inputs(layer)
    torch.manual_seed(6)
    w = layer.namespace(batch=BATCH)
    product = next(name for name in layer.cell.products if name not in layer.cell.input_products)
    matrix = layer.get_parameter(product)
    seen = getattr(w, product)(torch.eye(HIDDEN, dtype=torch.float64)[:BATCH])  # row b: column b of the matrix, or 0
    for row, column in zip(seen, matrix.T[:BATCH], strict=True):
        assert torch.equal(row, torch.zeros_like(row)) or torch.allclose(row, 2 * column)
    again = getattr(w, product)(torch.eye(HIDDEN, dtype=torch.float64)[:BATCH])
    assert torch.equal(seen, again)
    results = [layer(inputs, state)[0] for _ in range(2)]
    assert not torch.equal(*results)
    layer.eval()
    assert torch.equal(layer(inputs, state)[0], layer(inputs, state)[0])
    assert torch.equal(layer(inputs, state)[0], make_evaluated(name)(inputs, state)[0])


def make_evaluated(name: str) -> Layer:
    return make_layer(name, features=HIDDEN).eval()


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", [name for name in cells if cells[name].recurrent])
def test_weight_drop_reaches_every_path(name: str, stepped: bool) -> None:
    """The well-known failure is silent: a kernel that keeps using the weights without dropout."""
    layer = make_layer(name, features=HIDDEN)
    layer.weight_drop, layer.stepped = 0.5, stepped
    inputs, state = make_inputs(layer)
    state = torch.zeros_like(state)  # what is dropped meets nothing in the first step
    first, second = layer(inputs, state)[0], layer(inputs, state)[0]
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1], second[:, 1])
    plain = make_evaluated(name)
    plain.stepped = stepped
    assert torch.equal(layer.eval()(inputs, state)[0], plain(inputs, state)[0])


@pytest.mark.parametrize("name", [name for name in cells if cells[name].forget_gate is not None])
def test_long_memories_outlast_bf16(name: str) -> None:
    """A forget gate of 0.999 rounded to bf16 is exactly 1."""
    torch.manual_seed(7)
    config = ModelConfig(name, hidden=32, chrono=1000)
    layer = Layer(cells[name](), 32, config)
    initialise(layer, config)
    layer.stepped = not isinstance(layer.cell, LinearCell)
    inputs, state = torch.randn(4, 300, 32), torch.zeros(layer.cell.states, 4, 32)
    with torch.no_grad():
        exact, _ = layer(inputs, state)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, _ = layer(inputs, state)
    assert (rounded - exact).norm() / exact.norm() < 0.03


def test_a_layer_describes_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charlm.network.cells, "FUSED_ON_CPU", {"LSTM": HIDDEN, "GRU": HIDDEN - 1})
    paths = {name: make_layer(name).path("cpu") for name in ("lstm", "gru", "lstm_coupled", "min_gru")}
    assert paths == {"lstm": "fused", "gru": "stepped", "lstm_coupled": "stepped", "min_gru": "scan"}
    assert make_layer("gru").path("cuda") == "fused"
    layer = make_layer("lstm")
    layer.weight_drop = 0.5
    assert layer.path("cuda") == "fused"
    layer.recurrent_dropout = 0.5
    assert (layer.path("cuda"), layer.eval().path("cuda")) == ("stepped", "fused")
    assert layer.describe("cuda") == "torch's LSTM kernel"
    assert layer.train().describe("cuda") == "the cell's own step, once per token: recurrent dropout acts in every step"
    layer.zoneout = 0.1
    assert layer.path("cuda") == "stepped"
    assert layer.describe("cuda") == "the cell's own step, once per token: zoneout acts in every step"
    assert make_layer("gru").describe("cpu") == "the cell's own step, once per token"
    assert make_layer("rglru").describe("cpu") == "a scan over the whole window"


class NormalisedRaw(Cell):
    """Reads its input unprojected, has two products of its own and a gain."""

    gates, products, vectors = 0, {"A": 1, "B": 2}, {"gain": 1, "bias": 1}

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        left, right = f.split(w.B(x), 2)
        return (f.tanh(f.norm(w.A(state[0]) + left, w.gain, w.bias)) * f.sigmoid(right),)


def test_a_cell_may_read_raw_inputs_and_normalise() -> None:
    layer = Layer(NormalisedRaw(), HIDDEN, ModelConfig(hidden=HIDDEN)).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert sorted(layer.state_dict()) == ["A", "B", "bias", "gain"]
    inputs, state = make_inputs(layer)
    outputs, _ = layer(inputs[:, :1], state)
    left, right = (inputs[:, 0] @ layer.get_parameter("B").T).chunk(2, -1)
    raw = state[0] @ layer.get_parameter("A").T + left
    centred = raw - raw.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    gain, bias = layer.get_parameter("gain"), layer.get_parameter("bias")
    close(outputs[:, 0], (normed * gain + bias).tanh() * right.sigmoid())


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
