"""A race of small networks: its plan, its trials, how it is resumed, and what it shows."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trials import OPTIONS, SETTINGS, Dies, StopsAt, settings

import charlm
from charlm.errors import CharlmError, Interrupted
from charlm.evaluation.paired import Score
from charlm.experiments.planning import start
from charlm.experiments.race import check, chosen_factor, run
from charlm.experiments.race_directory import RaceDirectory
from charlm.experiments.standings import result, write_page
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.views.race import RaceResult, html
from conftest import small_text


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "text.txt"
    path.write_text(small_text(6000), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def raced(source: Path, tmp_path_factory: pytest.TempPathFactory) -> RaceDirectory:
    """A finished race; not to be changed."""
    directory = start(OPTIONS, settings(source), tmp_path_factory.mktemp("races") / "race", Reporter())
    run(directory, Reporter())
    return directory


def table(directory: RaceDirectory) -> list[list[str]]:
    """The table of a race without its speeds."""
    found = result(directory).table
    place = found.head.index("tokens/s")
    return [[cell for number, cell in enumerate(row) if number != place] for row in [found.head, *found.rows]]


def test_a_race_leaves_ordinary_runs_and_scores_of_every_split(raced: RaceDirectory) -> None:
    plan = raced.plan
    assert [trial.name for trial in plan.trials] == [
        "runs/lstm-seed1", "runs/rnn-seed1", "runs/lstm-seed2", "runs/rnn-seed2",
    ]  # fmt: skip
    assert len(plan.searches) == 6
    assert set(raced.scores) == {trial.name for trial in (*plan.trials, *plan.searches)}
    for trial in plan.trials:
        trained = charlm.load(raced.run(trial))
        assert trained.config.seed == trial.seed
        assert len(trained.generate(length=5, seed=1)) == 5
        assert trained.directory.memory is not None
        for split in ("val", "test"):
            again = trained.evaluate(split=split)
            assert raced.scores[trial.name][split] == Score(again.loss, again.bits_per_character)
    for trial in plan.searches:
        assert set(raced.scores[trial.name]) == {"val"}  # nothing is chosen by the test split


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([2.0, 1.0, 3.0], 1.0),
        ([1.03, 1.01, 1.0], 1.0),  # nearly as good, and lower
        ([1.01, 2.0, 1.0], 0.5),
        ([1.2, 1.03, 1.0], 2.0),
        ([math.inf, 1.0, math.inf], 1.0),
        ([math.inf] * 3, 1.0),
    ],
)
def test_the_lowest_rate_that_is_nearly_the_best_is_chosen(
    raced: RaceDirectory, tmp_path: Path, losses: list[float], factor: float
) -> None:
    shutil.copytree(raced.path, tmp_path / "race")
    directory = RaceDirectory(tmp_path / "race")
    searches = [trial for trial in directory.plan.searches if trial.cell == "lstm"]
    for trial, loss in zip(searches, losses, strict=True):
        directory.add_score(trial, "val", Score(loss, loss))
    assert chosen_factor(directory, "lstm") == factor


def test_search_and_trials_use_the_budget_and_the_best_rate(raced: RaceDirectory) -> None:
    plan = raced.plan
    assert plan.shares.trial.steps == int(31 * 2 / 2.75)
    assert plan.shares.search.steps == int(31 * 2 / 2.75 / 4)
    for cell in plan.networks:
        searches = [trial for trial in plan.searches if trial.cell == cell]
        losses = {trial.factor: raced.scores[trial.name]["val"].loss for trial in searches}
        assert list(losses) == [0.5, 1.0, 2.0]
        factor = chosen_factor(raced, cell)
        assert losses[factor] <= 1.02 * min(losses.values())
        assert all(loss > 1.02 * min(losses.values()) for other, loss in losses.items() if other < factor)
        default = plan.config(cell).optimizer.lr
        for trial in plan.trials:
            config = RunDirectory(raced.run(trial)).config
            if trial.cell == cell:
                assert config.optimizer.lr == pytest.approx(factor * default)
                assert config.trainer.max_steps == plan.shares.trial.steps
        for trial in searches:
            config = RunDirectory(raced.run(trial)).config
            assert config.optimizer.lr == pytest.approx(trial.factor * default)
            assert (config.trainer.max_steps, config.seed) == (plan.shares.search.steps, 1)


@pytest.mark.parametrize(("trial", "step", "killed"), [(2, 3, True), (9, 12, False)])
def test_an_interrupted_race_ends_as_an_unbroken_one(
    raced: RaceDirectory, source: Path, tmp_path: Path, trial: int, step: int, killed: bool
) -> None:
    directory = start(OPTIONS, settings(source), tmp_path / "race", Reporter())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(Dies if killed else Interrupted):
        run(directory, StopsAt(trial, step, killed=killed))
    assert {number: signal.getsignal(number) for number in before} == before
    assert len(directory.scores) == trial - 1
    finished = {name: (directory.path / name / "model.safetensors").stat().st_mtime_ns for name in directory.scores}
    run(RaceDirectory(directory.path), Reporter())
    for name, time in finished.items():
        assert (directory.path / name / "model.safetensors").stat().st_mtime_ns == time, "it was trained again"
    assert directory.scores == raced.scores
    assert table(directory) == table(raced)


def test_a_finished_race_reads_nothing_again(raced: RaceDirectory) -> None:
    before = (raced.path / "scores.json").stat().st_mtime_ns
    run(RaceDirectory(raced.path), Reporter())
    assert (raced.path / "scores.json").stat().st_mtime_ns == before


def test_a_network_that_diverges_comes_last_and_does_not_end_the_race(source: Path, tmp_path: Path) -> None:
    wild = settings(
        source,
        model={"cell": "rnn_relu", "recurrent_init": "identity"},
        optimizer={"name": "sgd", "lr": 1e30, "warmup": 0, "schedule": "constant"},
        trainer={"gradient_clip_val": 0},
    )
    options = replace(OPTIONS, cells=("rnn_relu", "lstm"), seeds=1, search=1)
    directory = start(options, wild, tmp_path / "race", Reporter())
    run(directory, Reporter())
    found = result(directory)
    write_page(directory, found)
    assert any(note.startswith("Diverged, and therefore scored by the best weights") for note in found.notes)
    worst = found.standings[-1]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["cells"][-1]["cell"] == worst.cell
    for name, splits in RaceDirectory(directory.path).scores.items():
        weights = (directory.path / name / "model.safetensors").is_file()
        assert all(math.isfinite(score.loss) == weights for score in splits.values())


def test_lines_and_a_test_text_of_its_own(source: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.txt"
    test.write_text(small_text(400, seed=5), encoding="utf-8")
    config = settings(source, data={"unit": "line", "test": str(test)})
    assert config.data.test_fraction == 0
    directory = start(replace(OPTIONS, seeds=1, search=1, tokens=500), config, tmp_path / "race", Reporter())
    assert directory.plan.searches == []
    run(directory, Reporter())
    found = result(directory)
    assert all(len(one.test) == 1 for one in found.standings)
    assert "Search of the learning rate" not in html(found)
    assert "±" not in found.table.rows[0][1]


def test_epochs_and_time_as_a_budget(source: Path, tmp_path: Path) -> None:
    config = settings(source)
    epochs = start(replace(OPTIONS, tokens=0, epochs=0.5, search=1), config, tmp_path / "epochs", Reporter()).plan
    per_epoch = -(-((int(6000 * 0.85) - 1) // 4) // 16)
    assert epochs.shares.trial.steps == per_epoch // 2
    time = start(replace(OPTIONS, tokens=0, budget="1h"), config, tmp_path / "time", Reporter()).plan
    assert time.shares.trial.seconds == round(3600 * 2 / 2.75)
    assert time.seconds == pytest.approx(2 * 2 * 3600, abs=20)
    limits = [time.config(cell).trainer for cell in time.networks]
    assert limits[0] == limits[1]
    assert limits[0].limit_val_batches == 1.0  # in an hour there is time for all of so short a text
    preset = settings(source, trainer={"max_steps": 40})
    own = start(replace(OPTIONS, tokens=0, search=1), preset, tmp_path / "own", Reporter()).plan
    assert (own.shares.trial.steps, own.budget) == (40, "40 optimiser steps")
    with pytest.raises(CharlmError, match=r"budget is too small: .* raise `budget`"):
        start(
            replace(OPTIONS, tokens=0, budget="6s"),
            settings(source, model={"hidden": 700, "layers": 3}, data={"batch_size": 64, "seq_length": 64}),
            tmp_path / "short",
            Reporter(),
        )
    assert not (tmp_path / "short").exists()


def test_the_page_and_the_plain_values_of_a_race(raced: RaceDirectory) -> None:
    found = result(raced)
    page = html(found)
    for part in ("Result", "Training", "Memory", "Samples at the end", "Search of the learning rate", "Settings"):
        assert f"<h2>{part}</h2>" in page
    for title in (
        "Validation by training time",
        "Validation by tokens read",
        "Gradient through time",
        "Memory horizon",
    ):
        assert title in page
    assert page.count("<polygon") >= 4, "bands over the seeds"
    assert not re.search("https?://", re.sub(r'xmlns="[^"]*"', "", page)), "it fetches something"
    for one in found.standings:
        assert one.runs[0].points[-1].samples[0].text[:5].split("\n")[0] in page
    plain = found.to_dict()
    assert [one["rank"] for one in plain["cells"]] == [1, 2]
    first, second = plain["cells"]
    assert first["validation"]["mean"] <= second["validation"]["mean"]
    assert first["difference"] is None
    assert second["difference"]["mean"] == pytest.approx(second["validation"]["mean"] - first["validation"]["mean"])
    assert len(first["test"]["bits_per_character"]) == 2


def test_trials_that_used_their_budget_have_not_diverged(raced: RaceDirectory) -> None:
    assert not any("Diverged" in note for note in result(raced).notes)


def test_the_mean_of_the_table_is_that_of_the_runs(raced: RaceDirectory) -> None:
    found: RaceResult = result(raced)
    for row, one in zip(found.table.rows, found.standings, strict=True):
        bits = [charlm.load(run.directory.path).evaluate().bits_per_character for run in one.runs]
        assert row[1].startswith(f"{sum(bits) / 2:.3f} ± ")
        assert row[found.table.head.index("parameters")] == f"{one.runs[0].parameters:,}"


def test_a_race_in_python_is_started_and_continued(source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"cells": ["gru", "window"], "seeds": 1, "tokens": 300, "search": 1}
    first = charlm.race(source, race=tmp_path / "race", reporter=Reporter(), **options, **SETTINGS)
    assert {one.cell for one in first.standings} == {"gru", "window"}
    assert (tmp_path / "race" / "race.html").is_file()
    again = charlm.race(race=tmp_path / "race", reporter=Reporter())
    assert again.to_dict() == first.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": ()}, r"at least two cells .* such as lstm gru"),
        ({"cells": ("gru",)}, r"at least two cells .* such as gru lstm"),
        ({"cells": ("gru", "lsmt")}, "no cell 'lsmt'; .*did you mean 'lstm'"),
        ({"cells": ("gru", "lstm", "gru")}, "'gru' is named twice"),
        ({"budget": "3m"}, "`budget`, `epochs` and `tokens` exclude"),
        ({"tokens": 0, "budget": "1s"}, "budget is too small: a trial"),
        ({"tokens": 0, "budget": "soon"}, "`budget` is not a time"),
        ({"cluster": ("nodes=1",)}, "use it with `engine` slurm"),
    ],
)
def test_what_is_wrong_with_the_options(source: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        check(replace(OPTIONS, **changes), settings(source))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"trainer": {"devices": 2}}, "on one device"),
        ({"data": {"val_fraction": 0}}, "ranks networks by the validation split"),
        ({"init_from": "runs/x"}, "`init_from`"),
    ],
)
def test_what_is_wrong_with_the_settings(source: Path, groups: dict[str, Any], message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        check(OPTIONS, settings(source, **groups))


def test_damaged_files_say_what_to_do(raced: RaceDirectory, tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match="is not a race"):
        RaceDirectory(tmp_path)
    (tmp_path / "race.json").write_text('{"networks": 3}')
    with pytest.raises(CharlmError, match=r"race\.json is damaged"):
        RaceDirectory(tmp_path)
    for name in ("race.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((raced.path / name).read_bytes())
    (tmp_path / "scores.json").write_text('{"runs/lstm-seed1": {"val": {"loss": "low"}}}')
    with pytest.raises(CharlmError, match=r"scores\.json is damaged .* delete it, and charlm race --resume"):
        RaceDirectory(tmp_path).scores  # noqa: B018
