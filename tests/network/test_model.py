"""LanguageModel: the state contract, the options, the initial loss; every registered cell."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network.cells import cells
from charlm.network.model import LanguageModel, evaluating

VARIANTS: list[dict[str, Any]] = [
    {"tie": tie, "residual": residual, "layer_norm": layer_norm}
    for tie, residual, layer_norm in itertools.product((False, True), repeat=3)
]
VOCABULARY, HIDDEN, BATCH, TIME = 20, 8, 3, 9


def make_model(cell: str = "lstm", vocab_size: int = VOCABULARY, **options: Any) -> LanguageModel:
    torch.manual_seed(1)
    sizes = {
        "layers": 3,
        "hidden": HIDDEN,
        "embedding": HIDDEN if not cells[cell].gates else 6,
        "dropout": 0.0,
        "tie": False,
        "context": 4,  # where a layer sees a fixed number of tokens: less than TIME
    }
    return LanguageModel(ModelConfig(cell, **{**sizes, **options}), vocab_size)


def make_ids() -> Tensor:
    return torch.randint(VOCABULARY, (BATCH, TIME), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("options", [VARIANTS[0], VARIANTS[-1]], ids=["plain", "all"])
@pytest.mark.parametrize("cell", cells)
def test_whole_is_chunked_is_stepwise(cell: str, options: dict[str, Any]) -> None:
    model, ids = make_model(cell, **options).double(), make_ids()
    whole, last = model(ids)
    assert whole.shape == (BATCH, TIME, VOCABULARY)
    assert last.shape == (3, model.cell.states, BATCH, HIDDEN)
    for size in (1, 4):
        state, parts = model.initial_state(BATCH), []
        for window in ids.split(size, dim=1):
            logits, state = model(window, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", cells)
def test_the_initial_state_is_zero_and_lanes_can_be_reordered(cell: str) -> None:
    model, ids = make_model(cell), make_ids()
    assert not model.initial_state(BATCH).any()
    assert model.initial_state(BATCH).dtype == torch.float32
    assert model.double().initial_state(BATCH).dtype == torch.float64
    _, state = model(ids)
    order = torch.tensor([2, 0, 1])
    expected, _ = model(ids[order], state[:, :, order])
    actual, _ = model(ids, state)
    torch.testing.assert_close(expected, actual[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("embedding", [6, HIDDEN])
@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("cell", cells)
def test_the_table_counts_every_parameter(cell: str, options: dict[str, Any], embedding: int) -> None:
    if not cells[cell].gates:
        embedding = HIDDEN
    model = make_model(cell, embedding=embedding, **options)
    assert sum(row[2] for row in model.table()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("cell", cells)
def test_an_untrained_model_has_the_loss_of_a_uniform_distribution(cell: str, options: dict[str, Any]) -> None:
    model = make_model(cell, 65, hidden=64, embedding=64, **options)
    ids = torch.randint(65, (16, 65), generator=torch.Generator().manual_seed(3))
    logits, _ = model(ids[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(65)) < 0.05


def test_names_of_the_weights() -> None:
    assert set(make_model("gru", layers=2, layer_norm=True).state_dict()) == {
        "embedding.weight",
        *(f"layers.{layer}.{name}" for layer in (0, 1) for name in ("W", "b", "U", "b_u")),
        *(f"{norm}.{name}" for norm in ("norms.1", "norm") for name in ("weight", "bias")),
        "output.weight",
        "output.bias",
    }
    assert set(make_model("rnn", layers=1, tie=True).state_dict()) == {
        "embedding.weight",
        "layers.0.W",
        "layers.0.b",
        "layers.0.U",
        "projection.weight",
        "output.bias",
    }


def test_residual_and_norms_are_where_they_belong() -> None:
    model, ids = make_model("lstm", residual=True, layer_norm=True), make_ids()
    zero = model.initial_state(BATCH)
    x, _ = model.layers[0](model.embedding(ids), zero[0])
    for index in (1, 2):
        y, _ = model.layers[index](F.layer_norm(x, (HIDDEN,)), zero[index])
        x = x + y
    expected = F.layer_norm(x, (HIDDEN,)) @ model.output["weight"].T + model.output["bias"]
    torch.testing.assert_close(model(ids)[0], expected)


@pytest.mark.parametrize("embedding", [6, HIDDEN])
def test_tied_logits_come_from_the_embedding(embedding: int) -> None:
    model, ids = make_model("gru", tie=True, embedding=embedding), make_ids()
    torch.nn.init.normal_(model.output["bias"])
    features, _ = model.hidden(ids)
    if embedding != HIDDEN:
        features = features @ model.get_parameter("projection.weight").T
    expected = features @ model.embedding.weight.T + model.output["bias"]
    torch.testing.assert_close(model(ids)[0], expected)


@pytest.mark.parametrize("options", VARIANTS)
def test_features_and_output_inputs_give_the_logits(options: dict[str, Any]) -> None:
    model, ids = make_model(**options), make_ids()
    logits, state = model(ids)
    features, same = model.hidden(ids)
    inputs, weight, bias = model.output_inputs(features)
    assert features.shape == (BATCH, TIME, HIDDEN)
    assert weight.shape == (VOCABULARY, inputs.shape[-1])
    torch.testing.assert_close(inputs @ weight.T + bias, logits)
    assert torch.equal(state, same)


def test_dropout_acts_on_the_last_layer_too_and_only_in_training() -> None:
    model = make_model(layers=1, hidden=64, dropout=0.25)
    ids = torch.randint(VOCABULARY, (8, 50))
    features, state = model.hidden(ids)
    share = float((features == 0).float().mean())
    assert share == pytest.approx(0.25, abs=0.02)
    assert (state != 0).all()  # what a layer remembers is not dropped
    model.eval()
    whole, _ = model.hidden(ids)
    kept = features != 0
    torch.testing.assert_close(features[kept] * 0.75, whole[kept])


def test_input_dropout_acts_on_the_embedding_only_in_training() -> None:
    model, ids = make_model(input_dropout=0.5), make_ids()
    first, second = model(ids)[0], model(ids)[0]
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(ids)[0], model(ids)[0])


def test_the_forget_bias_reaches_every_layer() -> None:
    model = make_model("lstm", forget_bias=2.5)
    for index in range(3):
        biases = model.get_parameter(f"layers.{index}.b").view(4, HIDDEN)
        assert biases[:, 0].tolist() == [0, 2.5, 0, 0]


@pytest.mark.parametrize("cell", cells)
def test_the_same_seed_gives_the_same_weights(cell: str) -> None:
    first, second = make_model(cell, tie=True), make_model(cell, tie=True)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("cell", cells)
def test_every_parameter_learns_under_mixed_precision(cell: str, options: dict[str, Any]) -> None:
    model, ids = make_model(cell, **options), make_ids()
    with torch.autocast("cpu", torch.bfloat16):
        _, state = model(ids)
        logits, state = model(ids, state.detach())
    assert state.dtype == torch.float32
    F.cross_entropy(logits.float().flatten(0, 1), ids.roll(-1, 1).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("training", [False, True])
def test_a_model_is_in_its_former_mode_after_an_evaluation(training: bool) -> None:
    model = make_model(dropout=0.5).train(training)
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert all(module.training is training for module in model.modules())


def test_a_tied_matrix_learns_as_embedding_and_as_output() -> None:
    model, ids = make_model(tie=True).double(), torch.zeros(1, 2, dtype=torch.long)
    logits, _ = model(ids)
    logits[0, -1, 7].backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert gradient[0].any()  # it was read
    assert gradient[7].any()  # it was predicted
    assert not gradient[3].any()
