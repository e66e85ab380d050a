"""A budget is divided between the search of the learning rate and the trials."""

from __future__ import annotations

import pytest

from charlm.config import TrainerConfig
from charlm.config.durations import seconds
from charlm.errors import CharlmError
from charlm.experiments.budget import SEARCH_FRACTION, Budget, divide


@pytest.mark.parametrize(("seeds", "searched"), [(3, 3), (3, 5), (1, 3), (5, 0)])
def test_search_and_trials_together_use_the_budget_of_all_seeds(seeds: int, searched: int) -> None:
    shares = divide(Budget(steps=100_000), seeds, searched)
    assert shares.trial.steps is not None
    assert shares.search.steps is not None
    used = seeds * shares.trial.steps + searched * shares.search.steps
    assert seeds * 100_000 - seeds - searched <= used <= seeds * 100_000
    if searched:
        assert shares.search.steps == pytest.approx(SEARCH_FRACTION * shares.trial.steps, abs=1)
    timed = divide(Budget(seconds=600), seeds, searched)
    assert timed.trial.seconds is not None
    assert timed.trial.seconds == pytest.approx(600 * seeds / (seeds + SEARCH_FRACTION * searched), abs=0.5)


def test_a_budget_bounds_a_trainer_by_itself_alone() -> None:
    trainer = TrainerConfig(max_epochs=3, max_steps=7, max_time="9s")
    timed = Budget(seconds=90.0).limit(trainer)
    assert (seconds(timed.max_time), timed.max_steps, timed.max_epochs) == (90.0, -1, -1)
    stepped = Budget(steps=12).limit(trainer)
    assert (stepped.max_time, stepped.max_steps, stepped.max_epochs) == ("", 12, -1)
    assert (str(Budget(seconds=90.0)), str(Budget(steps=1200))) == ("1m30s", "1,200 optimiser steps")


def test_a_budget_too_small_for_a_validation_says_what_is_needed() -> None:
    with pytest.raises(CharlmError, match=r"too small: a trial of the search .* 0\.36 seconds; give at least 5"):
        divide(Budget(seconds=1.8), 3, 3)
    with pytest.raises(CharlmError, match=r"one optimiser step; give at least 5 optimiser steps \(640 tokens\), or"):
        divide(Budget(steps=4), 3, 3, tokens_per_step=128)
    with pytest.raises(CharlmError, match=r"a trial would have less than .* at least 1 optimiser step$"):
        divide(Budget(steps=0), 3, 0)
    assert divide(Budget(steps=5), 3, 3).search.steps == 1
    assert divide(Budget(steps=1), 3, 0).trial.steps == 1
