"""The mogrifier LSTM: the input and the previous output gate each other before the LSTM step."""

from __future__ import annotations

from charlm.network.cells import Array, Cell, Functions, Weights, cells


@cells.register("mogrifier")
class Mogrifier(Cell):
    """An LSTM whose input and previous output gate each other before its step (Melis et al. 2020).

    x <- 2 sigmoid(Q h) x,   h <- 2 sigmoid(R x) h,   and both once more with Q2 and R2
    i, j, g, o = W x + b + U h
    c' = sigmoid(j) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')

    x: input of the layer; h: output; c: memory; a prime marks the value after the time step. There
    are four rounds of gating with full matrices (the paper finds little gain from more). The gated
    input depends on the previous output, so no product can be computed for a whole window at once:
    a time step of n units multiplies by 12 matrices of n x n weights. In an LSTM it multiplies by
    4, because W x is computed in advance.
    """

    gates, states = 0, 2
    products = {"Q": 1, "R": 1, "Q2": 1, "R2": 1, "W": 4, "U": 4}
    input_products = ("R", "R2", "W")
    vectors = {"b": 4}
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("Q", "R", "Q2", "R2", "forget", "input", "output")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        x = 2 * f.sigmoid(w.Q(h)) * x
        h = 2 * f.sigmoid(w.R(x)) * h
        x = 2 * f.sigmoid(w.Q2(h)) * x
        h = 2 * f.sigmoid(w.R2(x)) * h
        i, j, g, o = f.split(w.W(x) + w.U(h) + w.b, 4)
        c = f.sigmoid(j) * c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(c), c
