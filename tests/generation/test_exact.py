"""The exact stepper: the same bits in any batch, with any BLAS, and near the logits of float32."""

from __future__ import annotations

import hashlib
import importlib
import math
import operator
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_stepper import VOCABULARY, make_ids, make_model, make_stepper

from charlm.config import ModelConfig
from charlm.errors import CharlmError
from charlm.generation import exact_torch
from charlm.generation.exact import LOGIT_STEP, TOTAL_BITS, ExactFunctions, ExactStepper, exact_functions, frequencies
from charlm.generation.exact_torch import TorchFunctions, multiplies_exactly
from charlm.network.cells import cells
from charlm.network.model import LanguageModel

VARIANTS: list[dict[str, Any]] = [
    {},
    {"tie": True, "residual": True, "layer_norm": True},
    {"tie": True, "embedding": 6},
    {"zoneout": 0.3},
]


def make_exact(cell: str, **options: Any) -> ExactStepper:
    model = make_model(cell, **options)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return ExactStepper(weights, model.config, model.vocab_size)


def read(stepper: ExactStepper, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All logits (time, batch, vocab_size), and the last state."""
    logits, state = [], stepper.initial_state(len(ids))
    for column in ids.T:
        new, state = stepper.step(column, state)
        logits.append(new)
    return np.array(logits), state


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("cell", cells)
def test_a_row_is_the_same_bits_in_any_batch(cell: str, options: dict[str, Any]) -> None:
    if not cells[cell].gates and "embedding" in options:
        options = {**options, "embedding": 8}
    stepper, ids = make_exact(cell, **options), make_ids(64)
    logits, state = read(stepper, ids)
    for row in (0, 63):
        alone, own = read(stepper, ids[[row]])
        assert np.array_equal(alone, logits[:, [row]])
        assert np.array_equal(own, state[:, :, [row]])


@pytest.mark.parametrize("cell", cells)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_prompt_read_at_once_is_the_same_bits(cell: str, batch: int) -> None:
    stepper, ids = make_exact(cell), make_ids(batch)
    logits, state = read(stepper, ids)
    last, end = stepper.prefill(ids, stepper.initial_state(batch))
    assert np.array_equal(last, logits[-1])
    assert np.array_equal(end, state)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("cell", cells)
def test_logits_are_near_those_of_float32(cell: str, options: dict[str, Any]) -> None:
    if not cells[cell].gates and "embedding" in options:
        options = {**options, "embedding": 8}
    stepper, ids = make_stepper(make_model(cell, **options)), make_ids(3)
    logits, _ = read(make_exact(cell, **options), ids)
    state = stepper.initial_state(3)
    for time, column in enumerate(ids.T):
        expected, state = stepper.step(column, state)
        np.testing.assert_allclose(logits[time], expected, rtol=0, atol=0.05 * np.abs(expected).max())
    assert np.array_equal(logits / LOGIT_STEP, np.rint(logits / LOGIT_STEP))


def make_weights(cell: str, hidden: int, vocab_size: int) -> tuple[dict[str, np.ndarray], ModelConfig]:
    """Weights that every machine draws alike: integers divided by a power of 2."""
    config = ModelConfig(cell, 2, hidden, hidden, 0.0, tie=False, layer_norm=True, context=4)
    generator = np.random.default_rng(4)
    shapes = {name: value.shape for name, value in LanguageModel(config, vocab_size).state_dict().items()}
    return {name: generator.integers(-99, 100, shape) / 512 for name, shape in sorted(shapes.items())}, config


def digest(cell: str, hidden: int, batch: int) -> str:
    """A hash of all logits and of the last state of a text."""
    weights, config = make_weights(cell, hidden, VOCABULARY)
    logits, state = read(ExactStepper(weights, config, VOCABULARY), make_ids(batch))
    counts = np.array([frequencies(step) for step in logits])
    return hashlib.sha256(logits.tobytes() + (state + 0.0).tobytes() + counts.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("lstm", "07a6d00312be23cb"),
        ("gru", "2f3f5c8288e4ea1f"),
        ("rglru", "342c4d4424e366ec"),
        ("transformer", "0484ea7c06f58e8d"),
    ],
)
def test_the_bits_are_those_of_every_other_machine(cell: str, expected: str) -> None:
    # These hashes may change only with a new version of the format of compressed texts.
    assert digest(cell, 48, 3) == expected


def enabled_features() -> str:
    """The instructions of this processor that numpy can be told not to use."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # type: ignore[import-not-found]

    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])


STEPS = """
import sys
import numpy as np
from charlm.config import ModelConfig
from charlm.generation.exact import ExactStepper, frequencies
weights, ids = dict(np.load(sys.argv[1] + "/weights.npz")), np.load(sys.argv[1] + "/ids.npy")
config = ModelConfig(sys.argv[2], 2, 200, 200, 0.0, tie=False, layer_norm=True, context=4)
stepper = ExactStepper(weights, config, len(weights["output.bias"]))
state = stepper.initial_state(len(ids))
for column in ids.T:
    logits, state = stepper.step(column, state)
np.savez(sys.argv[1] + "/result.npz", logits=logits, state=state, frequencies=frequencies(logits))
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"NPY_DISABLE_CPU_FEATURES": enabled_features()},
    ],
    ids=["one thread", "two threads", "products of an old processor", "functions of an old processor"],
)
@pytest.mark.parametrize("cell", ["lstm", "transformer"])
def test_another_library_gives_the_same_bits(cell: str, environment: dict[str, str], tmp_path: Path) -> None:
    weights, config = make_weights(cell, 200, VOCABULARY)
    ids = make_ids(64)
    np.savez(tmp_path / "weights.npz", **weights)  # type: ignore[arg-type]
    np.save(tmp_path / "ids.npy", ids)
    subprocess.run([sys.executable, "-c", STEPS, tmp_path, cell], check=True, env={**os.environ, **environment})
    logits, state = read(ExactStepper(weights, config, VOCABULARY), ids)
    other = np.load(tmp_path / "result.npz")
    assert np.array_equal(other["logits"], logits[-1])
    assert np.array_equal(other["state"], state)
    assert np.array_equal(other["frequencies"], frequencies(logits[-1]))


class PlainLSTM:
    """One LSTM layer in Python's integers and floats, without numpy."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = {name: array.tolist() for name, array in weights.items()}
        small = self.powers(1 / math.e, 10, 16 * 1024 + 1)
        self.positive = [1 / (1 + x) for x in small]
        self.negative = [x * y for x, y in zip(small, self.positive, strict=True)]

    @staticmethod
    def powers(base: float, halvings: int, count: int) -> list[float]:
        roots = [base]
        for _ in range(halvings):
            roots.insert(0, math.sqrt(roots[0]))
        powers = [1.0]
        while len(powers) < count:
            powers += [power * roots[0] for power in powers]
            roots = roots[1:] or [roots[0] * roots[0]]
        return powers

    def sigmoid(self, x: float) -> float:
        place = math.floor(max(-16.0, min(16.0, x)) * 1024 + 0.5)
        return self.positive[place] if place >= 0 else self.negative[-place]

    def tanh(self, x: float) -> float:
        return 2 * self.sigmoid(2 * x) - 1

    @staticmethod
    def integers(x: list[float]) -> tuple[list[int], float]:
        step = max(abs(value) for value in x) / 127 or 1.0
        return [round(value / step) for value in x], step

    def product(self, name: str, x: list[float]) -> list[float]:
        inputs, step = self.integers(x)
        rows = [self.integers(row) for row in self.weights[name]]
        return [float(sum(map(operator.mul, row, inputs))) * step * row_step for row, row_step in rows]

    def step(self, id: int, h: list[float], c: list[float]) -> tuple[list[float], list[float], list[float]]:
        projected = self.product("layers.0.W", self.weights["embedding.weight"][id])
        recurrent = self.product("layers.0.U", h)
        gates = [x + b + u for x, b, u in zip(projected, self.weights["layers.0.b"], recurrent, strict=True)]
        n = len(h)
        i, j, g, o = (gates[part * n : part * n + n] for part in range(4))
        c = [self.sigmoid(j[k]) * c[k] + self.sigmoid(i[k]) * self.tanh(g[k]) for k in range(n)]
        h = [self.sigmoid(o[k]) * self.tanh(c[k]) for k in range(n)]
        logits = [x + b for x, b in zip(self.product("output.weight", h), self.weights["output.bias"], strict=True)]
        return [round(x * 2**16) / 2**16 for x in logits], h, c


@pytest.mark.parametrize("scale", [0.2, 3.0])
def test_an_lstm_is_the_same_bits_in_plain_python(scale: float) -> None:
    config, generator = ModelConfig("lstm", 1, 7, 5, 0.0, tie=False), np.random.default_rng(5)
    shapes = {name: value.shape for name, value in LanguageModel(config, VOCABULARY).state_dict().items()}
    weights = {name: scale * generator.normal(size=shape) for name, shape in shapes.items()}
    stepper, plain = ExactStepper(weights, config, VOCABULARY), PlainLSTM(weights)
    state, h, c = stepper.initial_state(1), [0.0] * 7, [0.0] * 7
    for id in make_ids(1, 30)[0].tolist():
        logits, state = stepper.step(np.array([id]), state)
        expected, h, c = plain.step(id, h, c)
        assert logits[0].tolist() == expected
        assert state[0, :, 0].tolist() == [h, c]


@pytest.mark.parametrize("width", [5, 1040, 1041, 2500])
def test_products_are_exact_in_any_order(width: int) -> None:
    generator = np.random.default_rng(6)
    matrix, x = generator.choice([-1.0, 1.0], (3, width)), np.ones((2, width))
    matrix[0], x[1] = 1.0, generator.normal(size=width)  # a sum of the largest products; a usual one
    product, order = ExactFunctions.product(matrix), generator.permutation(width)
    shuffled = ExactFunctions.product(matrix[:, order])
    assert np.array_equal(product(x), shuffled(x[:, order]))
    step = float(np.abs(x[1]).max()) / 127
    inputs = [round(value / step) for value in x[1].tolist()]
    rows = [sum(int(sign) * 127 * value for sign, value in zip(row, inputs, strict=True)) for row in matrix]
    assert product(x)[1].tolist() == [float(total) * step * (1 / 127) for total in rows]
    assert product(x)[0, 0] == float(width * 127 * 127) * (1 / 127) * (1 / 127)


def test_sums_are_exact_in_any_order() -> None:
    generator = np.random.default_rng(7)
    x = generator.normal(size=(4, 1000)) * np.exp(generator.normal(size=(4, 1000)))
    order = generator.permutation(1000)
    assert np.array_equal(ExactFunctions.mean(x), ExactFunctions.mean(x[:, order]))
    np.testing.assert_allclose(ExactFunctions.mean(x)[:, 0], [math.fsum(row) / 1000 for row in x], atol=1e-8)
    product = ExactFunctions.matmul(x, x.T)
    assert np.array_equal(product, ExactFunctions.matmul(x[:, order], x.T[order]))
    rounding = 2.0**-17 * np.abs(x).max() * np.abs(x).sum(-1).max()  # half a step of each of the two factors
    np.testing.assert_allclose(product, x @ x.T, rtol=0, atol=rounding)
    assert not ExactFunctions.mean(np.zeros((2, 3))).any()


def test_functions_are_near_the_true_ones() -> None:
    x = np.concatenate([np.linspace(-30, 30, 4001), [-1e300, 1e300, 0.0]])
    error = 2.0**-11  # half a step of the table
    np.testing.assert_allclose(ExactFunctions.sigmoid(x), (1 + np.tanh(x / 2)) / 2, rtol=0, atol=error / 4)
    np.testing.assert_allclose(ExactFunctions.tanh(x), np.tanh(x), rtol=0, atol=error / 2)
    x = np.linspace(-700, 700, 4001)
    np.testing.assert_allclose(ExactFunctions.exp(x), np.exp(x), rtol=5.4e-6)
    assert ExactFunctions.exp(np.array([-np.inf, -1e300, 0.0])).tolist() == [0, 0, 1]
    x = np.exp(x)
    np.testing.assert_allclose(ExactFunctions.log(x), np.log(x), rtol=1e-15, atol=1e-15)


def test_tables_are_right_to_the_last_digits() -> None:
    places = range(-16 * 1024, 16 * 1024 + 1, 331)
    actual = ExactFunctions.sigmoid(np.array(places) / 1024)
    for place, value in zip(places, actual.tolist(), strict=True):
        true = 1 / (1 + (-Decimal(place) / 1024).exp())
        assert abs(Decimal(value) / true - 1) < Decimal("1e-14")
    for place in range(0, 2**16, 661):
        true = Decimal(2) ** (Decimal(place) / 2**16)
        assert abs(Decimal(float(ExactFunctions.exp2(np.array(place / 2**16)))) / true - 1) < Decimal("1e-14")


@pytest.mark.parametrize("vocab_size", [1, 2, 65, 33_000])
def test_frequencies_are_positive_and_have_a_fixed_sum(vocab_size: int) -> None:
    logits = np.random.default_rng(8).normal(scale=8, size=(5, vocab_size))
    logits[1] = 0  # all alike
    logits[2, 1:] = -1e4  # all but impossible
    logits[3, 1:] = -np.inf
    counts = frequencies(logits)
    assert counts.dtype == np.int64
    assert counts.min() >= 1
    assert (counts.sum(-1) == 2**TOTAL_BITS).all()
    assert np.array_equal(counts[[4]], frequencies(logits[[4]]))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    others = np.arange(vocab_size) != logits.argmax(-1)[:, None]  # the most probable token gets the remainder
    np.testing.assert_allclose(
        (counts / 2**TOTAL_BITS)[others], p[others], rtol=1e-5 + vocab_size * 2.0**-23, atol=2.0**-23
    )


def other_functions(module: str) -> type[ExactFunctions]:
    """The functions by numba or torch; the test is skipped where they are missing."""
    if module == "numba":
        pytest.importorskip("numba")
        return importlib.import_module("charlm.generation.exact_numba").NumbaFunctions
    if not multiplies_exactly():
        pytest.skip("torch's products are not exact on this processor")
    return TorchFunctions


@pytest.mark.parametrize("module", ["numba", "torch"])
@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("cell", cells)
def test_other_functions_give_the_same_bits(cell: str, batch: int, module: str) -> None:
    weights, config = make_weights(cell, 40, VOCABULARY)
    logits, state = read(ExactStepper(weights, config, VOCABULARY), make_ids(batch))
    actual, end = read(ExactStepper(weights, config, VOCABULARY, other_functions(module)), make_ids(batch))
    assert np.array_equal(actual, logits)
    assert np.array_equal(end, state)


@pytest.mark.parametrize("module", ["numba", "torch"])
def test_other_functions_hold_at_the_ends(module: str) -> None:
    functions = other_functions(module)
    x = np.array([[0.0] * 5000, [-3.0] * 5000, [1e-300] * 5000])
    matrix = np.random.default_rng(9).choice([-1.0, 1.0], (2, 5000))
    matrix[0] = 1.0
    product, expected = functions.product(matrix), ExactFunctions.product(matrix)
    assert np.array_equal(product(x), expected(x))
    assert np.array_equal(product(x[1]), expected(x[1]))
    values = np.array([-1e300, -16.0, -0.0, 1e-4, 15.9999, 1e300])
    assert np.array_equal(functions.sigmoid(values), ExactFunctions.sigmoid(values))
    assert np.array_equal(functions.tanh(values), ExactFunctions.tanh(values))


def test_torch_is_used_only_where_its_sums_are_right() -> None:
    """Without instructions for 8 bits, which this variable hides, oneDNN adds in 16 bits."""
    code = """
import numpy as np, torch
from charlm.generation.exact_torch import multiplies_exactly
signs = np.random.default_rng(2).choice([-127, 127], (16, 300))
signs[0] = 127
numbers = torch.from_numpy(signs.astype(np.int8))
right = np.array_equal(torch._int_mm(numbers, numbers.T).numpy(), signs @ signs.T)
assert right or not multiplies_exactly()
"""
    for instructions in ("AVX2", "DEFAULT"):
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions})


def test_other_functions_are_used_for_much_text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exact_functions(500, 1) is exact_functions(9_999, 64) is ExactFunctions
    monkeypatch.setattr(exact_torch, "multiplies_exactly", lambda: True)
    assert exact_functions(10**6, 64) is TorchFunctions
    monkeypatch.setitem(sys.modules, "charlm.generation.exact_numba", None)  # as if numba were missing
    assert exact_functions(10**6, 1) is ExactFunctions
    monkeypatch.setattr(exact_torch, "multiplies_exactly", lambda: False)
    assert exact_functions(10**6, 64) is ExactFunctions
    monkeypatch.undo()
    assert exact_functions(10**6, 1) is other_functions("numba")


def test_weights_that_are_not_finite_are_refused() -> None:
    weights, config = make_weights("lstm", 8, VOCABULARY)
    weights["output.bias"][3] = np.nan
    with pytest.raises(CharlmError, match="weights are not finite"):
        ExactStepper(weights, config, VOCABULARY)
