"""Long short-term memory: a memory c beside the output h, written and read through gates between 0 and 1."""

from __future__ import annotations

from typing import Any

from charlm.network.cells import Cell, cells


@cells.register("lstm")
class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000), as torch has it.

    i, j, g, o = W x + b + U h
    c' = sigmoid(j) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')

    i lets the candidate g into the memory c, j keeps what is there, o shows it.
    """

    gates, slots, products, fused = 4, 2, {"U": 4}, "LSTM"
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("forget", "input", "output")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, c = state
        i, j, g, o = f.split(x + w.U(h), 4)
        c = f.sigmoid(j) * c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(c), c


@cells.register("lstm_1997")
class OriginalLSTM(Cell):
    """The first long short-term memory (Hochreiter and Schmidhuber 1997): nothing is ever forgotten.

    i, g, o = W x + b + U h
    c' = c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')

    Errors travel back through c unchanged; on a text without end c only grows, which is why Gers et al. added the
    forget gate.
    """

    gates, slots, products = 3, 2, {"U": 3}
    input_gate = 0
    candidates = {"W": (1,), "U": (1,)}
    sigmoids = ("input", "output")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, c = state
        i, g, o = f.split(x + w.U(h), 3)
        c = c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(c), c


@cells.register("lstm_peephole")
class PeepholeLSTM(Cell):
    """Long short-term memory whose gates see the memory (Gers and Schmidhuber 2000, "peephole").

    i, j, g, o = W x + b + U h
    c' = sigmoid(j + p_j c) c + sigmoid(i + p_i c) tanh(g)
    h' = sigmoid(o + p_o c') tanh(c')

    Each gate sees its own unit's memory, through the vectors p.
    """

    gates, slots, products, vectors = 4, 2, {"U": 4}, {"p_i": 1, "p_j": 1, "p_o": 1}
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("forget", "input", "output")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, c = state
        i, j, g, o = f.split(x + w.U(h), 4)
        c = f.sigmoid(j + w.p_j * c) * c + f.sigmoid(i + w.p_i * c) * f.tanh(g)
        return f.sigmoid(o + w.p_o * c) * f.tanh(c), c


@cells.register("lstm_coupled")
class CoupledLSTM(Cell):
    """Long short-term memory that writes exactly as much as it forgets (Greff et al. 2017, "CIFG").

    j, g, o = W x + b + U h
    c' = sigmoid(j) c + (1 - sigmoid(j)) tanh(g)
    h' = sigmoid(o) tanh(c')
    """

    gates, slots, products = 3, 2, {"U": 3}
    forget_gate = 0
    candidates = {"W": (1,), "U": (1,)}
    sigmoids = ("forget", "output")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, c = state
        j, g, o = f.split(x + w.U(h), 3)
        g = f.tanh(g)
        c = g + f.sigmoid(j) * (c - g)
        return f.sigmoid(o) * f.tanh(c), c


@cells.register("lstm_layernorm")
class LayerNormLSTM(Cell):
    """Long short-term memory with layer normalisation of what drives the gates and of the memory (Ba et al. 2016).

    i, j, g, o = W x + b + norm(U h)
    c' = sigmoid(j) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(norm(c'))

    norm has a gain and a bias each. W x is not normalised: so the whole window's is one product, and an embedding
    of size 1 leaves little to normalise.
    """

    gates, slots, products = 4, 2, {"U": 4}
    vectors = {"gain": 4, "bias": 4, "memory_gain": 1, "memory_bias": 1}
    starts = {"gain": 1.0, "memory_gain": 1.0}
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("forget", "input", "output")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        h, c = state
        i, j, g, o = f.split(x + f.norm(w.U(h), w.gain, w.bias), 4)
        c = f.sigmoid(j) * c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(f.norm(c, w.memory_gain, w.memory_bias)), c
