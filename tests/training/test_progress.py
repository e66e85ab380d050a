"""What a training knows of itself: how far it is, when it is over, and what a checkpoint keeps of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from charlm.config import Config
from charlm.config.limits import Limits
from charlm.evaluation.verdict import FEW_STEPS
from charlm.training import progress as module
from charlm.training.progress import Progress

NONE = Limits(math.inf, math.inf, math.inf, math.inf)


def limits_of(**groups: dict[str, Any]) -> Limits:
    config = Config.from_dict({"trainer": {"max_epochs": -1}} | groups)
    return Limits.of(config.trainer, config.checkpoint)


def at_batch(batch: int, batches_per_epoch: int, accumulate: int) -> Progress:
    return Progress(NONE, batch=batch, batches_per_epoch=batches_per_epoch, accumulate=accumulate)


# -- limits


def test_limits_come_from_the_settings() -> None:
    assert limits_of(trainer={"max_epochs": 3}, checkpoint={"patience": 4}) == Limits(3, math.inf, math.inf, 4)
    bounded = {"max_epochs": -1, "max_steps": 70, "max_time": "1m30s"}
    assert limits_of(trainer=bounded, checkpoint={"patience": 0}) == Limits(math.inf, 70, 90, math.inf)


@pytest.mark.parametrize(
    ("epochs", "steps", "elapsed", "stale", "reached"),
    [
        (2.9, 99, 9.9, 4, None),
        (3.0, 0, 0.0, 0, "epochs"),
        (3 - 1e-12, 0, 0.0, 0, "epochs"),  # a sum of fractions
        (0.0, 100, 0.0, 0, "steps"),
        (0.0, 0, 10.0, 0, "time"),
        (0.0, 0, 0.0, 5, "patience"),
        (3.0, 100, 10.0, 5, "epochs"),
    ],
)
def test_the_limit_that_is_reached(epochs: float, steps: int, elapsed: float, stale: int, reached: str | None) -> None:
    assert Limits(3, 100, 10, 5).reached(epochs, steps, elapsed, stale) == reached
    assert NONE.reached(epochs, steps, elapsed, stale) is None


def test_the_fraction_of_a_run_follows_the_limit_that_is_nearest() -> None:
    limits = Limits(4, 100, 10, 5)
    assert limits.fraction(1.0, 10, 1.0) == 0.25
    assert limits.fraction(1.0, 50, 1.0) == 0.5
    assert limits.fraction(1.0, 50, 7.5) == 0.75
    assert limits.fraction(9.0, 50, 7.5) == 1.0
    assert NONE.fraction(9.0, 50, 7.5) == 0.0


def test_progress_asks_its_limits() -> None:
    progress = Progress(Limits(2, 1000, math.inf, 3), step=5, batches_per_epoch=10)
    assert progress.fraction == 0.25
    assert progress.limit_reached() is None
    progress.stale_validations = 3
    assert progress.limit_reached() == "patience"
    progress.epoch = 2.0
    assert progress.limit_reached() == "epochs"


# -- steps and batches


@pytest.mark.parametrize(
    ("batches", "accumulate", "ends"),
    [(5, 1, [1, 2, 3, 4, 5]), (6, 2, [2, 4, 6]), (7, 3, [3, 6, 7]), (2, 5, [2])],
)
def test_a_step_ends_after_its_batches_and_at_the_end_of_an_epoch(
    batches: int, accumulate: int, ends: list[int]
) -> None:
    found = [at_batch(batch, batches, accumulate) for batch in range(1, batches + 1)]
    assert [progress.batch for progress in found if progress.step_ended] == ends
    assert [progress.batch for progress in found if progress.epoch_ended] == [batches]
    assert found[0].steps_per_epoch == len(ends)


@pytest.mark.parametrize(
    ("batches", "accumulate", "interval", "steps"),
    [
        (10, 1, 1, list(range(1, 11))),
        (10, 1, 3, [3, 6, 9]),
        (10, 4, 3, [4, 8, 10]),  # batches 3, then 6, then 9 lie within these steps
        (10, 2, 5, [6, 10]),
        (10, 4, 1, [4, 8, 10]),
        (10, 3, 10, [10]),
        (9, 3, 10, []),
    ],
)
def test_an_interval_of_batches_is_passed_once_in_the_step_in_which_it_lies(
    batches: int, accumulate: int, interval: int, steps: list[int]
) -> None:
    ends = [at_batch(batch, batches, accumulate) for batch in range(1, batches + 1)]
    passed = [progress.batch for progress in ends if progress.step_ended and progress.passed(interval)]
    assert passed == steps


# -- validations


def test_the_best_validation_is_kept() -> None:
    progress = Progress(NONE, step=FEW_STEPS)
    seen = []
    for epoch, loss in enumerate((3.0, 2.0, 2.0, 2.5, 1.0), 1):
        progress.epoch = float(epoch)
        progress.validated(loss, 1.5 * loss)
        seen.append((progress.improved, progress.stale_validations, progress.best_loss, progress.best_epoch))
    assert seen == [(True, 0, 3.0, 1), (True, 0, 2.0, 2), (False, 1, 2.0, 2), (False, 2, 2.0, 2), (True, 0, 1.0, 5)]
    assert progress.best_bits_per_character == 1.5


def test_patience_waits_for_the_first_steps() -> None:
    """Before, a run on a slow machine ended after 17 steps, when its loss was still that of the token frequencies."""
    progress = Progress(Limits(math.inf, math.inf, math.inf, 2))
    reasons = []
    for step in (10, FEW_STEPS - 2, FEW_STEPS - 1, FEW_STEPS, FEW_STEPS + 1):
        progress.step = step
        progress.validated(5.7, 8.2)
        reasons.append(progress.limit_reached())
    assert reasons == [None, None, None, None, "patience"]


# -- the clock and the checkpoint


def test_the_clock_counts_over_all_processes_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    progress = Progress(NONE)
    now += 5
    assert progress.elapsed == 0.0
    progress.start_clock()
    now += 2
    assert progress.elapsed == 2.0
    other = Progress(NONE)
    other.load_state_dict(progress.state_dict())
    now += 50
    assert other.elapsed == 2.0
    other.start_clock()
    now += 1
    assert other.elapsed == 3.0
    assert other.state_dict()["elapsed_before"] == 3.0


def test_a_checkpoint_keeps_what_cannot_be_learned_anew() -> None:
    counted: dict[str, Any] = {
        "step": 7, "epoch": 1.5, "tokens": 900, "skipped_steps": 2, "bad_steps": 1, "rollbacks": 1,
        "best_loss": 1.25,
        "best_bits_per_character": 1.75, "best_epoch": 1.0, "stale_validations": 3, "elapsed_before": 12.5,
        "validation_tokens": 2000,
    }  # fmt: skip
    of_this_process: dict[str, Any] = {
        "batches_per_epoch": 9, "accumulate": 2, "batch": 4, "improved": True, "rolled_back": True,
        "stop_reason": "time", "paused": 3.0,
    }  # fmt: skip
    progress = Progress(NONE, **counted, **of_this_process)
    assert progress.state_dict() == counted
    other = Progress(Limits(1, 2, 3, 4))
    other.load_state_dict(progress.state_dict())
    assert other == Progress(Limits(1, 2, 3, 4), **counted)


@pytest.mark.parametrize(
    "change", [{"step": -1}, {"step": True}, {"step": 1.5}, {"epoch": -0.5}, {"best_loss": math.nan}, {"tokens": "7"}]
)
def test_a_value_that_no_training_stores_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Progress(NONE).load_state_dict(Progress(NONE).state_dict() | change)
