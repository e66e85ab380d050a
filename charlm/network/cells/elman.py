"""The simple recurrent network (Elman 1990, "Finding structure in time")."""

from __future__ import annotations

from typing import Any

from charlm.network.cells import Cell, cells


@cells.register("rnn")
class RNN(Cell):
    """h' = tanh(W x + b + U h)."""

    gates, slots, products, fused = 1, 1, {"U": 1}, "RNN"

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        (h,) = state
        return (f.tanh(x + w.U(h)),)
