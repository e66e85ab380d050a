"""Gradients through time and memory horizon of networks whose memory is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.inspection.memory import excerpts, gradient_through_time, memory_horizon
from charlm.network.cells import cells
from charlm.network.model import LanguageModel

VOCABULARY, HIDDEN = 7, 6


def model_of(cell: str, layers: int = 1, **options: float) -> LanguageModel:
    """A network of random parameters in float64, biases included, in training mode."""
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"dropout": 0.0, "tie": False, **options}
    model = LanguageModel(ModelConfig(cell, layers, HIDDEN, HIDDEN, **sizes), VOCABULARY).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.train()


def ids_of(*size: int) -> Tensor:
    return torch.randint(VOCABULARY, size, generator=torch.Generator().manual_seed(2))


def set_to(model: LanguageModel, name: str, value: Tensor | float) -> None:
    with torch.no_grad():
        parameter = model.layers[0].get_parameter(name)
        parameter.copy_(value) if isinstance(value, Tensor) else parameter.fill_(value)


# -- excerpts


def test_excerpts_are_spread_evenly() -> None:
    ids = np.arange(100, dtype=np.uint8)
    assert excerpts(ids, 3, 4).tolist() == [[0, 1, 2, 3], [48, 49, 50, 51], [96, 97, 98, 99]]
    assert excerpts(ids, 9, 40).tolist() == [list(range(40)), list(range(60, 100))]
    assert excerpts(ids, 2, 3).dtype == torch.int64
    with pytest.raises(ValueError, match="no piece of 101"):
        excerpts(ids, 1, 101)


# -- gradients through time


@pytest.mark.parametrize("factor", [0.9, 0.5, 1.0])
def test_through_a_linear_recurrence_it_decays_as_the_eigenvalue(factor: float) -> None:
    model = model_of("rnn")
    rotation = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, dtype=torch.float64)).Q
    set_to(model, "U", factor * rotation)
    set_to(model, "W", 0.0)
    set_to(model, "b", 1e-7)  # states so small that tanh is the identity
    distances, lengths = gradient_through_time(model, ids_of(3, 42), range(1, 41))
    assert distances == list(range(1, 41))
    expected = lengths[0, 0] * factor ** torch.arange(40, dtype=torch.float64)
    torch.testing.assert_close(lengths[0], expected, rtol=1e-9, atol=0)


def test_through_a_memory_that_forgets_nothing_it_does_not_decay() -> None:
    model = model_of("lstm")
    set_to(model, "U", 0.0)
    set_to(model, "W", 0.0)
    set_to(model, "b", torch.tensor([-40.0, 40.0, 0.0, 1.0]).repeat_interleave(HIDDEN))  # input shut, forget open
    _, lengths = gradient_through_time(model, ids_of(2, 101))
    torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths), rtol=1e-12, atol=0)
    assert lengths[0, 0] > 0.01


@pytest.mark.parametrize("name", cells)
def test_it_is_the_derivative_of_the_last_loss(name: str) -> None:
    model, ids = model_of(name, layers=2, dropout=0.5), ids_of(3, 10)
    distances, lengths = gradient_through_time(model, ids, (5, 1, 3, 9, 500))
    assert (distances, lengths.shape) == ([1, 3, 5], (2, 3))
    assert model.training
    model.eval()
    for column, distance in enumerate(distances):
        _, state = model.hidden(ids[:, : 9 - distance])
        state = state.detach().requires_grad_()
        now = state
        for token in ids[:, 9 - distance : 9].unbind(1):
            logits, now = model(token[:, None], now)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits[:, -1], ids[:, -1], reduction="sum"), state)
        expected = [sum(gradient[layer, :, lane].norm() for lane in range(3)) / 3 for layer in range(2)]
        torch.testing.assert_close(lengths[:, column], torch.tensor(expected).double(), rtol=1e-6, atol=1e-12)


def test_it_leaves_the_gradients_of_training_alone() -> None:
    model = model_of("gru", layers=2)
    model(ids_of(2, 5))[0].sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    random = torch.get_rng_state()
    gradient_through_time(model, ids_of(2, 20))
    after = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_text_too_short_for_any_distance_has_none() -> None:
    distances, lengths = gradient_through_time(model_of("lstm"), ids_of(1, 2))
    assert (distances, lengths.shape) == ([], (1, 0))


# -- the memory horizon


def test_a_network_that_ignores_its_state_is_flat() -> None:
    model = model_of("rnn", dropout=0.5)
    set_to(model, "U", 0.0)
    contexts, losses = memory_horizon(model, ids_of(300).numpy(), longest=32)
    assert contexts == [1, 2, 4, 8, 16, 32]
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-12)
    assert model.training


def test_every_token_is_predicted_from_the_context_alone() -> None:
    model, ids = model_of("lstm", layers=2), ids_of(20)
    contexts, losses = memory_horizon(model, ids.numpy(), longest=4, blocks=2)
    assert contexts == [1, 2, 4]
    blocks = [range(4, 8), range(16, 20)]  # two pieces of 8 tokens at both ends, the second half of each
    for context, loss in zip(contexts, losses, strict=True):
        nats = []
        for block in blocks:
            for target in block:
                seen = context + (target - block.start) % context
                logits, _ = model.eval()(ids[None, target - seen : target])
                nats.append(F.cross_entropy(logits[0, -1:], ids[target : target + 1]).item())
        assert loss == pytest.approx(sum(nats) / len(nats), rel=1e-10)


def test_what_lies_further_back_than_the_pattern_does_not_help() -> None:
    """A network that remembers exactly one token: more context changes the loss no further."""
    model = model_of("rnn")
    with torch.no_grad():
        model.embedding.weight.copy_(0.01 * torch.eye(VOCABULARY, HIDDEN))
    shift = torch.zeros(HIDDEN, HIDDEN, dtype=torch.float64)
    shift[3:, :3] = torch.eye(3)  # what the first three units hold moves to the others, and then out
    set_to(model, "U", shift)
    set_to(model, "W", torch.cat([torch.randn(3, HIDDEN), torch.zeros(3, HIDDEN)]))
    set_to(model, "b", 0.0)
    _, losses = memory_horizon(model, ids_of(400).numpy(), longest=16)
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)
    assert losses[1:] == pytest.approx([losses[1]] * 4, rel=1e-12)


@pytest.mark.parametrize(("tokens", "contexts"), [(1, []), (2, [1]), (7, [1, 2]), (64, [1, 2, 4, 8, 16, 32])])
def test_short_texts_have_short_contexts(tokens: int, contexts: list[int]) -> None:
    assert memory_horizon(model_of("gru"), ids_of(tokens).numpy(), longest=32)[0] == contexts
