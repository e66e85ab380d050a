"""The recurrences: what one layer does in one time step, written once for training, generation and tests.

A cell is its equations over a namespace: `f` has the functions (torch's or numpy's), `w` the cell's own
parameters. To add a cell, add a file to this package with a class under `@cells.register("name")`; the
command line, the numpy generator and the tests find it by themselves.

In the docstrings x is the layer's input (m features), h its output and c its memory (n hidden units each), a
prime marks the next time step, products of vectors are element by element, and W x + b, with all of a cell's
input projections stacked, has `gates` times n rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from charlm.registry import Registry


class Cell:
    """One time step of one recurrent layer; it holds no parameters and knows neither torch nor numpy.

    `step(f, w, x, *state)` takes
        f: the functions `tanh`, `sigmoid`, `relu`, `exp`, `log` and `sqrt` of one array, `split(a, n)` (n equal
           parts of the last axis) and `norm(a, gain, bias)` (layer normalisation over the last axis, epsilon 1e-5),
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
    inward: ClassVar[tuple[str, ...]] = ()
    """Names of the products that are applied to the input; the others are recurrent."""
    vectors: ClassVar[Mapping[str, int]] = {}
    """Further biases, peepholes and gains: name to width in units of hidden."""
    starts: ClassVar[Mapping[str, float | tuple[float, float]]] = {}
    """Where vectors start if not at 0: name to a value, or to a range from which each number is drawn."""
    forget_gate: ClassVar[int | None] = None
    """Which part of the bias opens the gate that keeps the past: it starts at `forget_bias`."""
    input_gate: ClassVar[int | None] = None
    """Which part of the bias opens the gate that lets the new in, if it is another; chrono starts it closed."""
    candidates: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Which parts of W and of the products drive what is written rather than a gate: name to numbers of parts."""
    input_scale: ClassVar[float] = 1.0
    """Initial size of W, where 1 gives W x the size of x."""
    recurrent_init: ClassVar[str] = "orthogonal"
    """How recurrent matrices start unless a setting says otherwise: orthogonal, identity or normal."""
    sigmoids: ClassVar[tuple[str, ...]] = ()
    """What the gates are called in charts, in the order in which the step calls `f.sigmoid`; empty: by number."""
    fused: ClassVar[str | None] = None
    """torch's kernel with the same equations ("LSTM", "GRU", "RNN_TANH" or "RNN_RELU"), if there is one. It is
    called with the one product as its recurrent matrix, and with the vectors, if any, as the end of its second
    bias."""

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        """The state one step later."""
        raise NotImplementedError


class LinearCell(Cell):
    """A recurrence without a product: h' = a h + b, where a and b follow from the input alone.

    So a whole window's a and b are computed at once, and the steps left are two operations an element; or none,
    with a parallel scan in about log2(time) passes (Blelloch 1990, Martin and Cundy 2018).
    """

    def coefficients(self, f: Any, w: Any, x: Any) -> tuple[Any, Any]:
        """a and b, (..., hidden) each, from the input's projection x (..., gates * hidden)."""
        raise NotImplementedError

    def step(self, f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        a, b = self.coefficients(f, w, x)
        return (a * state[0] + b,)


cells: Registry[type[Cell]] = Registry("cell", "charlm.network.cells")

Step = Callable[..., tuple[Any, ...]]
Way = Literal["fused", "scan", "stepped"]

QUICK_ON_CPU = {"LSTM": math.inf, "GRU": 320, "RNN_TANH": 320, "RNN_RELU": 320}
"""Up to how many units kernels beat our own time loop on a CPU (measured, scripts/benchmark_cells.py): oneDNN has one
for the LSTM, the others are loops of torch's own."""


def way(cell: Cell | type[Cell], device: str, hidden: int) -> Way:
    """The quickest way of a cell of so many units through a window on a device ("cpu", "cuda", ...).

    fused: torch's kernel; scan: all of a window's coefficients at once; stepped: the cell's own step, once a token.
    """
    if isinstance(cell, LinearCell) or (isinstance(cell, type) and issubclass(cell, LinearCell)):
        return "scan"
    fused = cell.fused is not None and (device != "cpu" or hidden <= QUICK_ON_CPU.get(cell.fused, 0))
    return "fused" if fused else "stepped"


def moving(step: Step, share: Callable[[], Any]) -> Step:
    """A step of which the state takes only a share, for zoneout (Krueger et al. 2017).

    Args:
        step: A cell's step.
        share: 1 where a unit moves and 0 where it keeps its past, drawn anew for each part of the state; or, when
            nothing is drawn, the share that moves on average.
    """

    def moved(f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        return tuple(old + share() * (new - old) for old, new in zip(state, step(f, w, x, *state), strict=True))

    return moved


def recurrent(cell: Cell | type[Cell]) -> list[str]:
    """Names of the products that are applied to the state."""
    return [name for name in cell.products if name not in cell.inward]


def gated(cell: Cell | type[Cell]) -> bool:
    """Whether any part of W or of a product drives a gate."""
    widths = {"W": cell.gates} | dict(cell.products)
    return any(width > len(cell.candidates.get(name, ())) for name, width in widths.items())


def parameters(cell: Cell | type[Cell], features: int, hidden: int) -> int:
    """Parameters of a layer: n = hidden units over m = features inputs.

    4 (n m + n^2 + n) for an LSTM, 3 (n m + n^2 + n) + n for the reset-after GRU, n m + n^2 + n for an RNN.
    """
    return (
        cell.gates * (hidden * features + hidden)
        + sum(cell.products.values()) * hidden * hidden
        + sum(cell.vectors.values()) * hidden
    )


def formula(cell: Cell | type[Cell]) -> str:
    """The same count in letters: "4 nm + 4 n^2 + 4 n" for an LSTM."""
    terms = [
        (cell.gates, "nm"),
        (sum(cell.products.values()), "n^2"),
        (cell.gates + sum(cell.vectors.values()), "n"),
    ]
    return " + ".join(f"{count} {letter}" if count > 1 else letter for count, letter in terms if count)
