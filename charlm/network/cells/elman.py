"""Simple recurrent networks (Elman 1990, "Finding structure in time")."""

from __future__ import annotations

from typing import Any

from charlm.network.cells import Cell, cells


@cells.register("rnn")
class RNN(Cell):
    """The simple recurrent network (Elman 1990): one layer of units that sees its own last output.

    h' = tanh(W x + b + U h)
    """

    gates, slots, products, fused = 1, 1, {"U": 1}, "RNN_TANH"
    candidates = {"W": (0,), "U": (0,)}

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        (h,) = state
        return (f.tanh(x + w.U(h)),)


@cells.register("rnn_relu")
class ReluRNN(Cell):
    """The simple network with rectified units, U starting as the identity (Le, Jaitly and Hinton 2015, "IRNN").

    h' = max(0, W x + b + U h)

    A unit that nothing changes keeps its value, so that errors travel far back; nothing bounds it either, which is
    why W starts small.
    """

    gates, slots, products, fused = 1, 1, {"U": 1}, "RNN_RELU"
    candidates = {"W": (0,), "U": (0,)}
    recurrent_init, input_scale = "identity", 0.02

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        (h,) = state
        return (f.relu(x + w.U(h)),)
