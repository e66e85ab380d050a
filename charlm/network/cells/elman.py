"""Simple recurrent networks (Elman 1990, "Finding structure in time").

x is the input of the layer and h its output; a prime marks the value after the time step.
"""

from __future__ import annotations

from charlm.network.cells import Array, Cell, Functions, Weights, cells


@cells.register("rnn")
class RNN(Cell):
    """The simple recurrent network (Elman 1990): units read the input and the previous output.

    h' = tanh(W x + b + U h)
    """

    gates, states, products = 1, 1, {"U": 1}
    fused = "RNN_TANH"  # training runs this kernel of torch in place of `step`; remove it when you change the equations
    candidates = {"W": (0,), "U": (0,)}

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (h,) = state
        return (f.tanh(x + w.U(h)),)


@cells.register("rnn_relu")
class ReluRNN(Cell):
    """The simple recurrent network with rectified linear units (Le, Jaitly and Hinton 2015, "IRNN").

    h' = max(0, W x + b + U h)

    U starts as the identity matrix, with which a unit without input keeps its value: gradients
    then reach far back. W starts small, because nothing bounds the values of the units.
    """

    gates, states, products = 1, 1, {"U": 1}
    fused = "RNN_RELU"  # training runs this kernel of torch in place of `step`; remove it when you change the equations
    candidates = {"W": (0,), "U": (0,)}
    recurrent_init, input_scale = "identity", 0.02

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (h,) = state
        return (f.relu(x + w.U(h)),)
