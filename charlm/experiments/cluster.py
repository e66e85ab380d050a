"""The training of a race's trials as jobs of a SLURM cluster.

The jobs are started through submitit (https://github.com/facebookincubator/submitit).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from charlm.errors import CharlmError, Diverged, first_line
from charlm.network.cells import cells
from charlm.reporter import Reporter

LONGEST = 24 * 60
"""Time limit of a job in minutes unless a parameter says otherwise."""


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of submitit from texts such as `slurm_partition=gpu`.

    Unless the texts say otherwise, a job has one task on one node, and at most `LONGEST` minutes.

    Raises:
        CharlmError: A text does not have the form NAME=VALUE, or submitit is not installed.
    """
    found: dict[str, Any] = {"timeout_min": LONGEST, "tasks_per_node": 1, "nodes": 1}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise CharlmError(f"`cluster` must be parameters such as gpus_per_node=1, not {text!r}")
        found[name] = int(value) if value.isdigit() else value
    _submitit()
    return found


def check_cells(names: Iterable[str]) -> None:
    """Raise CharlmError if one of the cells with these names is defined outside charlm.

    A job imports only charlm, so it would not know this cell.
    """
    for name in names:
        if not cells[name].__module__.startswith("charlm."):
            raise CharlmError(f"the cell {name!r} is not part of charlm, so a job does not know it; use `engine` local")


def train(
    runs: Sequence[Path], folder: Path, cluster: str, options: dict[str, Any], reporter: Reporter | None = None
) -> None:
    """Train some runs to their end, each as a job, and wait until all jobs have ended.

    Args:
        runs: Run directories with everything that training needs, on a file system that all jobs
            share.
        folder: The folder into which submitit writes its own files.
        cluster: The executor of submitit: "slurm", or "local" for one process per job on this
            machine.
        options: Parameters of submitit, as returned by `parameters`.
        reporter: Receives a message and the number of jobs that have ended; None: nothing is
            reported.

    Raises:
        CharlmError: submitit is not installed, this machine cannot submit jobs to `cluster`, a
            parameter is unknown, or a job has failed.
    """
    submitit, reporter = _submitit(), reporter or Reporter()
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**options)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise CharlmError(f"submitit cannot start jobs here: {first_line(error)}; use `engine` local") from None
    with executor.batch():
        jobs = [executor.submit(train_run, str(run.resolve())) for run in runs]
    reporter.say(f"{len(jobs)} jobs submitted; what they print is in {folder}")
    for number, (job, run) in enumerate(zip(jobs, runs, strict=True), 1):
        try:
            job.result()
        except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
            raise CharlmError(
                f"the job {job.job_id} of {run} has failed ({first_line(error)}); see {job.paths.stderr}, "
                "and resume the race"
            ) from None
        reporter.progress("training", number, len(jobs))


def train_run(path: str) -> None:
    """Train the run in this directory to its end; this is what a job does.

    If the training diverges, the run keeps its last good weights, and the job does not fail.
    """
    from charlm.training.trainer import resume

    try:
        resume(path)
    except Diverged as error:
        print(error)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise CharlmError("`engine` slurm needs submitit; install it with: pip install 'charlm-rnn[cluster]'") from None
    return submitit
