from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from charlm.config import Config, ModelConfig, OptimizerConfig
from charlm.network.model import LanguageModel
from charlm.training.optimizers import MuonWithAdamW, build_optimizer, clip_gradients


def small_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig("lstm", 2, 6, 4, 0.0, tie=False), 5)


def optimizer_config(**values: object) -> OptimizerConfig:
    return Config.from_dict({"optimizer": values}).optimizer


def train_a_little(model: LanguageModel, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    ids = torch.arange(20).remainder(5).repeat(3, 1)
    losses = []
    for _ in range(steps):
        logits, _ = model(ids[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop", "muon"])
def test_every_optimiser_learns_and_its_state_is_restored_exactly(name: str) -> None:
    lr = 1.0 if name == "sgd" else 0.03
    config = optimizer_config(name=name, lr=lr, momentum=0.9 if name == "sgd" else 0.0, weight_decay=0.0)
    model = small_model()
    optimizer = build_optimizer(model, config)
    losses = train_a_little(model, optimizer, 60)
    assert losses[-1] < 0.8 * losses[0]

    twin = small_model()
    twin.load_state_dict(model.state_dict())
    other = build_optimizer(twin, config)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train_a_little(model, optimizer, 3) == train_a_little(twin, other, 3)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_vectors_do_not_decay(name: str) -> None:
    model = small_model()
    optimizer = build_optimizer(model, optimizer_config(name=name, lr=0.1, weight_decay=0.5))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in model.state_dict().items():
        if value.ndim < 2:
            assert torch.equal(value, before[key]), key
        elif name == "adamw":
            torch.testing.assert_close(value, 0.95 * before[key])


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop", "muon"])
def test_every_weight_follows_the_schedule(name: str) -> None:
    model = small_model()
    optimizer = build_optimizer(model, optimizer_config(name=name, lr=0.1, weight_decay=0.5))
    for step in range(2):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        for group in optimizer.param_groups:
            group["lr"] = 0.0 if step == 0 else 0.1
        optimizer.step()
        moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
        assert moved == ([] if step == 0 else list(before))


def test_each_decay_goes_to_its_average() -> None:
    for name in ("adamw", "adam", "rmsprop", "muon"):
        optimizer = build_optimizer(small_model(), optimizer_config(name=name, lr=0.1, beta1=0.8, beta2=0.95))
        groups = optimizer.adamw.param_groups if isinstance(optimizer, MuonWithAdamW) else optimizer.param_groups
        expected = {"alpha": 0.95} if name == "rmsprop" else {"betas": (0.8, 0.95)}
        assert all(group | expected == group for group in groups), name


def test_muon_steps_each_gate_by_an_orthogonal_matrix() -> None:
    model = small_model()
    optimizer = build_optimizer(model, optimizer_config(name="muon", lr=0.1, weight_decay=0.0))
    assert isinstance(optimizer, MuonWithAdamW)
    torch.manual_seed(1)
    recurrent = model.layers[1].get_parameter("U")
    before = recurrent.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for change in (recurrent.detach() - before).split(6):
        values = torch.linalg.svdvals(change)
        assert values.min() > 0.5 * values.max()  # the Newton-Schulz iteration is rough on purpose
        assert values.max() > 0


def parameter(*gradient: float) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def test_clipping_by_norm_and_by_value_report_the_norm_before() -> None:
    a, b, without = parameter(3.0), parameter(0.0, 4.0), nn.Parameter(torch.zeros(2))
    assert clip_gradients([a, b, without], 1.0, "norm").item() == 5.0
    assert a.grad is not None
    assert b.grad is not None
    torch.testing.assert_close(torch.cat([a.grad, b.grad]), torch.tensor([0.6, 0.0, 0.8]))
    a, b = parameter(3.0), parameter(-0.5, 4.0)
    assert clip_gradients([a, b], 1.0, "value").item() == pytest.approx(math.sqrt(9 + 0.25 + 16))
    assert a.grad is not None
    assert b.grad is not None
    assert torch.cat([a.grad, b.grad]).tolist() == [1.0, -0.5, 1.0]


def test_a_limit_of_zero_clips_nothing() -> None:
    a = parameter(30.0)
    assert clip_gradients([a], 0.0, "norm").item() == 30.0
    assert a.grad is not None
    assert a.grad.item() == 30.0
