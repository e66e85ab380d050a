"""Every registered cell: its parameters by the textbook, one step by hand."""

from __future__ import annotations

import inspect
import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from charlm.generation.stepper import NumpyFunctions
from charlm.network.cells import cells

m, n = 7, 5  # features and hidden units
TEXTBOOK = {
    "rnn": n * m + n**2 + n,
    "rnn_relu": n * m + n**2 + n,
    "lstm": 4 * (n * m + n**2 + n),
    "lstm_1997": 3 * (n * m + n**2 + n),
    "lstm_peephole": 4 * (n * m + n**2 + n) + 3 * n,
    "lstm_coupled": 3 * (n * m + n**2 + n),
    "lstm_layernorm": 4 * (n * m + n**2 + n) + 2 * (4 * n + n),
    "mogrifier": 4 * (n * n + n**2 + n) + 4 * n**2,  # its input is as wide as its output
    "gru": 3 * (n * m + n**2 + n) + n,
    "gru_cho": 3 * (n * m + n**2 + n),
    "min_gru": 2 * (n * m + n),
    "min_lstm": 3 * (n * m + n),
    "rglru": 3 * (n * m + n) + n,
    "window": 8 * (n * m + n),  # a matrix and a bias for each of eight tokens
    "transformer": 3 * n**2 + n**2 + 2 * 4 * n**2 + 2 * 2 * n,  # its input is as wide as its output
}


@pytest.mark.parametrize("name", TEXTBOOK)
def test_parameters_by_the_textbook(name: str) -> None:
    assert cells[name]().parameters(m, n) == TEXTBOOK[name]


@pytest.mark.parametrize("name", cells)
def test_the_formula_is_the_count(name: str) -> None:
    terms = [term.split() for term in cells[name]().formula().split(" + ")]
    values = {"nm": n * m, "n^2": n**2, "n": n}
    counted = sum(int(term[0] if len(term) > 1 else 1) * values[term[-1]] for term in terms)
    assert counted == cells[name]().parameters(m, n)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


tanh = math.tanh


def one_unit(name: str, x: list[float], state: list[float], **weights: float | list[Any]) -> list[float]:
    """One step of one unit: x is W x + b of each gate, a list is the weight of each part of a product.

    A list of lists is the transpose of a product of several columns.
    """
    w = {
        key: (lambda h, u=value: h @ np.atleast_2d(u)) if isinstance(value, list) else np.array([value])
        for key, value in weights.items()
    }
    new = cells[name]().step(NumpyFunctions, SimpleNamespace(**w), np.array(x), *(np.array([part]) for part in state))
    return [float(part[0]) for part in new]


def test_rnn_by_hand() -> None:
    assert one_unit("rnn", [0.2], [0.5], U=[0.4]) == pytest.approx([tanh(0.2 + 0.4 * 0.5)], rel=1e-15)


def test_rnn_relu_by_hand() -> None:
    assert one_unit("rnn_relu", [0.2], [0.5], U=[0.4]) == pytest.approx([0.4], rel=1e-15)
    assert one_unit("rnn_relu", [-0.3], [0.5], U=[0.4]) == [0.0]


def test_lstm_by_hand() -> None:
    h, c = one_unit("lstm", [0.1, 0.2, 0.3, 0.4], [0.5, -2.0], U=[1.0, 2.0, 3.0, 4.0])
    # input gate 0.1 + 0.5, forget gate 0.2 + 1, candidate 0.3 + 1.5, output gate 0.4 + 2
    memory = sigmoid(1.2) * -2.0 + sigmoid(0.6) * tanh(1.8)
    assert [h, c] == pytest.approx([sigmoid(2.4) * tanh(memory), memory], rel=1e-14)


def test_lstm_1997_by_hand() -> None:
    h, c = one_unit("lstm_1997", [0.1, 0.3, 0.4], [0.5, -2.0], U=[1.0, 3.0, 4.0])
    memory = -2.0 + sigmoid(0.6) * tanh(1.8)  # all of the past is kept
    assert [h, c] == pytest.approx([sigmoid(2.4) * tanh(memory), memory], rel=1e-14)


def test_lstm_peephole_by_hand() -> None:
    h, c = one_unit(
        "lstm_peephole", [0.1, 0.2, 0.3, 0.4], [0.5, -2.0], U=[1.0, 2.0, 3.0, 4.0], p_i=0.1, p_j=0.2, p_o=0.3
    )
    # input and forget gate see the old memory, the output gate the new
    memory = sigmoid(1.2 + 0.2 * -2.0) * -2.0 + sigmoid(0.6 + 0.1 * -2.0) * tanh(1.8)
    assert [h, c] == pytest.approx([sigmoid(2.4 + 0.3 * memory) * tanh(memory), memory], rel=1e-14)


def test_lstm_coupled_by_hand() -> None:
    h, c = one_unit("lstm_coupled", [0.2, 0.3, 0.4], [0.5, -2.0], U=[2.0, 3.0, 4.0])
    memory = sigmoid(1.2) * -2.0 + (1 - sigmoid(1.2)) * tanh(1.8)
    assert [h, c] == pytest.approx([sigmoid(2.4) * tanh(memory), memory], rel=1e-14)


def test_lstm_layernorm_by_hand() -> None:
    # Of one unit the memory's norm is its bias; over the four parts of U h = 0.5, 1, 1.5, 2 it is not.
    h, c = one_unit(
        "lstm_layernorm",
        [0.1, 0.2, 0.3, 0.4],
        [0.5, -2.0],
        U=[1.0, 2.0, 3.0, 4.0],
        gain=2.0,
        bias=0.1,
        memory_gain=5.0,
        memory_bias=0.7,
    )
    i, j, g, o = (
        x + 2.0 * (u - 1.25) / math.sqrt(0.3125 + 1e-5) + 0.1
        for x, u in zip([0.1, 0.2, 0.3, 0.4], [0.5, 1.0, 1.5, 2.0], strict=True)
    )
    assert [h, c] == pytest.approx([sigmoid(o) * tanh(0.7), sigmoid(j) * -2.0 + sigmoid(i) * tanh(g)], rel=1e-14)


def test_mogrifier_by_hand() -> None:
    h, c = one_unit(
        "mogrifier", [0.8], [0.5, -2.0],
        Q=[0.3], R=[0.4], Q2=[0.5], R2=[0.6], W=[0.1, 0.2, 0.3, 0.4], U=[1.0, 2.0, 3.0, 4.0], b=0.05,
    )  # fmt: skip
    x = 2 * sigmoid(0.3 * 0.5) * 0.8
    y = 2 * sigmoid(0.4 * x) * 0.5
    x = 2 * sigmoid(0.5 * y) * x
    y = 2 * sigmoid(0.6 * x) * y
    i, j, g, o = (0.1 * k * x + k * y + 0.05 for k in (1, 2, 3, 4))
    memory = sigmoid(j) * -2.0 + sigmoid(i) * tanh(g)
    assert [h, c] == pytest.approx([sigmoid(o) * tanh(memory), memory], rel=1e-14)


def test_gru_by_hand() -> None:
    (h,) = one_unit("gru", [0.1, 0.2, 0.3], [0.5], U=[1.0, 2.0, 3.0], b_u=0.7)
    # reset 0.1 + 0.5, update 0.2 + 1; the reset gate also scales the candidate's second bias
    reset, update = sigmoid(0.6), sigmoid(1.2)
    candidate = tanh(0.3 + reset * (1.5 + 0.7))
    assert h == pytest.approx((1 - update) * candidate + update * 0.5, rel=1e-14)


def test_gru_cho_by_hand() -> None:
    (h,) = one_unit("gru_cho", [0.1, 0.2, 0.3], [0.5], U=[1.0, 2.0], V=[3.0])
    reset, update = sigmoid(0.6), sigmoid(1.2)
    candidate = tanh(0.3 + 3.0 * (reset * 0.5))  # the reset gate works before the product
    assert h == pytest.approx((1 - update) * candidate + update * 0.5, rel=1e-14)


@pytest.mark.parametrize("name", ["gru", "gru_cho"])
def test_where_the_reset_gate_works(name: str) -> None:
    """With one unit it makes no difference whether the reset gate works before or after the recurrent product."""
    x, h = np.array([0.1, -0.4, 0.2, 0.3, 0.3, -0.2]), np.array([0.5, -0.3])
    U, V, b = np.arange(-3, 5).reshape(4, 2) / 4, np.array([[1.0, 2.0], [-3.0, 4.0]]), np.array([0.1, 0.2])
    whole = U if name == "gru_cho" else np.concatenate([U, V])
    w = SimpleNamespace(U=lambda h: h @ whole.T, V=lambda h: h @ V.T, b_u=b)
    (new,) = cells[name]().step(NumpyFunctions, w, x, h)
    gates = [sigmoid(x[i] + sum(U[i, j] * h[j] for j in range(2))) for i in range(4)]
    for i in range(2):
        if name == "gru":
            candidate = tanh(x[4 + i] + gates[i] * (sum(V[i, j] * h[j] for j in range(2)) + b[i]))
        else:
            candidate = tanh(x[4 + i] + sum(V[i, j] * gates[j] * h[j] for j in range(2)))
        assert new[i] == pytest.approx((1 - gates[2 + i]) * candidate + gates[2 + i] * h[i], rel=1e-12)


def test_min_gru_by_hand() -> None:
    (h,) = one_unit("min_gru", [0.2, 0.3], [0.5])
    assert h == pytest.approx(sigmoid(0.2) * 0.5 + (1 - sigmoid(0.2)) * 0.3, rel=1e-14)


def test_min_lstm_by_hand() -> None:
    (h,) = one_unit("min_lstm", [0.1, 0.2, 0.3], [0.5])
    forget, write = sigmoid(0.2), sigmoid(0.1)
    assert h == pytest.approx((forget * 0.5 + write * 0.3) / (forget + write), rel=1e-14)


def test_rglru_by_hand() -> None:
    (h,) = one_unit("rglru", [0.1, 0.2, 0.3], [0.5], decay=4.0)
    a = sigmoid(4.0) ** (8 * sigmoid(0.1))
    assert h == pytest.approx(a * 0.5 + math.sqrt(1 - a * a + 1e-6) * sigmoid(0.2) * 0.3, rel=1e-12)


def test_window_by_hand() -> None:
    x, waiting = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [-2.0, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    h, *sums = one_unit("window", x, waiting)
    assert h == pytest.approx(tanh(0.1 + 0.7), rel=1e-14)  # the last output, -2, is not read
    assert sums == pytest.approx([0.2 + 0.6, 0.3 + 0.5, 0.4 + 0.4, 0.5 + 0.3, 0.6 + 0.2, 0.7 + 0.1, 0.8], rel=1e-14)


def test_transformer_by_hand() -> None:
    """One unit: its norm is the bias. Of the 63 places of the state, three hold a token."""
    empty = [7.0] * 60  # never read
    h, count, *rest = one_unit(
        "transformer", [0.8], [9.0, 3.0, *empty, 0.1, 0.2, 0.3, *empty, 1.0, 2.0, 3.0],
        gain=5.0, bias=0.5, mlp_gain=5.0, mlp_bias=-0.3,
        QKV=[1.0, 2.0, 3.0], O=[0.5], E=[0.6, -0.2, 3.0, 0.0], D=[[0.7], [0.4], [-0.1], [9.0]],
    )  # fmt: skip
    q, k, v = 0.5, 1.0, 1.5
    slope = 2.0**-8
    weights = [math.exp(q * key - slope * distance) for key, distance in ((0.1, 3), (0.2, 2), (0.3, 1), (k, 0))]
    read = sum(w * value for w, value in zip(weights, (1.0, 2.0, 3.0, v), strict=True)) / sum(weights)

    def gelu(z: float) -> float:
        return 0.5 * z * (1 + tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    y = 0.8 + 0.5 * read
    mlp = 0.7 * gelu(0.6 * -0.3) + 0.4 * gelu(-0.2 * -0.3) - 0.1 * gelu(3.0 * -0.3)
    assert [h, count] == pytest.approx([y + mlp, 4.0], rel=1e-12)
    assert rest == pytest.approx([*empty[1:], 0.1, 0.2, 0.3, k, *empty[1:], 1.0, 2.0, 3.0, v], rel=1e-14)


def test_every_cell_of_the_package_has_a_step_by_hand() -> None:
    """A cell added from elsewhere need not."""
    assert {f"test_{name}_by_hand" for name in TEXTBOOK} <= set(globals())


@pytest.mark.parametrize("name", cells)
def test_every_cell_names_its_source_and_its_equations(name: str) -> None:
    words = inspect.getdoc(cells[name]) or ""
    assert re.search(r"(19|20)\d\d", words), "a source: author and year"
    equations = [line for line in words.splitlines() if " = " in line or " <- " in line]
    assert len(equations) >= 1
    assert any(line.startswith("h' = ") for line in equations)


@pytest.mark.parametrize("name", cells)
def test_a_cell_is_consistent_with_what_it_declares(name: str) -> None:
    cell = cells[name]()
    hidden = 3
    weights: dict[str, Any] = {
        product: lambda h, rows=rows, columns=columns: h @ np.zeros((columns * hidden, rows * hidden))
        for product, (rows, columns) in cell.sizes().items()
    }
    weights |= {vector: np.zeros(width * hidden) for vector, width in cell.vectors.items()}
    state = np.full((cell.states, 2, hidden), 0.5)
    before = state.copy()
    new = cell.step(NumpyFunctions, SimpleNamespace(**weights), np.zeros((2, (cell.gates or 1) * hidden)), *state)
    assert [part.shape for part in new] == [(2, hidden)] * cell.states
    assert np.array_equal(state, before), "a step must not change the state it is given"
    assert cell.forget_gate is None or cell.forget_gate < max(cell.gates, cell.vectors.get("b", 0))
    assert cell.input_gate is None or cell.input_gate < max(cell.gates, cell.vectors.get("b", 0))
    assert set(cell.vector_init) <= set(cell.vectors)
    assert set(cell.input_products) <= set(cell.products)
    assert set(cell.product_scale) <= set(cell.input_products)
    widths = {"W": cell.gates} | {product: rows for product, (rows, _) in cell.sizes().items()}
    assert all(part < widths[name] for name, parts in cell.candidates.items() for part in parts)
