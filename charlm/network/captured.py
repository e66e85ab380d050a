"""Captured: many small GPU kernels recorded once and replayed, so that a step costs microseconds of launch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Walk = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

SHAPES = 8
"""Shapes of windows that are captured; each graph keeps its own memory, and lines of a text have many lengths."""

DISTANCE = 1e-2
"""Largest difference between a replayed and a plain window that passes for rounding (bf16 has 8 bits)."""


class Captured:
    """A walk through a window, (inputs, state) to (outputs, state), as one CUDA graph for each shape of a window.

    A stepped layer launches some thousand kernels a window, each of a few microseconds, and Python needs longer than
    that for each launch. A CUDA graph replays forward and backward pass with one launch each. It is taken only where
    it works: a shape whose capture fails, or gives other numbers than the plain walk, is walked plainly from then on,
    with a warning.

    Args:
        steps: A module whose forward is the plain walk and whose parameters are what it uses.
        drawn: Whether the walk draws random numbers, so that two walks never agree and are not compared.
        capture: How a module and its example inputs become a graph.
    """

    def __init__(self, steps: nn.Module, *, drawn: bool = False, capture: Callable[..., Any] | None = None) -> None:
        self.steps = steps
        self.drawn = drawn
        self.capture: Callable[..., Any] = capture or torch.cuda.make_graphed_callables
        self.walks: dict[Any, Walk] = {}

    def __call__(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        key = (inputs.shape, inputs.dtype, inputs.requires_grad, state.shape, state.dtype)
        if key not in self.walks:
            self.walks[key] = self._captured(inputs, state) if len(self.walks) < SHAPES else self.steps
        return self.walks[key](inputs, state)

    def _captured(self, inputs: Tensor, state: Tensor) -> Walk:
        examples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in (inputs, state))
        try:
            # A copy of the module's face (not of its parameters): capturing replaces its forward.
            walk: Walk = self.capture(copy.copy(self.steps), examples, allow_unused_input=True)
            with torch.no_grad():
                expected = self.steps(*examples)
            for got, wanted in zip(walk(*examples), expected, strict=True):
                if not self.drawn and not torch.allclose(
                    got.detach().float(), wanted.float(), rtol=DISTANCE, atol=DISTANCE
                ):
                    raise RuntimeError("the graph gives other numbers")
        except Exception as error:  # whatever a driver or an allocator makes of it, the plain walk is right
            warnings.warn(f"a window's steps are launched one by one, which is slower: {error}", stacklevel=2)
            return self.steps
        return walk


def can_capture(tensor: Tensor) -> bool:
    """Whether a window is worth capturing: in training, on a GPU of one process, and not inside another capture."""
    return (
        tensor.is_cuda
        and torch.is_grad_enabled()
        and not torch.cuda.is_current_stream_capturing()
        and not (torch.distributed.is_available() and torch.distributed.is_initialized())
    )
