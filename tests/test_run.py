"""Run: which way a run writes."""

from __future__ import annotations

from pathlib import Path

import pytest

import charlm.run
from charlm.generation.stepper import NumpyStepper, TorchStepper
from charlm.run import Run


def test_many_rows_of_many_tokens_are_written_by_torch(tiny_run: Path) -> None:
    run = Run(tiny_run)
    assert isinstance(run.load_stepper(), NumpyStepper)
    assert isinstance(run.load_stepper(rows=1, tokens=10**9), NumpyStepper)  # one row always takes the same way
    assert isinstance(run.load_stepper(rows=64, tokens=64), NumpyStepper)
    assert isinstance(run.load_stepper(rows=64, tokens=10**6), TorchStepper)


def test_the_texts_do_not_depend_on_the_way(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to rounding, which a greedy choice among trained scores does not see."""
    monkeypatch.setattr("charlm.network.precision.quick_bf16", lambda: False)
    run = Run(tiny_run)
    texts = []
    for many in (10**9, 1):
        monkeypatch.setattr(charlm.run, "MANY_TOKENS", many)
        texts.append(["".join(rows) for rows in zip(*run.write(length=20, samples=16, temperature=0.0), strict=True)])
    assert texts[0] == texts[1]
