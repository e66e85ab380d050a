"""The sample schedule: after which steps there are samples."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from charlm.config.limits import Limits
from charlm.training.progress import Progress
from charlm.training.sample_schedule import SampleSchedule, is_due


def progress(steps_per_epoch: int, total: int | None = None, *, step: int = 0, seconds: float = math.inf) -> Progress:
    """How far a run is that ends after so many steps or seconds."""
    limits = Limits(math.inf, total or math.inf, seconds, math.inf)
    return Progress(limits, step=step, batches_per_epoch=steps_per_epoch)


def points_of(progress: Progress, every: int | Literal["auto"], to: int, seconds_per_step: float = 0.0) -> list[int]:
    """The steps that are points, from where the run stands to step `to`."""
    schedule = SampleSchedule(every)
    schedule.start(progress)
    found = []
    for step in range(progress.step + 1, to + 1):
        progress.step, progress.elapsed_before = step, step * seconds_per_step
        progress.epoch = step / progress.batches_per_epoch
        progress.batch = (step - 1) % progress.batches_per_epoch + 1
        if schedule.reached(progress):
            found.append(step)
    return found


def test_epochs_are_points_ever_more_rarely() -> None:
    assert [epoch for epoch in range(1, 301) if is_due(epoch)] == [
        *range(1, 11), *range(12, 21, 2), *range(25, 51, 5), *range(60, 101, 10), *range(120, 201, 20), 250, 300,
    ]  # fmt: skip
    assert [epoch for epoch in range(1, 13) if is_due(epoch, 4)] == [4, 8, 12]


def test_points_of_a_run_of_epochs() -> None:
    ends = [16 * epoch for epoch in [*range(1, 11), 12]]
    assert points_of(progress(16, 16 * 12), "auto", 16 * 12) == [2, 4, 8, *ends]
    assert points_of(progress(16, 16 * 12), 5, 16 * 12) == [2, 4, 8, 80, 160]
    assert points_of(progress(16, 16 * 12), 0, 16 * 12) == []
    assert points_of(progress(3, 6), "auto", 6) == [1, 2, 3, 6]  # an epoch of three steps


def test_a_run_that_ends_within_its_first_epoch_has_them_in_what_it_has() -> None:
    assert points_of(progress(10_000, 80), "auto", 80) == [10, 20, 40]
    assert points_of(progress(10_000, seconds=1.0), "auto", 80, seconds_per_step=1 / 80) == [10, 20, 40]


@pytest.mark.parametrize("start", range(1, 40))
def test_a_resumed_run_has_the_points_of_one_that_was_not_interrupted(start: int) -> None:
    whole = points_of(progress(11, 40), "auto", 40)
    before = points_of(progress(11, 40), "auto", start)
    after = points_of(progress(11, 40, step=start), "auto", 40)
    assert before + after == whole
