"""When a run validates: `trainer.val_check_interval` means what it means in Lightning's Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from charlm.errors import CharlmError
from charlm.evaluation.likelihood import Evaluation, evaluate_lanes
from charlm.reporter import Reporter
from charlm.training.machine import quiet
from charlm.training.trainer import resume, train
from conftest import small_settings, small_text

BATCHES = 22  # an epoch of 4 lanes, 337 tokens each, in windows of 16


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(small_text(1500), encoding="utf-8")
    return path


def validations(text: Path, run: Path, **trainer: Any) -> list[tuple[int, float]]:
    """Step and epoch of every validation of two epochs."""
    config = small_settings(
        text,
        trainer={"max_epochs": 2, **trainer},
        checkpoint={"patience": 0},
        samples={"every": 0},
        inspect={"images": False, "histograms": False, "embeddings": False},
    )
    return [(row["step"], row["epoch"]) for row in train(config, run).metrics if "val/loss" in row]


class Plain(lightning.LightningModule):
    """A network of Lightning's own kind that keeps at which batch it validates."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[int] = []
        self.batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.batches += 1
        return (self.weight * batch[0]).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(self.batches)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches_at_which_lightning_validates(interval: int | float, folder: Path) -> list[int]:
    model, one = Plain(), TensorDataset(torch.ones(1))
    with quiet():
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=2, val_check_interval=interval, num_sanity_val_steps=0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(model, DataLoader(TensorDataset(torch.ones(BATCHES))), DataLoader(one))
    return model.seen


@pytest.mark.parametrize("interval", [1.0, 0.5, 0.3, 0.01, 1, 5, 11, 22])
def test_it_validates_where_lightning_does(text: Path, tmp_path: Path, interval: int | float) -> None:
    expected = batches_at_which_lightning_validates(interval, tmp_path)
    found = validations(text, tmp_path / "run", val_check_interval=interval)
    last = 2 * BATCHES  # at the end of a run there is a validation in any case
    assert [step for step, _ in found] == [*expected, *([last] if expected[-1] != last else [])]


def test_it_counts_batches_and_not_optimiser_steps(text: Path, tmp_path: Path) -> None:
    found = validations(text, tmp_path / "run", val_check_interval=10, accumulate_grad_batches=2)
    assert [step for step, _ in found] == [5, 10, 16, 21, 22]  # batches 10, 20, 32, 42 and the last
    found = validations(text, tmp_path / "halves", val_check_interval=0.5, accumulate_grad_batches=4)
    assert [epoch for _, epoch in found] == pytest.approx([12 / 22, 1.0, 1 + 12 / 22, 2.0], abs=1e-4)


def test_more_than_an_epoch_is_one_line(text: Path, tmp_path: Path) -> None:
    why = r"`trainer.val_check_interval` 23 is more than the 22 batches of an epoch; take fewer, or a fraction such as"
    with pytest.raises(CharlmError, match=why) as end:
        validations(text, tmp_path / "run", val_check_interval=23)
    assert "\n" not in str(end.value)
    done = resume(tmp_path / "run", {"trainer.val_check_interval": 1.0}, Reporter())
    assert [row["epoch"] for row in done.metrics if "val/loss" in row] == [1.0, 2.0]


class Evaluations(Reporter):
    """Keeps what validations found."""

    def __init__(self) -> None:
        self.found: list[Evaluation] = []

    def on_validation(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        self.found.append(evaluation)


@pytest.mark.parametrize(("characters", "lanes"), [(4000, 1), (2 * 5120 + 100, 2), (40_000, 4)])
def test_lanes_of_validation_are_long(tmp_path: Path, characters: int, lanes: int) -> None:
    path = tmp_path / "text.txt"
    path.write_text(small_text(characters), encoding="utf-8")
    reporter = Evaluations()
    trainer: dict[str, object] = {"max_steps": 1, "val_check_interval": 1.0}  # all of the text is read
    run = train(small_settings(path, trainer=trainer, samples={"every": 0}), tmp_path / "run", reporter)
    (found,) = reporter.found
    model, stream = run.load_model("last"), run.directory.stream("val")
    by_lanes = {count: evaluate_lanes(model, stream, lanes=count).nats for count in range(1, 6)}
    # Of at least VALIDATION_TOKENS tokens, and at most as many as in training.
    assert min(by_lanes, key=lambda count: abs(by_lanes[count] - found.nats)) == lanes
    assert found.nats == pytest.approx(by_lanes[lanes], rel=1e-6)


@pytest.mark.parametrize("interval", ["auto", 1.0])
def test_a_fraction_of_the_validation_text_is_read_at_every_validation(
    text: Path, tmp_path: Path, interval: str | float
) -> None:
    config = small_settings(
        text,
        trainer={"max_epochs": 1, "limit_val_batches": 0.5, "val_check_interval": interval},
        samples={"every": 0},
        inspect={"images": False, "histograms": False, "embeddings": False},
    )
    read = {row["val/tokens"] for row in train(config, tmp_path / "run").metrics if "val/loss" in row}
    assert read == {150 // 2 - 1}
