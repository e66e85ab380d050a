"""Which devices a machine has, and in which precision they multiply quickest."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

from charlm.errors import CharlmError


def torch_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
        CharlmError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        line = str(error).strip().split("\n")[0]
        raise CharlmError(f"there is no device {name!r} here ({line}); use --device cpu") from None
    return device


def choose_precision(name: str, gpu: bool) -> tuple[str, str]:
    """Lightning's name for a precision, and the reason if it was left to the program."""
    if name != "auto":
        return {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}.get(name, name), "named"
    if gpu:
        if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", "the GPU multiplies bf16 natively"
        return "32-true", "the GPU has no fast bf16"
    if quick_bf16():
        return "bf16-mixed", "the processor multiplies bf16 natively"
    return "32-true", "the processor has no fast bf16"


@cache
def cpu_flags() -> tuple[str, frozenset[str]]:
    """The processor's vendor and its feature flags, where the system tells (Linux)."""
    path = Path("/proc/cpuinfo")
    vendor, flags = platform.processor(), frozenset[str]()
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "vendor_id":
                vendor = value.strip()
            elif name.strip() == "flags":
                flags = frozenset(value.split())
                break
    return vendor, flags


def quick_bf16() -> bool:
    """Whether this processor has instructions for bf16; without them autocast is several times slower."""
    return bool(cpu_flags()[1] & {"avx512_bf16", "amx_bf16"})


def quick_dtype() -> torch.dtype:
    """The type that this processor multiplies quickest."""
    return torch.bfloat16 if quick_bf16() else torch.float32


def matmul_precision() -> str:
    """The setting of `torch.set_float32_matmul_precision` for training in fp32 on this processor.

    On AMD processors "medium" sends fp32 products to oneDNN, which is twice as quick there as MKL and as exact
    (measured: gradients differ by 2e-7); on Intel MKL is quicker, and with AMX "medium" would round to bf16.
    """
    vendor, flags = cpu_flags()
    return "medium" if vendor == "AuthenticAMD" and "amx_bf16" not in flags else "highest"
