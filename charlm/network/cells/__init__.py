"""The recurrences: what one layer does in one time step, written once for training, generation and tests.

A cell is its equations over a namespace: `f` has the functions (torch's or numpy's), `w` the cell's own
parameters. To add a cell, add a file to this package with a class under `@cells.register("name")`; the
command line, the numpy generator and the tests find it by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from charlm.registry import Registry


class Cell:
    """One time step of one recurrent layer; it holds no parameters and knows neither torch nor numpy.

    `step(f, w, x, *state)` takes
        f: the functions `tanh(a)`, `sigmoid(a)`, `split(a, n)` (n equal parts of the last axis) and
           `norm(a, gain, bias)` (layer normalisation over the last axis, epsilon 1e-5),
        w: every product under its name as a function (`w.U(h)` is h times the transpose of U) and every
           vector under its name as an array,
        x: (..., gates * hidden), the input's projection W x + b,
        state: `slots` arrays (..., hidden), the first of them the layer's last output,
    and returns the new state as a tuple of `slots` arrays; the first is the layer's output. It changes
    nothing in place.
    """

    gates: ClassVar[int] = 1
    """Width of the input's projection W x + b in units of hidden; 0: the step wants the raw input and the
    layer has no W and b of its own."""
    slots: ClassVar[int] = 1
    """Parts of the state."""
    products: ClassVar[Mapping[str, int]] = {}
    """Matrices applied to vectors as wide as hidden: name to output width in units of hidden."""
    vectors: ClassVar[Mapping[str, int]] = {}
    """Further biases, peepholes and gains: name to width in units of hidden. They start at 0."""
    ones: ClassVar[tuple[str, ...]] = ()
    """Names of the vectors that start at 1 (gains)."""
    forget_gate: ClassVar[int | None] = None
    """Which gate of W x + b forgets: the one whose bias starts at `forget_bias`."""
    sigmoids: ClassVar[tuple[str, ...]] = ()
    """What the gates are called in charts, in the order in which the step calls `f.sigmoid`; empty: by number."""
    fused: ClassVar[str | None] = None
    """torch's kernel with the same equations ("LSTM", "GRU" or "RNN"), if there is one. It is called with the
    one product as its recurrent matrix, and with the vectors, if any, as the end of its second bias."""

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        """The state one step later."""
        raise NotImplementedError


cells: Registry[type[Cell]] = Registry("cell", "charlm.network.cells")


def parameters(cell: Cell | type[Cell], features: int, hidden: int) -> int:
    """Parameters of a layer: n = hidden units over m = features inputs.

    4 (n m + n^2 + n) for an LSTM, 3 (n m + n^2 + n) + n for the reset-after GRU, n m + n^2 + n for an RNN.
    """
    return (
        cell.gates * (hidden * features + hidden)
        + sum(cell.products.values()) * hidden * hidden
        + sum(cell.vectors.values()) * hidden
    )
