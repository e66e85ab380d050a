"""Trials as jobs, with the executor of submitit that starts a process on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trials import OPTIONS, settings

from charlm.errors import CharlmError
from charlm.experiments import cluster
from charlm.experiments.planning import start
from charlm.experiments.race import check, run
from charlm.network.cells import cells
from charlm.network.cells.elman import RNN
from charlm.reporter import Reporter

submitit = pytest.importorskip("submitit")


def test_a_job_trains_a_run_to_its_end_and_the_race_takes_it_as_finished(text_file: Path, tmp_path: Path) -> None:
    directory = start(
        replace(OPTIONS, seeds=1, search=1, tokens=300), settings(text_file), tmp_path / "race", Reporter()
    )
    plan = directory.plan
    runs = [directory.begin(trial, plan.settings(trial)).path for trial in plan.trials]
    cluster.train(runs, tmp_path / "jobs", "local", {"timeout_min": 5})
    weights = [(path / "model.safetensors").stat().st_mtime_ns for path in runs]
    run(directory, Reporter())
    assert [(path / "model.safetensors").stat().st_mtime_ns for path in runs] == weights
    assert set(directory.scores) == {trial.name for trial in plan.trials}


def test_a_job_that_fails_names_its_output(tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match=r"the job \d+ of .*none has failed .*; see .*err, and resume the race"):
        cluster.train([tmp_path / "none"], tmp_path / "jobs", "local", {"timeout_min": 5})


def test_parameters_of_submitit() -> None:
    found = cluster.parameters(["slurm_partition=gpu", "gpus_per_node=2"])
    assert found["slurm_partition"] == "gpu"
    assert found["gpus_per_node"] == 2
    with pytest.raises(CharlmError, match="`cluster` must be parameters such as"):
        cluster.parameters(["gpu"])


def test_what_no_cluster_can_do(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no SLURM
    with pytest.raises(CharlmError, match="submitit cannot start jobs here"):
        cluster.train([tmp_path], tmp_path / "jobs", "slurm", {})
    with pytest.raises(CharlmError, match="submitit cannot start jobs here"):
        cluster.train([tmp_path], tmp_path / "jobs", "local", {"speed": 1})

    class Own(RNN):
        pass

    Own.__module__ = "charlm imports own.py"
    monkeypatch.setitem(cells._load(), "own", Own)
    with pytest.raises(CharlmError, match="'own' is not part of charlm"):
        check(replace(OPTIONS, cells=("lstm", "own"), engine="slurm"), settings(text_file))
