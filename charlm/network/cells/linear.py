"""Linear recurrences: gates that see the input only, so that a window needs no product a step."""

from __future__ import annotations

from typing import Any

from charlm.network.cells import LinearCell, cells


@cells.register("min_gru")
class MinGRU(LinearCell):
    """The gated recurrent unit stripped of all that looks back (Feng et al. 2024, "Were RNNs all we needed?").

    z, g = W x + b
    h' = sigmoid(z) h + (1 - sigmoid(z)) g

    z keeps the past, as in `gru` (the paper's z is 1 minus this one).
    """

    gates, slots = 2, 1
    candidates = {"W": (1,)}
    forget_gate = 0
    sigmoids = ("update",)

    def coefficients(self, f: Any, w: Any, x: Any) -> tuple[Any, Any]:
        z, g = f.split(x, 2)
        z = f.sigmoid(z)
        return z, g - z * g


@cells.register("min_lstm")
class MinLSTM(LinearCell):
    """Long short-term memory stripped of all that looks back (Feng et al. 2024), its gates scaled to a sum of 1.

    i, j, g = W x + b
    h' = (sigmoid(j) h + sigmoid(i) g) / (sigmoid(j) + sigmoid(i))
    """

    gates, slots = 3, 1
    candidates = {"W": (2,)}
    input_gate, forget_gate = 0, 1
    sigmoids = ("input", "forget")

    def coefficients(self, f: Any, w: Any, x: Any) -> tuple[Any, Any]:
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

    Each unit has a time scale of its own, `decay`, that the gate r can only lengthen; the square root keeps h as
    large as g. Griffin starts with slow units only, beside a convolution that sees the last tokens; here the layer
    stands alone, so the decays start from units that keep a twentieth of their past to units that keep all but a
    thousandth.
    """

    gates, slots, vectors = 3, 1, {"decay": 1}
    starts = {"decay": (0.0, 8.0)}
    candidates = {"W": (2,)}
    sigmoids = ("recurrence", "input")

    def coefficients(self, f: Any, w: Any, x: Any) -> tuple[Any, Any]:
        r, i, g = f.split(x, 3)
        rate = -8.0 * f.log(1.0 + f.exp(-w.decay))  # 8 log sigmoid(decay), below 0
        a = f.exp(rate * f.sigmoid(r))
        # The millionth keeps the root's slope finite where nothing is forgotten.
        return a, f.sqrt(1.000001 - a * a) * (f.sigmoid(i) * g)
