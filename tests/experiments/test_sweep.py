"""A sweep of small networks with Optuna: its trials, how it is resumed, and what it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trials import SETTINGS, Dies, StopsAt

import charlm
from charlm.config import Config
from charlm.config.plain import merge
from charlm.errors import CharlmError, Interrupted
from charlm.experiments.sweep import SweepOptions, base_settings, check, result, run, start, write_page
from charlm.experiments.sweep_directory import SweepDirectory
from charlm.reporter import Reporter
from charlm.views.sweep import html
from conftest import small_text

pytest.importorskip("optuna")

SPACE = (
    "optimizer.lr: {low: 0.0001, high: 0.05, log: true}\nmodel.cell: [rnn, min_gru]\nmodel.hidden: {low: 4, high: 16}"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / "text.txt").write_text(small_text(4000), encoding="utf-8")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    return folder


def settings(source: Path, **groups: dict[str, Any]) -> Config:
    model = {"layers": 1, "embedding": 4}
    common = merge(SETTINGS | {"model": model}, {"data": {"text": [str(source / "text.txt")]}})
    return Config.from_dict(base_settings(merge(merge(common, {"trainer": {"max_steps": 24}}), groups)))


def options(source: Path, **changes: Any) -> SweepOptions:
    return replace(SweepOptions(space=str(source / "space.yaml"), trials=5), **changes)


@pytest.fixture(scope="module")
def swept(source: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """A finished sweep; not to be changed."""
    directory = start(options(source), settings(source), tmp_path_factory.mktemp("sweeps") / "sweep")
    run(directory, Reporter())
    return directory


def outcome(directory: SweepDirectory) -> list[tuple[Any, ...]]:
    """What the trials of a sweep tried and reached."""
    return [(one.number, one.settings, one.state, one.bits) for one in result(directory).trials]


def test_every_trial_is_an_ordinary_run_with_the_settings_that_were_tried(swept: SweepDirectory) -> None:
    trials = result(swept).trials
    assert [one.number for one in trials] == [1, 2, 3, 4, 5]
    assert len({tuple(one.settings.values()) for one in trials}) == 5
    assert {one.state for one in trials} == {"finished", "ended early"}, "halving ends some, and never all"
    for one in trials:
        trained = charlm.load(one.run)
        config = trained.config
        chosen = [config.optimizer.lr, config.model.cell, config.model.hidden]
        assert chosen == [one.settings[name] for name in ("optimizer.lr", "model.cell", "model.hidden")]
        assert len(trained.generate(length=5, seed=1)) == 5
        steps = trained.metrics[-1]["step"]
        if one.state == "finished":
            assert steps == 24
            assert one.bits == trained.evaluate().bits_per_character
        else:
            assert 0 < steps < 24
            bits = [row["val/bits_per_character"] for row in trained.metrics if "val/loss" in row]
            assert one.bits == pytest.approx(bits[-1], rel=1e-4)


@pytest.mark.parametrize(("trial", "step", "killed"), [(2, 3, True), (3, 2, False)])
def test_an_interrupted_sweep_ends_as_an_unbroken_one(
    swept: SweepDirectory, source: Path, tmp_path: Path, trial: int, step: int, killed: bool
) -> None:
    directory = start(options(source), settings(source), tmp_path / "sweep")
    with pytest.raises(Dies if killed else Interrupted):
        run(directory, StopsAt(trial, step, killed=killed))
    assert [one.state for one in result(directory).trials][-1] == "not finished"
    again = SweepDirectory(directory.path)
    run(again, Reporter())
    assert outcome(again) == outcome(swept)
    before = (again.path / "study.journal").read_bytes()
    run(SweepDirectory(directory.path), Reporter())
    assert (again.path / "study.journal").read_bytes() == before, "a finished sweep trained again"


def test_a_run_that_was_ended_early_can_be_trained_to_its_end(swept: SweepDirectory, tmp_path: Path) -> None:
    import shutil

    early = next(one for one in result(swept).trials if one.state == "ended early")
    copy = Path(shutil.copytree(early.run, tmp_path / "run"))
    assert charlm.resume(copy, reporter=Reporter()).metrics[-1]["step"] == 24


def test_the_journal_holds_plain_values_only(swept: SweepDirectory) -> None:
    lines = (swept.path / "study.journal").read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert {path.name for path in swept.path.iterdir()} <= {"sweep.json", "study.journal", "runs", "sweep.html"}


def test_the_page_and_the_plain_values_of_a_sweep(swept: SweepDirectory) -> None:
    found = result(swept)
    page = html(found)
    assert found.best is not None
    assert f"Trial {found.best.number} is best: {found.best.bits:.3f} bits per character" in page
    for name in ("optimizer.lr", "model.cell", "model.hidden"):
        assert name in page
    if found.importances:
        assert "Importance of the settings" in page
        assert sum(found.importances.values()) == pytest.approx(1)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["trials"][0]["number"] == found.best.number
    assert found.table.rows[0][0] == f"trial {found.best.number}"


def test_settings_that_do_not_fit_together_fail_and_the_sweep_goes_on(source: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("model.heads: [1, 5]\n", encoding="utf-8")  # 5 heads cannot share 8 units
    config = settings(source, model={"cell": "transformer", "hidden": 8, "embedding": 8, "context": 4})
    directory = start(options(source, space=str(space), trials=4, pruner="none"), config, tmp_path / "sweep")
    run(directory, Reporter())
    found = result(directory)
    write_page(directory, found)
    for one in found.trials:
        assert one.state == ("finished" if one.settings["model.heads"] == 1 else "failed")
        assert ("cannot be shared by 5 heads" in one.why) == (one.state == "failed")
    assert {one.state for one in found.trials} == {"finished", "failed"}
    assert "cannot be shared" in (directory.path / "sweep.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "groups", "message"),
    [
        ({"space": ""}, {}, "with `space`"),
        ({"budget": "soon"}, {}, "`budget` is not a time"),
        ({}, {"data": {"text": ["-"]}}, "standard input can be read once"),
        ({}, {"trainer": {"devices": 2}}, "on one device"),
        ({}, {"data": {"val_fraction": 0}}, "ranks settings by the validation split"),
    ],
)
def test_what_is_wrong_with_a_sweep(
    source: Path, changes: dict[str, Any], groups: dict[str, Any], message: str
) -> None:
    with pytest.raises(CharlmError, match=message):
        check(options(source, **changes), settings(source, **groups))


def test_a_budget_and_damaged_files(source: Path, tmp_path: Path) -> None:
    timed = start(options(source, budget="2m"), settings(source), tmp_path / "timed")
    assert timed.config({}).trainer.max_time == "2m"
    assert timed.config({}).trainer.max_steps == -1
    with pytest.raises(CharlmError, match="exists already"):
        start(options(source), settings(source), tmp_path / "timed")
    with pytest.raises(CharlmError, match="is not a sweep"):
        SweepDirectory(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(CharlmError, match=r"sweep\.json is damaged"):
        SweepDirectory(tmp_path)
