"""charlm race and charlm sweep as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import SMALL, Charlm

SMALL_RACE = [word for word in SMALL if word not in ("--trainer.max_steps", "3")]
RACE = ["--cells", "lstm", "gru", "--seeds", "1", "--search", "1", "--tokens", "200", *SMALL_RACE]


def test_a_race_prints_its_plan_its_table_and_where_its_page_is(charlm: Charlm, text: Path) -> None:
    done = charlm("race", text, "--race", "first", *RACE)
    assert done.status == 0, done.err
    head, *rows = done.out.splitlines()
    assert (
        head.split() == "bits per character difference nats per token test, bits tokens/s parameters operations".split()
    )
    assert {row.split()[0] for row in rows[:2]} == {"lstm", "gru"}
    assert rows[0].split()[2] == "best"
    assert "With one seed nothing shows" in done.out
    assert "race: 2 cells, 1 seed, equal parameters (those of lstm)" in done.err
    assert "test split: 0.05 of the text (data.test_fraction)" in done.err
    assert "trial 2 of 2: gru, seed 1" in done.err
    assert f"wrote {Path('first/race.html').resolve()}" in done.err
    assert Path("first/race.html").stat().st_size > 10_000
    again = charlm("race", "--resume", "first", "--json")
    assert {one["cell"] for one in json.loads(again.out)["cells"]} == {"lstm", "gru"}
    assert "trial 1 of" not in again.err
    assert "expected training time" not in again.err, "a finished race is only shown"
    assert charlm("generate", "first/runs/gru-seed1", "--length", "5", "--seed", "1").status == 0
    assert "exists already" in charlm("race", text, "--race", "first", *RACE).mistake
    mistake = charlm("race", text, "--resume", "first").mistake
    assert mistake.startswith("--resume continues a race with its own text")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "lstm"], "a race needs at least two cells to compare; name them with --cells, such as lstm gru"),
        ([], "a race needs at least two cells to compare; name them with --cells, such as lstm gru"),
        (["--cells", "lstm", "grv"], "there is no cell 'grv'; choose from"),
        (["--cells", "lstm", "text.txt"], "--cells took text.txt for a cell; name the text before the options"),
        (["--cells", "lstm", "gru", "--model.cell", "rnn"], "--model.cell is one cell, and a race compares several"),
        (["--cells", "lstm", "gru", "--budget", "1s"], "give at least 5s, or leave the search out with --search 1"),
        (["--cells", "lstm", "gru", "--budget", "2"], "give at least 5s, or leave the search out with --search 1"),
        (["--cells", "lstm", "gru", "--search", "2"], "--search must be"),
        (["--cells", "lstm", "gru", "--cluster", "nodes=1"], "--cluster has parameters of jobs; use it with --engine"),
        (["--cells", "lstm", "gru", "--model.hiden", "3"], "there is no option --model.hiden; did you mean"),
    ],
)
def test_mistakes_about_a_race(charlm: Charlm, text: Path, arguments: list[str], message: str) -> None:
    done = charlm("race", text, *arguments)
    assert message in done.mistake
    assert "loading torch" not in done.err


def test_a_race_that_is_none(charlm: Charlm, text: Path) -> None:
    assert "nowhere is not a race" in charlm("race", "--resume", "nowhere").mistake


def test_a_sweep_from_its_space_to_its_page(charlm: Charlm, text: Path) -> None:
    pytest.importorskip("optuna")
    Path("space.yaml").write_text(
        "model.cell: [rnn, min_gru]\noptimizer.lr: {low: 0.001, high: 0.01}\n", encoding="utf-8"
    )
    limits = [*SMALL_RACE, "--trainer.max_steps", "2"]
    done = charlm("sweep", text, "--space", "space.yaml", "--trials", "2", "--sweep", "first", *limits)
    assert done.status == 0, done.err
    head, *rows = done.out.splitlines()
    assert head.split() == ["bits", "per", "character", "state", "model.cell", "optimizer.lr", "time"]
    assert [row.split()[0] for row in rows[:2]] == ["trial", "trial"]
    assert "is best: " in done.out
    assert "trial 1 of 2: model.cell" in done.err
    assert Path("first/sweep.html").stat().st_size > 5_000
    again = charlm("sweep", "--resume", "first", "--json")
    assert len(json.loads(again.out)["trials"]) == 2
    assert charlm("generate", "first/runs/trial-1", "--length", "5", "--seed", "1").status == 0


def test_mistakes_about_a_sweep(charlm: Charlm, text: Path) -> None:
    Path("space.yaml").write_text("model.hiden: [3, 4]\n", encoding="utf-8")
    done = charlm("sweep", text, "--space", "space.yaml")
    assert "space.yaml: there is no setting 'model.hiden'; did you mean 'model.hidden'" in done.mistake
    assert "loading torch" not in done.err
    assert "name a file with the values of each setting with --space" in charlm("sweep", text).mistake
