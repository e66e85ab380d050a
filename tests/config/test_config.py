from __future__ import annotations

from typing import Any

import pytest

from charlm.config import Config, settings
from charlm.config.plain import flat
from charlm.errors import CharlmError


def test_plain_values_and_back() -> None:
    config = Config.from_dict({"model": {"hidden": 7}, "samples": {"prompts": ["a", "b"]}, "seed": 3})
    assert (config.model.hidden, config.samples.prompts, config.seed) == (7, ("a", "b"), 3)
    assert Config.from_dict(config.to_dict()) == config


def test_every_setting_has_help_and_a_default_within_its_range() -> None:
    assert Config.from_dict(Config().to_dict()) == Config()
    for setting in settings(Config):
        assert setting.help, setting.name
    names = [setting.name for setting in settings(Config)]
    assert len(names) == len(set(names))


def test_a_number_may_stand_for_a_choice_that_is_a_number() -> None:
    """YAML reads `precision: 32` as a number."""
    assert Config.from_dict({"trainer": {"precision": 32}}).trainer.precision == "32"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modell": {}}, "there is no setting 'modell'; did you mean 'model'?"),
        ({"model": {"hiden": 5}}, "there is no setting 'model.hiden'; did you mean 'model.hidden'?"),
        ({"model": {"hidden": 0}}, "`model.hidden` must be at least 1, not 0"),
        ({"model": {"hidden": "many"}}, "`model.hidden` must be a whole number, not 'many'"),
        ({"model": {"hidden": 1.5}}, "`model.hidden` must be a whole number, not 1.5"),
        ({"model": {"hidden": True}}, "`model.hidden` must be a whole number, not True"),
        ({"model": {"dropout": 1.0}}, "`model.dropout` must be below 1, not 1.0"),
        ({"model": {"dropout": "nan"}}, "`model.dropout` must be a number, not 'nan'"),
        ({"model": {"tie": "maybe"}}, "`model.tie` must be true or false, not 'maybe'"),
        ({"model": 5}, "`model` must be a group of settings, not 5"),
        ({"optimizer": {"lr": 0}}, "`optimizer.lr` must be above 0, not 0"),
        (
            {"optimizer": {"name": "adamwx"}},
            "`optimizer.name` must be one of adamw, adam, sgd, rmsprop, muon, not 'adamwx'; did you mean 'adamw'?",
        ),
        (
            {"data": {"val_fraction": 0.6, "test_fraction": 0.4}},
            "nothing is left to train on: `data.val_fraction` and `data.test_fraction` together must stay below 1",
        ),
        (
            {"trainer": {"max_time": "soon"}},
            "`trainer.max_time` is not a time: 'soon'; write 90s, 3m, 1h30m or 00:00:03:00",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CharlmError) as error:
        Config.from_dict(values)
    assert str(error.value) == message


def test_plain_values_have_every_setting_and_not_only_those_that_were_given() -> None:
    given = Config.from_dict({"model": {"hidden": 3}})
    assert list(flat(given.to_dict())) == [setting.name for setting in settings(Config)]
