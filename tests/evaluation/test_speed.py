"""Every cell is measured in turn, and torch keeps its settings."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from charlm.evaluation.speed import LANES, WINDOW, training_speed
from charlm.network.cells import cells


def test_every_cell_has_a_speed() -> None:
    reported: list[tuple[int, int]] = []
    before = torch.get_float32_matmul_precision()
    speeds = training_speed(list(cells), 8, rounds=1, progress=lambda what, done, total: reported.append((done, total)))
    assert set(speeds) == set(cells)
    assert all(speed > 0 for speed in speeds.values())
    assert reported[0] == (0, 2 * len(cells))
    assert reported[-1] == (1, 1)
    assert torch.get_float32_matmul_precision() == before


def test_speed_is_in_tokens_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * 0.25)  # from one call to the next
    assert training_speed(["rnn"], 8, rounds=3) == {"rnn": LANES * WINDOW / 0.25}
