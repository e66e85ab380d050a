"""Every registered cell: its parameters by the textbook, one step by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from charlm.generation.stepper import NumpyFunctions
from charlm.network.cells import cells, parameters

m, n = 7, 5  # features and hidden units
TEXTBOOK = {
    "lstm": 4 * (n * m + n**2 + n),
    "gru": 3 * (n * m + n**2 + n) + n,
    "rnn": n * m + n**2 + n,
}


@pytest.mark.parametrize("name", TEXTBOOK)
def test_parameters_by_the_textbook(name: str) -> None:
    assert parameters(cells[name], m, n) == TEXTBOOK[name]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def one_unit(name: str, x: list[float], u: list[float], state: list[float], **vectors: float) -> list[float]:
    """One step of one unit: x is W x + b of each gate, u the recurrent weight of each gate."""
    weights: dict[str, Any] = {"U": lambda h: h @ np.array([u])}
    weights |= {vector: np.array([value]) for vector, value in vectors.items()}
    new = cells[name]().step(
        NumpyFunctions, SimpleNamespace(**weights), np.array(x), *(np.array([part]) for part in state)
    )
    return [float(part[0]) for part in new]


def test_rnn_by_hand() -> None:
    # tanh(0.2 + 0.4 * 0.5)
    assert one_unit("rnn", [0.2], [0.4], [0.5]) == pytest.approx([math.tanh(0.4)], rel=1e-15)


def test_lstm_by_hand() -> None:
    h, c = one_unit("lstm", [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0], [0.5, -2.0])
    # input gate 0.1 + 0.5, forget gate 0.2 + 1, candidate 0.3 + 1.5, output gate 0.4 + 2
    memory = sigmoid(1.2) * -2.0 + sigmoid(0.6) * math.tanh(1.8)
    assert [h, c] == pytest.approx([sigmoid(2.4) * math.tanh(memory), memory], rel=1e-14)


def test_gru_by_hand() -> None:
    (h,) = one_unit("gru", [0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [0.5], b_n=0.7)
    # reset 0.1 + 0.5, update 0.2 + 1; the reset gate also scales the candidate's second bias
    reset, update = sigmoid(0.6), sigmoid(1.2)
    candidate = math.tanh(0.3 + reset * (1.5 + 0.7))
    assert h == pytest.approx((1 - update) * candidate + update * 0.5, rel=1e-14)


@pytest.mark.parametrize("name", cells)
def test_a_cell_is_consistent_with_what_it_declares(name: str) -> None:
    cell = cells[name]()
    hidden = 3
    weights: dict[str, Any] = {
        product: lambda h, width=width: np.zeros((*h.shape[:-1], width * hidden))
        for product, width in cell.products.items()
    }
    weights |= {vector: np.zeros(width * hidden) for vector, width in cell.vectors.items()}
    state = np.full((cell.slots, 2, hidden), 0.5)
    before = state.copy()
    new = cell.step(NumpyFunctions, SimpleNamespace(**weights), np.zeros((2, (cell.gates or 1) * hidden)), *state)
    assert [part.shape for part in new] == [(2, hidden)] * cell.slots
    assert np.array_equal(state, before), "a step must not change the state it is given"
    assert cell.forget_gate is None or cell.forget_gate < cell.gates
    assert set(cell.ones) <= set(cell.vectors)
