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

from charlm.network.cells import Cell

KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN": torch._VF.rnn_tanh,
}


class TorchFunctions:
    """The namespace `f` of a cell's step for torch tensors."""

    tanh = staticmethod(torch.tanh)
    sigmoid = staticmethod(torch.sigmoid)

    @staticmethod
    def split(x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.chunk(parts, -1)

    @staticmethod
    def norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], gain, bias)


class Layer(nn.Module):
    """One recurrent layer: a cell's parameters under the cell's own names, run over windows of time.

    Where torch has a fused kernel with the cell's equations, that kernel runs; elsewhere, or with `stepped`
    set, the cell's own step is called once a token. Both read the same parameters and agree to rounding.

    Args:
        cell: The equations.
        features: Width of the input.
        hidden: Units of the layer.
        forget_bias: Initial bias of the forget gate.

    Attributes:
        W: (gates * hidden, features) and b: (gates * hidden,), the projection of the input.
        further parameters: (width * hidden, hidden) for each product, (width * hidden,) for each vector.
        stepped: Call the cell's own step even where there is a fused kernel.
    """

    def __init__(self, cell: Cell, features: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.cell, self.features, self.hidden = cell, features, hidden
        self.stepped = cell.fused is None
        if cell.gates:
            self.W = nn.Parameter(torch.empty(cell.gates * hidden, features))
            self.b = nn.Parameter(torch.empty(cell.gates * hidden))
        for name, width in cell.products.items():
            self.register_parameter(name, nn.Parameter(torch.empty(width * hidden, hidden)))
        for name, width in cell.vectors.items():
            self.register_parameter(name, nn.Parameter(torch.empty(width * hidden)))
        self.reset_parameters(forget_bias)

    @torch.no_grad()
    def reset_parameters(self, forget_bias: float = 1.0) -> None:
        """W normal of variance 1 / features (LeCun et al. 1998), orthogonal blocks of products, biases at zero.

        Orthogonal blocks neither grow nor shrink what passes through them (Saxe et al. 2014); a forget gate
        that starts open lets gradients reach far back (Gers et al. 2000, Jozefowicz et al. 2015).
        """
        if self.cell.gates:
            nn.init.normal_(self.W, std=self.features**-0.5)
            self.b.zero_()
            if self.cell.forget_gate is not None:
                self.b.split(self.hidden)[self.cell.forget_gate].fill_(forget_bias)
        for name in self.cell.products:
            for block in self.get_parameter(name).split(self.hidden):
                nn.init.orthogonal_(block)
        for name in self.cell.vectors:
            self.get_parameter(name).fill_(1.0 if name in self.cell.ones else 0.0)

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (batch, time, hidden) and the state (slots, batch, hidden) after the window.

        Args:
            inputs: (batch, time, features).
            state: (slots, batch, hidden).

        The state comes back as float32 (float64 from a float64 layer) whatever the precision: the kernels
        differ in what they accept and give back, and a state carried for long must not lose digits.
        """
        weights = next(self.parameters()).dtype
        double = weights == torch.float64
        device = inputs.device.type
        state = state.to(weights).contiguous()
        # Autocast rounds inputs and weights itself, the float32 state as the kernel likes; but it must not reach
        # the kernels of a float64 layer.
        if double or not torch.is_autocast_enabled(device):
            inputs = inputs.to(weights)
        with torch.autocast(device, enabled=False) if double else contextlib.nullcontext():
            outputs, state = (self._step_through if self.stepped else self._fuse)(inputs, state)
        return outputs, state.to(torch.float64 if double else torch.float32)

    def _fuse(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """torch's kernel; of its two biases the second is zero but for the cell's vectors."""
        assert self.cell.fused is not None
        (product,) = self.cell.products
        second = self.b.new_zeros(len(self.b) - sum(self.cell.vectors.values()) * self.hidden)
        second = torch.cat([second, *(self.get_parameter(name) for name in self.cell.vectors)])
        weights = [self.W, self.get_parameter(product), self.b, second]
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

    def _step_through(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The cell's own step, token by token; the input's projection is one product for the whole window."""
        w = self.namespace()
        projected = F.linear(inputs, self.W, self.b) if self.cell.gates else inputs
        now: tuple[Tensor, ...] = state.unbind()
        outputs = []
        for x in projected.unbind(1):
            now = self.cell.step(TorchFunctions, w, x, *now)
            outputs.append(now[0])
        return torch.stack(outputs, 1), torch.stack(now)

    def namespace(self) -> Any:
        """The namespace `w` of the cell's step: products as functions, vectors as tensors."""
        products = {name: partial(F.linear, weight=self.get_parameter(name)) for name in self.cell.products}
        return SimpleNamespace(**products, **{name: self.get_parameter(name) for name in self.cell.vectors})


@contextlib.contextmanager
def _quiet_cudnn() -> Iterator[None]:
    """cuDNN copies weights that do not lie in one block before it starts, and says so; the copy is quick."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        yield
