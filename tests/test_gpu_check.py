"""scripts/gpu_check.py with tiny sizes on a CPU: every part runs, and the table has its rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "scripts" / "gpu_check.py"


def table(*parts: str) -> list[list[str]]:
    """The rows of the table: part, what, result, comparison, seconds."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--parts", *parts], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[0] == ["part", "what", "result", "comparison", "seconds"]
    return rows[2:]


def test_the_benchmarks_run_on_a_cpu_with_tiny_sizes() -> None:
    parts = ["tests", "fused", "stepped", "scans", "generation", "training"]
    rows = table(*parts)
    assert list(dict.fromkeys(row[0] for row in rows)) == parts
    assert "0 failed, 1 skipped" in rows[0][2] or "1 passed, 0 failed" in rows[0][2]
    assert all("tokens/s" in row[2] or "ms" in row[2] for row in rows[1:])


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo, with which processes on a CPU communicate",
)
def test_a_training_on_two_devices_runs_as_two_processes_on_a_cpu() -> None:
    ((part, what, result, *_),) = table("ddp")
    assert (part, what) == ("ddp", "training on two devices")
    assert result.startswith("6 steps")
