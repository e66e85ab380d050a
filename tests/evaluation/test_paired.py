"""Differences between networks over the same seeds, and the verdict."""

from __future__ import annotations

import math
import statistics

import pytest

from charlm.evaluation.paired import (
    Difference,
    Score,
    describe_choice,
    describe_seeds,
    deviation,
    mean,
    paired_difference,
    t_distribution,
    t_quantile,
)

# Quantiles of 0.975, from the table of Abramowitz and Stegun (1964), 26.10.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("degrees", "quantile"), QUANTILES.items())
def test_quantiles_of_student_s_t(degrees: int, quantile: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-4)
    assert t_distribution(0.0, degrees) == 0.5
    assert t_distribution(quantile, degrees) + t_distribution(-quantile, degrees) == pytest.approx(1)


def test_the_interval_is_of_the_differences_and_not_of_the_scores() -> None:
    best, other = [1.0, 2.0, 3.0], [1.1, 2.2, 3.3]  # far apart from seed to seed, always in the same order
    found = paired_difference(best, other)
    half = 4.302653 * statistics.stdev([0.1, 0.2, 0.3]) / math.sqrt(3)
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert found.relative == pytest.approx(0.1)


def test_one_seed_has_no_interval_and_a_diverged_network_is_clearly_worse() -> None:
    one = paired_difference([2.0], [3.0])
    assert (one.mean, one.low, one.high) == (1.0, -math.inf, math.inf)
    assert one.decision == "cannot be told apart"
    assert paired_difference([2.0, 2.0], [2.1, math.inf]).decision == "clearly better"
    assert mean([2.0, math.inf]) == math.inf
    assert math.isnan(deviation([2.0, math.inf]))
    assert math.isnan(deviation([2.0]))
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(
    ("difference", "decision"),
    [
        (Difference(0.1, 0.05, 0.15, 0.05), "clearly better"),
        (Difference(0.01, 0.005, 0.015, 0.005), "better by little"),
        (Difference(0.1, -0.01, 0.21, 0.05), "cannot be told apart"),
        (Difference(0.0, 0.0, 0.0, 0.0), "cannot be told apart"),
    ],
)
def test_decisions(difference: Difference, decision: str) -> None:
    assert difference.decision == decision


SCORES = {
    "rnn": [2.50, 2.51, 2.52],
    "gru": [2.011, 2.010, 2.012],  # always 0.01 above the best
    "lstm": [2.001, 2.000, 2.002],
    "window": [2.000, 2.010, 2.005],  # above and below it
}
SPEEDS = {"rnn": 9.0, "gru": 2.0, "lstm": 1.0, "window": 3.0}


def test_the_verdict_says_what_to_pick_and_how_sure_that_is() -> None:
    said = " ".join(describe_choice(SCORES, SPEEDS, {}))
    assert "lstm has the lowest mean, 2.001 bits per character of the validation split" in said
    assert "3 seeds do not tell it apart from window." in said
    assert "Pick lstm for this text, or window: it is less than 1% worse and trains faster." in said
    assert "lstm is clearly better than rnn (by 0.509 bits per character, 95% interval 0.485 to 0.533)." in said
    assert "lstm is better by little, but surely, than gru (by 0.010 bits" in said
    assert "lstm cannot be told apart from window (by 0.004 bits" in said
    assert "test split" not in said


def test_a_sure_verdict_names_one_network() -> None:
    sure = {name: SCORES[name] for name in ("lstm", "rnn")}
    test = {"lstm": [2.1, 2.1, 2.1], "rnn": [2.2, 2.2, 2.2]}
    said = describe_choice(sure, SPEEDS, test)
    assert said[0] == "Pick lstm for this text: 2.001 bits per character of the validation split."
    assert said[-1] == (
        "The test split, read once at the end, confirms this choice: lstm is best there (2.100 bits per character)."
    )
    other = describe_choice(sure, SPEEDS, {**test, "rnn": [2.0, 2.0, 2.0]})[-1]
    assert other == (
        "The test split, read once at the end, has another order: rnn is best there (2.000 bits per character, lstm "
        "2.100)."
    )


def test_what_one_seed_and_what_no_network_says() -> None:
    said = describe_choice({"lstm": [2.0], "gru": [2.1]}, SPEEDS, {})
    assert said == [
        "lstm is best with this seed, 2.000 bits per character of the validation split; another seed may change the "
        "order."
    ]
    assert "Every network diverged" in describe_choice({"a": [math.inf], "b": [math.inf]}, {"a": 1, "b": 1}, {})[0]
    assert "With one seed" in describe_seeds(1, 2)[0]
    assert "(Student's t with 2 degrees of freedom: 4.30 standard errors" in describe_seeds(3, 1)[0]
    assert len(describe_seeds(3, 1)) == 1
    assert describe_seeds(10, 3) == [
        "Each interval is of one comparison, without a correction for several comparisons."
    ]


def test_a_score_in_plain_values_has_none_for_infinity() -> None:
    assert Score.of({"loss": 1.5, "bits": None}) == Score(1.5, math.inf)
    for broken in ({"loss": 1.5}, {"loss": "x", "bits": 1.0}):
        with pytest.raises((KeyError, ValueError)):
            Score.of(broken)  # type: ignore[arg-type]
