"""Long short-term memory (Hochreiter and Schmidhuber 1997) with the forget gate of Gers et al. (2000)."""

from __future__ import annotations

from typing import Any

from charlm.network.cells import Cell, cells


@cells.register("lstm")
class LSTM(Cell):
    """A memory c that is forgotten, written and read through gates between 0 and 1.

    c' = sigmoid(j) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c'), where (i, j, g, o) = W x + b + U h are
    the input gate, the forget gate, the candidate and the output gate.
    """

    gates, slots, products, fused = 4, 2, {"U": 4}, "LSTM"
    forget_gate = 1
    sigmoids = ("forget", "input", "output")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, c = state
        i, j, g, o = f.split(x + w.U(h), 4)
        c = f.sigmoid(j) * c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(c), c
