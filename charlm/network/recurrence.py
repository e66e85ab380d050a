"""The loops of a recurrent network over time, layers and lanes, written once for torch and numpy.

Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from charlm.network.cells import Array

State = TypeVar("State")


def run_over_time(
    step: Callable[..., tuple[Array, ...]], inputs: Iterable[Array], state: Iterable[Array]
) -> tuple[list[Array], tuple[Array, ...]]:
    """Run a layer over time; return its outputs, one per time step, and its last state.

    Args:
        step: A function (x, *state) -> new state; the first array of the state is the output.
        inputs: The input x of each time step.
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
    """Run all layers, each on the output of the previous one; return the final output and the new states.

    Args:
        run_layer: A function (number of the layer, input, state) -> (output, new state).
        x: Input of the first layer.
        state: The states of the layers, one after the other.
        residual: Whether the input of each layer is added to its output, from the second layer on.

    Returns:
        The output of the last layer, to which its input is added if `residual` says so, and the
        list of the new states of all layers.
    """
    states = []
    for index in range(len(state)):
        y, new = run_layer(index, x, state[index])
        x = x + y if residual and index else y
        states.append(new)
    return x, states


MOST_NUMBERS = 2**24
"""About how many numbers the states that `run_in_lanes` keeps at once may hold together.

The limit matters for cells whose state holds a window of tokens, such as the transformer.
"""

LEAST_WINDOWS = 8
"""Fewest windows of a lane; a text that is too short for this is read in fewer lanes.

Most of a shorter lane would be read twice.
"""


def run_in_lanes(
    read: Callable[[list[int], int, Any], Any], state: Any, length: int, *, lanes: int, window: int
) -> Any:
    """Read one text in lanes side by side; return the state that reading in one lane would give.

    At first each lane but the first is read from the zero state. If the lane before it ends in
    another state, the lane is read again from that state. This second pass stops after the first
    window that ends in the same state as before, because the rest would be the same, too. A network
    that forgets its past needs few windows for this; with one that does not forget, a lane may be
    read as often as there are lanes. (The idea is that of parallel-in-time integration, Lions,
    Maday and Turinici 2001.)

    Args:
        read: A function (starts, size, state) -> new state that reads `size` tokens from each of
            the positions `starts`; the state has a row for each position. A position may be read
            again; its last result is the valid one.
        state: The state before the first token, an array or tensor (layers, states, 1, hidden).
        length: Number of tokens of the text.
        lanes: Largest number of lanes.
        window: Number of tokens of a lane that are read at once; states are compared after each
            window.

    Returns:
        The state after the last token, (layers, states, 1, hidden); it equals that of reading in
        one lane up to rounding.
    """
    position = 0
    while rest := length - position:
        rows = max(1, min(lanes, rest // (window * LEAST_WINDOWS)))
        if rows == 1:
            size = min(window, rest)
            state, position = read([position], size, state), position + size
        else:
            kept = MOST_NUMBERS // (rows * math.prod(state.shape))
            windows = min(max(LEAST_WINDOWS, kept), rest // (window * rows))
            state, position = (
                _run_block(read, state, position, rows, windows, window),
                position + rows * windows * window,
            )
    return state


def _run_block(
    read: Callable[[list[int], int, Any], Any], state: Any, begin: int, lanes: int, windows: int, window: int
) -> Any:
    """Read `lanes` lanes of `windows` windows each, from position `begin`; see `run_in_lanes`.

    Returns:
        The state after the last lane, (layers, states, 1, hidden).
    """

    def starts(rows: list[int], number: int) -> list[int]:
        return [begin + (row * windows + number) * window for row in rows]

    rows = list(range(lanes))
    now = state[:, :, [0] * lanes]  # a copy
    now[:, :, 1:] = 0
    before = [now]  # the states of all lanes before each window, and after the last
    for number in range(windows):
        now = read(starts(rows, number), window, now)
        before.append(now)
    first, last = before[0], before[-1]
    while rows := [row for row in range(1, lanes) if _differ(last[:, :, row - 1], first[:, :, row])]:
        now = first[:, :, rows] = last[:, :, [row - 1 for row in rows]]
        for number in range(windows):
            now = read(starts(rows, number), window, now)
            changed = [i for i, row in enumerate(rows) if _differ(now[:, :, i], before[number + 1][:, :, row])]
            before[number + 1][:, :, rows] = now
            rows, now = [rows[i] for i in changed], now[:, :, changed]
            if not rows:
                break
    return last[:, :, -1:]


def _differ(a: Any, b: Any) -> bool:
    """Return whether two states differ by more than rounding errors.

    The tolerance is fixed, because a network that forgets its past keeps rounding errors small.
    """
    tolerance = 2.0**-44 if str(a.dtype).endswith("float64") else 2.0**-18
    return bool((abs(a - b) > tolerance * (1 + abs(b))).any())
