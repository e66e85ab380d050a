"""Cells with a linear recurrence: their gates depend on the input alone.

The only matrix product, W x, is therefore computed for a whole window at once. x is the input of
the layer and h its output; a prime marks the value after the time step; vectors are multiplied
element by element.
"""

from __future__ import annotations

from charlm.network.cells import Array, Functions, LinearCell, Weights, cells


@cells.register("min_gru")
class MinGRU(LinearCell):
    """The gated recurrent unit without recurrent weights (Feng et al. 2024, "Were RNNs all we needed?").

    z, g = W x + b
    h' = sigmoid(z) h + (1 - sigmoid(z)) g

    z: update gate, which keeps the past, as in `gru` (the paper's z is 1 minus this one).
    """

    gates, states = 2, 1
    candidates = {"W": (1,)}
    forget_gate = 0
    sigmoids = ("update",)

    def coefficients(self, f: Functions[Array], w: Weights, x: Array) -> tuple[Array, Array]:
        z, g = f.split(x, 2)
        z = f.sigmoid(z)
        return z, g - z * g


@cells.register("min_lstm")
class MinLSTM(LinearCell):
    """Long short-term memory without recurrent weights (Feng et al. 2024).

    i, j, g = W x + b
    h' = (sigmoid(j) h + sigmoid(i) g) / (sigmoid(j) + sigmoid(i))

    i: input gate; j: forget gate, which keeps the past. The two gates are scaled to a sum of 1.
    """

    gates, states = 3, 1
    candidates = {"W": (2,)}
    input_gate, forget_gate = 0, 1
    sigmoids = ("input", "forget")

    def coefficients(self, f: Functions[Array], w: Weights, x: Array) -> tuple[Array, Array]:
        i, j, g = f.split(x, 3)
        i, j = f.sigmoid(i), f.sigmoid(j)
        a = j / (i + j)
        return a, g - a * g


@cells.register("rglru")
class RealGatedLRU(LinearCell):
    """The real-gated linear recurrent unit of Griffin (De et al. 2024).

    r, i, g = W x + b
    a = sigmoid(decay) ^ (8 sigmoid(r))
    h' = a h + sqrt(1 - a^2) sigmoid(i) g

    r: recurrence gate; i: input gate. Each unit has a parameter `decay` and keeps at least
    sigmoid(decay)^8 of its state per step; the gate r can only raise this share. The square root
    keeps the variance of h at that of sigmoid(i) g. In Griffin all units start with slow decay,
    because a convolution before them reads the last tokens. Here there is no convolution, so the
    initial decays are spread: where r is 0, units keep from 1/16 to 0.9987 of their state per step.
    """

    gates, states, vectors = 3, 1, {"decay": 1}
    vector_init = {"decay": (0.0, 8.0)}
    candidates = {"W": (2,)}
    sigmoids = ("recurrence", "input")

    def coefficients(self, f: Functions[Array], w: Weights, x: Array) -> tuple[Array, Array]:
        r, i, g = f.split(x, 3)
        rate = -8.0 * f.log(1.0 + f.exp(-w.decay))  # 8 log sigmoid(decay), below 0
        a = f.exp(rate * f.sigmoid(r))
        # 1e-6 keeps the gradient of the square root finite at a = 1.
        return a, f.sqrt(1.000001 - a * a) * (f.sigmoid(i) * g)
