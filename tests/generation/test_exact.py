"""The exact stepper: the same bits in any batch, with any BLAS, and near the logits of float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_stepper import make_ids, make_model, make_stepper

from charlm.generation.exact import LOGIT_STEP, ExactStepper
from charlm.network.cells import cells

VARIANTS: list[dict[str, Any]] = [
    {},
    {"tie": True, "residual": True, "layer_norm": True},
    {"tie": True, "embedding": 6},
    {"zoneout": 0.3},
]


def make_exact(cell: str, **options: Any) -> ExactStepper:
    model = make_model(cell, **options)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return ExactStepper(weights, model.config, model.vocab_size)


def read(stepper: ExactStepper, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All logits (time, batch, vocab_size), and the last state."""
    logits, state = [], stepper.initial_state(len(ids))
    for column in ids.T:
        new, state = stepper.step(column, state)
        logits.append(new)
    return np.array(logits), state


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("cell", cells)
def test_a_row_is_the_same_bits_in_any_batch(cell: str, options: dict[str, Any]) -> None:
    if not cells[cell].gates and "embedding" in options:
        options = {**options, "embedding": 8}
    stepper, ids = make_exact(cell, **options), make_ids(64)
    logits, state = read(stepper, ids)
    for row in (0, 63):
        alone, own = read(stepper, ids[[row]])
        assert np.array_equal(alone, logits[:, [row]])
        assert np.array_equal(own, state[:, :, [row]])


@pytest.mark.parametrize("cell", cells)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_prompt_read_at_once_is_the_same_bits(cell: str, batch: int) -> None:
    stepper, ids = make_exact(cell), make_ids(batch)
    logits, state = read(stepper, ids)
    last, end = stepper.prefill(ids, stepper.initial_state(batch))
    assert np.array_equal(last, logits[-1])
    assert np.array_equal(end, state)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("cell", cells)
def test_logits_are_near_those_of_float32(cell: str, options: dict[str, Any]) -> None:
    if not cells[cell].gates and "embedding" in options:
        options = {**options, "embedding": 8}
    stepper, ids = make_stepper(make_model(cell, **options)), make_ids(3)
    logits, _ = read(make_exact(cell, **options), ids)
    state = stepper.initial_state(3)
    for time, column in enumerate(ids.T):
        expected, state = stepper.step(column, state)
        np.testing.assert_allclose(logits[time], expected, rtol=0, atol=0.05 * np.abs(expected).max())
    assert np.array_equal(logits / LOGIT_STEP, np.rint(logits / LOGIT_STEP))
