"""Resolve: every open setting is chosen with a reason, what was named stays, and the batches fit the text."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from charlm.config import Config, settings
from charlm.config.plain import nest
from charlm.config.resolve import Facts, resolve
from charlm.errors import CharlmError
from charlm.text.batching import Lanes
from charlm.text.stream import Counts, TokenStream

CHOSEN = [setting.name for setting in settings(Config) if setting.value is None]
NAMED = {
    "data.batch_size": 6,
    "data.seq_length": 17,
    "model.layers": 3,
    "model.hidden": 40,
    "model.embedding": 40,
    "model.dropout": 0.33,
    "model.tie": True,
    "optimizer.lr": 0.0123,
    "trainer.max_epochs": 7,
    "samples.count": 4,
}
FACTS = {
    "a short text": Facts(5_000, 60),
    "a text on a CPU": Facts(1_000_000, 80),
    "a text on a GPU": Facts(50_000_000, 80, gpu=True),
    "words": Facts(800_000, 20_000),
    "lines": Facts(200_000, 30, items=30_000),
    "three processes": Facts(300_000, 80, processes=3),
    "a cell without input weights": Facts(300_000, 80, raw_input=True, gated=False),
}


def config_of(**named: Any) -> Config:
    """A config from settings with a double underscore for the dot."""
    return Config.from_dict(nest({name.replace("__", "."): value for name, value in named.items()}))


def fitted(facts: Facts, lanes: int, window: int) -> tuple[int, int, dict[str, str]]:
    """Lanes and window after `resolve`, and the reasons where they changed."""
    config, choices = resolve(config_of(data__batch_size=lanes, data__seq_length=window), facts)
    reasons = {choice.name: choice.reason for choice in choices if choice.name.startswith("data.")}
    return config.data.batch_size, config.data.seq_length, reasons


@pytest.mark.parametrize("unit", ["stream", "line", "document"])
@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_every_open_setting_is_chosen(facts: Facts, unit: str) -> None:
    config, choices = resolve(config_of(data__unit=unit), facts)
    values = {setting.name: setting.value for setting in settings(config)}
    assert None not in values.values()
    assert {choice.name for choice in choices} >= set(CHOSEN) - {"samples.count"}
    assert len({choice.name for choice in choices}) == len(choices)
    assert all(values[choice.name] == choice.value and choice.reason for choice in choices)
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_named_settings_stay(facts: Facts) -> None:
    assert set(NAMED) == set(CHOSEN)
    config, choices = resolve(Config.from_dict(nest(NAMED)), facts)
    values = {setting.name: setting.value for setting in settings(config)}
    assert {name: values[name] for name in NAMED} == NAMED
    assert choices == []
    assert resolve(config, facts) == (config, [])


def test_what_is_resolved_cannot_be_assigned_to() -> None:
    given = Config()
    config = resolve(given, FACTS["words"]).config
    assert given == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.model.hidden = 1  # type: ignore[misc]


@pytest.mark.parametrize("limit", [{"trainer__max_time": "3m"}, {"trainer__max_steps": 100}])
def test_another_limit_leaves_the_epochs_open(limit: dict[str, Any]) -> None:
    (name,) = limit
    config, choices = resolve(config_of(**limit), FACTS["a short text"])
    assert config.trainer.max_epochs == -1
    (reason,) = [choice.reason for choice in choices if choice.name == "trainer.max_epochs"]
    assert reason == f"no limit: `{name.replace('__', '.')}` ends the run"


@pytest.mark.parametrize(
    ("tokens", "wished", "fitting", "lowered"),
    [
        (1000, (32, 16), (32, 16), []),
        (321, (32, 10), (32, 10), []),
        (320, (32, 10), (31, 10), ["batch_size"]),
        (100, (32, 64), (1, 64), ["batch_size"]),
        (30, (32, 64), (1, 29), ["batch_size", "seq_length"]),
        (2, (1, 1), (1, 1), []),
    ],
)
def test_numbers_are_lowered_to_fit(
    tokens: int, wished: tuple[int, int], fitting: tuple[int, int], lowered: list[str]
) -> None:
    before = dict(zip(("batch_size", "seq_length"), wished, strict=True))
    assert fitted(Facts(tokens, 50), *wished) == (
        *fitting,
        {
            f"data.{name}": f"lowered from {before[name]}: the training text has only {tokens} tokens"
            for name in lowered
        },
    )
    stream = TokenStream(np.zeros(tokens, np.uint8), None, Counts(tokens), Counts(tokens - 1))
    assert len(Lanes(stream, *fitting)) >= 1


def test_devices_and_items_are_fitted_too() -> None:
    assert fitted(Facts(321, 50, processes=3), 33, 10)[:2] == (30, 10)
    assert fitted(Facts(9, 50, processes=4), 64, 10)[:2] == (4, 2)
    assert fitted(Facts(16, 50, items=5), 8, 64) == (
        5,
        64,
        {"data.batch_size": "lowered from 8: the training text has only 5 items"},
    )
    with pytest.raises(
        CharlmError, match="the training text has 1 tokens, too few to predict anything; give a longer text"
    ):
        fitted(Facts(1, 50), 1, 1)
    with pytest.raises(CharlmError, match="too few to predict anything on 8 devices"):
        fitted(Facts(5, 50, processes=8), 8, 1)
    with pytest.raises(CharlmError, match=r"`data.batch_size` 3 cannot be shared by 2 devices; take a multiple of 2"):
        fitted(Facts(1000, 50, processes=2), 3, 10)


def test_trained_weights_take_a_lower_learning_rate_with_a_reason() -> None:
    facts = FACTS["a text on a CPU"]
    new, _ = resolve(config_of(), facts)
    config, choices = resolve(config_of(init_from="runs/x"), facts)
    assert config.optimizer.lr == new.optimizer.lr / 4
    assert (
        "would undo what the weights have learnt" in {choice.name: choice.reason for choice in choices}["optimizer.lr"]
    )
    assert resolve(config_of(init_from="runs/x", optimizer__lr=0.01), facts).config.optimizer.lr == 0.01


@pytest.mark.parametrize(("processes", "lanes"), [(1, 32), (3, 33), (5, 35), (40, 40)])
def test_lanes_are_shared_equally(processes: int, lanes: int) -> None:
    facts = Facts(tokens=1_000_000, vocab_size=60, processes=processes)
    assert resolve(Config(), facts).config.data.batch_size == lanes
