"""The loops over time and over layers, on numbers that can be followed by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from charlm.network.recurrence import run_over_layers, run_over_time


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


def test_the_loops_need_no_torch() -> None:
    code = "import sys, charlm.network.recurrence; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
