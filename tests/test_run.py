"""Run: numpy or torch generates, and the text is the same."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from charlm.errors import CharlmError
from charlm.generation.stepper import NumpyStepper
from charlm.run import Run
from charlm.run_directory import RunDirectory


def test_numpy_generates_any_number_of_texts_on_a_cpu(tiny_run: Path) -> None:
    """In float32: in bf16, a text of many would not be the same text alone."""
    run = Run(tiny_run)
    for rows, tokens in ((1, 1), (1, 10**9), (64, 10**6)):
        assert type(run.load_stepper(rows=rows, tokens=tokens)) is NumpyStepper
    many = [text.text for text in run.generate_texts(samples=100, length=200, temperature=1.0)]
    assert many[::20] == [run.generate(length=200, seed=1 + number, temperature=1.0) for number in range(0, 100, 20)]


def test_each_checkpoint_has_its_own_weights(run: Path) -> None:
    directory = Run(run).directory
    flat = {name: torch.from_numpy(0 * weight) for name, weight in directory.read_weights("last").items()}
    directory.write_weights(flat, "last")
    found, uniform = Run(run), math.log(directory.vocab_size)
    assert found.evaluate(checkpoint="last").loss == pytest.approx(uniform, rel=1e-6)
    assert found.evaluate().loss == found.evaluate(checkpoint="best").loss < 0.9 * uniform
    best, last = (found.load_stepper(checkpoint) for checkpoint in ("best", "last"))
    state = best.initial_state(1)
    assert not last.step(np.array([1]), state)[0].any()
    assert best.step(np.array([1]), state)[0].any()


def test_weights_that_are_not_finite_are_damaged(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checksums.json").unlink()
    for value in (math.inf, -math.inf, math.nan):
        weights = load_file(tiny_run / "model.safetensors")
        next(iter(weights.values())).flat[-1] = value
        save_file(weights, run / "model.safetensors")
        with pytest.raises(CharlmError, match=r"is damaged \(a weight is not a finite number\)"):
            Run(run).generate(length=3)


def test_a_config_that_lost_settings_is_named(tiny_run: Path, tmp_path: Path) -> None:
    """A file that is cut at the end of a line is YAML, but the settings below it have no value."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checksums.json").unlink()
    lines = (run / "config.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    cut = next(number for number, line in enumerate(lines) if line.startswith("trainer:"))
    (run / "config.yaml").write_text("".join(lines[:cut]), encoding="utf-8")
    with pytest.raises(CharlmError, match=r"`trainer\.max_epochs` has no value"):
        _ = Run(run).config


def test_text_is_generated_at_the_temperature_of_the_samples(tiny_run: Path) -> None:
    """Before, it was 1.0, and a person got another text than the one that the training had shown."""
    run = Run(tiny_run)
    last = run.samples[-1]
    assert last.temperature == 0.8
    generated = run.generate(last.prompt, length=40, seed=last.seed, checkpoint="last")
    assert generated == last.text
    assert run.generate(last.prompt, length=40, seed=last.seed, checkpoint="last", temperature=1.0) != last.text


def test_a_prompt_is_adapted_on_request(tiny_run: Path) -> None:
    run = Run(tiny_run)
    with pytest.raises(CharlmError, match=r"the prompt has '’'.* or set `prompt_unknown` to nearest or drop"):
        run.generate("the cat’s", length=5)
    adapted = run.generate("thé cat", length=5, prompt_unknown="nearest")
    assert adapted == run.generate("the cat", length=5)
    assert run.generate("th\U0001f600e cat", length=5, prompt_unknown="drop") == adapted


def rows(path: Path) -> list[str]:
    return (path / "metrics.csv").read_text(encoding="utf-8", errors="replace").splitlines()


@pytest.mark.parametrize(
    "damage", ["7,0.1", "8,x,1.0", "x,1,1", "-3,1,1", "9" * 5000 + ",1,1", '5,"1,1', "\x00\x00\x00", "1,1,1" * 40]
)
def test_a_damaged_row_of_numbers_is_left_out_and_said(run: Path, damage: str) -> None:
    header, *whole = rows(run)
    text = "\n".join([header, whole[0], damage, *whole[1:]]) + "\n"
    (run / "metrics.csv").write_text(text, encoding="utf-8")
    directory = RunDirectory(run)
    assert directory.metrics == RunDirectory(run).metrics
    assert len(directory.metrics) == len(whole)
    assert directory.left_out == {"metrics.csv": f"left 1 damaged row of {run / 'metrics.csv'} out"}
    directory.drop_metrics_after(10**6, header.split(","))
    assert rows(run) == [header, *whole]


def test_rows_of_other_columns_keep_their_numbers(tmp_path: Path, run: Path) -> None:
    (run / "metrics.csv").write_text("step,epoch,old,val/loss\n0,0.0,1,2.50\n1,0.5,1,\n", encoding="utf-8")
    RunDirectory(run).drop_metrics_after(1, ["step", "epoch", "train/loss", "val/loss"])
    assert rows(run) == ["step,epoch,train/loss,val/loss", "0,0.0,,2.50", "1,0.5,,"]


@pytest.mark.parametrize(
    "line",
    ["[1]", "3", "null", "{", "[" * 100_000, '{"step": 1}', '{"text": "\\ud800"}', '{"step": "x"}', '{"scores": 3}'],
)
def test_a_damaged_sample_is_left_out_and_said(run: Path, line: str) -> None:
    first, *others = (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    if line.startswith('{"text') or line.startswith('{"s'):
        line = json.dumps(json.loads(first) | json.loads(line)) if line != '{"step": 1}' else line
    (run / "samples.jsonl").write_text("\n".join([first, line, *others]) + "\n", encoding="utf-8")
    directory = RunDirectory(run)
    assert len(directory.samples) == 1 + len(others)
    assert "1 damaged line" in directory.left_out["samples.jsonl"]
    directory.drop_samples_after(10**6)
    assert (run / "samples.jsonl").read_text(encoding="utf-8").splitlines() == [first, *others]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": 10**9}, "model.json is damaged"),
        ({"layers": 3}, "do not fit its model.json"),
        ({"hidden": 10**12}, "do not fit its model.json"),
        ({"vocab_size": 10**9}, "do not fit its model.json|does not fit model.json"),
        ({"vocab_size": "5"}, "model.json is damaged"),
        ({"vocab_size": 0}, "model.json is damaged"),
    ],
)
def test_a_network_that_its_weights_do_not_fit_is_never_built(run: Path, change: dict[str, Any], words: str) -> None:
    (run / "checksums.json").unlink()
    model = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(model | change))
    for use in (Run(run).generate, Run(run).load_model, Run(run).evaluate):
        with pytest.raises(CharlmError, match=words):
            use()


def test_a_vocabulary_shorter_than_the_network_is_named(run: Path) -> None:
    (run / "checksums.json").unlink()
    state = json.loads((run / "tokenizer.json").read_text(encoding="utf-8"))
    state["model"]["vocab"].popitem()
    (run / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(CharlmError, match=r"tokenizer.json does not fit model.json: it has \d+ tokens"):
        Run(run).generate()


@pytest.mark.parametrize("name", ["references", "left_out", "size", "ngram"])
def test_references_of_the_wrong_type_are_named(run: Path, name: str) -> None:
    values: dict[str, object] = {"references": {}, "left_out": {}, "size": 9, "ngram": None, name: {"x": 3}}
    (run / "quality.json").write_text(json.dumps(values))
    with pytest.raises(CharlmError, match=r"quality.json is damaged .*; restore it from a copy"):
        _ = RunDirectory(run).quality
    (run / "checksums.json").unlink()
    with pytest.raises(CharlmError, match=r"quality.json is damaged .*; delete it"):
        _ = RunDirectory(run).quality


MEMORY = {"step": 8, "epoch": 1.0, "distances": [1, 2], "gradients": [[0.5, 0.25]], "contexts": [1], "losses": [3.0]}


@pytest.mark.parametrize(
    "change", [{"gradients": [[0.5]]}, {"losses": []}, {"gradients": 3}, {"distances": ["far", 2]}, {"step": None}]
)
def test_a_memory_record_of_the_wrong_shape_is_named(run: Path, change: dict[str, object]) -> None:
    (run / "memory.json").write_text(json.dumps(MEMORY | change))
    with pytest.raises(CharlmError, match=r"memory.json is damaged .*; delete it"):
        _ = RunDirectory(run).memory


@pytest.mark.parametrize("text", ["", "[]", '{"step": NaN}', "[" * 5_000])
def test_a_memory_record_that_is_none_is_named(run: Path, text: str) -> None:
    (run / "memory.json").write_text(text)
    with pytest.raises(CharlmError, match=r"memory.json is damaged .*; delete it"):
        _ = RunDirectory(run).memory


@pytest.mark.parametrize("name", ["metrics.csv", "samples.jsonl"])
def test_a_file_to_look_at_that_is_missing_or_no_file_is_said(run: Path, name: str) -> None:
    path = run / name
    directory = RunDirectory(run)
    path.write_bytes(path.read_bytes()[:-5])  # cut within its last line
    assert len(directory.metrics) + len(directory.samples) > 0
    assert "1 damaged" in directory.left_out.pop(name)
    path.unlink()
    assert [] in (directory.metrics, directory.samples)
    assert directory.left_out.pop(name) == f"{path} is missing, and left out"
    path.mkdir()
    assert [] in (directory.metrics, directory.samples)
    assert directory.left_out[name] == f"{path} is a directory, and left out"


def test_an_empty_table_is_said(run: Path) -> None:
    (run / "metrics.csv").write_text("")
    directory = RunDirectory(run)
    assert directory.metrics == []
    assert "metrics.csv" in directory.left_out


def test_references_that_are_missing_are_named(run: Path) -> None:
    RunDirectory(run).write_quality(references={}, left_out={})
    (run / "quality.json").unlink()
    with pytest.raises(CharlmError, match=r"quality.json is missing; restore it"):
        _ = RunDirectory(run).quality
