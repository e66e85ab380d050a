"""Long short-term memory: a memory c and an output h, controlled by gates between 0 and 1.

The gates decide how much the memory takes in, keeps and gives out. x is the input of the layer; a
prime marks the value after the time step; vectors are multiplied element by element.
"""

from __future__ import annotations

from charlm.network.cells import Array, Cell, Functions, Weights, cells


@cells.register("lstm")
class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000), as in torch.

    i, j, g, o = W x + b + U h
    c' = sigmoid(j) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')

    i: input gate; j: forget gate, which keeps the memory; o: output gate; tanh(g): candidate.
    """

    gates, states, products = 4, 2, {"U": 4}
    fused = "LSTM"  # training runs this kernel of torch in place of `step`; remove it when you change the equations
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("forget", "input", "output")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        i, j, g, o = f.split(x + w.U(h), 4)
        c = f.sigmoid(j) * c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(c), c


@cells.register("lstm_1997")
class OriginalLSTM(Cell):
    """The original long short-term memory, without a forget gate (Hochreiter and Schmidhuber 1997).

    i, g, o = W x + b + U h
    c' = c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')

    i: input gate; o: output gate; tanh(g): candidate. Gradients flow back through c unchanged. On
    an endless text c can grow without bound; therefore Gers et al. (2000) added the forget gate.
    """

    gates, states, products = 3, 2, {"U": 3}
    input_gate = 0
    candidates = {"W": (1,), "U": (1,)}
    sigmoids = ("input", "output")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        i, g, o = f.split(x + w.U(h), 3)
        c = c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(c), c


@cells.register("lstm_peephole")
class PeepholeLSTM(Cell):
    """Long short-term memory whose gates also read the memory (Gers and Schmidhuber 2000, "peephole connections").

    i, j, g, o = W x + b + U h
    c' = sigmoid(j + p_j c) c + sigmoid(i + p_i c) tanh(g)
    h' = sigmoid(o + p_o c') tanh(c')

    i: input gate; j: forget gate; o: output gate; tanh(g): candidate. Each gate reads the memory of
    its own unit only: p_i, p_j and p_o are vectors.
    """

    gates, states, products, vectors = 4, 2, {"U": 4}, {"p_i": 1, "p_j": 1, "p_o": 1}
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("forget", "input", "output")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        i, j, g, o = f.split(x + w.U(h), 4)
        c = f.sigmoid(j + w.p_j * c) * c + f.sigmoid(i + w.p_i * c) * f.tanh(g)
        return f.sigmoid(o + w.p_o * c) * f.tanh(c), c


@cells.register("lstm_coupled")
class CoupledLSTM(Cell):
    """Long short-term memory with coupled input and forget gate (Greff et al. 2017, "CIFG").

    j, g, o = W x + b + U h
    c' = sigmoid(j) c + (1 - sigmoid(j)) tanh(g)
    h' = sigmoid(o) tanh(c')

    j: forget gate; the input gate is 1 minus it; o: output gate; tanh(g): candidate.
    """

    gates, states, products = 3, 2, {"U": 3}
    forget_gate = 0
    candidates = {"W": (1,), "U": (1,)}
    sigmoids = ("forget", "output")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        j, g, o = f.split(x + w.U(h), 3)
        g = f.tanh(g)
        c = g + f.sigmoid(j) * (c - g)
        return f.sigmoid(o) * f.tanh(c), c


@cells.register("lstm_layernorm")
class LayerNormLSTM(Cell):
    """Long short-term memory with layer normalisation of the recurrent product and of the memory (Ba et al. 2016).

    i, j, g, o = W x + b + norm(U h)
    c' = sigmoid(j) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(norm(c'))

    i: input gate; j: forget gate; o: output gate; tanh(g): candidate. Each norm has its own gain
    and bias. Unlike in the paper, W x is not normalised.
    """

    gates, states, products = 4, 2, {"U": 4}
    vectors = {"gain": 4, "bias": 4, "memory_gain": 1, "memory_bias": 1}
    vector_init = {"gain": 1.0, "memory_gain": 1.0}
    input_gate, forget_gate = 0, 1
    candidates = {"W": (2,), "U": (2,)}
    sigmoids = ("forget", "input", "output")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        i, j, g, o = f.split(x + f.norm(w.U(h), w.gain, w.bias), 4)
        c = f.sigmoid(j) * c + f.sigmoid(i) * f.tanh(g)
        return f.sigmoid(o) * f.tanh(f.norm(c, w.memory_gain, w.memory_bias)), c
