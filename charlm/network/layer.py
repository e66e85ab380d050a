"""`Layer`: the parameters of a cell, and the cell's computation over a window."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network.cells import Cell, Functions, LinearCell, ParallelCell, Weights, WindowPath, with_zoneout
from charlm.network.cuda_graph import CudaGraph, WindowFunction, can_capture
from charlm.network.deferred_linear import deferred_linear
from charlm.network.precision import cpu_lstm_runs_in
from charlm.network.recurrence import run_over_time
from charlm.network.scan import scan

KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}


QUERIES = 128
"""Queries whose attention is computed at once; neighbouring queries share most of their keys."""


class TorchFunctions:
    """The functions `f` of a cell's step for torch tensors."""

    tanh = staticmethod(torch.tanh)
    sigmoid = staticmethod(torch.sigmoid)
    relu = staticmethod(torch.relu)
    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    sqrt = staticmethod(torch.sqrt)

    @staticmethod
    def split(x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.chunk(parts, -1)

    @staticmethod
    def norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], gain, bias)

    @staticmethod
    def concatenate(arrays: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(arrays))

    @staticmethod
    def stack(arrays: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(arrays))

    @staticmethod
    def gelu(x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    @staticmethod
    def attention(q: Tensor, keys: Tensor, values: Tensor, count: Tensor, heads: int) -> Tensor:
        past, exact = len(keys) - len(q), torch.promote_types(q.dtype, torch.float32)

        def split(x: Tensor) -> Tensor:  # (time, [batch,] n) to (batch, heads, time, n / heads)
            return x.to(q.dtype).reshape(len(x), -1, heads, x.shape[-1] // heads).permute(1, 2, 0, 3)

        outputs = []
        for start in range(0, len(q), QUERIES):
            block = slice(start, min(start + QUERIES, len(q)))
            seen = slice(start, block.stop + past)
            time, place = (torch.arange(r.start, r.stop, device=q.device) for r in (block, seen))
            distance = time[:, None] + past - place
            farthest = (count.reshape(-1, 1, 1, 1) + time[:, None]).clamp(max=past)
            slope = 2.0 ** (-8.0 / heads * torch.arange(1, heads + 1, dtype=exact, device=q.device)[:, None, None])
            bias = (-slope * distance).to(q.dtype).masked_fill((distance < 0) | (distance > farthest), -math.inf)
            y = F.scaled_dot_product_attention(split(q[block]), split(keys[seen]), split(values[seen]), bias)
            outputs.append(y.permute(2, 0, 1, 3).reshape(q[block].shape))
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


class Layer(nn.Module):
    """One layer: a cell's parameters under the cell's own names, run over windows of time.

    A window is computed in one of four ways (see `path`), equal up to rounding: by torch's fused
    kernel with the cell's equations; by a scan, for a linear recurrence; all at once, for a cell
    that is not recurrent; or by the cell's own step, called for each token.

    Args:
        cell: The equations of one time step.
        features: Width of the input.
        config: The settings of the network, of which a layer uses `hidden` and these:
            zoneout: in training, a unit of a recurrent cell keeps its state for a time step
                with this probability; outside training, the expected state is computed
                (Krueger et al. 2017);
            recurrent_dropout: in training, this fraction of the state's units is set to zero
                before the recurrent products, the same units at all time steps of a window (Gal and
                Ghahramani 2016);
            weight_drop: in training, this fraction of the recurrent weights is zero for a
                window (DropConnect; Wan et al. 2013, Merity et al. 2018).

    Attributes:
        W, b: The projection W x + b of the input, (gates * hidden, features) and (gates * hidden,);
            a cell with `gates` 0 has none.
        further parameters: Tensors under the cell's names, (rows * hidden, columns * hidden) for
            each of its `products` and (width * hidden,) for each of its `vectors`.
        stepped: Whether to use the cell's own step even where there is a faster way.
        cuda_graph: The CUDA graphs of `run_stepped`; None until the first is needed.
    """

    def __init__(self, cell: Cell, features: int, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.cell, self.features, self.hidden = cell, features, hidden
        self.zoneout, self.weight_drop = 0.0 if cell.context else config.zoneout, config.weight_drop
        self.recurrent_dropout = config.recurrent_dropout
        self.stepped = False
        self.cuda_graph: CudaGraph | None = None
        if cell.gates:
            self.W = nn.Parameter(torch.zeros(cell.gates * hidden, features))
            self.b = nn.Parameter(torch.zeros(cell.gates * hidden))
        for name, (rows, columns) in cell.sizes().items():
            self.register_parameter(name, nn.Parameter(torch.zeros(rows * hidden, columns * hidden)))
        for name, width in cell.vectors.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(width * hidden)))

    def path(self, device: str) -> WindowPath:
        """Return the way in which the layer computes a window on a device ("cpu", "cuda").

        The ways are named in `Cell.path`. The attribute `stepped`, zoneout and (in training)
        recurrent dropout require the cell's own step.
        """
        dropout = bool(self.recurrent_dropout and self.training and self.cell.recurrent)
        return "stepped" if self.stepped or self.zoneout or dropout else self.cell.path(device, self.hidden)

    def describe(self, device: str) -> str:
        """Return, in words, how the layer computes a window on a device ("cpu", "cuda").

        The words also name the setting, if any, that prevents a faster way.
        """
        match self.path(device):
            case "fused":
                return f"torch's {self.cell.fused} kernel"
            case "scan":
                return "a scan over the whole window"
            case "parallel":
                return "all tokens of a window at once"
        faster = self.cell.path(device, self.hidden) != "stepped"
        reason = f": {'zoneout' if self.zoneout else 'recurrent dropout'} acts in every step" if faster else ""
        return f"the cell's own step, once per token{reason}"

    def forward(self, inputs: Tensor, state: Tensor, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs of a window (batch, time, hidden) and the state after it.

        The returned state (states, batch, hidden) is float32 (float64 from a float64 layer),
        whatever the precision of the computation: a state that is carried for long must not lose
        digits.

        Args:
            inputs: The input (batch, time, features); or, with `ids`, an embedding table
                (tokens, features).
            state: The state before the window, (states, batch, hidden).
            ids: Token ids (batch, time): the input is then these rows of the table. If the table
                has fewer rows than the window has tokens, it is projected as a whole before the
                lookup, unless the fused kernel computes the window.
        """
        weights = next(self.parameters()).dtype
        double = weights == torch.float64
        device = inputs.device.type
        mixed = torch.is_autocast_enabled(device) and not double
        path = self.path(device)
        if path != "parallel":  # the state of a parallel cell has a token count: it stays exact
            state = state.to(weights).contiguous()
        if path == "fused":
            if ids is not None:
                inputs = F.embedding(ids, inputs)
            if device == "cpu" and self.cell.fused == "LSTM":
                mixed = mixed and cpu_lstm_runs_in(torch.get_autocast_dtype("cpu"))
            # Autocast rounds inputs and weights and leaves the state in float32. It is switched off for float64 layers
            # and for kernels that lack its type.
            with contextlib.nullcontext() if mixed else torch.autocast(device, enabled=False):
                outputs, state = self._run_fused(inputs if mixed else inputs.to(weights), state)
        else:
            dtype = torch.get_autocast_dtype(device) if mixed else weights
            with torch.autocast(device, enabled=False):  # `project` and `namespace` round once per window, not per step
                if path == "parallel":
                    outputs, state = self._run_parallel(inputs, state, ids, dtype)
                else:
                    projected = self.project(inputs, ids, dtype)
                    run = self._run_scan if path == "scan" else self._graph_or_steps(projected)
                    outputs, state = run(projected, state)
        return outputs, state.to(torch.float64 if double else torch.float32)

    def project(self, inputs: Tensor, ids: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return W x + b for all tokens of a window, (time, batch, gates * hidden), by one product.

        For a cell without W, return the inputs themselves, (time, batch, features).

        Args:
            inputs, ids: As in `forward`.
            dtype: Type in which the product is computed.
        """
        projection = self.projection(dtype)
        if ids is None:
            return projection(inputs.transpose(0, 1))
        if len(inputs) < ids.numel():
            return F.embedding(ids.T, projection(inputs))
        return projection(F.embedding(ids.T, inputs))

    def _run_fused(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a window by torch's fused kernel.

        The kernel adds two biases: `b`, and a second one, which is zeros followed by the cell's
        vectors.
        """
        assert self.cell.fused is not None
        (product,) = self.cell.products
        second = self.b.new_zeros(len(self.b) - sum(self.cell.vectors.values()) * self.hidden)
        second = torch.cat([second, *(self.get_parameter(name) for name in self.cell.vectors)])
        weights = [self.W, self._matrix(product), self.b, second]
        parts = state.unsqueeze(1).unbind()  # each (1, batch, hidden): kernels have an axis of layers
        with _quiet_cudnn() if inputs.is_cuda else contextlib.nullcontext():
            outputs, *new = KERNELS[self.cell.fused](
                inputs,
                parts if len(parts) > 1 else parts[0],
                weights,
                True,  # biases
                1,  # layers
                0.0,  # dropout
                torch.is_grad_enabled(),  # keep what the backward pass needs
                False,  # bidirectional
                True,  # batch first
            )
        return outputs, torch.cat(new)

    def _run_scan(self, projected: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Compute all coefficients of a linear recurrence at once, then its states by a scan."""
        assert isinstance(self.cell, LinearCell)
        # In the precision of the state: a forget gate of 0.999 rounded to bf16 is exactly 1.
        a, b = self.cell.coefficients(TorchFunctions, self.namespace(), projected.to(state.dtype))
        outputs = scan(a, b, state[0])
        return outputs.transpose(0, 1), outputs[-1:]

    def _run_parallel(
        self, inputs: Tensor, state: Tensor, ids: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Compute all time steps of a window at once, for a cell that is not recurrent.

        Args:
            inputs, state, ids: As in `forward`.
            dtype: Type in which products are computed.
        """
        assert isinstance(self.cell, ParallelCell)
        # A raw input is not rounded to `dtype`: the cell adds it to its result (residual).
        projected = self.project(inputs, ids, inputs.dtype if self.cell.raw_input else dtype)
        products = {name: _linear(self._matrix(name), dtype) for name in self.cell.products}
        outputs, new = self.cell.whole(TorchFunctions, self._weights(products), projected, state)
        return outputs.transpose(0, 1), new

    def _graph_or_steps(self, projected: Tensor) -> WindowFunction:
        """Return `run_stepped`, or, in training on a GPU, a CUDA graph of it."""
        if not (self.training and can_capture(projected)):
            return self.run_stepped
        if self.cuda_graph is None:
            random = bool(self.zoneout or self.recurrent_dropout or self.weight_drop)
            self.cuda_graph = CudaGraph(_SteppedLayer(self), random=random)
        return self.cuda_graph

    def run_stepped(
        self, projected: Tensor, state: Tensor, functions: Functions[Tensor] = TorchFunctions
    ) -> tuple[Tensor, Tensor]:
        """Compute a window by a call of the cell's own step for each token.

        Args:
            projected: The result of `project`; the recurrent products are computed in its type.
            state: The state before the window, (states, batch, hidden).
            functions: The functions that the cell gets as `f`, for example functions that record
                what they compute.

        Returns:
            Outputs (batch, time, hidden) and the state (states, batch, hidden) after the window.
        """
        step = self.bound_step(projected.dtype, state.shape[1], functions)
        outputs, new = run_over_time(step, projected.unbind(0), state.unbind())
        return torch.stack(outputs, 0).transpose(0, 1), torch.stack([part.to(state.dtype) for part in new])

    def bound_step(
        self, dtype: torch.dtype, batch: int, functions: Functions[Tensor] = TorchFunctions
    ) -> Callable[..., tuple[Tensor, ...]]:
        """Return the cell's step with the layer's parameters: a function (x, *state) -> new state.

        Args:
            dtype: Type in which products are computed.
            batch: Number of rows of the state.
            functions: The functions that the cell gets as `f`.
        """
        step = self.cell.step
        if self.zoneout:
            probability, parameter = 1.0 - self.zoneout, next(self.parameters())

            def update_mask() -> Tensor | float:
                if not self.training:
                    return probability
                return parameter.new_empty(batch, self.hidden).bernoulli_(probability)

            step = with_zoneout(step, update_mask)
        return partial(step, functions, self.namespace(dtype, batch))

    def projection(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """Return the function that projects inputs (..., features) to W x + b.

        For a cell without W, the function returns the inputs themselves.

        Args:
            dtype: Type in which the product is computed; the result has this type.
        """
        if not self.cell.gates:
            return lambda x: x.to(dtype)
        W, b = self.W.to(dtype), self.b.to(dtype)
        return lambda x: F.linear(x.to(dtype), W, b)

    def namespace(self, dtype: torch.dtype | None = None, batch: int | None = None) -> Weights:
        """Return the argument `w` of the cell's step: matrices as functions, vectors as tensors.

        Args:
            dtype: Type in which products are computed; None: the type of the parameters.
            batch: Number of rows of the state, for which the mask of recurrent dropout is drawn;
                None: no recurrent dropout.
        """
        dtype = dtype or next(self.parameters()).dtype
        products = {}
        for name in self.cell.products:
            product = deferred_linear(self._matrix(name), dtype)
            if self.recurrent_dropout and self.training and batch is not None and name in self.cell.recurrent:
                ones = self.get_parameter(name).new_ones(batch, self.hidden)
                product = partial(_masked, product, F.dropout(ones, self.recurrent_dropout))
            products[name] = product
        return self._weights(products)

    def _weights(self, products: dict[str, Callable[[Tensor], Tensor]]) -> Weights:
        """Return the argument `w` of the cell's step: the given products and all vectors."""
        return SimpleNamespace(**products, **{name: self.get_parameter(name) for name in self.cell.vectors})

    def _matrix(self, name: str) -> Tensor:
        """Return the matrix of the cell's product `name`, a key of `Cell.products`.

        In training, if the product is recurrent, `weight_drop` sets some weights of its matrix to
        zero.
        """
        matrix = self.get_parameter(name)
        return F.dropout(matrix, self.weight_drop, self.training) if name in self.cell.recurrent else matrix


class _SteppedLayer(nn.Module):
    """`Layer.run_stepped` as a module, because a CUDA graph has gradients only for parameters of modules."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, projected: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.run_stepped(projected, state)


def _linear(matrix: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    rounded = matrix.to(dtype)
    return lambda x: F.linear(x.to(dtype), rounded)


def _masked(product: Callable[[Tensor], Tensor], mask: Tensor, x: Tensor) -> Tensor:
    return product(x * mask)


@contextlib.contextmanager
def _quiet_cudnn() -> Iterator[None]:
    """Silence cuDNN's warning that it copies weights that are not contiguous; the copy is fast."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        yield
