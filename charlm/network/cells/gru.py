"""Gated recurrent units (Cho et al. 2014): the state h is both memory and output.

x is the input of the layer; a prime marks the value after the time step; vectors are multiplied
element by element.
"""

from __future__ import annotations

from charlm.network.cells import Array, Cell, Functions, Weights, cells


@cells.register("gru")
class GRU(Cell):
    """The gated recurrent unit (Cho et al. 2014) as in torch: reset after the recurrent product.

    r = sigmoid(W_r x + b_r + U_r h)
    z = sigmoid(W_z x + b_z + U_z h)
    g = tanh(W_g x + b_g + r (U_g h + b_u))
    h' = z h + (1 - z) g

    cuDNN computes the same. z: update gate, which keeps the past; r: reset gate, which lets the
    candidate g read the past; b_u: second bias of the candidate.
    """

    gates, states, products, vectors = 3, 1, {"U": 3}, {"b_u": 1}
    fused = "GRU"  # training runs this kernel of torch in place of `step`; remove it when you change the equations
    candidates = {"W": (2,), "U": (2,)}
    forget_gate = 1
    sigmoids = ("reset", "update")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (h,) = state
        x_r, x_z, x_g = f.split(x, 3)
        u_r, u_z, u_g = f.split(w.U(h), 3)
        r, z = f.sigmoid(x_r + u_r), f.sigmoid(x_z + u_z)
        g = f.tanh(x_g + r * (u_g + w.b_u))
        return (g + z * (h - g),)


@cells.register("gru_cho")
class ChoGRU(Cell):
    """The gated recurrent unit as first published (Cho et al. 2014): reset before the recurrent product.

    r = sigmoid(W_r x + b_r + U_r h)
    z = sigmoid(W_z x + b_z + U_z h)
    g = tanh(W_g x + b_g + V (r h))
    h' = z h + (1 - z) g

    z: update gate, which keeps the past; r: reset gate, which lets the candidate g read the past.
    """

    gates, states, products = 3, 1, {"U": 2, "V": 1}
    candidates = {"W": (2,), "V": (0,)}
    forget_gate = 1
    sigmoids = ("reset", "update")

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (h,) = state
        x_r, x_z, x_g = f.split(x, 3)
        u_r, u_z = f.split(w.U(h), 2)
        r, z = f.sigmoid(x_r + u_r), f.sigmoid(x_z + u_z)
        g = f.tanh(x_g + w.V(r * h))
        return (g + z * (h - g),)
