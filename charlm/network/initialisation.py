"""Where the weights of a recurrent layer start."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from charlm.network.recurrence import Layer

RecurrentInit = Literal["orthogonal", "identity", "normal"]


@torch.no_grad()
def initialise(
    layer: Layer,
    *,
    forget_bias: float = 1.0,
    chrono: int | None = None,
    gate_scale: float = 1.0,
    recurrent_init: str | None = None,
    recurrent_scale: float = 1.0,
) -> None:
    """W and products of the input normal of variance 1 / features (LeCun et al. 1998), biases at zero.

    That is where a cell does not say otherwise.

    Args:
        layer: Its parameters are set in place.
        forget_bias: Bias of the forget gate: one that starts open lets gradients reach far back (Gers et al. 2000,
            Jozefowicz et al. 2015).
        chrono: Longest dependency to start for, in tokens: forget gates start so that the units' memories last
            from 1 to so many steps, input gates as far closed (Tallec and Ollivier 2018). Instead of forget_bias.
        gate_scale: Size of the weights that drive gates, relative to those that drive what is written.
        recurrent_init: How each n x n part of a recurrent matrix starts: orthogonal (neither grows nor shrinks what
            passes, Saxe et al. 2014), identity (Le et al. 2015) or normal of variance 1 / n. None: as the cell says.
        recurrent_scale: Size of those parts. An LSTM's stacked matrix made orthogonal as a whole, as is common, has
            parts of 1/2.
    """
    cell, hidden = layer.cell, layer.hidden
    matrices = ["W", *cell.products] if cell.gates else list(cell.products)
    for name in matrices:
        for part, block in enumerate(layer.get_parameter(name).split(hidden)):
            if name in cell.products and name not in cell.inward:
                _start_recurrent(block, recurrent_init or cell.recurrent_init)
                block *= recurrent_scale
            else:
                nn.init.normal_(block, std=cell.input_scale * block.shape[1] ** -0.5)
            if part not in cell.candidates.get(name, ()):
                block *= gate_scale
    if cell.gates:
        layer.b.zero_()
    for name in cell.vectors:
        start = cell.starts.get(name, 0.0)
        low, high = start if isinstance(start, tuple) else (start, start)
        layer.get_parameter(name).uniform_(low, high)
    gated = cell.forget_gate is not None or cell.input_gate is not None
    biases = layer.get_parameter("b").split(hidden) if gated else ()
    if chrono is not None:
        spread = torch.empty(hidden).uniform_(1.0, max(1.0 + 1e-6, chrono - 1.0)).log()
        if cell.forget_gate is not None:
            biases[cell.forget_gate].copy_(spread)
        if cell.input_gate is not None:
            biases[cell.input_gate].copy_(-spread)
    elif cell.forget_gate is not None:
        biases[cell.forget_gate].fill_(forget_bias)


def _start_recurrent(block: Tensor, how: str) -> None:
    match how:
        case "identity":
            nn.init.eye_(block)
        case "normal":
            nn.init.normal_(block, std=block.shape[1] ** -0.5)
        case _:
            nn.init.orthogonal_(block)
