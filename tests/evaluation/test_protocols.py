"""Every evaluation protocol against a computation that reads the text token by token."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.config import ModelConfig, TokenizerConfig
from charlm.config.protocols import PROTOCOLS, CacheConfig, DynamicConfig, Protocol
from charlm.errors import CharlmError
from charlm.evaluation import dynamic, tuning
from charlm.evaluation.likelihood import evaluate
from charlm.evaluation.scores import score
from charlm.evaluation.spans import spans
from charlm.evaluation.tuning import best_temperature, tuned
from charlm.network.cells import cells
from charlm.network.model import LanguageModel
from charlm.text.items import Unit
from charlm.text.stream import TokenStream, encode_text
from charlm.text.tokenization import learn, tokenizer_kinds

LINES = "anna\nben\nclara\nx\na longer name\ndora and emil\n"
TEXT = LINES * 3


def model_for(vocab_size: int, cell: str = "lstm", **options: Any) -> LanguageModel:
    torch.manual_seed(2)
    model = LanguageModel(ModelConfig(cell, 2, 12, 12, dropout=0.3, **options), vocab_size).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def stream_of(unit: Unit = "stream", text: str = TEXT) -> tuple[TokenStream, LanguageModel]:
    tokenizer = learn(TokenizerConfig(kind="char"), [TEXT], unit=unit)
    return encode_text(tokenizer, text, unit), model_for(len(tokenizer))


def token_nats(model: LanguageModel, stream: TokenStream, protocol: Protocol, **options: Any) -> np.ndarray:
    """(tokens,) nats of each token; 0 for the first of an item."""
    return score(model, stream, protocol, **options).nats


def log_probabilities(model: LanguageModel, context: Tensor, temperature: float = 1.0) -> Tensor:
    """(vocab_size,) of the token after a context that is read from the zero state."""
    with torch.no_grad():
        return torch.log_softmax(model(context[None])[0][0, -1] / temperature, -1)


def first_of_context(protocol: Protocol, position: int, item: int, end: int) -> int:
    """Where the context of the token at `position` begins, for an item that begins at `item`."""
    if protocol.name == "window":
        return item + (position - 1 - item) // protocol.window * protocol.window
    if protocol.name == "last_half":
        half = protocol.window // 2
        stride = protocol.window - half
        return item + max(0, -(-(position - item - protocol.window) // stride)) * stride
    return item


@pytest.mark.parametrize("unit", ["stream", "line"])
@pytest.mark.parametrize(
    ("name", "window"),
    [("carried", 256), *((name, size) for name in ("window", "last_half") for size in (1, 2, 3, 5, 8, 1000))],
)
def test_every_token_is_predicted_from_the_context_of_the_protocol(name: Any, window: int, unit: Unit) -> None:
    stream, model = stream_of(unit)
    protocol = Protocol(name, window=window, temperature=1.3)
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    starts = [0] if stream.starts is None else stream.starts.tolist()
    expected = np.zeros(len(ids))
    for position in range(1, len(ids)):
        item = max(start for start in starts if start < position)
        begin = first_of_context(protocol, position, item, len(ids))
        assert position - begin <= max(window, 1) or name == "carried"
        expected[position] = -log_probabilities(model, ids[begin:position], 1.3)[ids[position]]
    for lanes, size in ((32, 256), (3, 2), (1, 7)):
        assert token_nats(model, stream, protocol, lanes=lanes, window=size) == pytest.approx(expected, abs=1e-9)
        result = evaluate(model, stream, protocol, lanes=lanes, window=size)
        assert result.nats == pytest.approx(expected.sum(), rel=1e-11)
        assert result.protocol is protocol


def test_half_of_a_window_precedes_every_token_of_the_last_half() -> None:
    begin, skip, end = spans(Protocol("last_half", window=7), np.array([0]), np.array([50]))
    predicted = np.concatenate([np.arange(b + s, e) for b, s, e in zip(begin, skip, end, strict=True)])
    assert predicted.tolist() == list(range(50))
    assert (skip[1:] == 3).all()
    assert (end - begin <= 7).all()


@pytest.mark.parametrize("unit", ["stream", "line"])
def test_the_neural_cache_is_its_equation(unit: Unit) -> None:
    stream, model = stream_of(unit)
    config = CacheConfig(size=9, flatness=0.7, weight=0.3)
    protocol = Protocol("cache", temperature=0.9, cache=config)
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    starts = [0] if stream.starts is None else stream.starts.tolist()
    expected = np.zeros(len(ids))
    for begin, end in zip(starts, [*starts[1:], len(ids) - 1], strict=True):
        with torch.no_grad():
            features, _ = model.hidden(ids[None, begin:end])
        for place in range(end - begin):
            position = begin + place + 1
            by_model = log_probabilities(model, ids[begin:position], 0.9)[ids[position]].exp().item()
            weights = {
                earlier: math.exp(0.7 * float(features[0, place] @ features[0, earlier]))
                for earlier in range(max(0, place - 9), place)
            }
            right = sum(weight for earlier, weight in weights.items() if ids[begin + earlier + 1] == ids[position])
            mixed = 0.7 * by_model + 0.3 * right / sum(weights.values()) if weights else by_model
            expected[position] = -math.log(mixed)
    for window in (256, 4):
        assert token_nats(model, stream, protocol, window=window) == pytest.approx(expected, abs=1e-9)
    everything = []
    evaluate(model, stream, protocol, look=lambda _, found: everything.append(found.exp().sum(1)))
    assert torch.cat(everything).numpy() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("unit", ["stream", "line"])
def test_dynamic_evaluation_is_its_equation(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "BATCHES", 4)
    stream, model = stream_of(unit)
    protocol = Protocol("dynamic", dynamic=DynamicConfig(rate=0.01, decay=0.3, segment=6))
    before = copy.deepcopy(model.state_dict())
    found = token_nats(model, stream, protocol, train=stream)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    sizes = dynamic.gradient_sizes(model, stream, 6)
    mean = float(np.mean([float(size.mean()) for size in sizes]))
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    starts = [0] if stream.starts is None else stream.starts.tolist()
    expected = np.zeros(len(ids))
    trained = [parameter.detach().clone() for parameter in model.parameters()]
    for begin, end in zip(starts, [*starts[1:], len(ids) - 1], strict=True):
        state = None
        for start in range(begin, end, 6):
            stop = min(start + 6, end)
            logits, state = model(ids[None, start:stop], state)
            nats = F.cross_entropy(logits[0], ids[start + 1 : stop + 1], reduction="none")
            expected[start + 1 : stop + 1] = nats.detach()
            gradients = torch.autograd.grad(nats.mean(), list(model.parameters()))
            state = state.detach()
            with torch.no_grad():
                for parameter, gradient, size, first in zip(model.parameters(), gradients, sizes, trained, strict=True):
                    back = (0.3 * size / mean).clamp(max=1) * (first - parameter)
                    parameter.add_(back - 0.01 * gradient / (size + 0.1 * mean))
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_size_of_a_gradient_is_its_root_mean_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "BATCHES", 1)
    stream, model = stream_of()
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    length = -(-(len(ids) - 1) // 5)
    starts = [row * length for row in range(5)]
    assert starts[-1] + 5 < len(ids)
    windows = torch.stack([ids[start : start + 5] for start in starts])
    monkeypatch.setattr(dynamic, "LANES", 5)
    loss = F.cross_entropy(model(windows[:, :-1])[0].flatten(0, 1), windows[:, 1:].flatten())
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for size, gradient in zip(dynamic.gradient_sizes(model, stream, 4), expected, strict=True):
        assert torch.allclose(size, gradient.abs(), atol=1e-9)


def test_weights_that_learn_from_a_repeated_text_predict_it_better() -> None:
    stream, model = stream_of(text=TEXT * 4)
    fixed = evaluate(model, stream).nats
    assert (
        evaluate(model, stream, Protocol("dynamic", dynamic=DynamicConfig(0.003, 0.0, 10)), train=stream).nats < fixed
    )
    assert evaluate(model, stream, Protocol("cache", cache=CacheConfig(100, 1.0, 0.3))).nats < fixed


def trained(model: LanguageModel, stream: TokenStream) -> LanguageModel:
    """The model after some steps, so that its predictions are neither random nor certain."""
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(15):
        optimizer.zero_grad()
        F.cross_entropy(model(ids[None, :-1])[0][0], ids[1:]).backward()
        optimizer.step()
    return model


def test_the_tuned_temperature_is_the_best_one() -> None:
    stream, model = stream_of()
    model = trained(model, stream)
    best = best_temperature(model, stream, Protocol("window", window=9))
    assert 0.3 < best < 3
    around = {factor: evaluate(model, stream, Protocol("window", 9, best * factor)).nats for factor in (0.99, 1, 1.01)}
    assert min(around, key=lambda factor: around[factor]) == 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_is_not_named_is_tuned(name: Any) -> None:
    stream, model = stream_of()
    model = trained(model, stream)
    protocol = Protocol(name, window=6, temperature=None)  # type: ignore[arg-type]
    found = tuned(protocol, model, stream, stream)
    assert found.untuned == []
    assert found.tuned_on == "the validation split"
    assert found.describe().endswith("; tuned on the validation split")
    settled = evaluate(model, stream, found, train=stream).nats
    worse = replace(found, temperature=found.temperature * 1.3)
    assert settled <= evaluate(model, stream, worse, train=stream).nats
    if name == "cache":
        for flatness in tuning.FLATNESSES:
            for weight in (0.0, 0.02, 0.2, 0.4):
                other = replace(found, cache=replace(found.cache, flatness=flatness, weight=weight))
                assert settled <= evaluate(model, stream, other).nats + 1e-9
    if name == "dynamic":
        assert found.dynamic.segment == 20
        for rate in tuning.RATES:
            other = replace(found, dynamic=replace(found.dynamic, rate=rate))
            assert settled <= evaluate(model, stream, other, train=stream).nats + 1e-9


def test_tuning_needs_a_validation_text() -> None:
    stream, model = stream_of()
    with pytest.raises(CharlmError, match=r"no validation text to tune `cache\.flatness` and `cache\.weight` on"):
        tuned(Protocol("cache"), model, stream, None)
    named = Protocol("cache", cache=CacheConfig(flatness=0.1, weight=0.2))
    assert tuned(named, model, stream, None) is named


def test_only_the_first_tokens_are_tuned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for unit in ("stream", "line"):
        stream, model = stream_of(unit)
        monkeypatch.setattr(tuning, "MOST_TOKENS", 50)
        found = tuned(Protocol(temperature=None), model, stream, stream)  # type: ignore[arg-type]
        assert found.tuned_on == "the first 50 tokens of the validation split"


@pytest.mark.parametrize("cell", sorted(cells))
def test_every_cell_is_evaluated_dynamically(cell: str) -> None:
    stream, _ = stream_of()
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell, 2, 12, 12, dropout=0.1, tie=False), int(stream.ids.max()) + 1)
    result = evaluate(model, stream, Protocol("dynamic", dynamic=DynamicConfig(1e-3, 0.01, 20)), train=stream)
    assert math.isfinite(result.nats)
    assert result.nats != evaluate(model, stream).nats


def test_weights_that_diverge_are_named() -> None:
    stream, model = stream_of()
    with pytest.raises(CharlmError, match=r"the weights diverge with `dynamic\.rate` 1e\+300"):
        evaluate(model, stream, Protocol("dynamic", dynamic=DynamicConfig(1e300, 0.0, 20)), train=stream)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_dynamic_evaluation_runs_on_a_gpu(cell: str) -> None:
    """cuDNN refuses to go backward through a layer that it has run in evaluation mode."""
    stream, _ = stream_of()
    model = model_for(int(stream.ids.max()) + 1, cell).float()
    protocol = Protocol("dynamic", dynamic=DynamicConfig(1e-3, 0.01, 20))
    on_cpu = evaluate(model, stream, protocol, train=stream).nats
    assert evaluate(model.cuda(), stream, protocol, train=stream).nats == pytest.approx(on_cpu, rel=1e-3)


@pytest.mark.parametrize("kind", sorted(tokenizer_kinds))
@pytest.mark.parametrize("unit", ["stream", "line"])
@pytest.mark.parametrize("text", [" the  cat sat,\n\n  on the mat. ", "Größe 海辺 🙂\nx", "word"])
def test_bits_per_byte_and_character_count_what_is_written(kind: str, unit: Unit, text: str) -> None:
    """Only what the predicted tokens spell counts: neither the first token nor a space that a tokenizer adds."""
    tokenizer = learn(TokenizerConfig(kind=kind, min_frequency=1), [TEXT + text], unit=unit)
    stream, model = encode_text(tokenizer, text, unit), model_for(len(tokenizer))
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    if len(ids) < 2:
        return
    starts = [0] if stream.starts is None else stream.starts.tolist()
    nats = 0.0
    for position in range(1, len(ids)):
        begin = max(start for start in starts if start < position)
        nats -= float(log_probabilities(model, ids[begin:position])[ids[position]])
    if unit == "line":
        written = "".join(f"{line}\n" for line in text.split("\n") if line.strip())
    else:
        written = text.lstrip() if kind == "classic" else text  # it has no spaces before punctuation and words
        written = written.removeprefix(tokenizer.decode(ids[:1].tolist()))
    result = evaluate(model, stream)
    assert result.nats == pytest.approx(nats, rel=1e-10)
    size = len(text.encode()) - 1 if kind == "byte" and unit == "stream" else len(written.encode())
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-10)
