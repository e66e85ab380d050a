"""The space file of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from charlm.errors import CharlmError
from charlm.experiments.space import Range, read_space


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_ranges_and_choices_in_groups_or_not(tmp_path: Path) -> None:
    space = read_space(
        write(
            tmp_path / "space.yaml",
            "model.hidden: {low: 64, high: 512, log: true}\n"
            "model:\n  dropout: {low: 0, high: 0.5}\n  cell: [lstm, gru]\n"
            "optimizer.lr: {low: 0.001, high: 0.02, log: true}\n"
            "model.tie: [true, false]\n",
        )
    )
    assert space == {
        "model.hidden": Range(64, 512, integer=True, log=True),
        "model.dropout": Range(0, 0.5, integer=False),
        "model.cell": ["lstm", "gru"],
        "optimizer.lr": Range(0.001, 0.02, integer=False, log=True),
        "model.tie": [True, False],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.hiden: [1, 2]", r"no setting 'model\.hiden'; did you mean 'model\.hidden'"),
        ("xyz: [1, 2]", r"no setting 'xyz'; the help of charlm train lists them"),
        ("model: {hidden: {low: 0, high: 9}}", r"`model\.hidden` must be at least 1, not 0"),
        ("model.hidden: {low: 9, high: 3}", "must rise from low to high"),
        ("model.dropout: {low: 0, high: 0.5, log: true}", "above 0 if it is logarithmic"),
        ("model.hidden: {low: 3, high: 9, logg: true}", "must be a list of choices, or"),
        ("model.hidden: 3", "must be a list of choices, or"),
        ("model.hidden: [3]", "needs two or more choices"),
        ("optimizer.name: {low: 1, high: 2}", "name its values as a list"),
        ("optimizer.name: [adam, adamm]", "did you mean 'adam'"),
        ("trainer.max_time: [1m, 2m]", "must be the same for all trials"),
        ("", "must name settings"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_space(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        read_space(write(tmp_path / "space.yaml", text))


def test_a_space_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match=r"cannot read the space .*check the path"):
        read_space(tmp_path / "none.yaml")
