"""The initial weights of a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charlm.config import ModelConfig
from charlm.network.layer import Layer


@torch.no_grad()
def initialise(layer: Layer, config: ModelConfig) -> None:
    """Draw the initial parameters of a layer, in place.

    W and the other matrices that are applied to the input are drawn from a normal distribution of
    standard deviation s / sqrt(columns) (LeCun et al. 1998). For W, s is the cell's `input_scale`;
    for another matrix it is the `product_scale` that the cell gives it, else 1. The bias b is 0,
    but for the parts that `forget_bias` or `chrono` sets. Other vectors are 0, unless the cell's
    `vector_init` says otherwise.

    Args:
        layer: The layer whose parameters are set.
        config: The settings of the network, of which these are used:
            forget_bias: initial bias of the forget gate; an open gate lets gradients reach far back
                (Gers et al. 2000, Jozefowicz et al. 2015);
            chrono: longest dependency to expect, in tokens (Tallec and Ollivier 2018); 0: off. The
                biases of the forget gate are log u with u uniform from 1 to chrono - 1, so that the
                units remember for different times up to chrono; the biases of a separate input gate
                are -log u. The value of forget_bias is then not used;
            gate_scale: scale of the weights that feed gates, relative to those that feed the
                candidate state;
            recurrent_init: how each n x n part of a recurrent matrix starts, for n hidden units:
                orthogonal (keeps the length of a vector; Saxe et al. 2014), identity (Le et al.
                2015), normal of variance 1 / n, or default, which is the choice of the cell;
            recurrent_scale: scale of those parts. For comparison: if an LSTM's 4 n x n matrix
                starts orthogonal as a whole, as is common, each part has a scale of 1/2.
    """
    cell, hidden = layer.cell, layer.hidden
    matrices = ["W", *cell.products] if cell.gates else list(cell.products)
    for name in matrices:
        for part, block in enumerate(layer.get_parameter(name).split(hidden)):
            if name in cell.recurrent:
                how = cell.recurrent_init if config.recurrent_init == "default" else config.recurrent_init
                _start_recurrent(block, how)
                block *= config.recurrent_scale
            else:
                scale = cell.product_scale.get(name, 1.0) if name in cell.products else cell.input_scale
                nn.init.normal_(block, std=scale * block.shape[1] ** -0.5)
            if part not in cell.candidates.get(name, ()):
                block *= config.gate_scale
    if cell.gates:
        layer.b.zero_()
    for name in cell.vectors:
        start = cell.vector_init.get(name, 0.0)
        low, high = start if isinstance(start, tuple) else (start, start)
        layer.get_parameter(name).uniform_(low, high)
    gated = cell.forget_gate is not None or cell.input_gate is not None
    biases = layer.get_parameter("b").split(hidden) if gated else ()
    if config.chrono:
        spread = torch.empty(hidden).uniform_(1.0, max(1.0 + 1e-6, config.chrono - 1.0)).log()
        if cell.forget_gate is not None:
            biases[cell.forget_gate].copy_(spread)
        if cell.input_gate is not None:
            biases[cell.input_gate].copy_(-spread)
    elif cell.forget_gate is not None:
        biases[cell.forget_gate].fill_(config.forget_bias)


def _start_recurrent(block: Tensor, how: str) -> None:
    match how:
        case "identity":
            nn.init.eye_(block)
        case "normal":
            nn.init.normal_(block, std=block.shape[1] ** -0.5)
        case _:
            nn.init.orthogonal_(block)
