"""The likelihood of a text, for models whose loss is known without running them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from charlm.config import ModelConfig, TokenizerConfig
from charlm.errors import CharlmError
from charlm.evaluation.likelihood import Evaluation, evaluate, evaluate_lanes
from charlm.network import loss
from charlm.network.model import LanguageModel
from charlm.run import Run
from charlm.text.stream import Counts, TokenStream, encode_text
from charlm.text.tokenization import Tokenizer, learn
from conftest import small_text

TEXT = "Größe und Maß,\n海辺の家. " + small_text(700)


def model_for(tokenizer: Tokenizer, *, zero: bool = False, tie: bool = False) -> LanguageModel:
    torch.manual_seed(3)
    model = LanguageModel(ModelConfig("lstm", 2, 12, 8, dropout=0.5, tie=tie), len(tokenizer)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0 if zero else 3)
    return model


def learned(kind: str, unit: str = "stream") -> Tokenizer:
    return learn(TokenizerConfig(kind=kind, min_frequency=1), [TEXT], unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["char", "word", "byte", "bpe"])
def test_a_uniform_model_needs_ln_v(kind: str) -> None:
    tokenizer = learned(kind)
    stream = encode_text(tokenizer, TEXT)
    result = evaluate(model_for(tokenizer, zero=True), stream)
    rest = TEXT.removeprefix(tokenizer.decode(stream.ids[:1]))  # nothing predicts the first token
    tokens, nats = len(stream) - 1, math.log(len(tokenizer)) * (len(stream) - 1)
    assert len(stream.ids) == result.predicted.tokens + 1
    assert result.nats == pytest.approx(nats, rel=1e-12)
    assert result.loss == pytest.approx(math.log(len(tokenizer)), rel=1e-12)
    assert result.bits_per_token == pytest.approx(math.log2(len(tokenizer)), rel=1e-12)
    assert result.perplexity == pytest.approx(len(tokenizer), rel=1e-10)
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / len(rest.encode()), rel=1e-12)
    assert result.bits_per_character == pytest.approx(nats / math.log(2) / len(rest), rel=1e-12)
    words = len(rest.split()) + rest.count("\n")
    assert result.word_perplexity == pytest.approx(math.exp(nats / words), rel=1e-10)
    assert (result.predicted.tokens, result.unknown) == (tokens, 0)


def test_it_is_the_sum_of_what_the_model_says() -> None:
    tokenizer = learned("char")
    stream, model = encode_text(tokenizer, TEXT), model_for(tokenizer).eval()
    ids = torch.from_numpy(stream.ids.astype("int64"))
    with torch.no_grad():
        logits, _ = model(ids[None, :-1])
    expected = F.cross_entropy(logits[0], ids[1:], reduction="sum").item()
    assert evaluate(model, stream).nats == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("window", [1, 7, 64, 10_000])
def test_one_lane_is_exact_whatever_the_window(window: int) -> None:
    tokenizer = learned("char")
    stream, model = encode_text(tokenizer, TEXT), model_for(tokenizer)
    whole = evaluate(model, stream, window=len(stream))
    assert evaluate(model, stream, window=window).nats == pytest.approx(whole.nats, rel=1e-12)
    single = evaluate(model.float(), stream, window=window)
    assert single.nats == pytest.approx(whole.nats, rel=1e-5)


@pytest.mark.parametrize("tie", [False, True])
def test_a_projection_in_pieces_is_the_whole(monkeypatch: pytest.MonkeyPatch, tie: bool) -> None:
    tokenizer = learned("char")
    stream, model = encode_text(tokenizer, TEXT), model_for(tokenizer, tie=tie)
    whole = evaluate(model, stream)
    for logits in (1, 5 * len(tokenizer), 63 * len(tokenizer)):
        monkeypatch.setattr(loss, "MAX_LOGITS", logits)
        assert evaluate(model, stream).nats == pytest.approx(whole.nats, rel=1e-12)


def test_lanes_predict_every_token_but_forget_at_their_starts() -> None:
    tokenizer = learned("char")
    stream, model = encode_text(tokenizer, TEXT), model_for(tokenizer)
    exact, several = evaluate(model, stream), evaluate_lanes(model, stream, lanes=7)
    assert several.predicted == exact.predicted
    assert several.nats != exact.nats
    assert several.nats == pytest.approx(exact.nats, rel=0.05)
    uniform = evaluate_lanes(model_for(tokenizer, zero=True), stream, lanes=7)  # which has nothing to forget
    assert uniform.nats == pytest.approx(math.log(len(tokenizer)) * exact.predicted.tokens, rel=1e-12)
    assert evaluate_lanes(model, stream, lanes=10**9).predicted == exact.predicted


@pytest.mark.parametrize("window", [1, 3, 8])
def test_the_result_is_that_of_one_lane_however_many_there_are(window: int) -> None:
    tokenizer = learned("char")
    stream, model = encode_text(tokenizer, TEXT), model_for(tokenizer)
    one = evaluate(model, stream, lanes=1)
    for lanes in (2, 5, 32):
        several = evaluate(model, stream, lanes=lanes, window=window)
        assert several.nats == pytest.approx(one.nats, rel=1e-12)


@pytest.mark.parametrize("unit", ["line", "document"])
def test_items_are_exact_however_many_are_read_side_by_side(unit: str) -> None:
    text = TEXT.replace("\n", "\n\n") if unit == "document" else TEXT
    tokenizer = learn(TokenizerConfig(kind="char"), [text], unit=unit)  # type: ignore[arg-type]
    stream, model = encode_text(tokenizer, text, unit), model_for(tokenizer).eval()  # type: ignore[arg-type]
    results = [evaluate(model, stream, lanes=lanes, window=window) for lanes, window in ((1, 512), (5, 512), (3, 4))]
    assert [result.nats for result in results] == pytest.approx([results[0].nats] * 3, rel=1e-12)
    assert tokenizer.boundary is not None
    expected, items = 0.0, [item for item in text.split("\n\n" if unit == "document" else "\n") if item]
    for item in items:
        ids = torch.tensor([tokenizer.boundary, *tokenizer.encode(item), tokenizer.boundary])
        with torch.no_grad():
            logits, _ = model(ids[None, :-1])
        expected += F.cross_entropy(logits[0], ids[1:], reduction="sum").item()
    assert results[0].nats == pytest.approx(expected, rel=1e-12)
    assert results[0].predicted.tokens == sum(len(item) + 1 for item in items)


def test_evaluation_leaves_the_model_as_it_was(tiny_run: Path) -> None:
    run = Run(tiny_run)
    model = run.load_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    first = evaluate(model, run.directory.stream("val"))
    assert model.training
    assert first == evaluate(model, run.directory.stream("val")) == run.evaluate()  # no dropout, nothing drawn
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_conversions() -> None:
    result = Evaluation(nats=6 * math.log(2), predicted=Counts(tokens=3, characters=6, bytes=12, words=2), unknown=1)
    values = result.to_dict()
    assert values.pop("protocol") == {"name": "carried", "temperature": 1.0, "tuned_on": None}
    assert values == pytest.approx({
        "nats_per_token": 2 * math.log(2), "bits_per_token": 2.0, "bits_per_character": 1.0, "bits_per_byte": 0.5,
        "perplexity_per_token": 4.0, "perplexity_per_word": 8.0,
        "tokens": 3, "characters": 6, "bytes": 12, "words": 2, "unknown_tokens": 1,
    })  # fmt: skip
    hopeless = Evaluation(nats=1e6, predicted=Counts(1, 1, 1, 0), unknown=0)
    assert (hopeless.perplexity, hopeless.word_perplexity) == (math.inf, math.inf)


def test_a_text_with_nothing_to_predict() -> None:
    tokenizer = learned("char")
    one: TokenStream = encode_text(tokenizer, "a")
    with pytest.raises(CharlmError, match="at least two tokens"):
        evaluate(model_for(tokenizer), one)
