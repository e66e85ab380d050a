"""LanguageModel.initialise_output_bias."""

from __future__ import annotations

import pytest
import torch

from charlm.config import ModelConfig
from charlm.network.model import LanguageModel

COUNTS = torch.tensor([0, 900, 90, 9, 1])


@pytest.mark.parametrize("tie", [False, True])
def test_an_untrained_model_predicts_the_frequencies(tie: bool) -> None:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig("lstm", layers=1, hidden=16, embedding=16, dropout=0.0, tie=tie), len(COUNTS))
    model.initialise_output_bias(COUNTS)
    logits, _ = model(torch.arange(len(COUNTS))[None])
    torch.testing.assert_close(logits.softmax(-1).mean((0, 1)), COUNTS / COUNTS.sum(), rtol=0, atol=0.02)
    assert (logits.softmax(-1)[..., 0] < 0.001).all()  # never seen: improbable, not impossible
    assert logits.isfinite().all()


def test_it_draws_no_random_numbers() -> None:
    config = ModelConfig("gru", layers=1, hidden=4, embedding=4, dropout=0.0, tie=False)
    model = LanguageModel(config, len(COUNTS))
    before = torch.get_rng_state()
    model.initialise_output_bias(COUNTS)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(model.output["bias"].exp().sum(), torch.tensor(1.0))
    assert model.output["bias"].requires_grad
