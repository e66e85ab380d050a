"""The precision in which a machine is fastest."""

from __future__ import annotations

import pytest
import torch

from charlm.network import precision
from charlm.network.precision import choose_precision, cpu_lstm_runs_in, fastest_dtype, matmul_precision


@pytest.mark.parametrize(
    ("flag", "name"), [("avx512_bf16", "bf16-mixed"), ("amx_bf16", "bf16-mixed"), ("avx2", "32-true")]
)
def test_bf16_only_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch, flag: str, name: str) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: ("GenuineIntel", frozenset({flag})))
    assert choose_precision("auto", gpu=False)[0] == name
    assert (fastest_dtype() == torch.bfloat16) == (name == "bf16-mixed")
    assert choose_precision("32", gpu=False) == ("32-true", "named")


@pytest.mark.parametrize(
    ("vendor", "flags", "name"),
    [
        ("AuthenticAMD", {"avx2"}, "medium"),
        ("AuthenticAMD", {"amx_bf16"}, "highest"),
        ("GenuineIntel", {"avx2"}, "highest"),
    ],
)
def test_fp32_products_are_exact_and_fast(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: set[str], name: str
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: (vendor, frozenset(flags)))
    assert matmul_precision() == name


def test_what_is_chosen_here_keeps_the_digits_of_fp32() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(64, 512), torch.randn(512, 64)
    exact = a.double() @ b.double()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul_precision())
    try:
        assert ((a @ b) - exact).abs().max() < 1e-4
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_probe_of_the_lstm_kernel_agrees_with_the_module() -> None:
    lstm = torch.nn.LSTM(2, 3, batch_first=True)
    runs = True
    with torch.autocast("cpu", torch.bfloat16):
        try:
            lstm(torch.ones(1, 4, 2))
        except RuntimeError:
            runs = False
    assert cpu_lstm_runs_in(torch.bfloat16) == runs
