"""A training in a process of its own that is killed, interrupted, or runs out of disk, and is resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from charlm.run import Run
from conftest import small_settings, small_text

EPOCHS = 20


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a training long enough for three random moments with a checkpoint every three steps."""
    import yaml

    folder = tmp_path_factory.mktemp("killed")
    (folder / "text.txt").write_text(small_text(3000), encoding="utf-8")
    settings = small_settings(
        folder / "text.txt",
        data={"seq_length": 32},
        model={"dropout": 0.3},
        trainer={"max_epochs": EPOCHS},
        checkpoint={"every": 3, "patience": 0},
        samples={"length": 5, "every": 5},
    )
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings.to_dict()))
    return path


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "charlm", "train", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def finish(*arguments: object) -> str:
    """What a training that goes well says."""
    process = start(*arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(out.splitlines()) == 1
    return err


def until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def checkpointed(run: Path) -> Callable[[], bool]:
    return (run / "checkpoints" / "last.ckpt").exists


def assert_same(run: Path, other: Path) -> None:
    for name in ("last.safetensors", "model.safetensors", "samples.jsonl"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    clockless = ("epoch", "step", "train/loss", "val/loss")
    tables = [read(path) for path in (run, other)]
    assert [[row.get(name) for name in clockless] for row in tables[0]] == [
        [row.get(name) for name in clockless] for row in tables[1]
    ]


def read(run: Path) -> list[dict[str, Any]]:
    return Run(run).metrics


@pytest.fixture(scope="module")
def unbroken(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    finish("--config", config, "--run", path)
    return path


def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(config: Path, unbroken: Path, tmp_path: Path) -> None:
    draw, run = random.Random(1), tmp_path / "run"
    arguments: tuple[object, ...] = ("--config", config, "--run", run)
    for _ in range(3):
        process = start(*arguments)
        before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns if run.exists() else None
        until(
            lambda: checkpointed(run)() and (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns != before,  # noqa: B023
            process,
        )
        time.sleep(draw.uniform(0, 0.8))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the moment came too late"
        arguments = ("--resume", run)
    assert "resuming" in finish(*arguments)
    assert_same(run, unbroken)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_how_to_resume(
    config: Path, unbroken: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    run = tmp_path / "run"
    process = start("--config", config, "--run", run)
    until(checkpointed(run), process)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (status, "")
    assert err.splitlines()[-1] == f"interrupted and saved; continue with: charlm train --resume {run}"
    assert "Traceback" not in err
    if number == signal.SIGINT:  # tests of resuming in one process have the other
        finish("--resume", run)
        assert_same(run, unbroken)


def test_interrupted_when_its_directory_exists_it_says_how_to_resume(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("--config", config, "--run", run)
    until((run / "config.yaml").exists, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"interrupted and saved; continue with: charlm train --resume {run}"
    assert "Traceback" not in err


def test_interrupted_twice_it_exits_at_once(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("--config", config, "--run", run, "--samples.length", "100000000")  # a step that takes long
    until((run / "metrics.csv").exists, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert time.monotonic() - began < 2
    assert "Traceback" not in err


def test_interrupted_before_it_began_it_leaves_nothing(config: Path, tmp_path: Path) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start("--config", config, "--run", tmp_path / "run")
        assert process.stderr is not None
        while "loading torch" not in process.stderr.readline():
            pass
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate()
        assert (process.returncode, os.listdir(tmp_path)) == (status, [])
        assert "Traceback" not in err


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from charlm.cli import main
from charlm.training import callbacks

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a file that grows too large is an error

class Filling(callbacks.Checkpointing):
    def _save(self, trainer, module):
        if trainer.global_step == 30:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        super()._save(trainer, module)

import charlm.training.trainer as trainer
trainer.Checkpointing = Filling
main(["train", *sys.argv[1:]])
"""


def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(config: Path, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "--config", str(config), "--run", str(run)],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"charlm: the disk is full; free some space and go on with charlm train --resume {run}"
    )
    assert "Traceback" not in done.stderr
    assert not [path for path in run.rglob("*") if path.suffix == ".tmp"]
    assert len(Run(run).generate(length=5, seed=1)) == 5
    finish("--resume", run)
    assert_same(run, unbroken)
