"""The processes of one training: which one is the first, and how the others find the run.

Lightning starts the other processes by running the same command again; a launcher (torchrun, SLURM)
starts all of them at once. Only this module reads the environment variables that these programs set
for the processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from charlm.errors import CharlmError

RUN_VARIABLE = "CHARLM_RUN"
"""Environment variable by which processes that Lightning starts inherit the path of the run directory."""

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Environment variables with the number of a process, or of its machine, that launchers set.

Lightning, torchrun and SLURM each set some of them.
"""

INTERACTIVE = ("bash", "interactive")
"""Names of interactive SLURM jobs, in which SLURM does not start the processes of a training.

Lightning uses the same names.
"""

LONGEST_WAIT = 3600.0
"""Seconds that a process waits for the first one to prepare the run directory."""


class Launch(NamedTuple):
    """The numbers of machines and processes that a launcher (torchrun, SLURM) started."""

    devices: int
    """Processes on each machine."""

    nodes: int
    """Machines."""


def launched() -> Launch | None:
    """Return how many processes torchrun or SLURM started.

    The result is None if this process is the only one, or if Lightning starts the others.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        devices = int(environment["LOCAL_WORLD_SIZE"])
        launch = Launch(devices, int(environment["WORLD_SIZE"]) // devices)
    elif "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in INTERACTIVE:
        nodes = int(environment.get("SLURM_NNODES", 1))
        launch = Launch(int(environment.get("SLURM_NTASKS_PER_NODE", environment["SLURM_NTASKS"])), nodes)
    else:
        return None
    return launch if launch.devices * launch.nodes > 1 else None


def is_first_process() -> bool:
    """Return whether this process is the first one of its training.

    Only the first process writes the run directory.
    """
    return all(os.environ.get(name, "0") in ("0", "") for name in RANK_VARIABLES)


@contextlib.contextmanager
def announced(path: Path) -> Iterator[None]:
    """Set the environment variable `RUN_VARIABLE` to the run directory within the block.

    Processes that Lightning starts within the block inherit the variable.
    """
    os.environ[RUN_VARIABLE] = str(path)
    try:
        yield
    finally:
        os.environ.pop(RUN_VARIABLE, None)


def prepared_directory(run: str | Path | None, say: Callable[[str], None], longest_wait: float = LONGEST_WAIT) -> Path:
    """Wait until the first process has prepared the run directory, and return its path.

    Args:
        run: The directory that the user named; None: the one in `RUN_VARIABLE`.
        say: Called once with a message if this process has to wait.
        longest_wait: Longest time to wait, in seconds.

    Raises:
        CharlmError: no directory was named, or the directory is still incomplete after
            `longest_wait`.
    """
    named = run if run is not None else os.environ.get(RUN_VARIABLE)
    if named is None:
        raise CharlmError("with several processes started by a launcher, name the directory with `run`")
    path = Path(named)
    deadline = time.monotonic() + longest_wait
    waiting = False
    while not (path / "config.yaml").is_file():
        if not waiting:
            say(f"waiting for the first process to prepare {path}")
            waiting = True
        if time.monotonic() > deadline:
            raise CharlmError(
                f"the first process has not prepared {path} within {longest_wait:.0f} s; "
                "see what it printed, or prepare the run with one process first"
            )
        time.sleep(0.2)
    return path


@contextlib.contextmanager
def watching(tell: Callable[[], None]) -> Iterator[None]:
    """Within the block, call `tell` just before Lightning kills this process.

    Lightning checks every five seconds whether a process that this one started has failed; if so,
    it kills this process. If this process notices the failure earlier, it ends with an error of its
    own, and `tell` is not called.
    """
    logger = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    handler = logging.Handler()
    handler.emit = lambda record: tell() if "terminated with code" in record.getMessage() else None  # type: ignore[method-assign]
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False  # `tell` replaces its message
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def end_quietly() -> NoReturn:
    """End this process without a message and with exit status 0.

    Processes other than the first one end in this way when the first one ends with an error
    message. If they ended with another exit status, a launcher would kill all processes, and that
    message would be lost.
    """
    raise SystemExit(0)


def lost_process(error: Exception) -> bool:
    """Return whether an error means that another process of the training is lost."""
    import torch

    known = torch.distributed.is_available() and isinstance(error, torch.distributed.DistError)
    return known or any(word in str(error) for word in ("gloo", "NCCL", "Connection closed by peer"))
