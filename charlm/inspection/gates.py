"""Measurements of the gates of a network: how open each gate is, and how often it is saturated."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from charlm.network.layer import TorchFunctions
from charlm.network.model import LanguageModel, evaluating

CLOSED, OPEN = 0.05, 0.95
"""A gate below `CLOSED` or above `OPEN` is saturated: the slope of its sigmoid is so small that
gradients vanish."""


class Recording(TorchFunctions):
    """The mathematical functions for the step of a cell, with a sigmoid that records its values.

    In a cell, a sigmoid is always a gate. So `values` holds the values of all gates in the order in
    which the step computes them.
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def sigmoid(self, x: Tensor) -> Tensor:  # type: ignore[override]
        self.values.append(torch.sigmoid(x))
        return self.values[-1]


@torch.no_grad()
def gate_activations(model: LanguageModel, ids: Tensor, state: Tensor | None = None) -> list[dict[str, Tensor]]:
    """Return the values of all gates while a network reads a window.

    The network first reads the window as usual. Then each layer reads its input again, token by
    token, while the values are recorded.

    Args:
        model: The network, in training or evaluation mode; dropout is switched off during the call.
        ids: (lanes, time) the tokens of the window.
        state: The recurrent state before the window; None: the zero state.

    Returns:
        For each layer, a dictionary from the name of a gate to its values, (lanes, time, units). It
        is empty for a cell without gates.
    """
    if not model.cell.gated:
        return [{} for _ in model.layers]
    entered: list[tuple[Tensor, ...]] = []
    keep = partial(_keep, entered)
    hooks = [layer.register_forward_pre_hook(keep) for layer in model.layers]
    try:
        with evaluating(model):
            model.hidden(ids.to(next(model.parameters()).device), state)
            return [_gates(layer, *arguments) for layer, arguments in zip(model.layers, entered, strict=True)]
    finally:
        for hook in hooks:
            hook.remove()


def saturation(values: Tensor) -> tuple[float, float]:
    """Return which fraction of a gate's values is below `CLOSED`, and which is above `OPEN`.

    Both are numbers from 0 to 1; `values` may have any shape.
    """
    return float((values < CLOSED).double().mean()), float((values > OPEN).double().mean())


def _keep(entered: list[tuple[Tensor, ...]], layer: Any, arguments: tuple[Tensor, ...]) -> None:
    entered.append(arguments)


def _gates(layer: Any, inputs: Tensor, state: Tensor, ids: Tensor | None = None) -> dict[str, Tensor]:
    dtype, recording = next(layer.parameters()).dtype, Recording()
    projected = layer.project(inputs, ids, dtype)
    layer.run_stepped(projected, state.to(dtype), recording)
    gates = len(recording.values) // len(projected)
    values = [torch.stack(recording.values[gate::gates], 1) for gate in range(gates)]
    names = layer.cell.sigmoids or [f"gate {number}" for number in range(1, len(values) + 1)]
    return dict(zip(names, values, strict=True))
