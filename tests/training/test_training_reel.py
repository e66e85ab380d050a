"""The reel: where its points are, what they leave behind, and that they leave training alone."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from charlm.config import Config
from charlm.errors import Interrupted
from charlm.measure.quality import measures
from charlm.run import Run, read_metrics
from charlm.training import reel
from charlm.training.module import LanguageModule
from charlm.training.record import CLOCK, REFERENCES
from charlm.training.reel import Pace, Points, is_point
from charlm.training.trainer import fit, prepare, resume, train
from charlm.watcher import Watcher
from conftest import small_settings, small_text

# -- where the points are


@dataclass
class Progress:
    """How far a run is, as far as `Points` wants to know of a module."""

    steps_per_epoch: int
    total: int | None = None
    global_step: int = 0
    clock: float = 0.0

    @property
    def share(self) -> float:
        return max(self.global_step / self.total if self.total else 0.0, self.clock)


def points_of(progress: Progress, every: int | None, to: int, seconds_a_step: float = 0.0) -> list[int]:
    """The steps that are points, from where the run stands to step `to`."""
    points, module = Points(every), cast(LanguageModule, progress)
    points.start(module)
    found = []
    for step in range(progress.global_step + 1, to + 1):
        progress.global_step, progress.clock = step, step * seconds_a_step
        epoch_ends = step % progress.steps_per_epoch == 0
        if points.reached(module, step / progress.steps_per_epoch, epoch_ends):
            found.append(step)
    return found


def test_epochs_are_points_ever_more_rarely() -> None:
    assert [epoch for epoch in range(1, 301) if is_point(epoch)] == [
        *range(1, 11), *range(12, 21, 2), *range(25, 51, 5), *range(60, 101, 10), *range(120, 201, 20), 250, 300,
    ]  # fmt: skip
    assert [epoch for epoch in range(1, 13) if is_point(epoch, 4)] == [4, 8, 12]


def test_points_of_a_run_of_epochs() -> None:
    assert points_of(Progress(16, 16 * 12), None, 16 * 12) == [2, 4, 8, *(16 * epoch for epoch in [*range(1, 11), 12])]
    assert points_of(Progress(16, 16 * 12), 5, 16 * 12) == [2, 4, 8, 80, 160]
    assert points_of(Progress(16, 16 * 12), 0, 16 * 12) == []
    assert points_of(Progress(3, 6), None, 6) == [1, 2, 3, 6]  # an epoch of three steps


def test_a_run_that_ends_within_its_first_epoch_has_them_in_what_it_has() -> None:
    assert points_of(Progress(10_000, 80), None, 80) == [10, 20, 40]
    assert points_of(Progress(10_000), None, 80, seconds_a_step=1 / 80) == [10, 20, 40]


@pytest.mark.parametrize("start", range(1, 40))
def test_a_run_that_goes_on_has_the_points_of_one_that_was_not_interrupted(start: int) -> None:
    whole = points_of(Progress(11, 40), None, 40)
    before = points_of(Progress(11, 40), None, start)
    after = points_of(Progress(11, 40, global_step=start), None, 40)
    assert before + after == whole


def test_pace_rests_in_proportion_to_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(reel.time, "monotonic", lambda: now)
    pace = Pace(0.1)
    assert pace.rested
    with pace.timed():
        now += 2.0
    assert not pace.rested
    now += 19.9
    assert not pace.rested
    now += 0.2
    assert pace.rested


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
    assert set(known["references"]) == {"held-out text", "order-1 characters", "order-5 characters"}
    names = set(measures) - set(known["left_out"])
    assert len(names) > 1
    rows = {row["step"]: row for row in run.metrics if any(name.startswith("quality/") for name in row)}
    assert sorted(rows) == steps
    for sample in run.samples:
        assert set(sample.scores) <= names
        assert sample.scores
        logged = {name: rows[sample.step][f"quality/{name}"] for name in sample.scores}
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
    assert "reverse_ngram_bits" in done.quality["left_out"]


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    done = train(settings(tmp_path, samples={"every": 0}), tmp_path / "run")
    assert done.samples == []
    assert not (done.path / "quality.json").exists()


def test_in_a_run_bound_by_time_costly_points_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "rested", property(lambda self: False))
    limits = {"max_time": "1h", "max_epochs": 4}
    done = train(settings(tmp_path, trainer=limits, samples={"scored": 0, "length": 5}), tmp_path / "run")
    assert [sample.epoch for sample in done.samples if sample.epoch >= 1] == [1.0, 4.0]
    named = {"scored": 0, "length": 5, "every": 1}
    done = train(settings(tmp_path, trainer=limits, samples=named), tmp_path / "all")
    assert [sample.epoch for sample in done.samples if sample.epoch >= 1] == [1.0, 2.0, 3.0, 4.0]


# -- that they leave training alone


def test_looking_changes_nothing(run: Run, tmp_path: Path) -> None:
    """Without samples, scores and looks the weights are the same, bit for bit."""
    blind = settings(
        tmp_path, samples={"every": 0}, inspect={"images": False, "histograms": False, "embeddings": False}
    )
    other = train(blind, tmp_path / "run")
    assert (other.path / "last.safetensors").read_bytes() == (run.path / "last.safetensors").read_bytes()


class StopAt(lightning.Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [1, 7, 14, 30, 57, 58, 80])
def test_interrupted_it_is_the_reel_of_an_unbroken_run(config: Config, run: Run, tmp_path: Path, step: int) -> None:
    prepared = prepare(config, tmp_path / "run", Watcher())
    with pytest.raises(Interrupted):
        fit(prepared, Watcher(), callbacks=[StopAt(step)])
    other = resume(prepared.path)
    for name in ("samples.jsonl", "quality.json", "last.safetensors", "model.safetensors"):
        assert (other.path / name).read_bytes() == (run.path / name).read_bytes(), name
    tables = [
        [
            {name: value for name, value in row.items() if name not in CLOCK}
            for row in read_metrics(path / "metrics.csv")
        ]
        for path in (other.path, run.path)
    ]
    assert tables[0] == tables[1]
