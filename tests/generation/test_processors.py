"""Logits processors on exact arrays; what holds for all of them is tested for every registered one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

from charlm.config.fields import bounds
from charlm.errors import CharlmError
from charlm.generation.processors import processors

INF = np.inf
LOGITS = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.floats(-30, 30))


def values_of(name: str) -> list[float]:
    """Some values in the range of a processor, its bounds among them."""
    processor = processors[name]
    limits = bounds(processor.type)
    low, high = limits.get(">=", 0), limits.get("<=", 5)
    return [processor.parse(low + share * (high - low)) for share in (0, 0.2, 0.6, 1)]


def apply(name: str, value: float, logits: ArrayLike) -> list[list[float]]:
    return processors[name](np.array(logits, dtype=np.float64), value).tolist()


@pytest.mark.parametrize("name", processors)
def test_the_default_changes_nothing(name: str) -> None:
    logits = np.array([[1.0, -INF, 3.0]])
    assert processors[name](logits, processors[name].default) is logits


@pytest.mark.parametrize("name", processors)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_token_stays_and_what_was_ruled_out_stays_out(name: str, data: Any) -> None:
    logits = data.draw(LOGITS)
    ruled_out = data.draw(arrays(np.bool_, logits.shape))
    ruled_out[:, data.draw(st.integers(0, logits.shape[1] - 1))] = False
    logits[ruled_out] = -INF
    before = logits.copy()
    for value in values_of(name):
        result = processors[name](logits, value)
        assert result.shape == logits.shape
        assert result.dtype == np.float64
        assert np.array_equal(logits, before), "the input must not be changed in place"
        assert (result[ruled_out] == -INF).all()
        assert np.isfinite(result.max(-1)).all()
        # The likeliest token stays the likeliest, and rows do not see each other.
        assert np.array_equal(np.take_along_axis(result, logits.argmax(-1)[:, None], -1)[:, 0], result.max(-1))
        for row in range(len(logits)):
            assert np.array_equal(processors[name](logits[row : row + 1], value), result[row : row + 1])


@pytest.mark.parametrize("name", processors)
def test_values_are_read_from_text_and_held_to_their_range(name: str) -> None:
    processor = processors[name]
    assert processor.parse("1") == 1
    limits = bounds(processor.type)
    assert type(processor.parse("1")) is type(processor.default)
    assert processor.parse(processor.default) == processor.default
    with pytest.raises(CharlmError, match=f"`{name}` must be a"):
        processor.parse("much")
    with pytest.raises(CharlmError, match=f"`{name}` must be a"):
        processor.parse("nan")
    with pytest.raises(CharlmError, match=f"`{name}` must be at least {limits['>=']:g}, not"):
        processor.parse(limits[">="] - 1)
    if "<=" in limits:
        with pytest.raises(CharlmError, match=f"`{name}` must be at most {limits['<=']:g}, not"):
            processor.parse(limits["<="] + 0.5)


def test_an_unknown_processor_names_the_nearest() -> None:
    with pytest.raises(CharlmError, match=r"no logits processor 'topk'; .*did you mean 'top_k'"):
        processors["topk"]


def test_they_come_in_the_usual_order() -> None:
    assert sorted(processors, key=lambda name: processors[name].order) == ["temperature", "top_k", "top_p", "min_p"]


def test_temperature_divides() -> None:
    assert apply("temperature", 0.5, [[1.0, 3.0, -INF]]) == [[-4.0, 0.0, -INF]]
    assert apply("temperature", 2.0, [[1.0, 3.0], [8.0, 0.0]]) == [[-1.0, 0.0], [0.0, -4.0]]


def test_temperature_zero_keeps_the_first_of_the_most_probable() -> None:
    assert apply("temperature", 0.0, [[1.0, 3.0, 3.0], [-INF, -5.0, -6.0]]) == [[-INF, 3.0, -INF], [-INF, -5.0, -INF]]


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert apply("temperature", 1e-320, [[1.0, 3.0, 3.0]]) == [[-INF, 0.0, 0.0]]


def test_top_k() -> None:
    logits = [[1.0, 4.0, 2.0, 3.0]]
    assert apply("top_k", 1, logits) == [[-INF, 4.0, -INF, -INF]]
    assert apply("top_k", 2, logits) == [[-INF, 4.0, -INF, 3.0]]
    assert apply("top_k", 4, logits) == logits
    assert apply("top_k", 100, logits) == logits
    # Equals of the last stay; with fewer finite logits than k all of them stay.
    assert apply("top_k", 2, [[1.0, 3.0, 3.0, 3.0]]) == [[-INF, 3.0, 3.0, 3.0]]
    assert apply("top_k", 3, [[1.0, -INF, -INF, 2.0]]) == [[1.0, -INF, -INF, 2.0]]


def test_top_p() -> None:
    logits = np.log([[0.125, 0.5, 0.25, 0.125]])
    a, b, c, d = logits[0].tolist()
    assert apply("top_p", 0.0, logits) == [[-INF, b, -INF, -INF]]
    assert apply("top_p", 0.4, logits) == [[-INF, b, -INF, -INF]]
    assert apply("top_p", 0.5, logits) == [[-INF, b, -INF, -INF]]  # reached exactly
    assert apply("top_p", 0.6, logits) == [[-INF, b, c, -INF]]
    assert apply("top_p", 0.74, logits) == [[-INF, b, c, -INF]]
    assert apply("top_p", 0.8, logits) == [[a, b, c, d]]  # the two last are equal
    assert apply("top_p", 0.9, [[0.0, -INF]]) == [[0.0, -INF]]
    assert apply("top_p", 0.6, [[7.0, 7.0 - 50]]) == [[7.0, -INF]]


def test_min_p() -> None:
    logits = np.log([[0.1, 0.6, 0.3]])
    a, b, c = logits[0].tolist()
    assert apply("min_p", 0.16, logits) == [[a, b, c]]
    assert apply("min_p", 0.17, logits) == [[-INF, b, c]]
    assert apply("min_p", 0.51, logits) == [[-INF, b, -INF]]
    assert apply("min_p", 1.0, [[2.0, 3.0, 3.0]]) == [[-INF, 3.0, 3.0]]
