"""Processes that torchrun or SLURM starts train one run together, over gloo on the CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from charlm.errors import CharlmError
from charlm.run import Run
from charlm.run_directory import WEIGHTS
from charlm.training.machine import build_trainer
from charlm.training.processes import RANK_VARIABLES, launched
from conftest import small_settings, small_text

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo, over which processes on a CPU talk",
)

MINUTE = 60.0
"""Seconds within which the others end when a process was killed."""

Process = subprocess.Popen[str]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher has started this process."""
    for name in [*RANK_VARIABLES, *(name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_")))]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with dropout and a checkpoint every five steps; lines, whose lengths differ between the processes."""
    text = tmp_path / "text.txt"
    text.write_text(small_text(1500), encoding="utf-8")
    values = small_settings(
        text,
        data={"unit": "line", "seq_length": 24},
        model={"dropout": 0.3},
        checkpoint={"every": 5, "patience": 0},
        samples={"every": 1, "length": 10},
    )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values.to_dict()))
    return path


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes that end with the test."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start(*command: object, **variables: object) -> Process:
    environment = os.environ | {"OMP_NUM_THREADS": "1", **{name: str(value) for name, value in variables.items()}}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def torchrun(*arguments: object, options: tuple[object, ...] = ("--standalone", "--nproc_per_node", 2)) -> Process:
    return start("torch.distributed.run", *options, "-m", "--", "charlm", "train", *arguments)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def kill_all(process: Process) -> None:
    """Kill a launcher and what it started, as when the power fails."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for number in [process.pid, *map(int, children)]:
        os.kill(number, signal.SIGKILL)
    process.communicate()


def finish(process: Process) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out, err


def until_step(run: Path, step: int, *processes: Process) -> None:
    """Wait until a run has a checkpoint and a logged step beyond `step`."""
    while not ((run / "checkpoints" / "last.ckpt").exists() and Run(run).metrics[-1:] and reached(run) > step):
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def reached(run: Path) -> int:
    return int(Run(run).metrics[-1]["step"])


def assert_same(run: Path, other: Path) -> None:
    for name in WEIGHTS.values():
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert Run(run).samples == Run(other).samples
    both = [torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (run, other)]
    for one in both:
        one["charlm"]["progress"].pop("elapsed_before")
    for key in ("state_dict", "optimizer_states", "charlm"):
        torch.testing.assert_close(both[0][key], both[1][key], rtol=0, atol=0)


def test_torchrun_trains_and_resumes_bit_equal(config: Path, tmp_path: Path, started: list[Process]) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    started.append(torchrun("--config", config, "--run", whole))
    out, err = finish(started[-1])
    assert out == f"{whole}\n"  # one process speaks
    assert err.count("processes: 2;") == 1
    assert Run(whole).samples[-1].epoch == 2
    saved = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["charlm"]
    assert saved["processes"] == 2
    assert not torch.equal(*saved["random"]["cpu"])  # each process drops units of its own

    process = torchrun("--config", config, "--run", part)
    started.append(process)
    until_step(part, 5, process)
    kill_all(process)
    alone = start("charlm", "train", "--resume", part)
    assert alone.communicate()[1].splitlines()[-1] == (
        f"charlm: {part} was trained by 2 processes and can be resumed by as many, not by 1; set --trainer.devices "
        "and --trainer.num_nodes, or what the launcher starts, as before"
    )
    assert alone.returncode == 2
    started.append(torchrun("--resume", part))
    finish(started[-1])
    assert_same(part, whole)


def test_two_machines_and_slurm_train_the_same(config: Path, tmp_path: Path, started: list[Process]) -> None:
    nodes, slurm = tmp_path / "nodes", tmp_path / "slurm"
    port = free_port()
    options = ("--nnodes", 2, "--nproc_per_node", 1, "--master_addr", "127.0.0.1", "--master_port", port, "--node_rank")
    pair = [torchrun("--config", config, "--run", nodes, options=(*options, rank)) for rank in (0, 1)]
    started.extend(pair)
    outs = [finish(process)[0] for process in pair]
    assert outs == [f"{nodes}\n", ""]

    variables = {
        "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 1, "SLURM_NNODES": 2, "SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "train",
        "SLURM_LOCALID": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
    }  # fmt: skip
    pair = [
        start("charlm", "train", "--config", config, "--run", slurm, **variables, SLURM_PROCID=rank, SLURM_NODEID=rank)
        for rank in (0, 1)
    ]
    started.extend(pair)
    outs = [finish(process)[0] for process in pair]
    assert outs == [f"{slurm}\n", ""]
    assert Run(slurm).samples[-1].epoch == 2
    assert_same(slurm, nodes)


@pytest.mark.parametrize("killed", [0, 1], ids=["the first", "the other"])
def test_when_a_process_is_killed_the_others_end_with_a_line(
    config: Path, tmp_path: Path, started: list[Process], killed: int
) -> None:
    run, port = tmp_path / "run", free_port()
    variables: dict[str, Any] = {
        "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2, "SLURM_NNODES": 1, "SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "train",
        "SLURM_NODEID": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    pair = [
        start(
            "charlm", "train", "--config", config, "--run", run, "--trainer.max_epochs", 1000,
            **variables, SLURM_PROCID=rank, SLURM_LOCALID=rank,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    started.extend(pair)
    until_step(run, 5, *pair)
    pair[killed].kill()
    began = time.monotonic()
    _, err = pair[1 - killed].communicate(timeout=2 * MINUTE)
    assert time.monotonic() - began < MINUTE
    assert pair[1 - killed].returncode == 2
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        f"charlm: another process of the training has ended; go on with charlm train --resume {run} "
        "and as many processes as before"
    )
    steps = reached(run)
    if killed:
        started.append(torchrun("--resume", run, "--trainer.max_steps", steps + 10))
        finish(started[-1])
        assert reached(run) == steps + 10


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}, (3, 2)),
        ({"SLURM_NTASKS": "1"}, None),
        ({"SLURM_NTASKS": "2"}, (2, 1)),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_what_a_launcher_started(
    variables: dict[str, str], expected: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


def test_settings_that_contradict_the_launcher_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    trainer = small_settings(tmp_path / "text.txt", trainer={"devices": 3}).trainer
    with pytest.raises(CharlmError, match=r"started 2 processes on each of 1 machines, but `trainer.devices` is 3 and"):
        build_trainer(trainer)
