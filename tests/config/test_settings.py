from __future__ import annotations

import pytest

from charlm.config import Config
from charlm.config.durations import duration, seconds
from charlm.config.plain import merge, nest


def test_texts_become_the_type_of_the_setting() -> None:
    values = {"optimizer.lr": "6e-3", "model.hidden": "128", "model.tie": "true", "model.layers": "null"}
    config = Config.from_dict(nest(values))
    assert (config.optimizer.lr, config.model.hidden, config.model.tie, config.model.layers) == (
        0.006,
        128,
        True,
        None,
    )
    assert isinstance(Config.from_dict({"trainer": {"gradient_clip_val": 2}}).trainer.gradient_clip_val, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("3m", 180),
        ("1h30m", 5400),
        ("45", 45),
        ("00:00:03:00", 180),
        ("02:00", 120),
        ("1.5m", 90),
    ],
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0s"), (45, "45s"), (59.6, "1m"), (65, "1m05s"), (90, "1m30s"), (180, "3m"), (3600, "1h"), (7500, "2h05m")],
)
def test_durations(value: float, text: str) -> None:
    assert duration(value) == text
    assert round(value) == 0 or seconds(text) == round(value)


def test_the_upper_settings_win() -> None:
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}, "b": 1}
