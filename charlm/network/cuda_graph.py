"""`CudaGraph`: a window of many small GPU kernels, captured once and replayed with one launch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WindowFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function (inputs, state) -> (outputs, state)."""

MAX_GRAPHS = 8
"""Largest number of input shapes for which a graph is captured.

Each graph keeps its own memory, and the lines of a text have many lengths.
"""

TOLERANCE = 1e-2
"""Largest difference between a replay and a plain call that is taken for rounding.

It is relative and absolute. (A number in bf16 has 8 significant bits.)
"""


class CudaGraph:
    """A module (inputs, state) -> (outputs, state), replayed as one CUDA graph per input shape.

    A layer that calls its cell once per token launches some thousand kernels per window. Each runs
    for a few microseconds, and Python takes longer than that to launch it. A CUDA graph replays the
    forward and the backward pass with one launch each. Where a shape cannot be captured, or its
    graph gives other numbers than the module, a warning is given and the module itself is called
    for this shape. The module is also called for every shape after the first `MAX_GRAPHS`.

    Args:
        module: The module to capture; it must hold all the parameters that are used.
        random: Whether the module draws random numbers. The results of two calls then differ, and
            a graph is therefore not compared with the module.
        capture: The function that makes a graph from a module and example inputs; None:
            `torch.cuda.make_graphed_callables`.
    """

    def __init__(self, module: nn.Module, *, random: bool = False, capture: Callable[..., Any] | None = None) -> None:
        self.module = module
        self.random = random
        self.capture: Callable[..., Any] = capture or torch.cuda.make_graphed_callables
        self.functions: dict[Any, WindowFunction] = {}  # by shape: a graph, or the module

    def __call__(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        key = (inputs.shape, inputs.dtype, inputs.requires_grad, state.shape, state.dtype)
        if key not in self.functions:
            full = len(self.functions) >= MAX_GRAPHS
            self.functions[key] = self.module if full else self._graph_or_module(inputs, state)
        return self.functions[key](inputs, state)

    @property
    def captured(self) -> int:
        """The number of input shapes for which a graph is replayed."""
        return sum(function is not self.module for function in self.functions.values())

    def _graph_or_module(self, inputs: Tensor, state: Tensor) -> WindowFunction:
        examples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in (inputs, state))
        try:
            # Capturing replaces the forward of the module it is given: a shallow copy, which shares the parameters.
            graph: WindowFunction = self.capture(copy.copy(self.module), examples, allow_unused_input=True)
            with torch.no_grad():
                expected = self.module(*examples)
            for got, wanted in zip(graph(*examples), expected, strict=True):
                if not self.random and not torch.allclose(
                    got.detach().float(), wanted.float(), rtol=TOLERANCE, atol=TOLERANCE
                ):
                    raise RuntimeError("the graph gives other numbers")
        except Exception as error:  # whatever a driver or an allocator raises, the module itself is right
            warnings.warn(f"no CUDA graph is used for a window, which is slower: {error}", stacklevel=2)
            return self.module
        return graph


def can_capture(tensor: Tensor) -> bool:
    """Return whether a window with this input can be captured as a CUDA graph.

    It can if the input is on a GPU, gradients are enabled, no other capture is going on, and
    `torch.distributed` is not in use.
    """
    return (
        tensor.is_cuda
        and torch.is_grad_enabled()
        and not torch.cuda.is_current_stream_capturing()
        and not (torch.distributed.is_available() and torch.distributed.is_initialized())
    )
