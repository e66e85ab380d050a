"""The loops over time and over layers, on numbers that can be followed by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from charlm.network import recurrence
from charlm.network.recurrence import run_in_lanes, run_over_layers, run_over_time


def test_over_time_the_state_is_handed_on_and_its_first_array_is_the_output() -> None:
    def step(x: np.ndarray, total: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, ...]:
        return total + x, x

    outputs, state = run_over_time(step, np.array([1.0, 2.0, 3.0]), np.array([10.0, 0.0]))
    assert outputs == [11.0, 13.0, 16.0]
    assert state == (16.0, 3.0)
    assert run_over_time(step, [], np.array([10.0, 0.0])) == ([], (10.0, 0.0))


def test_over_layers_a_residual_adds_the_input_from_the_second_layer_on() -> None:
    def run_layer(index: int, x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, str]:
        return 10 * x + state, f"new state {index}"

    x, state = np.array([1.0]), np.array([0.0, 1.0, 2.0])
    assert run_over_layers(run_layer, x, state, residual=False) == (
        [1012.0],
        ["new state 0", "new state 1", "new state 2"],
    )
    # 10, then 10 + 101 = 111, then 111 + 1112
    assert run_over_layers(run_layer, x, state, residual=True)[0] == [1223.0]


LENGTH, START = 3 * 8 * 2 + 5, np.full((1, 1, 1, 1), 7.0)


def read_text(decay: float, read: list[int], entered: dict[int, float]) -> Callable[[list[int], int, np.ndarray], Any]:
    """A reader whose state after token t is `decay` times the state before it, plus t + 1.

    Args:
        decay: How much of the state is kept per token.
        read: Gets the start of every window that is read.
        entered: Gets the state before every window that is read, by its start; the last time counts.
    """

    def reader(starts: list[int], size: int, state: np.ndarray) -> np.ndarray:
        assert state.shape == (1, 1, len(starts), 1)
        read.extend(starts)
        entered.update(zip(starts, state.ravel().tolist(), strict=True))
        now = state.copy()
        for time in range(size):
            now = decay * now + np.array(starts).reshape(1, 1, -1, 1) + time + 1
        return now

    return reader


@pytest.mark.parametrize(("decay", "most"), [(0.0, 1.2), (0.001, 1.5), (1.0, 2.5), (-1.0, 2.5)])
def test_a_text_that_is_read_in_lanes_has_the_states_of_one_lane(decay: float, most: float) -> None:
    """Also where the state forgets nothing, so that each lane is read again for each lane before it."""
    one: dict[int, float] = {}
    several: dict[int, float] = {}
    read: list[int] = []
    expected = run_in_lanes(read_text(decay, [], one), START, LENGTH, lanes=1, window=2)
    actual = run_in_lanes(read_text(decay, read, several), START, LENGTH, lanes=3, window=2)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert several == pytest.approx(one, rel=1e-12)
    assert len(read) <= most * len(one)
    assert START.item() == 7.0


def test_a_large_state_is_kept_for_few_windows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "MOST_NUMBERS", 1)  # blocks of the fewest windows, one after the other
    one: dict[int, float] = {}
    several: dict[int, float] = {}
    expected = run_in_lanes(read_text(0.5, [], one), START, 4 * LENGTH, lanes=1, window=2)
    actual = run_in_lanes(read_text(0.5, [], several), START, 4 * LENGTH, lanes=3, window=2)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert several == pytest.approx(one, rel=1e-12)


def test_only_a_text_that_is_long_enough_is_read_in_lanes() -> None:
    shapes: list[int] = []

    def reader(starts: list[int], size: int, state: np.ndarray) -> np.ndarray:
        shapes.append(len(starts))
        return state

    run_in_lanes(reader, START, 2 * 8 * 10 - 1, lanes=4, window=10)
    assert set(shapes) == {1}
    run_in_lanes(reader, START, 2 * 8 * 10, lanes=4, window=10)
    assert max(shapes) == 2


def test_the_loops_need_no_torch() -> None:
    code = "import sys, charlm.network.recurrence; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
