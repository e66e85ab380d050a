"""What a run trains on: devices through Lightning's Trainer, and fast matrix products and memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import lightning
import torch

from charlm.config import TrainerConfig
from charlm.errors import CharlmError
from charlm.network.precision import choose_precision, matmul_precision
from charlm.training.checkpoint import SafeCheckpointIO
from charlm.training.processes import launched


def has_gpu(trainer: TrainerConfig) -> bool:
    """Whether a training with these settings has a CUDA device."""
    return trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def physical_memory() -> float:
    """Bytes of memory of the machine; infinity where the system does not tell."""
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", ())):
        return math.inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def build_trainer(trainer: TrainerConfig) -> lightning.Trainer:
    """Lightning's Trainer without loggers and callbacks; `StoppingCriteria` ends the run, not the Trainer.

    Raises:
        CharlmError: this machine cannot train with these settings.
    """
    devices: Any = trainer.devices
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    nodes, strategy, launch = trainer.num_nodes, trainer.strategy, launched()
    if launch is not None:
        devices = launch.devices if devices == "auto" else devices
        nodes = launch.nodes if nodes == 1 else nodes
        if isinstance(devices, int) and (devices, nodes) != launch:
            raise CharlmError(
                f"the launcher started {launch.devices} processes on each of {launch.nodes} machines, but "
                f"`trainer.devices` is {trainer.devices} and `trainer.num_nodes` {trainer.num_nodes}; "
                "leave both out, or change what the launcher starts"
            )
    if strategy == "auto" and (nodes > 1 or launch is not None):
        strategy = "ddp"
    precision, _ = choose_precision(trainer.precision, has_gpu(trainer))
    try:
        with quiet():
            return lightning.Trainer(
                accelerator=trainer.accelerator,
                devices=devices,
                num_nodes=nodes,
                strategy=strategy,
                precision=precision,  # type: ignore[arg-type]
                max_epochs=-1,
                accumulate_grad_batches=trainer.accumulate_grad_batches,
                log_every_n_steps=trainer.log_every_n_steps,
                deterministic=trainer.deterministic,
                plugins=[SafeCheckpointIO()],
                limit_val_batches=0,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except (
        ValueError,
        TypeError,
        RuntimeError,
        ModuleNotFoundError,
        lightning.fabric.utilities.exceptions.MisconfigurationException,
    ) as error:
        line = " ".join(str(error).split())
        raise CharlmError(
            f"this machine cannot train with these settings: {line}; change the settings of the group trainer"
        ) from None


@contextlib.contextmanager
def fast_matmul(gpu: bool) -> Iterator[None]:
    """Faster matrix products in fp32 inside the context. It also calls `tune_malloc`, which is not undone."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if gpu else matmul_precision())
    tune_malloc()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def tune_malloc() -> None:
    """Have glibc keep freed memory for the next step instead of returning it to the system.

    A step allocates the same large blocks as the one before. A block that comes new from the system costs a page fault
    per page: measured, 17 to 90 % more steps per second without them (word models and 2 x 512), for some 150 MB.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its advertisements and the warnings about its own code."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            yield
        finally:
            logger.setLevel(level)
