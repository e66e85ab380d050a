"""Checkpoints: what no training saves is refused when it is read, also without checksums."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from charlm.errors import CharlmError
from charlm.training.checkpoint import load_checkpoint
from conftest import Charlm


def test_a_checkpoint_of_a_training_is_accepted(tiny_run: Path) -> None:
    assert load_checkpoint(tiny_run / "checkpoints" / "last.ckpt")["global_step"] > 0


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("global_step",), -3), (("epoch",), -1), (("charlm", "progress", "step"), -3),
        (("charlm", "progress", "best_loss"), math.nan), (("charlm", "losses"), [math.inf]),
        (("charlm", "state"), torch.full((2, 2, 4, 24), math.nan)),
        (("optimizer_states", 0, "param_groups", 0, "lr"), math.inf),
        (("optimizer_states", 0, "param_groups", 0, "weight_decay"), -math.inf),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_no_training_saves_are_refused(
    charlm: Charlm, run: Path, place: tuple[str | int, ...], value: Any
) -> None:
    path = run / "checkpoints" / "last.ckpt"
    saved = inner = torch.load(path, weights_only=True)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    torch.save(saved, path)
    name = ".".join(map(str, place))
    with pytest.raises(CharlmError, match=f"last.ckpt is damaged \\({name}"):
        load_checkpoint(path)
    (run / "checksums.json").unlink()
    assert "last.ckpt is damaged" in charlm("train", "--resume", run, "--trainer.max_epochs", "3").mistake


def test_callbacks_and_optimisers_may_store_negative_numbers(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["callbacks"] = {"Mine": {"best": -math.inf}}
    saved["optimizer_states"][0]["param_groups"][0]["coefficients"] = (3.4, -4.8, 2.0)
    torch.save(saved, path)
    assert load_checkpoint(path)["callbacks"] == saved["callbacks"]
