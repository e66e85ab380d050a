"""Every command as a person types it: help, names that there are not, and runs that cannot be used."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from charlm.cli import COMMANDS
from charlm.config import CellsConfig, Config, EvaluateConfig, GenerateConfig, ReelConfig, ReportConfig
from charlm.config.settings import settings
from charlm.generation.processors import processors
from charlm.run import Run
from conftest import Charlm


def test_an_unknown_command(charlm: Charlm) -> None:
    assert charlm("trian").mistake == (
        "there is no command 'trian'; choose from train, generate, evaluate, samples, cells, report; "
        "did you mean 'train'?"
    )


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "charlm", "trian"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("charlm: there is no command 'trian'")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", Config),
        ("generate", GenerateConfig),
        ("evaluate", EvaluateConfig),
        ("samples", ReelConfig),
        ("cells", CellsConfig),
        ("report", ReportConfig),
    ],
)
def test_help_names_every_option(charlm: Charlm, command: str, options: type) -> None:
    done = charlm(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: charlm {command}")
    expected = {setting.name for setting in settings(options)} - {"data.text"}
    expected |= set(processors) if command == "generate" else set()
    assert expected <= set(re.findall(r"--([\w.]+)", done.out))


def test_the_overview_names_every_command(charlm: Charlm) -> None:
    assert charlm().out == charlm("--help").out
    assert re.findall(r"^  (\w+)  +\w", charlm("--help").out, re.MULTILINE)[: len(COMMANDS)] == list(COMMANDS)


READING = (["generate"], ["evaluate"], ["samples"], ["report"], ["train", "--resume"])


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_what_is_no_run(charlm: Charlm, text: Path, tmp_path: Path, command: list[str]) -> None:
    assert charlm(*command, "nowhere").mistake == "there is no run at nowhere; `ls runs` shows what there is"
    assert "(it is a file)" in charlm(*command, text).mistake
    assert "is not a run: it has no config.yaml" in charlm(*command, tmp_path).mistake


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("name", ["model.json", "tokenizer.json"])
def test_a_half_written_run(charlm: Charlm, run: Path, command: list[str], name: str) -> None:
    (run / name).unlink()
    assert charlm(*command, run).mistake == (
        f"the run {run} is half-written: it has no {name}; delete it and train again"
    )


@pytest.mark.parametrize("command", [["generate"], ["evaluate"]], ids=" ".join)
def test_a_run_without_weights(charlm: Charlm, run: Path, command: list[str]) -> None:
    (run / "model.safetensors").unlink()
    assert charlm(*command, run).mistake == (
        f"the run {run} has no weights yet (model.safetensors); go on with charlm train --resume {run}"
    )


GARBAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "noise": lambda data: bytes(range(256)) * 4,
    "another": lambda data: b'["something", "else"]',
}


@pytest.mark.parametrize("damage", GARBAGE)
@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("config.yaml", [["train", "--resume"]]),
        ("model.json", [["generate"], ["evaluate"], ["train", "--resume"]]),
        ("tokenizer.json", [["generate"], ["train", "--resume"]]),
        ("model.safetensors", [["generate"], ["evaluate"], ["train", "SMALL", "--init_from"]]),
        ("checkpoints/last.ckpt", [["train", "--resume"]]),
        ("tokens/train.npy", [["train", "--trainer.max_epochs", "3", "--resume"]]),
        ("tokens/val.npy", [["evaluate"]]),
        ("tokens/streams.json", [["evaluate"], ["train", "--trainer.max_epochs", "3", "--resume"]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_is_named(
    charlm: Charlm, run: Path, text: Path, name: str, commands: list[list[str]], damage: str
) -> None:
    path = run / name
    data = GARBAGE[damage](path.read_bytes())
    path.unlink()  # tokens are links into the cache
    path.write_bytes(data)
    if name == "config.yaml" and damage == "truncated":
        data = data[: data.index(b"hidden:") + 4]
        path.write_bytes(data)
    for command in commands:
        spelled = [str(text) if part == "SMALL" else part for part in command]
        mistake = charlm(*spelled, run).mistake
        assert re.search("damaged|missing|must be|must hold|there is no setting", mistake)
        assert path.name in mistake or name.startswith("tokens")


def test_weights_of_another_network(charlm: Charlm, run: Path) -> None:
    shape = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(shape | {"hidden": shape["hidden"] + 1}))
    for command in (["generate", run], ["evaluate", run]):
        assert f"the weights of {run} do not fit its model.json" in charlm(*command).mistake


class Trap:
    """What a pickle of it does when it is read carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_a_checkpoint_is_read_without_running_what_it_holds(charlm: Charlm, run: Path) -> None:
    torch.save({"state_dict": {}, "global_step": Trap(), "language": {}}, run / "checkpoints" / "last.ckpt")
    mistake = charlm("train", "--resume", run).mistake
    assert "last.ckpt is damaged" in mistake
    (run / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(Trap()))
    assert "last.ckpt is damaged" in charlm("train", "--resume", run).mistake
    assert not Path("sprung").exists()


def test_last_lines_cut_off_by_a_kill_are_left_out(charlm: Charlm, run: Path) -> None:
    whole = charlm("samples", run).out
    with (run / "samples.jsonl").open("ab") as file:
        file.write('{"epoch": 3, "text": "海'.encode()[:-1])
    with (run / "metrics.csv").open("ab") as file:
        file.write(b"99,3.0,1.")
    assert charlm("samples", run).out == whole
    assert charlm("train", "--resume", run, "--trainer.max_epochs", "3").status == 0
    assert [sample.epoch for sample in Run(run).samples if sample.epoch % 1 == 0] == [0, 1, 2, 3]
    assert "99,3.0" not in (run / "metrics.csv").read_text()
