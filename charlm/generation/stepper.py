"""Steppers: networks that are run one token at a time, for generation.

`NumpyStepper` is for a CPU. There torch's kernels are slow for single tokens: they are made for
whole windows and repack their weights at every call, so that one token costs several times its
arithmetic. Besides, importing torch takes longer than generating a page. `TorchStepper` is for a
GPU, and for many rows. Both give the same logits, up to the rounding of their number types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.network.cells import Cell, Step, cells, with_zoneout
from charlm.network.recurrence import run_in_lanes, run_over_layers, run_over_time
from charlm.network.summary import has_projection, has_residual

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from charlm.network.layer import Layer
    from charlm.network.model import LanguageModel

Array = NDArray[Any]

MOST_TOKENS = 4096
"""Tokens of a prompt, in all rows together, that are processed at once; more would only need more memory."""

LANES, WINDOW = 16, 128
"""Places of one long prompt that are read side by side, and tokens of each that are read at once."""

MAX_FOLDED = 2**21
"""The first layer's projection of every token is computed in advance if it has at most this many
numbers (vocab_size x gates x hidden); a larger table takes longer to compute than it saves."""

SMALL_PRODUCT = 1_000_000
"""Multiplications of a matrix product up to which OpenBLAS does not copy the matrices into blocks first (where it has
such code: on processors with AVX-512). For few rows, the copy takes longer than the product."""

HALF = np.array(0.5, dtype=np.float32)  # exact in every precision, and faster than a Python number


class Stepper(Protocol):
    """The interface of a stepper; a state is an array or tensor (layers, states, batch, hidden)."""

    def initial_state(self, batch: int) -> Any:
        """Return the state before the first token: zeros (layers, states, batch, hidden)."""
        ...

    def step(self, ids: Array, state: Any) -> tuple[Array, Any]:
        """Read one token per row; return the logits of the next token and the next state.

        Args:
            ids: The tokens, (batch,).
            state: The state before the tokens, (layers, states, batch, hidden).

        Returns:
            Logits (batch, vocab_size), and the state after the tokens.
        """
        ...

    def prefill(self, ids: Array, state: Any) -> tuple[Array, Any]:
        """Read a whole prompt; return the logits of the next token and the next state.

        Args:
            ids: The prompt, (batch, time).
            state: The state before the prompt, (layers, states, batch, hidden).

        Returns:
            Logits (batch, vocab_size), and the state after the prompt.
        """
        ...

    def select(self, state: Any, rows: Array) -> Any:
        """Return the state of some rows, in this order; a row may occur several times."""
        ...

    def join(self, states: Sequence[Any]) -> Any:
        """Return one state with the rows of several states, one after the other."""
        ...


class NumpyFunctions:
    """The functions `f` of a cell's step for numpy arrays, and the products of a network.

    A subclass may replace elementary functions, `product`, `matmul` and `mean`; the other functions
    are computed from these.
    """

    tanh: Callable[..., Any] = staticmethod(np.tanh)
    exp: Callable[..., Any] = staticmethod(np.exp)
    exp2: Callable[..., Any] = staticmethod(np.exp2)
    log: Callable[..., Any] = staticmethod(np.log)
    sqrt: Callable[..., Any] = staticmethod(np.sqrt)
    concatenate = staticmethod(np.concatenate)
    stack = staticmethod(np.stack)
    matmul: Callable[[Array, Array], Array] = staticmethod(np.matmul)

    @staticmethod
    def product(matrix: Array) -> Callable[[Array], Array]:
        """Return the function that multiplies vectors (..., columns) by a matrix (rows, columns).

        For a few vectors (batch, columns), the matrix is divided into blocks of rows, each of which
        is a product of at most `SMALL_PRODUCT` multiplications.
        """
        transposed, (rows, columns) = matrix.T, matrix.shape
        blocks = {  # (rows / size, columns, size)
            size: matrix.reshape(-1, size, columns).transpose(0, 2, 1) for size in (128, 64, 32, 16) if not rows % size
        }

        def product(x: Array) -> Array:
            if x.ndim == 2 and len(x) > 1:
                for size, block in blocks.items():
                    if size * x.size <= SMALL_PRODUCT:
                        return np.matmul(x, block).transpose(1, 0, 2).reshape(len(x), rows)
            return x.dot(transposed)

        return product

    @staticmethod
    def mean(x: Array) -> Array:
        """Return the mean over the last axis, which is kept with a length of 1."""
        return x.mean(-1, keepdims=True)

    @staticmethod
    def relu(x: Array) -> Array:
        return np.maximum(x, 0.0)

    @staticmethod
    def sigmoid(x: Array) -> Array:
        """Compute 1 / (1 + exp(-x)) as (1 + tanh(x / 2)) / 2, which cannot overflow."""
        y = np.multiply(x, HALF)
        np.tanh(y, y)
        np.multiply(y, HALF, y)
        return np.add(y, HALF, y)

    @staticmethod
    def split(x: Array, parts: int) -> tuple[Array, ...]:
        width = x.shape[-1] // parts
        return tuple(x[..., start : start + width] for start in range(0, parts * width, width))

    @classmethod
    def norm(cls, x: Array, gain: Array, bias: Array) -> Array:
        centred = x - cls.mean(x)
        return centred / np.sqrt(cls.mean(centred * centred) + x.dtype.type(1e-5)) * gain + bias

    @classmethod
    def gelu(cls, x: Array) -> Array:
        return x * (HALF + HALF * cls.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    @classmethod
    def attention(cls, q: Array, keys: Array, values: Array, count: Array, heads: int) -> Array:
        def split(x: Array) -> Array:  # (time, [batch,] n) to ([batch,] heads, time, n / heads)
            parts = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
            return np.moveaxis(parts, 0, -2)

        past = len(keys) - len(q)
        slope, distance = _linear_bias(cls.exp2, heads, len(q), past, q.dtype)
        farthest = np.minimum(count[..., None, None, None] + np.arange(len(q))[:, None], past)
        scores = cls.matmul(split(q), split(keys).swapaxes(-1, -2)) / q.dtype.type(math.sqrt(q.shape[-1] // heads))
        scores = np.where((distance < 0) | (distance > farthest), -np.inf, scores - slope * distance)
        weights = cls.exp(scores - scores.max(-1, keepdims=True))
        y = cls.matmul(weights / (cls.mean(weights) * weights.shape[-1]), split(values))
        return np.moveaxis(y, -2, 0).reshape(q.shape)


@cache
def _linear_bias(
    exp2: Callable[[Array], Array], heads: int, time: int, past: int, dtype: np.dtype[Any]
) -> tuple[Array, Array]:
    """Return the factors of attention's linear bias: slopes and distances.

    The slopes are (heads, 1, 1). The distances of each key from each query are (time, past + time).

    Args:
        exp2: The function 2^x.
        heads: Number of heads.
        time: Number of queries.
        past: Number of keys before the first query.
        dtype: Type of the result.
    """
    slope = exp2(-8.0 / heads * np.arange(1, heads + 1))
    distance = np.arange(time)[:, None] + past - np.arange(past + time)
    return slope[:, None, None].astype(dtype), distance.astype(dtype)


class NumpyStepper:
    """A trained network with any cell, computed by numpy on a CPU.

    In advance, the first layer's projection is computed for the embeddings of all tokens, so that a
    step only looks it up. This is left out if the table would have more than `MAX_FOLDED` numbers.

    Args:
        weights: Arrays under the names of `LanguageModel.state_dict`, as
            `safetensors.numpy.load_file` reads them. Arrays of float64 keep their precision;
            everything else is computed in float32.
        config: The settings of the network, each with a value other than None.
        vocab_size: Number of tokens of the vocabulary.

    Raises:
        ValueError: a weight is missing or has another shape than the network's.
    """

    functions: type[NumpyFunctions] = NumpyFunctions

    def __init__(self, weights: Mapping[str, Array], config: ModelConfig, vocab_size: int) -> None:
        self.config, f = config, self.functions
        hidden, take = config.hidden, _Weights(weights)
        cell = self.cell = cells[config.cell](config)
        zoneout = 0.0 if cell.context else config.zoneout
        step = with_zoneout(cell.step, lambda: 1.0 - zoneout) if zoneout else cell.step
        embedding = take("embedding.weight", vocab_size, config.embedding)
        self.dtype = embedding.dtype
        widths = [config.embedding] + [hidden] * (config.layers - 1)
        self._layers = [_Layer(f, cell, step, take, f"layers.{i}.", width, hidden) for i, width in enumerate(widths)]
        projections = [layer.project for layer in self._layers]
        self._table = embedding
        if vocab_size * cell.gates * hidden <= MAX_FOLDED:
            self._table, projections[0] = projections[0](embedding), _identity
        self._projections = projections
        names = [*(f"norms.{i}." for i in range(1, config.layers)), "norm."]
        *norms, self._norm = [_norm(f, take, name, hidden) if config.layer_norm else _identity for name in names]
        self._norms = [_identity, *norms]
        self._projection: Callable[[Array], Array] = _identity
        if has_projection(config):
            self._projection = f.product(take("projection.weight", config.embedding, hidden))
        self._output = f.product(embedding if config.tie else take("output.weight", vocab_size, hidden))
        self._bias = take("output.bias", vocab_size)

    def initial_state(self, batch: int) -> Array:
        """Return the state before the first token: zeros (layers, states, batch, hidden)."""
        return np.zeros((self.config.layers, self.cell.states, batch, self.config.hidden), dtype=self.dtype)

    def step(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read one token per row; see `Stepper.step`."""
        features, state = self._forward(ids, state, _Layer.step)
        return self._logits(features), state

    def prefill(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read a whole prompt; see `Stepper.prefill`."""
        batch, time = ids.shape
        if batch == 1:
            state = run_in_lanes(partial(self._read, ids[0]), state, time - 1, lanes=LANES, window=WINDOW)
            return self.step(ids[:, -1], state)
        size = max(1, MOST_TOKENS // batch)
        for start in range(0, time, size):
            features, state = self._forward(ids[:, start : start + size].T, state, _Layer.run)
        return self._logits(features[-1]), state

    def select(self, state: Array, rows: Array) -> Array:
        """Return the state of some rows; see `Stepper.select`."""
        return state.take(rows, axis=2)  # unlike `state[:, :, rows]`, in the order that products read fastest

    def join(self, states: Sequence[Array]) -> Array:
        """Return one state with all rows; see `Stepper.join`."""
        return np.concatenate(states, axis=2)

    def _read(self, ids: Array, starts: list[int], size: int, state: Array) -> Array:
        """Return the states after reading a part of a text from several positions side by side.

        Args:
            ids: The ids of the whole text, (time,).
            starts: The positions from which ids are read, one for each row.
            size: Number of ids to read from each position.
            state: The states before, (layers, states, rows, hidden); the result has the same shape.
        """
        rows = np.stack([ids[start : start + size] for start in starts], axis=1)
        return self._forward(rows, state, _Layer.run)[1]

    def _forward(self, ids: Array, state: Array, run: Callable[..., tuple[Array, _State]]) -> tuple[Array, Array]:
        """Return the last layer's outputs, and the next state.

        Args:
            ids: Token ids, (batch,) for one step or (time, batch) for a window.
            state: The state before, (layers, states, batch, hidden).
            run: `_Layer.step` for one step, `_Layer.run` for a window.
        """
        shape = state.shape
        if shape[2] == 1:  # without the batch axis: the product with a vector is faster than with a row
            ids, state = ids[..., 0], state[:, :, 0]

        def run_layer(index: int, x: Array, state: Array) -> tuple[Array, _State]:
            return run(self._layers[index], self._projections[index](self._norms[index](x)), state)

        x, states = run_over_layers(run_layer, self._table[ids], state, residual=has_residual(self.config))
        return x, np.concatenate([part for new in states for part in new]).reshape(shape)

    def _logits(self, features: Array) -> Array:
        return np.atleast_2d(self._output(self._projection(self._norm(features))) + self._bias)


_State = Sequence[Array]
"""The state of one layer: `states` arrays ([batch,] hidden)."""


class _Layer:
    """One layer of a `NumpyStepper`: a cell's step with its weights as arrays."""

    def __init__(
        self,
        f: type[NumpyFunctions],
        cell: Cell,
        step: Step,
        take: _Weights,
        prefix: str,
        features: int,
        hidden: int,
    ) -> None:
        self._W: Callable[[Array], Array] | None = None
        if cell.gates:
            self._W = f.product(take(prefix + "W", cell.gates * hidden, features))
            self._b = take(prefix + "b", cell.gates * hidden)
        sizes = cell.sizes().items()
        products = {name: take(prefix + name, rows * hidden, columns * hidden) for name, (rows, columns) in sizes}
        vectors = {name: take(prefix + name, width * hidden) for name, width in cell.vectors.items()}
        w = SimpleNamespace(**{name: f.product(matrix) for name, matrix in products.items()}, **vectors)
        self._step = partial(step, f, w)

    def project(self, x: Array) -> Array:
        """Return W x + b for inputs x (..., features), or x itself for a cell without W."""
        return x if self._W is None else self._W(x) + self._b

    def step(self, projected: Array, state: Array) -> tuple[Array, _State]:
        """Return the output ([batch,] hidden) of one step, and the next state."""
        new = self._step(projected, *state)
        return new[0], new

    def run(self, projected: Array, state: Array) -> tuple[Array, _State]:
        """Return the outputs (time, [batch,] hidden) of a window, and the next state."""
        outputs, new = run_over_time(self._step, projected, state)
        return np.stack(outputs), new


class _Weights:
    """A reader of weights: called with a name and a shape, it returns the array of that name."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights

    def __call__(self, name: str, *shape: int) -> Array:
        if name not in self._weights:
            raise ValueError(f"there is no {name}")
        array = self._weights[name]
        if array.shape != shape:
            raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
        # A copy: it does not change while a model is trained further, and numpy allocates large arrays aligned and on
        # huge pages, where the processor reads them faster than in the middle of a file's bytes.
        return np.array(array, dtype=np.float64 if array.dtype == np.float64 else np.float32, order="C")


def _norm(f: type[NumpyFunctions], take: _Weights, prefix: str, width: int) -> Callable[[Array], Array]:
    gain, bias = take(prefix + "weight", width), take(prefix + "bias", width)
    return lambda x: f.norm(x, gain, bias)


def _identity(x: Any) -> Any:
    return x


class TorchStepper:
    """A network computed by torch: on a GPU, or for many rows at once on a CPU.

    A step calls the cell's own step in each layer, and looks up the first layer's projection as in
    `NumpyStepper`. A prompt is read in windows by the model itself.

    Args:
        model: The network, on its device. It must not be trained while the stepper is in use.
            Dropout is off during a step.
        dtype: Type in which the products of a step are computed; None: the type of the model. bf16
            is faster where the processor or the GPU supports it, and gives logits that are right to
            about three digits.
    """

    def __init__(self, model: LanguageModel, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.dtype = dtype or model.embedding.weight.dtype
        self._step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def initial_state(self, batch: int) -> Tensor:
        """Return the state before the first token: zeros (layers, states, batch, hidden)."""
        return self.model.initial_state(batch)

    def step(self, ids: Array, state: Tensor) -> tuple[Array, Tensor]:
        """Read one token per row; see `Stepper.step`."""
        import torch

        from charlm.network.model import evaluating

        with torch.no_grad(), evaluating(self.model):
            if self._step is None:
                self._step = self._prepared_step()
            logits, state = self._step(torch.from_numpy(np.asarray(ids)).to(state.device), state)
        return logits.cpu().numpy(), state

    def prefill(self, ids: Array, state: Tensor) -> tuple[Array, Tensor]:
        """Read a whole prompt; see `Stepper.prefill`."""
        import torch

        from charlm.network.model import evaluating

        batch, time = ids.shape
        size = max(1, MOST_TOKENS // batch)

        def read(starts: list[int], size: int, state: Tensor) -> Tensor:
            rows = np.stack([ids[0, start : start + size] for start in starts])
            return self.model.hidden(torch.from_numpy(rows).to(state.device), state)[1]

        with torch.no_grad(), evaluating(self.model):
            if batch == 1:
                state = run_in_lanes(read, state, time - 1, lanes=LANES, window=WINDOW)
                ids, time = ids[:, -1:], 1
            for start in range(0, time, size):
                window = torch.tensor(ids[:, start : start + size], device=state.device)
                features, state = self.model.hidden(window, state)
            logits = self.model.project(features[:, -1])
        return logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32).cpu().numpy(), state

    def select(self, state: Tensor, rows: Array) -> Tensor:
        """Return the state of some rows; see `Stepper.select`."""
        import torch

        return state[:, :, torch.as_tensor(rows, device=state.device)]

    def join(self, states: Sequence[Tensor]) -> Tensor:
        """Return one state with all rows; see `Stepper.join`."""
        import torch

        return torch.cat(list(states), dim=2)

    def _prepared_step(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the function (ids, state) -> (logits, state) that `step` calls.

        Its weights are rounded to `dtype` in advance. The first layer's projection is looked up, as
        in `NumpyStepper`.
        """
        import torch

        model, config, dtype = self.model, self.model.config, self.dtype
        layers = cast("list[Layer]", list(model.layers))
        steps = [layer.bound_step(dtype, 1) for layer in layers]
        projections = [layer.projection(dtype) for layer in layers]
        norms = list(model.norms)
        table = model.embedding.weight
        if model.vocab_size * model.cell.gates * config.hidden <= MAX_FOLDED:
            table, projections[0] = projections[0](table), _identity
        _, output, bias = model.output_inputs(table.new_zeros(config.hidden, dtype=model.embedding.weight.dtype))
        output = output.to(dtype).T.contiguous()

        def run_layer(index: int, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            parts = steps[index](projections[index](norms[index](x)), *state.unbind())
            new = torch.stack([part.to(state.dtype) for part in parts])
            return new[0], new

        def step(ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            x, states = run_over_layers(run_layer, table[ids], state, residual=has_residual(config))
            features = model.projection(model.norm(x)).to(dtype)
            return (features @ output).to(state.dtype) + bias, torch.stack(states)

        return step
