"""Which devices a machine has, and in which precision they multiply matrices fastest."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

from charlm.errors import CharlmError


def torch_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one.

    Raises:
        CharlmError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # a device may exist without memory: meta
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, AttributeError) as error:
        line = str(error).strip().split("\n")[0]
        raise CharlmError(f"there is no device {name!r} here ({line}); set `device` to cpu") from None
    return device


def choose_precision(name: str, gpu: bool) -> tuple[str, str]:
    """Lightning's name for a precision, and the reason for it.

    Args:
        name: auto, a short name (32, 64, bf16, 16) or a name of Lightning's.
        gpu: Whether training runs on a GPU.
    """
    if name != "auto":
        return {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}.get(name, name), "named"
    if gpu:
        if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", "the GPU multiplies bf16 natively"
        return "32-true", "the GPU has no fast bf16"
    if has_fast_bf16():
        return "bf16-mixed", "the processor multiplies bf16 natively"
    return "32-true", "the processor has no fast bf16"


@cache
def cpu_flags() -> tuple[str, frozenset[str]]:
    """The vendor and the feature flags of an x86 processor on Linux; elsewhere its name and no flags."""
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


def has_fast_bf16() -> bool:
    """Whether this processor has instructions for bf16; without them bf16 is several times slower than fp32."""
    return bool(cpu_flags()[1] & {"avx512_bf16", "amx_bf16"})


def fastest_dtype() -> torch.dtype:
    """The type in which this processor multiplies matrices fastest."""
    return torch.bfloat16 if has_fast_bf16() else torch.float32


@cache
def cpu_lstm_runs_in(dtype: torch.dtype) -> bool:
    """Whether torch's LSTM kernel, which is oneDNN's on a CPU, runs under autocast to `dtype` on this processor.

    oneDNN has bf16 kernels for AVX-512 and later only; elsewhere the call raises. So a forward and a backward pass of
    one unit are tried, once.
    """
    weights = [torch.zeros(4, 1, requires_grad=True) for _ in range(2)] + [torch.zeros(4) for _ in range(2)]
    state = torch.zeros(1, 1, 1)
    try:
        with torch.enable_grad(), torch.autocast("cpu", dtype):
            outputs, *_ = torch._VF.lstm(state, (state, state), weights, True, 1, 0.0, True, False, True)
            outputs.sum().backward()
    except RuntimeError:
        return False
    return True


def matmul_precision() -> str:
    """The argument of `torch.set_float32_matmul_precision` for training in fp32 on this processor.

    On AMD processors "medium" sends fp32 products to oneDNN, which is twice as fast there as MKL and as exact
    (measured: gradients differ by 2e-7). On Intel's, MKL is faster, and with AMX "medium" would round to bf16.
    """
    vendor, flags = cpu_flags()
    return "medium" if vendor == "AuthenticAMD" and "amx_bf16" not in flags else "highest"
