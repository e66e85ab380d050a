"""What a run runs on: devices through Lightning's Trainer, products and memory set up for speed."""

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

from charlm.config import Config
from charlm.errors import CharlmError
from charlm.network.precision import matmul_precision
from charlm.training.callbacks import SafeCheckpointIO


def has_gpu(config: Config) -> bool:
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def physical_memory() -> float:
    """Bytes of memory of the machine; infinitely many where the system does not tell."""
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", ())):
        return math.inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def build_trainer(config: Config, precision: str, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    named = config.trainer
    devices: Any = int(named.devices) if named.devices.lstrip("-").isdigit() else named.devices
    try:
        with quiet():
            return lightning.Trainer(
                accelerator=named.accelerator,
                devices=devices,
                num_nodes=named.num_nodes,
                strategy=named.strategy,
                precision=precision,  # type: ignore[arg-type]
                max_epochs=named.max_epochs or -1,
                accumulate_grad_batches=named.accumulate_grad_batches,
                deterministic=named.deterministic,
                callbacks=callbacks,
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
        raise CharlmError(f"this machine cannot train so: {line}; look at the --trainer options") from None


@contextlib.contextmanager
def quick(gpu: bool) -> Iterator[None]:
    """Matrix products as training likes them, while it lasts, and memory, for the rest of the process."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if gpu else matmul_precision())
    keep_memory()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def keep_memory() -> None:
    """Have glibc keep freed memory for the next step instead of returning it to the system.

    A step allocates the same large blocks as the one before. Each that comes fresh from the system is paid for page
    by page: measured, 17 to 90 % more steps a second without (word models and 2 x 512), for some 150 MB.
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
    """Lightning without its advertisements and the warnings that are about its own code."""
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
