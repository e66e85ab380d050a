"""What the gates of a network do: how open each is, and how often one is stuck open or shut."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.network.model import LanguageModel, evaluating
from charlm.network.recurrence import TorchFunctions

CLOSED, OPEN = 0.05, 0.95
"""Below and above this a gate is saturated: its sigmoid is so flat there that hardly any gradient passes."""


class Recording(TorchFunctions):
    """The functions of a cell's step that keep the value of every sigmoid: those are the gates."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def sigmoid(self, x: Tensor) -> Tensor:  # type: ignore[override]
        self.values.append(torch.sigmoid(x))
        return self.values[-1]


@torch.no_grad()
def gate_activations(model: LanguageModel, ids: Tensor, state: Tensor | None = None) -> list[dict[str, Tensor]]:
    """The values of every gate while a window is read, by the cell's own step.

    Args:
        model: The network, in any mode; nothing is dropped.
        ids: (lanes, time).
        state: What was read before; None: nothing.

    Returns:
        For each layer the gates by name, each (lanes, time, width); empty for a cell without gates.
    """
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
    """The shares of a gate's values below `CLOSED` and above `OPEN`."""
    return float((values < CLOSED).double().mean()), float((values > OPEN).double().mean())


def _keep(entered: list[tuple[Tensor, ...]], layer: Any, arguments: tuple[Tensor, ...]) -> None:
    entered.append(arguments)


def _gates(layer: Any, inputs: Tensor, state: Tensor, ids: Tensor | None = None) -> dict[str, Tensor]:
    weights = next(layer.parameters()).dtype
    inputs = (inputs if ids is None else F.embedding(ids, inputs)).to(weights)
    projected = F.linear(inputs, layer.W, layer.b) if layer.cell.gates else inputs
    w, now = layer.namespace(), state.to(weights).unbind()
    steps: list[list[Tensor]] = []
    for x in projected.unbind(1):
        f = Recording()
        now = layer.cell.step(f, w, x, *now)
        steps.append(f.values)
    values = [torch.stack(gate, 1) for gate in zip(*steps, strict=True)]
    names = layer.cell.sigmoids or [f"gate {number}" for number in range(1, len(values) + 1)]
    return dict(zip(names, values, strict=True))
