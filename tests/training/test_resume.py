"""A run that was interrupted anywhere ends as if it had not been: weights, optimiser, numbers and samples."""

from __future__ import annotations

import csv
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from charlm.config import Config
from charlm.errors import CharlmError, Interrupted
from charlm.network.cells import cells
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.run_directory import RunDirectory
from charlm.training.preparation import prepare
from charlm.training.run_logger import CLOCK
from charlm.training.trainer import fit, resume, train
from conftest import small_settings, small_text
from interruption import StopAt

STEPS = 22  # an epoch of 4 lanes, 337 tokens each, in windows of 16


def table(run: Run) -> list[list[str]]:
    """The fields of metrics.csv byte for byte, except those of the clock."""
    header, *rows = csv.reader((run.path / "metrics.csv").read_text(encoding="utf-8").splitlines())
    assert set(CLOCK) < set(header)
    assert rows
    return [[field for name, field in zip(header, row, strict=True) if name not in CLOCK] for row in [header, *rows]]


def plain(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without its clock."""
    checkpoint["charlm"]["progress"].pop("elapsed_before")
    return checkpoint


def assert_same(run: Run, other: Run) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (plain(torch.load(r.path / "checkpoints" / name, weights_only=True)) for r in (run, other))
        for key in ("state_dict", "optimizer_states", "charlm", "callbacks", "global_step", "epoch"):
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0, msg=f"{name}: {key}")
    for name in ("model.safetensors", "last.safetensors"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes(), name
    assert run.samples == other.samples
    assert table(run) == table(other)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(small_text(1500), encoding="utf-8")
    return small_settings(
        path,
        trainer={"max_epochs": 3},
        model={"dropout": 0.3},
        checkpoint={"patience": 0},
        samples={"length": 40, "scored": 300},
    )


@pytest.fixture(scope="module")
def unbroken(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(config, tmp_path_factory.mktemp("unbroken") / "run")


def interrupted(config: Config, path: Path, step: int, number: int = signal.SIGINT) -> RunDirectory:
    run = prepare(config, path, Reporter())
    with pytest.raises(Interrupted) as stop:
        fit(run, Reporter(), callbacks=[StopAt(step, number)])
    assert stop.value.signal == number
    assert torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
    return run


@pytest.mark.parametrize("step", [1, 10, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS, 3 * STEPS - 1])
def test_resumed_is_unbroken(config: Config, unbroken: Run, tmp_path: Path, step: int) -> None:
    run = interrupted(config, tmp_path / "run", step)
    assert_same(resume(run.path), unbroken)


@pytest.mark.parametrize("cell", [name for name in cells if cells[name].context])
def test_a_state_that_is_a_window_is_resumed(config: Config, tmp_path: Path, cell: str) -> None:
    model = replace(config.model, cell=cell, context=20, embedding=config.model.hidden)  # more than a training window
    config = replace(config, model=model, trainer=replace(config.trainer, max_epochs=1))
    unbroken = train(config, tmp_path / "unbroken")
    run = interrupted(config, tmp_path / "run", 5)
    assert_same(resume(run.path), unbroken)


class StopAtStart(lightning.Callback):
    """Sends this process a signal before the first step."""

    def on_train_start(self, *rest: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_interrupted_before_its_first_step(config: Config, unbroken: Run, tmp_path: Path) -> None:
    run = prepare(config, tmp_path / "run", Reporter())
    with pytest.raises(Interrupted):
        fit(run, Reporter(), callbacks=[StopAtStart()])
    assert_same(resume(run.path), unbroken)


class KilledError(Exception):
    """What nobody can catch, as far as a test in one process can have it."""


def killed(*_: Any) -> None:
    raise KilledError


@pytest.mark.parametrize(
    ("moment", "checkpointed"),
    [("on_train_start", False), ("on_train_batch_start", True)],
    ids=["before its first checkpoint", "right after it"],
)
def test_killed_when_its_initialisation_is_measured(
    config: Config, unbroken: Run, tmp_path: Path, moment: str, checkpointed: bool
) -> None:
    run = prepare(config, tmp_path / "run", Reporter())
    callback = lightning.Callback()
    setattr(callback, moment, killed)
    with pytest.raises(KilledError):
        fit(run, Reporter(), callbacks=[callback])
    assert (run.path / "checkpoints" / "last.ckpt").is_file() is checkpointed
    assert [row["step"] for row in run.metrics] == [0]
    assert_same(resume(run.path), unbroken)


def test_interrupted_twice_and_by_sigterm(config: Config, unbroken: Run, tmp_path: Path) -> None:
    run = interrupted(config, tmp_path / "run", 5, signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit(run, Reporter(), resuming=True, callbacks=[StopAt(STEPS + 3)])
    assert_same(resume(run.path), unbroken)


@pytest.mark.parametrize("first", [STEPS - 1, STEPS, STEPS + 1])
@pytest.mark.parametrize("second", [STEPS + 2, 2 * STEPS - 1, 2 * STEPS, 2 * STEPS + 1])
def test_interrupted_twice_around_the_ends_of_epochs(
    config: Config, unbroken: Run, tmp_path: Path, first: int, second: int
) -> None:
    run = interrupted(config, tmp_path / "run", first)
    with pytest.raises(Interrupted):
        fit(run, Reporter(), resuming=True, callbacks=[StopAt(second)])
    assert_same(resume(run.path), unbroken)


def test_with_validation_in_mid_epoch_accumulation_and_plateau(config: Config, tmp_path: Path) -> None:
    values = config.to_dict()
    values["trainer"] |= {"val_check_interval": 3, "accumulate_grad_batches": 2}
    values["optimizer"] |= {"schedule": "plateau", "decay_every": 1}
    values["checkpoint"] |= {"every": 4}
    other = Config.from_dict(values)
    whole = train(other, tmp_path / "whole")
    assert torch.load(whole.path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 33
    for step in (3, 11, 14):
        run = interrupted(other, tmp_path / f"run-{step}", step)
        assert_same(resume(run.path), whole)


@pytest.mark.parametrize(
    ("unit", "direction"), [("line", "forward"), ("document", "forward"), ("line", "backward"), ("stream", "backward")]
)
def test_items_are_resumed_in_the_same_order(tmp_path: Path, unit: str, direction: str) -> None:
    text = tmp_path / "items.txt"
    text.write_text(small_text(3000).replace("\n", "\n\n" if unit == "document" else "\n"), encoding="utf-8")
    config = small_settings(text, data={"unit": unit, "direction": direction, "seq_length": 12})
    whole = train(config, tmp_path / "whole")
    for step in (7, 30):
        assert_same(resume(interrupted(config, tmp_path / f"run-{step}", step).path), whole)


def test_more_epochs_continue_the_training(config: Config, tmp_path: Path) -> None:
    run = train(config, tmp_path / "run")
    more = resume(run.path, {"trainer.max_epochs": 4})
    assert more.config.trainer.max_epochs == 4
    assert torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4 * STEPS
    assert [sample.epoch for sample in more.samples] == [0.0, 0.1364, 0.2727, 0.5, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "it has trained 3 epochs; raise `trainer.max_epochs`, for example to 6"),
        ({"trainer.max_epochs": 1}, "it has trained 3 epochs; raise `trainer.max_epochs`, for example to 6"),
        (
            {"trainer.max_epochs": -1, "trainer.max_steps": 5},
            "it has trained 66 steps; raise `trainer.max_steps`, for example to 132",
        ),
        (
            {"trainer.max_epochs": 9, "trainer.max_time": "0.001s"},
            "its time of 0.001s is over; raise `trainer.max_time`",
        ),
    ],
)
def test_a_finished_run_says_that_nothing_is_left(unbroken: Run, changes: dict[str, Any], why: str) -> None:
    lines: list[str] = []

    class Listener(Reporter):
        def say(self, line: str) -> None:
            lines.append(line)

    before = {path: path.read_bytes() for path in unbroken.path.rglob("*") if path.is_file()}
    resume(unbroken.path, changes, Listener())
    assert len(lines) == 1
    assert f"has nothing left to train: {why}" in lines[0]
    assert {path: path.read_bytes() for path in unbroken.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("data.direction", "backward", "train a new run"),
        ("model.hidden", 12, "train a new run"),
        ("tokenizer.kind", "word", "train a new run"),
        ("optimizer.lr", 0.5, "start a new one with `init_from`"),
        ("data.batch_size", 2, "start a new one with `init_from`"),
        ("seed", 2, "start a new one with `init_from`"),
    ],
)
def test_what_was_learned_cannot_change_when_a_run_is_resumed(
    unbroken: Run, name: str, value: Any, instead: str
) -> None:
    with pytest.raises(CharlmError, match=re.escape(f"`{name}` cannot change when a run is resumed; {instead}")):
        resume(unbroken.path, {name: value})


def test_until_the_first_validation_the_newest_weights_are_the_best(config: Config, tmp_path: Path) -> None:
    run = interrupted(config, tmp_path / "run", 5)
    assert (run.path / "model.safetensors").read_bytes() == (run.path / "last.safetensors").read_bytes()


def test_damaged_weights_of_a_finished_run_are_written_anew(config: Config, tmp_path: Path) -> None:
    run = train(config, tmp_path / "run")
    before = {name: (run.path / name).read_bytes() for name in ("model.safetensors", "last.safetensors")}
    for name in before:
        (run.path / name).write_bytes(before[name][:100])
    resume(run.path)
    assert {name: (run.path / name).read_bytes() for name in before} == before
