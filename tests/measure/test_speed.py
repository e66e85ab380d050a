"""Every cell is measured, in turns, and the machine is left as it was."""

from __future__ import annotations

import torch

from charlm.measure.speed import training_speed
from charlm.network.cells import cells


def test_every_cell_has_a_speed() -> None:
    told: list[tuple[int, int]] = []
    before = torch.get_float32_matmul_precision()
    speeds = training_speed(list(cells), 8, rounds=1, progress=lambda what, done, total: told.append((done, total)))
    assert set(speeds) == set(cells)
    assert all(speed > 0 for speed in speeds.values())
    assert told[0] == (0, 2 * len(cells))
    assert told[-1] == (1, 1)
    assert torch.get_float32_matmul_precision() == before
