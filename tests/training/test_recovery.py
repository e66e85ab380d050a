"""Weights that diverge: the run returns to its last checkpoint once, and no file ever holds a number not finite."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from safetensors.torch import load_file

from charlm.config import Config
from charlm.errors import CharlmError, Interrupted
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.run_directory import WEIGHTS, RunDirectory
from charlm.training.module import LanguageModule
from charlm.training.preparation import prepare
from charlm.training.progress import ROLLBACK_FACTOR
from charlm.training.trainer import fit, resume, train
from conftest import small_settings
from interruption import StopAt


def once_per_epoch(text: Path, **groups: dict[str, Any]) -> Config:
    """Small settings with a validation after each epoch, so that a test knows where the checkpoints are."""
    trainer = {"val_check_interval": 1.0, **groups.pop("trainer", {})}
    return small_settings(text, trainer=trainer, **groups)


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def not_finite(value: Any, where: str = "") -> Iterator[str]:
    """Where within nested values there is a number that is not finite."""
    if isinstance(value, torch.Tensor):
        if not torch.isfinite(value).all():
            yield where
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from not_finite(one, f"{where}/{key}")
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from not_finite(one, f"{where}/{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield where


def assert_finite(run: Path) -> None:
    for name in WEIGHTS.values():
        assert list(not_finite(load_file(run / name), name)) == []
    for name in ("best", "last"):
        assert list(not_finite(checkpoint(run, name), name)) == []
    for path in (run / "metrics.csv", run / "samples.jsonl"):
        assert re.search(r"(?<![\w])-?(nan|inf|NaN|Infinity)(?![\w])", path.read_text(encoding="utf-8")) is None


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True))


EVERY_STEP = {"every": 1}
UNCLIPPED = {"gradient_clip_val": 0.0}


@pytest.mark.parametrize(
    "groups",
    [
        {"optimizer": {"lr": 1e30}},
        {"optimizer": {"lr": 1e30}, "checkpoint": EVERY_STEP},
        {"optimizer": {"lr": 1e6, "name": "sgd"}, "trainer": UNCLIPPED},
        {"optimizer": {"lr": 1e6, "name": "sgd"}, "trainer": UNCLIPPED, "checkpoint": EVERY_STEP},
        {"optimizer": {"lr": 1e6, "name": "sgd", "momentum": 0.9}, "trainer": UNCLIPPED | {"val_check_interval": 1}},
        {"optimizer": {"weight_decay": 1e30}},
        {"optimizer": {"lr": 1e10}, "trainer": {"precision": "bf16-mixed"}},
        {"optimizer": {"lr": 1e10}, "trainer": {"precision": "bf16-mixed", "max_steps": 3}},
        {"optimizer": {"lr": 100.0}, "model": {"cell": "rnn_relu"}},
        {"optimizer": {"lr": 1e30, "name": "muon"}},
    ],
    ids=[
        "adamw", "adamw saved every step", "sgd", "sgd saved every step", "sgd validated every step", "weight decay",
        "bf16", "bf16 over before it is noticed", "rnn_relu", "muon",
    ],
)  # fmt: skip
def test_a_diverged_run_ends_in_words_with_its_last_good_weights(
    text_file: Path, tmp_path: Path, groups: dict[str, Any]
) -> None:
    if groups["optimizer"].get("name") == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    path, reporter = tmp_path / "run", Lines()
    config = once_per_epoch(text_file, **groups)
    if config.trainer.max_steps == 3:
        train(config, path, reporter)  # the end of the run comes before the second time
    else:
        with pytest.raises(CharlmError, match=r"keeps its last good weights; .*`optimizer.lr`") as end:
            train(config, path, reporter)
        assert "\n" not in str(end.value)
    (said,) = [line for line in reporter.said if "return to those of step" in line]
    assert "the learning rate is multiplied by 0.1" in said
    assert_finite(path)
    for name in WEIGHTS:
        weights = RunDirectory(path).read_weights(name)
        assert max(float(abs(weight).max()) for weight in weights.values()) < 10
    assert len(Run(path).generate(length=5)) == 5


@pytest.mark.parametrize("lr", [1.0, 10.0])
def test_rnn_relu_at_a_high_rate_writes_finite_numbers(text_file: Path, tmp_path: Path, lr: float) -> None:
    config = once_per_epoch(text_file, model={"cell": "rnn_relu"}, optimizer={"lr": lr}, checkpoint={"every": 2})
    try:
        train(config, tmp_path / "run")
    except CharlmError as error:
        assert "keeps its last good weights" in str(error)  # noqa: PT017 - with luck it recovers by itself
    assert_finite(tmp_path / "run")


class Diverge(lightning.Callback):
    """Makes the weights far too large at the end of a step, as a finite gradient and a high rate would."""

    def __init__(self, step: int, factor: float = 1e30) -> None:
        self.step, self.factor = step, factor
        self.rates: dict[int, float] = {}
        self.state: Any = ()
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: Any) -> None:
        assert isinstance(module, LanguageModule)
        if module.progress.rolled_back:
            self.state = module.state
            self.weights = {name: value.clone() for name, value in module.state_dict().items()}
            self.optimizer = trainer.optimizers[0].state_dict()["state"][0]["exp_avg"].clone()

    def on_before_zero_grad(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: Any) -> None:
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: Any) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                for weight in module.parameters():
                    weight.mul_(self.factor)


@pytest.mark.parametrize("factor", [1e30, math.inf, math.nan])
def test_after_a_divergence_the_run_recovers_with_a_lower_rate(text_file: Path, tmp_path: Path, factor: float) -> None:
    config = once_per_epoch(
        text_file,
        optimizer={"schedule": "constant", "warmup": 0},
        checkpoint={"every": 10, "patience": 0},
        trainer={"log_every_n_steps": 1},
    )
    diverge, reporter = Diverge(25, factor), Lines()
    kept: dict[str, Any] = {}

    class Keep(lightning.Callback):
        def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
            if trainer.global_step == 21:
                kept.update(checkpoint(tmp_path / "run"))

    run = fit(prepare(config, tmp_path / "run", Reporter()), reporter, callbacks=[diverge, Keep()])
    (said,) = [line for line in reporter.said if "return to those of" in line]
    assert said.startswith("step 30: the weights are not finite, or too large for a finite loss")
    assert "return to those of step 20" in said
    assert kept["global_step"] == 20
    torch.testing.assert_close(diverge.weights, kept["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(diverge.optimizer, kept["optimizer_states"][0]["state"][0]["exp_avg"], rtol=0, atol=0)
    assert diverge.state is None
    rates = {row["step"]: row["train/learning_rate"] for row in run.metrics if "train/learning_rate" in row}
    assert rates[30] == config.optimizer.lr
    assert rates[31] == pytest.approx(ROLLBACK_FACTOR * rates[30])
    steps = [row["step"] for row in run.metrics]
    assert steps == sorted(steps)
    assert_finite(run.path)
    assert run.metrics[-1]["step"] == 2 * 43  # no step of the schedule is left out
    assert min(row["val/loss"] for row in run.metrics if "val/loss" in row) < 3


def test_a_run_that_recovered_resumes_exactly(text_file: Path, tmp_path: Path) -> None:
    config = once_per_epoch(text_file, checkpoint={"every": 10, "patience": 0}, model={"dropout": 0.3})
    whole = fit(prepare(config, tmp_path / "whole", Reporter()), Reporter(), callbacks=[Diverge(25)])
    part = prepare(config, tmp_path / "part", Reporter())
    with pytest.raises(Interrupted):
        fit(part, Reporter(), callbacks=[Diverge(25), StopAt(37)])
    assert checkpoint(part.path)["charlm"]["progress"]["rollbacks"] == 1
    resume(part.path)
    for name in WEIGHTS.values():
        assert (part.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_divergence_at_the_end_of_the_run_leaves_good_weights(text_file: Path, tmp_path: Path) -> None:
    config = once_per_epoch(text_file, trainer={"max_steps": 12}, checkpoint={"every": 10})
    reporter = Lines()
    run = fit(prepare(config, tmp_path / "run", Reporter()), reporter, callbacks=[Diverge(11)])
    assert sum("return to those of step 10" in line for line in reporter.said) == 1
    assert_finite(run.path)
    (loss,) = [row["val/loss"] for row in run.metrics if "val/loss" in row]
    assert loss < 4  # of the weights that are kept


def test_initial_weights_that_are_not_finite_are_named(text_file: Path, tmp_path: Path) -> None:
    config = once_per_epoch(text_file, model={"recurrent_scale": 3e38, "gate_scale": 3e38})
    with pytest.raises(CharlmError, match=r"initial weights are not finite \(layers.*`model.recurrent_scale`"):
        train(config, tmp_path / "run")
