"""The sample history: what it leaves behind, and that it leaves training alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from charlm.config import Config
from charlm.errors import Interrupted
from charlm.evaluation.text_metrics import metrics
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.training import sample_logger
from charlm.training.preparation import prepare
from charlm.training.run_logger import CLOCK, REFERENCES
from charlm.training.sample_logger import TimeBudget
from charlm.training.trainer import fit, resume, train
from conftest import small_settings, small_text
from interruption import StopAt


def test_a_time_budget_is_available_again_in_proportion_to_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(sample_logger.time, "monotonic", lambda: now)
    budget = TimeBudget(0.1)
    assert budget.available
    with budget.timed():
        now += 2.0
    assert not budget.available
    now += 19.9
    assert not budget.available
    now += 0.2
    assert budget.available


# -- what they leave behind


def settings(folder: Path, **groups: dict[str, Any]) -> Config:
    path = folder / "text.txt"
    path.write_text(small_text(4000), encoding="utf-8")
    given: dict[str, dict[str, Any]] = {
        "samples": {"length": 20, "scored": 600, "prompts": ["", "The "]},
        "checkpoint": {"patience": 0},
    }
    return small_settings(path, **{"model": {"dropout": 0.3}, **given, **groups})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return settings(tmp_path_factory.mktemp("text"), inspect={"images": True})


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with samples, scores, histograms, images and embeddings."""
    return train(config, tmp_path_factory.mktemp("unbroken") / "run")


def test_every_point_has_scores_and_the_references_stand_beside_them(run: Run) -> None:
    steps = sorted({sample.step for sample in run.samples})
    assert len(steps) == 6
    known = json.loads((run.path / "quality.json").read_text(encoding="utf-8"))
    assert set(known["references"]) == {"held-out text", "1-gram model", "5-gram model"}
    names = set(metrics) - set(known["left_out"])
    assert len(names) > 1
    rows = {row["step"]: row for row in run.metrics if any(name.startswith("text_metrics/") for name in row)}
    assert sorted(rows) == steps
    for sample in run.samples:
        assert set(sample.scores) <= names
        assert sample.scores
        logged = {name: rows[sample.step][f"text_metrics/{name}"] for name in sample.scores}
        assert logged == pytest.approx(sample.scores, rel=1e-5)
    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    for source, values in known["references"].items():
        for name in values:
            line = events.Scalars(f"{REFERENCES}/{name}/{source}")
            assert [event.step for event in line] == steps
            assert [event.value for event in line] == pytest.approx([values[name]] * len(steps), rel=1e-6)


def test_scores_change_as_the_network_learns(run: Run) -> None:
    first, last = run.samples[0], run.samples[-1]
    assert first.scores != last.scores


def test_without_validation_text_only_what_needs_none_is_measured(tmp_path: Path) -> None:
    done = train(settings(tmp_path, data={"val_fraction": 0.0}), tmp_path / "run")
    assert "ngram_bits" in done.samples[-1].scores
    assert "reverse_ngram_bits" not in done.samples[-1].scores
    assert "reverse_ngram_bits" in done.directory.quality["left_out"]


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    done = train(settings(tmp_path, samples={"every": 0}), tmp_path / "run")
    assert done.samples == []
    assert done.directory.quality["references"] == {}


def test_in_a_run_bound_by_time_costly_points_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimeBudget, "available", property(lambda self: False))
    limits = {"max_time": "1h", "max_epochs": 4}
    done = train(settings(tmp_path, trainer=limits, samples={"scored": 0, "length": 5}), tmp_path / "run")
    assert [sample.epoch for sample in done.samples if sample.epoch >= 1] == [1.0, 4.0]
    named = {"scored": 0, "length": 5, "every": 1}
    done = train(settings(tmp_path, trainer=limits, samples=named), tmp_path / "all")
    assert [sample.epoch for sample in done.samples if sample.epoch >= 1] == [1.0, 2.0, 3.0, 4.0]


# -- that they leave training alone


def test_samples_scores_and_records_change_nothing(run: Run, tmp_path: Path) -> None:
    """Without samples, scores and diagnostics the weights are the same, bit for bit."""
    blind = settings(
        tmp_path, samples={"every": 0}, inspect={"images": False, "histograms": False, "embeddings": False}
    )
    other = train(blind, tmp_path / "run")
    assert (other.path / "last.safetensors").read_bytes() == (run.path / "last.safetensors").read_bytes()


@pytest.mark.parametrize("step", [1, 7, 14, 30, 57, 58, 80])
def test_interrupted_it_has_the_sample_history_of_an_unbroken_run(
    config: Config, run: Run, tmp_path: Path, step: int
) -> None:
    prepared = prepare(config, tmp_path / "run", Reporter())
    with pytest.raises(Interrupted):
        fit(prepared, Reporter(), callbacks=[StopAt(step)])
    other = resume(prepared.path)
    for name in ("samples.jsonl", "quality.json", "memory.json", "last.safetensors", "model.safetensors"):
        assert (other.path / name).read_bytes() == (run.path / name).read_bytes(), name
    tables = [
        [{name: value for name, value in row.items() if name not in CLOCK} for row in finished.metrics]
        for finished in (other, run)
    ]
    assert tables[0] == tables[1]


def test_seeds_of_samples_count_from_the_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(small_text(3000), encoding="utf-8")
    samples = {"seed": 5, "count": 2, "prompts": ["The", "A"]}
    run = train(small_settings(path, samples=samples, trainer={"max_steps": 1}), tmp_path / "run")
    first = [(sample.prompt, sample.seed) for sample in run.samples if sample.step == 0]
    assert first == [("The", 5), ("The", 6), ("A", 5), ("A", 6)]
