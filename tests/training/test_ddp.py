"""Two processes on one machine learn what one process with all lanes learns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from charlm.config import Config
from charlm.run import Run
from charlm.training.trainer import train
from conftest import small_settings, small_text

TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo, over which processes on a CPU talk",
)


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "charlm", "train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip


def members(process: subprocess.Popen[str]) -> list[int]:
    """Processes of the session that a command started; it should be empty when the command has ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def end(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "Traceback" not in err
    if Path("/proc/self").exists():
        no_members_left(process)
    return out, err


def no_members_left(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 10
    while members(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(process) == []


def settings(folder: Path, unit: str, **groups: dict[str, Any]) -> Path:
    text = folder / "text.txt"
    text.write_text(small_text(2000), encoding="utf-8")
    config = small_settings(
        text, data={"unit": unit, "seq_length": 24}, model={"dropout": 0.0}, **{"checkpoint": {"patience": 0}, **groups}
    )
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    return path


def losses(run: Path) -> list[float]:
    return [row[name] for row in Run(run).metrics for name in ("train/loss", "val/loss") if name in row]


@pytest.mark.parametrize("unit", ["stream", "line"])
def test_two_processes_learn_what_one_does(tmp_path: Path, unit: str) -> None:
    config = settings(tmp_path, unit)
    one, two = tmp_path / "one", tmp_path / "two"
    process = start("--config", config, "--run", two, *TWO)
    train(Config.from_dict(yaml.safe_load(config.read_text())), one)
    out, err = end(process)
    assert out == f"{two}\n"
    assert sum(line.startswith("done;") for line in err.splitlines()) == 1
    assert sum("loading torch" in line for line in err.splitlines()) == 1
    assert len(losses(one)) > 5
    assert losses(two) == pytest.approx(losses(one), rel=2e-5)
    weights = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two)]
    torch.testing.assert_close(weights[0]["state_dict"], weights[1]["state_dict"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weights[0]["charlm"]["state"], weights[1]["charlm"]["state"], rtol=1e-3, atol=1e-4)


def test_interrupted_together_they_resume_together(tmp_path: Path) -> None:
    config = settings(tmp_path, "stream", trainer={"max_epochs": 6})
    one, two = tmp_path / "one", tmp_path / "two"
    process = start("--config", config, "--run", two, *TWO)
    while not (two / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    out, err = end(process, 130)
    assert out == ""
    assert err.splitlines()[-1] == f"interrupted and saved; continue with: charlm train --resume {two}"
    process = start("--resume", two)
    train(Config.from_dict(yaml.safe_load(config.read_text())), one)
    end(process)
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are listed in /proc")
@pytest.mark.parametrize("killed", ["the process that was started", "the process that it started"])
def test_when_one_is_killed_the_other_ends_with_a_line(tmp_path: Path, killed: str) -> None:
    config, run = settings(tmp_path, "stream", trainer={"max_epochs": 1000}), tmp_path / "run"
    process = start("--config", config, "--run", run, *TWO)
    while not ((run / "checkpoints" / "last.ckpt").exists() and Run(run).metrics):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    (child,) = set(members(process)) - {process.pid}
    os.kill(process.pid if killed == "the process that was started" else child, signal.SIGKILL)
    # The pipe of standard error is closed when both have ended.
    _, err = process.communicate(timeout=60)
    if killed == "the process that was started":
        assert process.returncode == -signal.SIGKILL
    else:  # it has noticed by itself, or Lightning has killed it, whichever came first
        assert process.returncode in (2, -signal.SIGKILL)
    no_members_left(process)
    assert "Traceback" not in err
    assert err.splitlines()[-1].removeprefix("charlm: ") == (
        f"another process of the training has ended; go on with charlm train --resume {run} "
        "and as many processes as before"
    )


def test_a_mistake_is_reported_once_and_no_process_stays_behind(tmp_path: Path) -> None:
    config = settings(tmp_path, "stream", optimizer={"lr": 1e30}, trainer={"gradient_clip_val": 0.0})
    _, err = end(start("--config", config, "--run", tmp_path / "run", *TWO), 2)
    assert sum(line.startswith("charlm: ") for line in err.splitlines()) == 1
    assert "keeps its last good weights" in err.splitlines()[-1]
