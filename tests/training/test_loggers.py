"""Lightning as its users know it: their callbacks, their loggers, and the loggers of `trainer.logger`."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import charlm
from charlm.config.plain import flat
from charlm.errors import CharlmError
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.training.preparation import prepare
from charlm.training.run_logger import COLUMNS, other_loggers
from conftest import small_settings


def settings(text: Path, **groups: dict[str, Any]) -> dict[str, Any]:
    values = small_settings(text, **groups).to_dict()
    del values["data"]["text"]
    return values


def trained(text: Path, run: Path, trainer: dict[str, Any] | None = None, **options: Any) -> charlm.Run:
    groups = settings(text, trainer={"max_epochs": 1, "val_check_interval": 1.0, **(trainer or {})})
    return charlm.train(text, run=run, reporter=Reporter(), **options, **groups)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_logger_of_the_user_receives_every_number_and_the_settings(text_file: Path, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "theirs", name="", version="")
    run = trained(text_file, tmp_path / "run", loggers=[logger])
    ours = {(row["step"], name): row[name] for row in run.metrics for name in COLUMNS if name in row}
    assert {"train/loss", "val/loss", "train/gradient_norm"} <= {name for _, name in ours}
    theirs = {
        (int(row["step"]), name): float(row[name])
        for row in rows(tmp_path / "theirs")
        for name in COLUMNS
        if row.get(name)
    }
    assert theirs.keys() == ours.keys()
    assert theirs == pytest.approx(ours, rel=1e-5, nan_ok=True)
    final = [float(row["final/val_loss"]) for row in rows(tmp_path / "theirs") if row.get("final/val_loss")]
    assert final == pytest.approx([min(row["val/loss"] for row in run.metrics if "val/loss" in row)], rel=1e-5)
    entered = (tmp_path / "theirs" / "hparams.yaml").read_text(encoding="utf-8")
    assert all(f"{name}:" in entered for name in flat(run.config.to_dict()))


class Seen(lightning.Callback):
    """Keeps what is already logged and saved when a step of the last epoch has ended."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.losses: list[float] = []
        self.saved: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        self.losses = [row["val/loss"] for row in RunDirectory(self.run).metrics if "val/loss" in row]
        self.saved.append((self.run / "last.safetensors").stat().st_mtime_ns)


def test_a_callback_of_the_user_acts_after_the_validation_and_before_the_step_is_saved(
    text_file: Path, tmp_path: Path
) -> None:
    seen = Seen(tmp_path / "run")
    run = trained(text_file, tmp_path / "run", callbacks=[seen])
    assert seen.losses == [row["val/loss"] for row in run.metrics if "val/loss" in row]
    assert len(seen.losses) == 1
    assert len(set(seen.saved)) == 1  # the first checkpoint; the one at the end of the epoch comes later
    assert (run.path / "last.safetensors").stat().st_mtime_ns > seen.saved[-1]


def test_a_learning_rate_monitor_logs_to_tensorboard_and_to_loggers_of_the_user(
    text_file: Path, tmp_path: Path
) -> None:
    logger, monitor = CSVLogger(tmp_path / "theirs", name="", version=""), LearningRateMonitor(logging_interval="step")
    options = {"callbacks": [monitor], "loggers": [logger]}
    run = trained(text_file, tmp_path / "run", {"log_every_n_steps": 1}, **options)
    events = EventAccumulator(str(run.path), size_guidance={"scalars": 0})
    events.Reload()
    ours = {row["step"]: row["train/learning_rate"] for row in run.metrics if "train/learning_rate" in row}
    for group in (1, 2):
        name = f"lr-AdamW/pg{group}"
        shown = {event.step: event.value for event in events.Scalars(name)}
        assert {step: shown[step] for step in range(1, len(ours))} == pytest.approx(
            {step: ours[step] for step in range(1, len(ours))}, rel=1e-5
        )
        theirs = {int(row["step"]): float(row[name]) for row in rows(tmp_path / "theirs") if row.get(name)}
        assert theirs == pytest.approx(shown, rel=1e-6)


def test_resumed_a_run_takes_callbacks_and_loggers_too(text_file: Path, tmp_path: Path) -> None:
    trained(text_file, tmp_path / "run")
    logger, seen = CSVLogger(tmp_path / "theirs", name="", version=""), Seen(tmp_path / "run")
    run = charlm.resume(
        tmp_path / "run", reporter=Reporter(), callbacks=[seen], loggers=[logger], trainer={"max_epochs": 2}
    )
    steps = [row["step"] for row in run.metrics if "val/loss" in row]
    assert [int(row["step"]) for row in rows(tmp_path / "theirs") if row.get("val/loss")] == steps[1:]
    assert len(seen.losses) == len(steps) == 2


# -- trainer.logger


def test_without_tensorboard_a_run_trains_with_samples_and_numbers(text_file: Path, tmp_path: Path) -> None:
    groups = settings(text_file, trainer={"max_epochs": 1, "logger": "csv"}, samples={"scored": 300, "length": 10})
    run = charlm.train(text_file, run=tmp_path / "run", reporter=Reporter(), **groups)
    assert list(run.path.rglob("*tfevents*")) == []
    assert not (run.path / "projector").exists()
    assert len(run.samples) > 3
    assert run.samples[-1].scores
    assert {"train/loss", "val/loss", "text_metrics/ngram_bits"} <= {name for row in run.metrics for name in row}
    usual = trained(text_file, tmp_path / "usual")
    assert len(list(usual.path.glob("*tfevents*"))) == 1
    assert (run.path / "last.safetensors").read_bytes() == (usual.path / "last.safetensors").read_bytes()


@pytest.fixture
def directory(text_file: Path, tmp_path: Path) -> RunDirectory:
    return prepare(small_settings(text_file), tmp_path / "made", Reporter())


def test_the_default_loggers_are_no_others(directory: RunDirectory) -> None:
    assert other_loggers("tensorboard,csv", directory) == []
    assert other_loggers(" CSV , tensorboard,", directory) == []


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("wandbb", "there is no logger 'wandbb'; choose from .*csv.*wandb; did you mean 'wandb'?"),
        ("tensorboard,csv,sheets", "there is no logger 'sheets'; choose from .*tensorboard"),
    ],
)
def test_an_unknown_logger_is_one_line(text_file: Path, tmp_path: Path, names: str, why: str) -> None:
    with pytest.raises(CharlmError, match=f"`trainer.logger`: {why}") as end:
        trained(text_file, tmp_path / "run", {"logger": names})
    assert "\n" not in str(end.value)
    assert not (tmp_path / "run").exists()


def test_a_logger_that_is_not_installed_is_one_line(directory: RunDirectory) -> None:
    missing = [name for name in ("wandb", "mlflow") if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("all of them are installed")
    (name, *_) = missing
    with pytest.raises(
        CharlmError, match=rf"`trainer.logger`: {name} cannot be used here \(.*{name}.*\); install it or leave it out"
    ) as end:
        other_loggers(f"csv,{name}", directory)
    assert "\n" not in str(end.value)
