"""Layer: the parameters of a cell and its way through a window of time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.network.captured import Captured, Walk, can_capture
from charlm.network.cells import Cell, LinearCell, Way, moving, recurrent, way
from charlm.network.window import deferred, scan

KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}


class TorchFunctions:
    """The namespace `f` of a cell's step for torch tensors."""

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


class Layer(nn.Module):
    """One recurrent layer: a cell's parameters under the cell's own names, run over windows of time.

    There are three ways through a window, all over the same parameters, equal to rounding: torch's fused kernel, where
    it has one with the cell's equations; a scan, for cells without a recurrent product; and the cell's own step,
    called once a token, for everything else.

    Args:
        cell: The equations.
        features: Width of the input.
        hidden: Units of the layer.
        zoneout: Chance that a unit keeps its state for a step in training; what that gives on average is computed
            at other times (Krueger et al. 2017).
        recurrent_dropout: Share of the state that recurrent products do not see in training, the same units for a
            whole window (Gal and Ghahramani 2016).
        weight_drop: Share of the recurrent weights that are zero for a window of training (DropConnect; Wan et al.
            2013, Merity et al. 2018).

    Attributes:
        W: (gates * hidden, features) and b: (gates * hidden,), the projection of the input.
        further parameters: (width * hidden, hidden) for each product, (width * hidden,) for each vector.
        stepped: Call the cell's own step even where there is a quicker way.
    """

    def __init__(
        self,
        cell: Cell,
        features: int,
        hidden: int,
        *,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.cell, self.features, self.hidden = cell, features, hidden
        self.zoneout, self.recurrent_dropout, self.weight_drop = zoneout, recurrent_dropout, weight_drop
        self.stepped = False
        self._captured: Captured | None = None
        if cell.gates:
            self.W = nn.Parameter(torch.zeros(cell.gates * hidden, features))
            self.b = nn.Parameter(torch.zeros(cell.gates * hidden))
        for name, width in cell.products.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(width * hidden, hidden)))
        for name, width in cell.vectors.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(width * hidden)))

    def way(self, device: str) -> Way:
        """The way through a window on a device ("cpu", "cuda", ...), in training or not as the layer is now."""
        unseen = bool(self.recurrent_dropout and self.training and recurrent(self.cell))
        return "stepped" if self.stepped or self.zoneout or unseen else way(self.cell, device, self.hidden)

    def describe(self, device: str) -> str:
        """The way through a window of training in words, and why where a setting decides it."""
        match self.way(device):
            case "fused":
                return f"torch's {self.cell.fused} kernel"
            case "scan":
                return "a scan over the whole window"
        quicker = way(self.cell, device, self.hidden) != "stepped"
        reason = f": {'zoneout' if self.zoneout else 'recurrent dropout'} acts in every step" if quicker else ""
        return f"the cell's own step, once a token{reason}"

    def forward(self, inputs: Tensor, state: Tensor, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (batch, time, hidden) and the state (slots, batch, hidden) after the window.

        Args:
            inputs: (batch, time, features); or, with `ids`, a table (tokens, features).
            state: (slots, batch, hidden).
            ids: (batch, time), the rows of the table that are the inputs. A table of fewer rows than the window
                has tokens is projected row by row, and what is read is looked up.

        The state comes back as float32 (float64 from a float64 layer) whatever the precision: the kernels
        differ in what they accept and give back, and a state carried for long must not lose digits.
        """
        weights = next(self.parameters()).dtype
        double = weights == torch.float64
        device = inputs.device.type
        state = state.to(weights).contiguous()
        mixed = torch.is_autocast_enabled(device) and not double
        chosen = self.way(device)
        if chosen == "fused":
            if ids is not None:
                inputs = F.embedding(ids, inputs)
            # Autocast rounds inputs and weights itself, the float32 state as the kernel likes; but it must not reach
            # the kernels of a float64 layer.
            with contextlib.nullcontext() if mixed else torch.autocast(device, enabled=False):
                outputs, state = self._fuse(inputs if mixed else inputs.to(weights), state)
        else:
            dtype = torch.get_autocast_dtype(device) if mixed else weights
            with torch.autocast(device, enabled=False):  # rounded by hand below, which is quicker step by step
                projected = self._project(inputs, ids, dtype)
                walk = self._scan if chosen == "scan" else self._walk(projected)
                outputs, state = walk(projected, state)
        return outputs, state.to(torch.float64 if double else torch.float32)

    def _project(self, inputs: Tensor, ids: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What the cell's steps read, (time, batch, gates * hidden): one product for the whole window."""
        project = self.projection(dtype)
        if ids is None:
            return project(inputs.transpose(0, 1))
        if len(inputs) < ids.numel():
            return F.embedding(ids.T, project(inputs))
        return project(F.embedding(ids.T, inputs))

    def _fuse(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """torch's kernel; of its two biases the second is zero but for the cell's vectors."""
        assert self.cell.fused is not None
        (product,) = self.cell.products
        second = self.b.new_zeros(len(self.b) - sum(self.cell.vectors.values()) * self.hidden)
        second = torch.cat([second, *(self.get_parameter(name) for name in self.cell.vectors)])
        weights = [self.W, self._matrix(product), self.b, second]
        parts = state.unsqueeze(1).unbind()  # each (1, batch, hidden): kernels count layers first
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

    def _scan(self, projected: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """All coefficients of a linear recurrence at once, then the recurrence."""
        assert isinstance(self.cell, LinearCell)
        # In full precision, for a gate of 0.999 that is rounded to 8 bits forgets nothing any more.
        a, b = self.cell.coefficients(TorchFunctions, self.namespace(), projected.to(state.dtype))
        outputs = scan(a, b, state[0])
        return outputs.transpose(0, 1), outputs[-1:]

    def _walk(self, projected: Tensor) -> Walk:
        """The steps of a window, captured as one graph in training on a GPU."""
        if not (self.training and can_capture(projected)):
            return self.step_through
        if self._captured is None:
            drawn = bool(self.zoneout or self.recurrent_dropout or self.weight_drop)
            self._captured = Captured(_Steps(self), drawn=drawn)
        return self._captured

    def step_through(self, projected: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The cell's own step, token by token: outputs (batch, time, hidden) and the state.

        Args:
            projected: What the steps read, (time, batch, gates * hidden), in the precision of the products.
            state: (slots, batch, hidden).
        """
        step = self.bound_step(projected.dtype, state.shape[1])
        now: tuple[Tensor, ...] = state.unbind()
        outputs = []
        for x in projected.unbind(0):
            now = step(x, *now)
            outputs.append(now[0])
        return torch.stack(outputs, 0).transpose(0, 1), torch.stack([part.to(state.dtype) for part in now])

    def bound_step(self, dtype: torch.dtype, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        """The cell's step over this layer's parameters as they are now: called with x and the parts of the state.

        Args:
            dtype: What products are computed in.
            batch: Rows of the state.
        """
        step = self.cell.step
        if self.zoneout:
            share, parameter = 1.0 - self.zoneout, next(self.parameters())
            step = moving(
                step,
                lambda: parameter.new_empty(batch, self.hidden).bernoulli_(share) if self.training else share,
            )
        return partial(step, TorchFunctions, self.namespace(dtype, batch))

    def projection(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The function from inputs (..., features) to W x + b, or to themselves for a cell that reads them raw."""
        if not self.cell.gates:
            return lambda x: x.to(dtype)
        W, b = self.W.to(dtype), self.b.to(dtype)
        return lambda x: F.linear(x.to(dtype), W, b)

    def namespace(self, dtype: torch.dtype | None = None, batch: int | None = None) -> Any:
        """The namespace `w` of the cell's step: products as functions, vectors as tensors.

        Args:
            dtype: What products are computed in; the parameters' own if None.
            batch: Rows of the state, for which units are drawn that recurrent dropout hides; None: none are.
        """
        dtype = dtype or next(self.parameters()).dtype
        products = {}
        for name in self.cell.products:
            product = deferred(self._matrix(name), dtype)
            if self.recurrent_dropout and self.training and batch is not None and name not in self.cell.inward:
                kept = self.get_parameter(name).new_ones(batch, self.hidden)
                product = partial(_hidden_from, product, F.dropout(kept, self.recurrent_dropout))
            products[name] = product
        return SimpleNamespace(**products, **{name: self.get_parameter(name) for name in self.cell.vectors})

    def _matrix(self, name: str) -> Tensor:
        """A product's matrix, with weights dropped if it is a recurrent one in training."""
        matrix = self.get_parameter(name)
        if name in self.cell.inward:
            return matrix
        return F.dropout(matrix, self.weight_drop, self.training)


class _Steps(nn.Module):
    """The steps of a layer with the layer's parameters, as a graph is captured from."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, projected: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.step_through(projected, state)


def _hidden_from(product: Callable[[Tensor], Tensor], kept: Tensor, x: Tensor) -> Tensor:
    return product(x * kept)


@contextlib.contextmanager
def _quiet_cudnn() -> Iterator[None]:
    """cuDNN copies weights that do not lie in one block before it starts, and says so; the copy is quick."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        yield
