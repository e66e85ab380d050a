"""The two loops of a recurrent network, over time and over layers, written once for torch and numpy (no torch here)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from charlm.network.cells import Array

State = TypeVar("State")


def run_over_time(
    step: Callable[..., tuple[Array, ...]], inputs: Iterable[Array], state: Iterable[Array]
) -> tuple[list[Array], tuple[Array, ...]]:
    """The outputs of one layer, one per time step, and its last state.

    Args:
        step: (x, *state) to the new state, of which the first array is the output.
        inputs: What the step reads at each time.
        state: The arrays of the state before the first time step.
    """
    outputs, now = [], tuple(state)
    for x in inputs:
        now = step(x, *now)
        outputs.append(now[0])
    return outputs, now


def run_over_layers(
    run_layer: Callable[[int, Array, Any], tuple[Array, State]], x: Array, state: Any, *, residual: bool
) -> tuple[Array, list[State]]:
    """The last layer's output, and the new state of every layer.

    Args:
        run_layer: (number of the layer, input, state) to the layer's output and new state.
        x: Input of the first layer.
        state: The state of each layer.
        residual: Whether the input of each layer is added to its output, from the second layer on.
    """
    states = []
    for index in range(len(state)):
        y, new = run_layer(index, x, state[index])
        x = x + y if residual and index else y
        states.append(new)
    return x, states
