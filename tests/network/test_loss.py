"""summed_cross_entropy: equal to torch's cross-entropy, in chunks and whole, with gradients and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network import loss
from charlm.network.loss import summed_cross_entropy
from charlm.network.model import LanguageModel

TOKENS, HIDDEN, VOCABULARY = 30, 8, 20


def make_model(**options: bool | int) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(
        ModelConfig("lstm", **{"layers": 1, "hidden": HIDDEN, "embedding": 6, "dropout": 0.0, "tie": False, **options}),  # type: ignore[arg-type]
        VOCABULARY,
    )


def make_inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    targets = torch.randint(VOCABULARY, (TOKENS,))
    targets[::5] = -100
    return torch.randn(TOKENS, HIDDEN, dtype=dtype, requires_grad=True), targets


def expected(model: LanguageModel, features: Tensor, targets: Tensor) -> Tensor:
    kept = targets >= 0
    return F.cross_entropy(model.project(features[kept]), targets[kept], reduction="sum")


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("limit", [1, 7 * VOCABULARY, 2**25])
def test_without_gradients_it_is_the_float64_sum_in_chunks(
    monkeypatch: pytest.MonkeyPatch, limit: int, tie: bool
) -> None:
    monkeypatch.setattr(loss, "MAX_LOGITS", limit)
    model = make_model(tie=tie).double()
    features, targets = make_inputs(torch.float64)
    with torch.no_grad():
        actual = summed_cross_entropy(model, features, targets)
        assert summed_cross_entropy(make_model(tie=tie), features.float(), targets).dtype == torch.float64
    assert actual.dtype == torch.float64
    assert not actual.requires_grad
    torch.testing.assert_close(actual, expected(model, features, targets).detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("limit", [7 * VOCABULARY, 2**25])
def test_gradients_are_those_of_the_whole_window(monkeypatch: pytest.MonkeyPatch, limit: int, tie: bool) -> None:
    monkeypatch.setattr(loss, "MAX_LOGITS", limit)
    model = make_model(tie=tie)
    features, targets = make_inputs()
    names = [name for name, _ in model.named_parameters() if not name.startswith("layers")]
    names = [name for name in names if tie or name != "embedding.weight"]
    leaves = [features, *(model.get_parameter(name) for name in names)]
    actual, wanted = summed_cross_entropy(model, features, targets), expected(model, features, targets)
    torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(actual, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_logits_of_bf16_are_summed_in_fp32() -> None:
    model, (features, targets) = make_model(), make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        actual = summed_cross_entropy(model, features, targets)
    assert actual.dtype == torch.float32
    assert float(actual.detach()) == pytest.approx(float(expected(model, features, targets).detach()), rel=1e-2)


@pytest.mark.parametrize("gradients", [False, True])
def test_the_loss_of_bf16_weights_is_not_rounded_to_bf16(gradients: bool) -> None:
    model, (features, targets) = make_model().bfloat16(), make_inputs(torch.bfloat16)
    with torch.set_grad_enabled(gradients):
        logits = model.project(features)
        assert logits.dtype == torch.bfloat16
        exact = F.cross_entropy(logits.double(), targets, reduction="sum").item()
        assert summed_cross_entropy(model, features, targets).item() == pytest.approx(exact, rel=1e-6)
