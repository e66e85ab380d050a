from __future__ import annotations

import pytest

from charlm.config import Config
from charlm.training.schedule import Schedule


def schedule(**values: object) -> Schedule:
    return Schedule(Config.from_dict({"optimizer": {"warmup": 0, **values}}).optimizer)


def test_cosine_and_linear_fall_to_the_final_fraction() -> None:
    cosine, linear = schedule(schedule="cosine", final_lr=0.1), schedule(schedule="linear", final_lr=0.1)
    assert cosine.factor(0, 0.0, 0) == linear.factor(0, 0.0, 0) == 1.0
    assert cosine.factor(9, 0.5, 0) == pytest.approx(0.55)
    assert linear.factor(9, 0.25, 0) == pytest.approx(0.775)
    assert cosine.factor(9, 1.0, 0) == linear.factor(9, 1.5, 0) == pytest.approx(0.1)


def test_warm_up_rises_from_near_zero_to_one() -> None:
    warm = schedule(schedule="constant", warmup=4)
    assert [warm.factor(step, 0.0, 0) for step in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]


def test_warm_up_takes_at_most_a_tenth_of_the_run() -> None:
    warm = schedule(schedule="constant", warmup=99)
    assert [warm.factor(step, step / 50, 0) for step in range(0, 8, 2)] == pytest.approx([0.01, 0.4, 0.8, 1.0])


def test_step_falls_every_so_many_epochs() -> None:
    falling = schedule(schedule="step", decay=0.5, decay_every=2)
    assert [falling.factor(0, 0.0, epoch) for epoch in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_plateau_falls_when_validations_stop_gaining_and_remembers() -> None:
    plateau = schedule(schedule="plateau", decay=0.5, decay_every=2)
    for loss in (3.0, 2.0, 2.5, 2.0):
        plateau.observe(loss)
    assert plateau.factor(0, 0.0, 0) == 0.5
    other = schedule(schedule="plateau", decay=0.5, decay_every=2)
    other.load_state_dict(plateau.state_dict())
    for one in (plateau, other):
        one.observe(1.0)
        one.observe(1.5)
        one.observe(1.5)
        assert one.factor(0, 0.0, 0) == 0.25
