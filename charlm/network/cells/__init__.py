"""Cells: the equations of one time step of one layer, written once for torch and numpy.

A cell writes its equations with two namespaces: `f` has the functions (torch's or numpy's), `w` the
parameters of the cell. To add a cell, add a file to this package with a class decorated with
`@cells.register("name")`; the command line, the generation by numpy and the tests find it there.

In the docstrings x is the layer's input (m features), h its output and c its memory (n hidden units
each). A prime marks the value after the time step. Vectors are multiplied element by element. The
projection W x + b of the input has `gates` times n rows: it serves all gates together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from charlm.registry import Registry

if TYPE_CHECKING:
    from typing import Self

    from charlm.config import ModelConfig

WindowPath = Literal["fused", "scan", "parallel", "stepped"]

FUSED_ON_CPU = {"LSTM": math.inf, "GRU": 320, "RNN_TANH": 320, "RNN_RELU": 320}
"""Hidden units up to which torch's kernels are faster than our own loop over time on a CPU (measured with
scripts/benchmark_cells.py): the LSTM's is oneDNN's, the others are loops of torch's own."""


class Arithmetic(Protocol):
    """The operations that torch and numpy arrays share: slices and element-wise operators."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __add__(self, other: Any, /) -> Self: ...
    def __sub__(self, other: Any, /) -> Self: ...
    def __mul__(self, other: Any, /) -> Self: ...
    def __truediv__(self, other: Any, /) -> Self: ...
    def __radd__(self, other: Any, /) -> Self: ...
    def __rsub__(self, other: Any, /) -> Self: ...
    def __rmul__(self, other: Any, /) -> Self: ...
    def __getitem__(self, place: Any, /) -> Self: ...
    def __setitem__(self, place: Any, value: Any, /) -> None: ...


Array = TypeVar("Array", bound=Arithmetic)


class Functions(Protocol[Array]):
    """The functions of a cell's equations for one array type: the argument `f` of `Cell.step`."""

    def tanh(self, x: Array, /) -> Array: ...
    def sigmoid(self, x: Array, /) -> Array: ...
    def relu(self, x: Array, /) -> Array: ...
    def exp(self, x: Array, /) -> Array: ...
    def log(self, x: Array, /) -> Array: ...
    def sqrt(self, x: Array, /) -> Array: ...

    def split(self, x: Array, parts: int, /) -> tuple[Array, ...]:
        """Split the last axis into equal parts."""
        ...

    def concatenate(self, arrays: Sequence[Array], /) -> Array:
        """Join arrays along the first axis."""
        ...

    def stack(self, arrays: Sequence[Array], /) -> Array:
        """Join arrays of one shape along a new first axis."""
        ...

    def norm(self, x: Array, gain: Array, bias: Array, /) -> Array:
        """Layer normalisation over the last axis, with an epsilon of 1e-5."""
        ...

    def gelu(self, x: Array, /) -> Array:
        """GELU (Hendrycks and Gimpel 2016) in its approximation by tanh."""
        ...

    def attention(self, q: Array, keys: Array, values: Array, count: Array, heads: int, /) -> Array:
        """Compute causal attention of several heads to the last K tokens, biased against distance.

        (Vaswani et al. 2017; the bias is ALiBi, Press et al. 2022.) Each query q_t is compared with
        the keys k_s of the last K tokens, its own included:
        y_t = sum over s of p_ts v_s, where p_t = softmax over s of (q_t k_s / sqrt(d) - m (t - s)).
        Head i of H heads uses d = n / H units of each vector, and the slope m = 2^(-8 i / H).

        Args:
            q: The queries, (time, ..., n).
            keys, values: (K - 1 + time, ..., n): first those of the K - 1 tokens before the first
                query, then those of the `time` tokens of the queries.
            count: (...): how many of these K - 1 earlier tokens exist. Near the start of a text
                there are fewer; the places of the missing ones are masked.
            heads: Number of heads, a divisor of n.

        Returns:
            The outputs y, (time, ..., n).
        """
        ...


class Weights(Protocol):
    """The parameters of a cell under the cell's own names: the argument `w` of `Cell.step`.

    Every matrix is a function that multiplies by it (`w.U(h)` is h times the transpose of U); every
    vector is an array.
    """

    def __getattribute__(self, name: str, /) -> Any: ...


Step = Callable[..., tuple[Any, ...]]
"""`Cell.step` as a function."""


class Cell:
    """The equations of one time step of one layer, without the parameters.

    A cell imports neither torch nor numpy.

    Args:
        config: The settings of the network, for a cell whose state or parameters depend on them;
            None: the default settings.
    """

    gates: int = 1
    """Rows of W and of b, as a multiple of `hidden`; 0: the step reads the input itself, and the
    layer has no W and b."""
    states: int = 1
    """Number of arrays in the state."""
    context: int = 0
    """Number of tokens that a layer sees, with the current one; 0: no limit (a recurrent cell)."""
    attends: ClassVar[bool] = False
    """Whether the cell has attention heads."""
    residual: ClassVar[bool] = False
    """Whether the cell itself adds its input to its output."""
    products: ClassVar[Mapping[str, int | tuple[int, int]]] = {}
    """Matrices that are multiplied by vectors: name to (rows, columns), as multiples of `hidden`.

    A number alone is the rows; the columns are then 1.
    """
    product_scale: ClassVar[Mapping[str, float]] = {}
    """Initial scale of each of the `input_products` whose scale is not 1, by its name."""
    input_products: ClassVar[tuple[str, ...]] = ()
    """Names of the products that are applied to the input, or to what the step computes from it.

    The other products are recurrent.
    """
    vectors: ClassVar[Mapping[str, int]] = {}
    """Vectors besides b, such as peephole weights and gains.

    A mapping from name to width, as a multiple of `hidden`.
    """
    vector_init: ClassVar[Mapping[str, float | tuple[float, float]]] = {}
    """Initial values of vectors that do not start at 0: name to a number, or to (low, high) of a uniform draw."""
    forget_gate: ClassVar[int | None] = None
    """Which part of the bias, from 0, belongs to the gate that keeps the past; None: no such gate.

    This part starts at `forget_bias`, or as `chrono` says.
    """
    input_gate: ClassVar[int | None] = None
    """Which part of the bias, from 0, belongs to a separate gate for new input; None: no such gate.

    With `chrono` the gate starts nearly closed.
    """
    candidates: Mapping[str, tuple[int, ...]] = {}
    """Which parts of W and of the products feed the candidate state and not a gate: name to numbers of parts."""
    input_scale: float = 1.0
    """Initial scale of W; if it is 1, the product W x is about as large as x."""
    recurrent_init: ClassVar[str] = "orthogonal"
    """How recurrent matrices start unless a setting says otherwise: orthogonal, identity or normal."""
    sigmoids: ClassVar[tuple[str, ...]] = ()
    """Names of the gates in charts, in the order in which the step calls `f.sigmoid`; empty: they are numbered."""
    fused: ClassVar[str | None] = None
    """torch's kernel with the same equations: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU"; None: none.

    Such a cell has one product, its recurrent matrix. Its vectors, if any, are the end of the
    kernel's second bias.
    """

    recurrent: ClassVar[tuple[str, ...]] = ()
    """Names of the products that are applied to the state; derived from the above."""
    gated: ClassVar[bool] = False
    """Whether any part of W or of a product feeds a gate; derived from the above."""
    raw_input: ClassVar[bool] = False
    """Whether the step reads the input itself, which must then be as wide as hidden; derived from the above."""

    def __init_subclass__(cls) -> None:
        cls.recurrent = tuple(name for name in cls.products if name not in cls.input_products)
        widths = {"W": cls.gates} | {name: rows for name, (rows, _) in cls.sizes().items()}
        cls.gated = any(width > len(cls.candidates.get(name, ())) for name, width in widths.items())
        cls.raw_input = cls.gates == 0

    def __init__(self, config: ModelConfig | None = None) -> None:
        pass

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        """Return the state one time step later; no argument is changed in place.

        Args:
            f: The functions that the equations use.
            w: The cell's parameters.
            x: The projected input W x + b, (..., gates * hidden); for a cell with `gates` 0 the
                input itself, (..., hidden).
            state: The old state: `states` arrays (..., hidden), the first of which is the layer's
                previous output.

        Returns:
            The new state: `states` arrays (..., hidden), the first of which is the layer's output.
        """
        raise NotImplementedError

    @classmethod
    def path(cls, device: str, hidden: int) -> WindowPath:
        """Return the name of the fastest way to compute a window with `hidden` units on a device.

        The names are "fused": torch's kernel; "scan": all coefficients of a linear recurrence at
        once, then the recurrence; "parallel": all time steps at once; "stepped": one call of the
        cell's own step for each token. The device is "cpu", "cuda" and so on.
        """
        fused = cls.fused is not None and (device != "cpu" or hidden <= FUSED_ON_CPU.get(cls.fused, 0))
        return "fused" if fused else "stepped"

    @classmethod
    def sizes(cls) -> dict[str, tuple[int, int]]:
        """Return the rows and columns of each matrix in `products`, as multiples of `hidden`."""
        return {name: size if isinstance(size, tuple) else (size, 1) for name, size in cls.products.items()}

    def parameters(self, features: int, hidden: int) -> int:
        """Return the number of parameters of a layer with `hidden` units (n) and `features` inputs (m).

        It is 4 (n m + n^2 + n) for the cell `lstm`, 3 (n m + n^2 + n) + n for `gru`, and n m + n^2 +
        n for `rnn`. The layers of torch have more, because each has a second bias.
        """
        return sum(
            count * {"nm": features * hidden, "n^2": hidden * hidden, "n": hidden}[letter]
            for count, letter in self._terms()
        )

    def operations(self, features: int, hidden: int) -> int:
        """Return how many multiply-add operations one token takes in a layer.

        The layer has `hidden` units (n) and `features` inputs. Each weight of a matrix takes part in
        one operation. Attention adds 2 `context` n: the products of the query with the keys of
        `context` tokens, and those of the probabilities with the values of these tokens.
        Element-wise products of vectors are not counted.
        """
        matrices = sum(
            count * (features if letter == "nm" else hidden) * hidden
            for count, letter in self._terms()
            if letter in ("nm", "n^2")
        )
        return matrices + (2 * self.context * hidden if self.attends else 0)

    def formula(self) -> str:
        """Return the number of parameters as a formula: "4 nm + 4 n^2 + 4 n" for an LSTM."""
        return " + ".join(f"{count} {letter}" if count > 1 else letter for count, letter in self._terms() if count)

    def _terms(self) -> list[tuple[int, str]]:
        """Return the terms of `formula`, each as a coefficient and its letters: (4, "nm")."""
        return [
            (self.gates, "nm"),
            (sum(rows * columns for rows, columns in self.sizes().values()), "n^2"),
            (self.gates + sum(self.vectors.values()), "n"),
        ]


class LinearCell(Cell):
    """A cell with a linear recurrence h' = a h + b; a and b depend on the input alone, not on h.

    All a and b of a window are computed at once. What is left for each time step is one
    multiplication and one addition per unit; a parallel scan does that for the whole window in
    about log2(time) passes (Blelloch 1990, Martin and Cundy 2018).
    """

    def coefficients(self, f: Functions[Array], w: Weights, x: Array) -> tuple[Array, Array]:
        """Return a and b, (..., hidden) each, for a projected input x (..., gates * hidden)."""
        raise NotImplementedError

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        a, b = self.coefficients(f, w, x)
        return (a * state[0] + b,)

    @classmethod
    def path(cls, device: str, hidden: int) -> WindowPath:
        """Return "scan" for every device and width: a scan computes all time steps of a window."""
        return "scan"


class ParallelCell(Cell):
    """A cell that is not recurrent: its output depends on the last `context` tokens alone.

    All time steps of a window are computed at once, and `step` computes a window of one token. The
    state holds what the next tokens need of the last `context` - 1 tokens; before the first token
    of a text the state is zero.

    Args:
        config: The settings of the network; a `context` of 0 means the cell's default.
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__(config)
        if config is not None:
            self.context = config.context or self.context

    def whole(self, f: Functions[Array], w: Weights, x: Array, state: Array) -> tuple[Array, Array]:
        """Return the outputs of a window and the state after it; no argument is changed in place.

        Args:
            f: The functions that the equations use.
            w: The cell's parameters.
            x: The projected input W x + b, (time, ..., gates * hidden); for a cell with `gates` 0
                the input itself, (time, ..., hidden).
            state: The state before the window, (states, ..., hidden); its first array is the
                layer's output for the token before the window.

        Returns:
            The outputs (time, ..., hidden) and the new state (states, ..., hidden).
        """
        raise NotImplementedError

    def step(self, f: Functions[Array], w: Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        _, new = self.whole(f, w, x[None], f.stack(state))
        return tuple(new[part] for part in range(self.states))

    @classmethod
    def path(cls, device: str, hidden: int) -> WindowPath:
        """Return "parallel" for every device and width: all time steps of a window at once."""
        return "parallel"


cells: Registry[type[Cell]] = Registry("cell", "charlm.network.cells")


def with_zoneout(step: Step, update_mask: Callable[[], Any]) -> Step:
    """Return a step in which some units keep their old state (zoneout; Krueger et al. 2017).

    Args:
        step: A cell's step.
        update_mask: A function that is called for each array of the state. In training it returns
            1 for each unit that takes its new value and 0 for each that keeps the old one. Outside
            training it returns the probability of a 1, which gives the expected state.
    """

    def zoneout_step(f: Any, w: Any, x: Any, *state: Any) -> tuple[Any, ...]:
        return tuple(old + update_mask() * (new - old) for old, new in zip(state, step(f, w, x, *state), strict=True))

    return zoneout_step
