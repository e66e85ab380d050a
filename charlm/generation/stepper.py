"""Steppers: the network one token at a time.

`NumpyStepper` is for a CPU: torch's kernels are made for windows and repack their weights at every call, so
that a token costs them several times its arithmetic; and importing torch takes longer than writing a page.
`TorchStepper` is for a GPU. Both give the same scores to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from charlm.network.cells import Cell, Step, cells, moving
from charlm.network.shape import ModelShape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from charlm.network.model import LanguageModel
    from charlm.network.recurrence import Layer

Array = NDArray[Any]

WINDOW = 4096
"""Tokens of a prompt (all rows together) read at once; more would only need more memory."""

FOLDED = 2**21
"""Largest table (tokens x gates x hidden) of what the first layer makes of each token; to compute a larger
one takes longer than it saves."""

HALF = np.array(0.5, dtype=np.float32)  # exact in every precision, and quicker than a Python number


class Stepper(Protocol):
    """What generation needs of a network. The state is an array or tensor (layers, slots, batch, hidden)."""

    def initial_state(self, batch: int) -> Any:
        """The state before anything was read."""
        ...

    def step(self, ids: Array, state: Any) -> tuple[Array, Any]:
        """Read one token of each row, (batch,): scores (batch, vocabulary) of the next, the new state."""
        ...

    def read(self, ids: Array, state: Any) -> tuple[Array, Any]:
        """Read (batch, time) tokens: scores (batch, vocabulary) of what follows the last, the new state."""
        ...


class NumpyFunctions:
    """The namespace `f` of a cell's step for numpy arrays."""

    tanh = staticmethod(np.tanh)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    sqrt = staticmethod(np.sqrt)

    @staticmethod
    def relu(x: Array) -> Array:
        return np.maximum(x, 0.0)

    @staticmethod
    def sigmoid(x: Array) -> Array:
        """1 / (1 + exp(-x)) as (1 + tanh(x / 2)) / 2, which cannot overflow."""
        y = np.multiply(x, HALF)
        np.tanh(y, y)
        np.multiply(y, HALF, y)
        return np.add(y, HALF, y)

    @staticmethod
    def split(x: Array, parts: int) -> tuple[Array, ...]:
        width = x.shape[-1] // parts
        return tuple(x[..., start : start + width] for start in range(0, parts * width, width))

    @staticmethod
    def norm(x: Array, gain: Array, bias: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + x.dtype.type(1e-5)) * gain + bias


class NumpyStepper:
    """A trained network from its weights, on a CPU, any cell from its one definition.

    The first layer's product with the embedding is computed once for every token of the vocabulary, so that
    at each step it is a look-up.

    Args:
        weights: Arrays under the names of `LanguageModel.state_dict`, as `safetensors.numpy.load_file` reads
            them; computed with in float32, or in float64 if they are.
        shape: The network's sizes and options.

    Raises:
        ValueError: a weight is missing or has another shape than the network's.
    """

    def __init__(self, weights: Mapping[str, Array], shape: ModelShape) -> None:
        self.shape = shape
        hidden, take = shape.hidden, _Weights(weights)
        cell = cells[shape.cell]()
        step = moving(cell.step, lambda: 1.0 - shape.zoneout) if shape.zoneout else cell.step
        embedding = take("embedding.weight", shape.vocabulary, shape.embedding)
        self.dtype = embedding.dtype
        widths = [shape.embedding] + [hidden] * (shape.layers - 1)
        self._layers = [_Layer(cell, step, take, f"layers.{i}.", width, hidden) for i, width in enumerate(widths)]
        self._table = embedding
        self._folded = shape.vocabulary * cell.gates * hidden <= FOLDED
        if self._folded:
            self._table = self._layers[0].project(embedding)
        no_norm: Callable[[Array], Array] = _same
        norms = [_norm(take, f"norms.{i}.", hidden) if shape.layer_norm else no_norm for i in range(1, shape.layers)]
        self._norms = [no_norm, *norms]
        self._norm = _norm(take, "norm.", hidden) if shape.layer_norm else no_norm
        self._projection = take("projection.weight", shape.embedding, hidden).T if shape.projected else None
        self._output = embedding.T if shape.tie else take("output.weight", shape.vocabulary, hidden).T
        self._bias = take("output.bias", shape.vocabulary)

    def initial_state(self, batch: int) -> Array:
        """The state before anything was read: zeros (layers, slots, batch, hidden)."""
        return np.zeros((self.shape.layers, self.shape.slots, batch, self.shape.hidden), dtype=self.dtype)

    def step(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read one token of each row, (batch,): scores (batch, vocabulary) of the next, the new state."""
        features, state = self._forward(ids, state, _Layer.step)
        return self._scores(features), state

    def read(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read (batch, time) tokens: scores (batch, vocabulary) of what follows the last, the new state."""
        batch, time = ids.shape
        size = max(1, WINDOW // batch)
        for start in range(0, time, size):
            features, state = self._forward(ids[:, start : start + size].T, state, _Layer.run)
        return self._scores(features[-1]), state

    def _forward(self, ids: Array, state: Array, run: Callable[..., Array]) -> tuple[Array, Array]:
        """The last layer's outputs for ids ([time,] batch), and the new state."""
        new = np.empty_like(state)
        now, then = state, new
        if state.shape[2] == 1:  # without the batch axis: a product with a vector is quicker than with a row
            ids, now, then = ids[..., 0], state[:, :, 0], new[:, :, 0]
        x = self._table[ids]
        for index, layer in enumerate(self._layers):
            projected = x if self._folded and not index else layer.project(self._norms[index](x))
            y = run(layer, projected, now[index], then[index])
            x = x + y if self.shape.residual and index else y
        return x, new

    def _scores(self, features: Array) -> Array:
        x = self._norm(features)
        if self._projection is not None:
            x = x.dot(self._projection)
        return np.atleast_2d(x.dot(self._output) + self._bias)


class _Layer:
    """One recurrent layer: the arrays of a cell and its steps over a window."""

    def __init__(self, cell: Cell, step: Step, take: _Weights, prefix: str, features: int, hidden: int) -> None:
        self._cell_step = step
        self._W: Array | None = None
        if cell.gates:
            self._W = take(prefix + "W", cell.gates * hidden, features).T
            self._b = take(prefix + "b", cell.gates * hidden)
        products = {name: take(prefix + name, width * hidden, hidden) for name, width in cell.products.items()}
        vectors = {name: take(prefix + name, width * hidden) for name, width in cell.vectors.items()}
        self._w = SimpleNamespace(**{name: _product(matrix) for name, matrix in products.items()}, **vectors)

    def project(self, x: Array) -> Array:
        """W x + b for inputs (..., features)."""
        return x if self._W is None else x @ self._W + self._b

    def step(self, projected: Array, state: Array, new: Array) -> Array:
        """The output ([batch,] hidden) of one step; the state after it is written into `new`."""
        parts = self._cell_step(NumpyFunctions, self._w, projected, *state)
        for slot, part in enumerate(parts):
            new[slot] = part
        return parts[0]

    def run(self, projected: Array, state: Array, new: Array) -> Array:
        """The outputs (time, [batch,] hidden) of a window; the state after it is written into `new`."""
        now = tuple(state)
        outputs = np.empty((len(projected), *state.shape[1:]), dtype=state.dtype)
        for time, x in enumerate(projected):
            now = self._cell_step(NumpyFunctions, self._w, x, *now)
            outputs[time] = now[0]
        for slot, part in enumerate(now):
            new[slot] = part
        return outputs


class _Weights:
    """Takes arrays by name and holds them to the shape that the network gives them."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights

    def __call__(self, name: str, *shape: int) -> Array:
        if name not in self._weights:
            raise ValueError(f"there is no {name}")
        array = self._weights[name]
        if array.shape != shape:
            raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
        # A copy: it stays as it is while a model goes on training, and numpy places large arrays where the
        # processor reads them sooner (aligned, on huge pages) than in the middle of a file's bytes.
        return np.array(array, dtype=np.float64 if array.dtype == np.float64 else np.float32, order="C")


def _product(matrix: Array) -> Callable[[Array], Array]:
    transposed = matrix.T
    return lambda x: x.dot(transposed)


def _norm(take: _Weights, prefix: str, width: int) -> Callable[[Array], Array]:
    gain, bias = take(prefix + "weight", width), take(prefix + "bias", width)
    return lambda x: NumpyFunctions.norm(x, gain, bias)


def _same(x: Any) -> Any:
    return x


class TorchStepper:
    """A network of torch: for a GPU, and for many rows at once on a CPU.

    A step calls the cells themselves, with the first layer's product looked up as in `NumpyStepper`; a prompt is read
    by the network's own windows.

    Args:
        model: The network, on its device; it must not learn while this is in use. Dropout is off while it steps.
        dtype: What a step's products are computed in; the model's own if None. bf16 is quicker where the processor
            or the GPU multiplies it, and gives scores of three digits.
    """

    def __init__(self, model: LanguageModel, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.dtype = dtype or model.embedding.weight.dtype
        self._read_token: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def initial_state(self, batch: int) -> Tensor:
        """The state before anything was read: zeros (layers, slots, batch, hidden)."""
        return self.model.initial_state(batch)

    def step(self, ids: Array, state: Tensor) -> tuple[Array, Tensor]:
        """Read one token of each row, (batch,): scores (batch, vocabulary) of the next, the new state."""
        import torch

        from charlm.network.model import evaluating

        with torch.no_grad(), evaluating(self.model):
            if self._read_token is None:
                self._read_token = self._bind()
            logits, state = self._read_token(torch.from_numpy(np.asarray(ids)).to(state.device), state)
        return logits.cpu().numpy(), state

    def read(self, ids: Array, state: Tensor) -> tuple[Array, Tensor]:
        """Read (batch, time) tokens: scores (batch, vocabulary) of what follows the last, the new state."""
        import torch

        from charlm.network.model import evaluating

        batch, time = ids.shape
        size = max(1, WINDOW // batch)
        with torch.no_grad(), evaluating(self.model):
            for start in range(0, time, size):
                window = torch.tensor(ids[:, start : start + size], device=state.device)
                features, state = self.model.hidden(window, state)
            logits = self.model.project(features[:, -1])
        return logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32).cpu().numpy(), state

    def _bind(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A step over weights that are rounded, and a first layer that is multiplied out, once."""
        import torch

        model, shape, dtype = self.model, self.model.shape, self.dtype
        layers = cast("list[Layer]", list(model.layers))
        steps = [layer.bound_step(dtype, 1) for layer in layers]
        projections = [layer.projection(dtype) for layer in layers]
        table = model.embedding.weight
        if shape.vocabulary * layers[0].cell.gates * shape.hidden <= FOLDED:
            table, projections[0] = projections[0](table), _same
        _, output, bias = model.output_inputs(table.new_zeros(shape.hidden, dtype=model.embedding.weight.dtype))
        output = output.to(dtype).T.contiguous()

        def read_token(ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            x, states = table[ids], []
            for index, (norm, project, step) in enumerate(zip(model.norms, projections, steps, strict=True)):
                new = torch.stack([part.to(state.dtype) for part in step(project(norm(x)), *state[index].unbind())])
                x = x + new[0] if shape.residual and index else new[0]
                states.append(new)
            features = model.projection(model.norm(x)).to(dtype)
            return (features @ output).to(state.dtype) + bias, torch.stack(states)

        return read_token
