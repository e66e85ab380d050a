"""The gated recurrent unit (Cho et al. 2014) in the form that cuDNN and torch compute."""

from __future__ import annotations

from typing import Any

from charlm.network.cells import Cell, cells


@cells.register("gru")
class GRU(Cell):
    """A state that moves towards a candidate n by the share 1 - z.

    r = sigmoid(W_r x + b_r + U_r h), z = sigmoid(W_z x + b_z + U_z h),
    n = tanh(W_n x + b + r (U_n h + b_n)), h' = (1 - z) n + z h. The reset gate r works after the recurrent
    product ("reset-after"), hence the candidate's second bias b_n.
    """

    gates, slots, products, vectors, fused = 3, 1, {"U": 3}, {"b_n": 1}, "GRU"
    sigmoids = ("reset", "update")

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        (h,) = state
        x_r, x_z, x_n = f.split(x, 3)
        u_r, u_z, u_n = f.split(w.U(h), 3)
        r, z = f.sigmoid(x_r + u_r), f.sigmoid(x_z + u_z)
        n = f.tanh(x_n + r * (u_n + w.b_n))
        return (n + z * (h - n),)
