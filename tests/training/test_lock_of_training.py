"""A run in training refuses a second training, and lets everybody read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from charlm.run import Run
from conftest import Charlm, small_settings, small_text


@pytest.fixture
def training(tmp_path: Path) -> subprocess.Popen[str]:
    """A training process that has written a checkpoint and has most of its steps left."""
    text = tmp_path / "text.txt"
    text.write_text(small_text(3000), encoding="utf-8")
    settings = small_settings(text, trainer={"max_epochs": 1000}, checkpoint={"patience": 0})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings.to_dict()))
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", "train", "--config", "config.yaml", "--run", "run"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not (tmp_path / "run" / "metrics.csv").is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return process


def test_a_second_training_is_refused_and_reading_is_not(
    training: subprocess.Popen[str], charlm: Charlm, tmp_path: Path
) -> None:
    try:
        mistake = charlm("train", "--resume", "run").mistake
        assert mistake.startswith(f"run is being trained by process {training.pid} on ")
        assert charlm("generate", "run", "--length", 5).status == 0
        assert charlm("samples", "run").status == 0
        assert charlm("report", "run", "--output", "page.html").status == 0
    finally:
        training.kill()
        training.communicate()
    before = Run("run").metrics[-1]["step"]
    assert charlm("train", "--resume", "run", "--trainer.max_steps", int(before) + 50).status == 0
    steps = [row["step"] for row in Run("run").metrics]
    assert steps == sorted(steps)
    assert steps[-1] >= before
