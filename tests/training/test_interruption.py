"""Ctrl-C: what an interrupted run says, and that saying it changes nothing of what follows."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest

from charlm.errors import Interrupted
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory, Sample
from charlm.training.trainer import resume, train
from conftest import small_settings


class Listener(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.samples: list[Sample] = []
        self.ended = 0

    def say(self, line: str) -> None:
        self.lines.append(line)

    def on_sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def on_end(self, directory: RunDirectory) -> None:
        self.ended += 1


class Stop(lightning.Callback):
    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def interrupted(text: Path, path: Path, step: int, number: int = signal.SIGINT) -> Listener:
    listener = Listener()
    settings = small_settings(text, trainer={"max_epochs": None, "max_steps": 48}, checkpoint={"patience": 0})
    with pytest.raises(Interrupted):
        train(settings, path, listener, callbacks=[Stop(step, number)])
    return listener


def test_ctrl_c_says_which_weights_are_used_and_shows_a_sample_and_a_verdict(text_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    listener = interrupted(text_file, path, 15)
    said = listener.lines[-1]
    assert said.startswith(f"charlm generate {path} uses the weights of the best validation, of epoch ")
    assert f"; charlm generate {path} --checkpoint last uses the newest weights, of step 15 (" in said
    assert said.endswith(" bits per character)")
    assert (listener.samples[-1].step, listener.ended) == (15, 1)
    assert 15 not in {sample.step for sample in RunDirectory(path).samples}, "it is shown, and a resumed run lacks it"


def test_before_the_first_validation_the_newest_weights_are_used(text_file: Path, tmp_path: Path) -> None:
    listener = interrupted(text_file, tmp_path / "run", 2)
    assert f"charlm generate {tmp_path / 'run'} uses the newest weights, of step 2 (" in listener.lines[-1]


def test_sigterm_says_it_and_leaves(text_file: Path, tmp_path: Path) -> None:
    listener = interrupted(text_file, tmp_path / "run", 15, signal.SIGTERM)
    assert listener.lines[-1].endswith("uses the newest weights, of step 15")
    assert listener.ended == 0


def test_a_run_that_goes_on_ends_as_if_it_had_never_stopped(text_file: Path, tmp_path: Path) -> None:
    settings = small_settings(text_file, trainer={"max_epochs": None, "max_steps": 48}, checkpoint={"patience": 0})
    train(settings, tmp_path / "whole")
    interrupted(text_file, tmp_path / "run", 15)
    resume(tmp_path / "run")
    for name in ("model.safetensors", "last.safetensors", "samples.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    losses = [
        [row["val/loss"] for row in RunDirectory(path).metrics if "val/loss" in row]
        for path in (tmp_path / "run", tmp_path / "whole")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 12


def test_an_interrupted_run_is_in_the_hparams_tab(text_file: Path, tmp_path: Path) -> None:
    interrupted(text_file, tmp_path / "run", 15)
    events = b"".join(path.read_bytes() for path in (tmp_path / "run").glob("events.out.tfevents*"))
    assert b"final/val_loss" in events


def test_ctrl_c_while_a_run_is_being_resumed_changes_nothing(text_file: Path, tmp_path: Path) -> None:
    class Impatient(Reporter):
        def say(self, line: str) -> None:
            raise KeyboardInterrupt

    path = tmp_path / "run"
    interrupted(text_file, path, 15)
    checkpoint = (path / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(Interrupted, match="can be resumed"):
        resume(path, reporter=Impatient())
    assert (path / "checkpoints" / "last.ckpt").read_bytes() == checkpoint
