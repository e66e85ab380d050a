"""Which devices a machine has, and in which precision they multiply matrices fastest."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

from charlm.errors import CharlmError


def torch_device(name: str) -> torch.device:
    """Return the torch device called `name`; "auto" is a GPU if there is one, else the CPU.

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
    """Return Lightning's name for a precision, and the reason for the choice.

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
    """Return the vendor and the feature flags of this processor.

    They are known for x86 processors on Linux; elsewhere the result is the name of the processor
    and no flags.
    """
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
    """Return whether this processor has instructions for bf16.

    Without them bf16 is several times slower than fp32.
    """
    return bool(cpu_flags()[1] & {"avx512_bf16", "amx_bf16"})


def fastest_dtype() -> torch.dtype:
    """Return the type (bf16 or fp32) in which this processor multiplies matrices fastest."""
    return torch.bfloat16 if has_fast_bf16() else torch.float32


@cache
def cpu_lstm_runs_in(dtype: torch.dtype) -> bool:
    """Return whether torch's LSTM kernel runs under autocast to `dtype` on this processor.

    On a CPU the kernel is oneDNN's, which supports bf16 on processors with AVX-512 or later only;
    on others the call raises an error. Therefore this function tries a forward and a backward pass
    of one unit. The result for each type is remembered.
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
    """Return the best argument of `torch.set_float32_matmul_precision` for training in fp32.

    It depends on the processor. On AMD processors "medium" makes torch use oneDNN for fp32
    products, which is twice as fast there as MKL and as exact (measured: gradients differ by 2e-7).
    On Intel processors MKL is faster, and with AMX "medium" would round to bf16.
    """
    vendor, flags = cpu_flags()
    return "medium" if vendor == "AuthenticAMD" and "amx_bf16" not in flags else "highest"
