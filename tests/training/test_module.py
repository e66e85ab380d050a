"""The step: what is not finite never reaches the weights, and gradients of several windows are averaged."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.nn import functional as F

from charlm.config import Config
from charlm.errors import CharlmError
from charlm.network.model import LanguageModel
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.run_directory import RunDirectory
from charlm.text.batching import batches
from charlm.training.callbacks import StepCallback
from charlm.training.module import PATIENCE
from charlm.training.preparation import prepare
from charlm.training.trainer import fit, resume
from conftest import small_settings


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Spoil(lightning.Callback):
    """Makes the loss, or one gradient, of some steps NaN or infinite; keeps everything before and after a step."""

    def __init__(self, steps: range, what: str, value: float = float("nan")) -> None:
        self.steps, self.what, self.value = steps, what, value
        self.seen: list[Any] = []

    def _keep(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        state = trainer.optimizers[0].state_dict()
        parts = [part["state"] for part in (state, *state.values()) if isinstance(part, dict) and "state" in part]
        assert parts
        self.seen.append(copy.deepcopy((module.state_dict(), parts)))

    def on_train_batch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: Any) -> None:
        self._keep(trainer, module)
        bad = trainer.global_step + 1 in self.steps
        if self.what == "loss" and bad:
            norm: Any = module.model.norm
            self.hook = norm.register_forward_hook(lambda *call: call[2] * self.value)

    def on_after_backward(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.what == "gradient" and trainer.global_step + 1 in self.steps:
            gradient = next(module.parameters()).grad
            assert gradient is not None
            gradient[0, 0] = self.value

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: Any) -> None:
        if hasattr(self, "hook"):
            self.hook.remove()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize(("what", "value"), [("loss", float("nan")), ("gradient", float("inf"))])
def test_a_step_that_is_not_finite_is_not_taken(
    text_file: Path, tmp_path: Path, optimizer: str, what: str, value: float
) -> None:
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    config = small_settings(
        text_file,
        optimizer={"name": optimizer, "momentum": 0.9, "weight_decay": 0.1},
        trainer={"max_steps": 6, "log_every_n_steps": 1, "val_check_interval": 1.0},
    )
    reporter, spoil = Lines(), Spoil(range(3, 5), what, value)
    run = fit(prepare(config, tmp_path / "run", reporter), reporter, callbacks=[spoil])
    (second, third, fourth, fifth) = spoil.seen[2:6]  # the weights before each of these steps
    for spoiled in (third, fourth):  # steps 3 and 4 changed nothing
        torch.testing.assert_close(spoiled, second, rtol=0, atol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(fifth, fourth, rtol=0, atol=0)
    assert [line for line in reporter.lines if "not finite" in line] == [
        f"step {step}: the loss or a gradient was not finite; the step was skipped" for step in (3, 4)
    ]
    rows = {row["step"]: row["train/skipped_steps"] for row in run.metrics if "train/learning_rate" in row}
    assert rows == {1: 0, 2: 0, 3: 1, 4: 2, 5: 2, 6: 2}
    assert all(
        torch.isfinite(weight).all()
        for weight in torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"].values()
    )


def test_ten_in_a_row_twice_end_the_run_at_its_last_checkpoint(text_file: Path, tmp_path: Path) -> None:
    config = small_settings(text_file, trainer={"max_epochs": 1}, checkpoint={"every": 2})
    run, spoil = prepare(config, tmp_path / "run", Reporter()), Spoil(range(4, 100), "gradient")
    with pytest.raises(
        CharlmError, match=r"step 23: the loss was not finite 10 steps in a row, although .*try a lower `optimizer.lr`"
    ) as end:
        fit(run, Reporter(), callbacks=[spoil])
    assert "\n" not in str(end.value)
    good = {name.removeprefix("model."): value.numpy() for name, value in spoil.seen[3][0].items()}
    saved = run.read_weights("last")
    assert saved.keys() == good.keys()
    assert all((saved[name] == good[name]).all() for name in good)
    assert PATIENCE == 10
    done = resume(run.path)  # what was wrong is gone, say
    assert torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 13
    assert done.samples[-1].epoch == 1


class Gradients(lightning.Callback):
    """Keeps the gradients before each step."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: Any) -> None:
        self.kept.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))


def test_accumulation_averages_the_gradients_of_windows(text_file: Path, tmp_path: Path) -> None:
    def gradients(name: str, **trainer: object) -> list[torch.Tensor]:
        keep = Gradients()
        config = small_settings(
            text_file,
            model={"dropout": 0.0},
            # Nothing moves, so that windows have the same gradients alone as together.
            optimizer={"name": "sgd", "lr": 1e-30},
            trainer={"gradient_clip_val": 0, **trainer},
        )
        fit(prepare(config, tmp_path / name, Reporter()), Reporter(), callbacks=[keep])
        return keep.kept

    one, two, _ = gradients("one", max_steps=3)
    summed = gradients("two", max_steps=1, accumulate_grad_batches=2)
    torch.testing.assert_close(summed[1], (one + two) / 2, rtol=1e-4, atol=1e-7)
    assert len(summed) == 2


# -- the loop


@pytest.mark.parametrize(("unit", "clip"), [("stream", 0.05), ("line", 0.0)])
def test_a_training_is_its_definition(text_file: Path, tmp_path: Path, unit: str, clip: float) -> None:
    """The weights are those of the loop of a textbook: the state carried and detached, a mean, clipping, a step."""
    config = small_settings(
        text_file,
        data={"unit": unit, "state_reset": 0.3},
        model={"dropout": 0.0},
        optimizer={"name": "sgd", "lr": 0.5, "schedule": "constant", "warmup": 0, "weight_decay": 0.0},
        trainer={"max_steps": 12, "gradient_clip_val": clip},
    )
    directory = prepare(replace(config, seed=7), tmp_path / "run", Reporter())
    stream, data = directory.stream("train"), directory.config.data
    torch.manual_seed(7)
    model = LanguageModel(directory.model_config, directory.vocab_size)
    model.initialise_output_bias(torch.from_numpy(stream.token_counts(directory.vocab_size)))
    state, norms, tokens, padded = None, list[float](), 0, 0
    for batch in islice(batches(stream, data.batch_size, data.seq_length, seed=7, state_reset=0.3), 12):
        if state is not None:
            state = torch.where(batch.reset_mask[:, None], 0.0, state.detach())
        logits, state = model(batch.inputs, state)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())  # the mean, without padding
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        tokens += int((batch.targets >= 0).sum())
        padded += batch.targets.numel()
        with torch.no_grad():
            for weight, gradient in zip(model.parameters(), gradients, strict=True):
                weight.sub_(0.5 * gradient * (min(1.0, clip / norms[-1]) if clip else 1.0))
    assert max(norms) > 2 * clip
    assert unit == "stream" or tokens < padded
    run = fit(directory, Reporter())
    weights = {name: torch.from_numpy(value) for name, value in run.directory.read_weights("last").items()}
    torch.testing.assert_close(weights, dict(model.state_dict()), rtol=1e-4, atol=1e-6)
    saved = torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["charlm"]["progress"]["tokens"] == tokens


# -- how long


def rows(run: Run | RunDirectory, name: str) -> list[dict[str, float]]:
    return [row for row in run.metrics if name in row]


def finished(config: Config, path: Path) -> Run:
    return fit(prepare(config, path, Reporter()), Reporter())


def test_a_run_that_ends_by_the_clock_ends_annealed(text_file: Path, tmp_path: Path) -> None:
    config = small_settings(
        text_file, trainer={"max_epochs": -1, "max_time": "3s"}, samples={"every": 1000}, checkpoint={"patience": 0}
    )
    run = finished(config, tmp_path / "run")
    last = rows(run, "train/learning_rate")[-1]
    assert 3 <= last["seconds"] < 4
    final = config.optimizer.final_lr
    assert config.optimizer.lr is not None
    assert final <= last["train/learning_rate"] / config.optimizer.lr < final + 0.05


def test_max_steps(text_file: Path, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"max_epochs": -1, "max_steps": 7}
    run = finished(small_settings(text_file, trainer=limits, checkpoint={"patience": 0}), tmp_path / "run")
    assert torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7
    assert rows(run, "train/learning_rate")[-1]["step"] == 7
    assert [sample.step for sample in run.samples] == [0, 1, 2, 4, 7]


def test_without_validation_the_newest_is_the_best(text_file: Path, tmp_path: Path) -> None:
    run = finished(small_settings(text_file, data={"val_fraction": 0.0}), tmp_path / "run")
    assert (run.path / "model.safetensors").read_bytes() == (run.path / "last.safetensors").read_bytes()
    assert not rows(run, "val/loss")
    with pytest.raises(CharlmError, match="has no val split"):
        run.directory.stream("val")


def test_patience(text_file: Path, tmp_path: Path) -> None:
    config = small_settings(
        text_file,
        optimizer={"lr": 1.0, "schedule": "constant"},  # far too high: nothing is gained for long
        trainer={"max_epochs": 30},
        checkpoint={"patience": 2},
    )
    reporter = Lines()
    run = fit(prepare(config, tmp_path / "run", Reporter()), reporter)
    losses = [row["val/loss"] for row in rows(run, "val/loss")]
    assert 3 <= len(losses) < 30
    assert losses[-3] == min(losses) < min(losses[-2:])
    assert sum("stopping early: 2 validations without improvement" in line for line in reporter.lines) == 1
    assert run.evaluate().loss == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64"])
def test_precision(text_file: Path, tmp_path: Path, precision: str) -> None:
    run = finished(small_settings(text_file, trainer={"precision": precision}), tmp_path / "run")
    plain = finished(small_settings(text_file), tmp_path / "plain")
    loss = [row["val/loss"] for row in rows(run, "val/loss")]
    assert loss == pytest.approx([row["val/loss"] for row in rows(plain, "val/loss")], rel=0.03)
    assert len(run.generate("The", length=5, seed=1)) == 5


class Clock(StepCallback):
    """A clock on which a step takes half a second, and what follows it eight seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.now += 0.5

    def stepped(self, *arguments: Any) -> None:
        self.now += 8


def test_the_speed_is_that_of_training_alone(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    run = prepare(small_settings(text_file), tmp_path / "run", Reporter())
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    fit(run, Reporter(), callbacks=[clock])
    speeds = [row["train/tokens_per_second"] for row in rows(run, "train/tokens_per_second")]
    windows = run.config.data.batch_size * run.config.data.seq_length
    assert len(speeds) > 4
    assert speeds[:4] == [windows / 0.5] * 4  # the last window of an epoch is shorter
    steps = run.metrics[-1]["step"] // 2
    epochs = [row["train/seconds_per_epoch"] for row in rows(run, "train/seconds_per_epoch")]
    assert epochs == [pytest.approx(8.5 * steps - 8), pytest.approx(8.5 * steps)]


def test_an_epoch_that_was_resumed_is_timed_in_proportion(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: dict[str, Any] = {"max_epochs": 1, "max_steps": 10}
    begun = finished(small_settings(text_file, trainer=limits, checkpoint={"patience": 0}), tmp_path / "run")
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    run = resume(begun.path, {"trainer.max_steps": -1}, callbacks=[clock])
    steps = run.metrics[-1]["step"]
    assert steps > 20
    (seconds,) = (row["train/seconds_per_epoch"] for row in rows(run, "train/seconds_per_epoch"))
    assert seconds == pytest.approx((8.5 * (steps - 10) - 8) / (1 - 10 / steps), rel=1e-3)
