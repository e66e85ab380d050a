"""What to start with: each rule on a text that is made for it, and commands that the command line accepts."""

from __future__ import annotations

import dataclasses
import random
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from charlm.config import Config, DataConfig
from charlm.config.presets import presets
from charlm.config.resolve import Facts, resolve
from charlm.evaluation import recommendation as module
from charlm.evaluation.recommendation import (
    EXPECTED,
    Recommendation,
    expected_bits,
    product_speed,
    recommend,
    recommend_preset,
    recommend_tokenizer,
    recommend_unit,
    training_time,
)
from charlm.network.summary import parameter_count
from conftest import Charlm, small_text

NAMES = "".join(f"{name}\n" for name in map("".join, np.random.default_rng(1).choice(list("abcdefg"), (200, 6))))
TUNES = "".join(f"X: {number}\nT:Tune {number}\nABcd efga|\nabcd efga|\n\n" for number in range(150))
PROSE = small_text(30_000).replace("t.\n", "t.\n\n")  # paragraphs of some lines
SPEECHES = "".join(
    f"{name}:\nWhat a day, my lord.\n\n" for name in random.Random(1).choices(["Ann", "Bob", "Eve"], k=300)
)


@pytest.mark.parametrize(
    ("text", "unit", "reason"),
    [
        (NAMES, "line", "mean 6 characters"),
        (TUNES, "document", "begin with 'X:'"),
        (PROSE, "stream", "running text"),
        (SPEECHES, "stream", "running text"),
        (NAMES[:200], "stream", "running text"),
        ("x" * 10_000, "stream", "running text"),
        (small_text(20_000), "stream", "running text"),
    ],
)
def test_the_unit(text: str, unit: str, reason: str) -> None:
    found = recommend_unit(DataConfig(), text)
    assert found.value == unit
    assert reason in found.reason
    assert recommend_unit(DataConfig(unit="document"), text).value == "document", "as the user set it"


def made_of_words(count: int, words: int, seed: int) -> str:
    """Sentences of words from a list of so many different ones."""
    draw = np.random.default_rng(seed)
    names = ["".join(map(chr, letters)) for letters in np.random.default_rng(0).integers(97, 123, (words, 5))]
    return " ".join(names[index] for index in draw.integers(0, words, count))


def test_the_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORDS_FROM", 30_000)
    few, many = (made_of_words(8_000, words, 1) for words in (500, 20_000))
    held_out = {few: made_of_words(500, 500, 2), many: made_of_words(500, 20_000, 2)}
    for text, kind in ((few, "word"), (many, "bpe")):
        reasoned, tokenizer = recommend_tokenizer(text, held_out[text], len(text))
        assert (reasoned.value, tokenizer.kind) == (kind, kind)
        assert recommend_tokenizer(text, held_out[text], 29_999)[0].value == "char"
    genome = "".join(np.random.default_rng(1).choice(list("acgt"), 40_000))
    assert recommend_tokenizer(genome, "", 40_000)[0].reason == "spaces do not separate its words"
    chinese = "".join(chr(0x4E00 + index) for index in np.random.default_rng(1).integers(0, 1500, 40_000))
    found, tokenizer = recommend_tokenizer(chinese, "", 40_000)
    assert found.value == "char"
    assert "1,501 different characters" in found.reason
    assert recommend_tokenizer(few, "", len(few))[0].value == "word", "without validation text, on its own end"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("line", "char", 200_000, 30, False), "names"),
        (("stream", "char", 1_000_000, 66, False), "char"),
        (("stream", "char", 599_999, 66, False), ""),
        (("stream", "char", 6_000_001, 66, False), ""),
        (("stream", "char", 1_000_000, 4000, False), ""),
        (("stream", "word", 1_000_000, 9000, False), "word"),
        (("document", "char", 1_000_000, 66, False), ""),
        (("stream", "char", 1_000_000, 66, True), ""),
    ],
)
def test_the_preset(arguments: Any, name: str) -> None:
    assert recommend_preset(*arguments).value == name
    assert name in {"", *presets()}


def recommended(text: str, **data: Any) -> Recommendation:
    settings = DataConfig(text=("a text.txt",), **data)
    return recommend(settings, text, "", len(text), recommend_unit(settings, text))


def test_the_network_is_the_one_that_training_chooses() -> None:
    text = small_text(20_000)
    found = recommended(text)
    vocab_size = len(set(text)) + 1
    assert (found.tokens, found.vocab_size) == (20_000, vocab_size)
    chosen = resolve(Config.from_dict({"data": {"text": ["a text.txt"]}}), Facts(20_000, vocab_size))
    assert (found.config, found.choices) == tuple(chosen)
    assert found.command == "charlm train 'a text.txt'"
    assert found.parameters == parameter_count(chosen.config.model, vocab_size)
    model = chosen.config.model
    assert found.parameters_of(3) == 3 * (model.embedding + model.hidden + 1)


def test_a_preset_is_in_the_command_and_in_the_settings() -> None:
    found = recommended(NAMES)
    assert found.command == "charlm train 'a text.txt' --config names"
    assert (found.config.data.unit, found.config.model.cell, found.config.model.hidden) == ("line", "gru", 256)
    found = recommended(NAMES, val_fraction=0.2)
    assert found.command == "charlm train 'a text.txt' --config names --data.val_fraction 0.2"
    assert found.config.data.val_fraction == 0.2


def test_what_the_user_set_is_part_of_the_command() -> None:
    found = recommended(TUNES, encoding="latin-1", batch_size=8, val="held out.txt")
    assert found.command == (
        "charlm train 'a text.txt' --data.val 'held out.txt' --data.encoding latin-1 --data.batch_size 8 "
        "--data.unit document"
    )
    assert (found.config.data.unit, found.config.data.batch_size) == ("document", 8)


def test_words_are_counted_in_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORDS_FROM", 30_000)
    text = made_of_words(8_000, 500, 1)
    found = recommended(text)
    assert found.tokens == pytest.approx(8_000, abs=5)  # a long line is cut, sometimes within a word
    assert found.command.endswith("--config word")
    rare = made_of_words(8_000, 20_000, 1)
    found = recommended(rare)
    assert found.command.endswith("--tokenizer.kind bpe")
    assert found.config.tokenizer.kind == "bpe"


def test_on_a_gpu_no_preset_of_a_cpu() -> None:
    data = DataConfig(text=("a.txt",))
    text = small_text(20_000)
    found = recommend(data, text, "", 1_000_000, recommend_unit(data, text), gpu=True)
    assert found.command == "charlm train a.txt"
    assert found.config.model.hidden == 512


@pytest.mark.parametrize(("text", "more"), [(NAMES, {}), (TUNES, {"encoding": "latin-1"}), (PROSE, {"batch_size": 8})])
def test_the_command_is_accepted(charlm: Charlm, tmp_path: Path, text: str, more: dict[str, Any]) -> None:
    (tmp_path / "a text.txt").write_text(text)
    found = recommended(text, **more)
    program, *words = shlex.split(found.command)
    done = charlm(*words, "--print_config")
    assert (program, done.status, done.err) == ("charlm", 0, "")
    printed = Config.from_dict(yaml.safe_load(done.out))
    assert (printed.data.unit, printed.tokenizer) == (found.config.data.unit, found.config.tokenizer)
    assert printed.data.encoding == found.config.data.encoding


def test_standard_input_is_named() -> None:
    data = DataConfig(text=("-",))
    found = recommend(data, PROSE, "", len(PROSE), recommend_unit(data, PROSE))
    assert found.command == "charlm train - < TEXT"


def test_the_time_follows_from_speed_and_size() -> None:
    found = recommended(small_text(20_000))
    taken, epochs = training_time(found, 1e10, 2)
    weights = found.parameters - found.vocab_size * found.config.model.embedding
    assert epochs == found.config.trainer.max_epochs == 50
    assert taken == pytest.approx(50 * 20_000 * 6 * weights / (module.TRAINING_SPEED * 2e10))
    assert training_time(found, 1e10, 64) == training_time(found, 1e10, module.MOST_CORES)
    limited = recommended(NAMES)
    taken, epochs = training_time(limited, 1e10, 2)
    assert taken == 60
    assert epochs > 0
    assert product_speed(rounds=2) > 0


def test_what_is_calibrated() -> None:
    found = recommended(small_text(20_000))
    assert found.is_calibrated
    assert not dataclasses.replace(found, vocab_size=1_000).is_calibrated
    assert not dataclasses.replace(found, tokenizer=module.Reasoned("word", "")).is_calibrated


def test_the_expected_bits_are_a_range_around_those_of_the_5_gram_model() -> None:
    bits = [5.0, 4.0, 3.0, 2.5, 2.0, 1.9, 1.9, 1.9]
    assert expected_bits(bits) == (2 * EXPECTED[0], 2 * EXPECTED[1])
