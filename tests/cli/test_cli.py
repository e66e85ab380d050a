"""Every command as a person types it: help, names that there are not, and runs that cannot be used."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from charlm.cli import GROUPS
from charlm.cli.cells import CellsOptions
from charlm.cli.doctor import DoctorOptions
from charlm.cli.evaluate import EvaluateOptions
from charlm.cli.generate import GenerateOptions
from charlm.cli.report import ReportOptions
from charlm.cli.samples import SamplesOptions
from charlm.config import Config, settings
from charlm.generation.processors import processors
from charlm.run import Run
from conftest import Charlm

COMMANDS = [name for names in GROUPS.values() for name in names]


def test_an_unknown_command(charlm: Charlm) -> None:
    assert charlm("trian").mistake == (
        "there is no command 'trian'; choose from train, race, sweep, generate, play, fill, evaluate, score, "
        "attribute, doctor, samples, report, cells, presets; did you mean 'train'?"
    )


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "charlm", "trian"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("charlm: there is no command 'trian'")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", Config),
        ("generate", GenerateOptions),
        ("evaluate", EvaluateOptions),
        ("doctor", DoctorOptions),
        ("samples", SamplesOptions),
        ("cells", CellsOptions),
        ("report", ReportOptions),
    ],
)
def test_help_names_every_option(charlm: Charlm, command: str, options: type) -> None:
    done = charlm(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: charlm {command}")
    expected = {setting.name for setting in settings(options)}
    expected |= set(processors) if command == "generate" else set()
    assert expected <= set(re.findall(r"--([\w.]+)", done.out))


def test_the_overview_names_every_command(charlm: Charlm) -> None:
    assert charlm().out == charlm("--help").out
    assert set(COMMANDS) <= set(re.findall(r"^ +(\w+)  +\w", charlm("--help").out, re.MULTILINE))


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", ".bash_completion.d/charlm"), ("zsh", "_charlm"), ("fish", "charlm.fish")]
)
def test_completion_is_installed_for_a_shell(
    charlm: Charlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, file: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert charlm("--install-completion", "--shell", shell).status == 0
    (script,) = [path for path in tmp_path.rglob("*") if path.is_file() and "charlm" in path.name]
    assert "generate" in script.read_text(encoding="utf-8")


READING = (["generate"], ["evaluate"], ["samples"], ["report"], ["train", "--resume"])


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_what_is_no_run(charlm: Charlm, text: Path, tmp_path: Path, command: list[str]) -> None:
    assert (
        charlm(*command, "nowhere").mistake
        == "there is no run at nowhere; name the directory of a training, such as runs/plays"
    )
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
        ("tokens/train.ids", [["train", "--trainer.max_epochs", "3", "--resume"]]),
        ("tokens/val.ids", [["evaluate"]]),
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
    (run / "checksums.json").unlink()
    model = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(model | {"hidden": model["hidden"] + 1}))
    for command in (["generate", run], ["evaluate", run]):
        assert f"the weights of {run} do not fit its model.json" in charlm(*command).mistake


class Trap:
    """What a pickle of it does when it is read carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_a_checkpoint_is_read_without_running_what_it_holds(charlm: Charlm, run: Path) -> None:
    (run / "checksums.json").unlink()  # with it the checkpoint is not even read
    torch.save({"state_dict": {}, "global_step": Trap(), "charlm": {}}, run / "checkpoints" / "last.ckpt")
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


def broken(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """Puts a wrong value under a name of what charlm keeps in a checkpoint."""
    return lambda checkpoint: checkpoint["charlm"].update({name: value})


@pytest.mark.parametrize(
    "damage",
    [
        broken("progress", {}), broken("progress", "x"), broken("state", 3), broken("state", torch.zeros(2, 2)),
        broken("random", {}), broken("random", {"cpu": [torch.zeros(3)]}), broken("losses", "x"),
        lambda checkpoint: checkpoint["charlm"]["progress"].update(step="x"),
        lambda checkpoint: checkpoint.update(state_dict=None),
        lambda checkpoint: checkpoint.update(state_dict={"a": 3}),
        lambda checkpoint: checkpoint["state_dict"].popitem(), lambda checkpoint: checkpoint.pop("optimizer_states"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_wrong_values_is_named(
    charlm: Charlm, run: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    (run / "checksums.json").unlink()
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, path)
    done = charlm("train", "--resume", run, "--trainer.max_epochs", "3")
    assert done.status == 2, done.err
    *_, last = done.err.splitlines()
    assert "last.ckpt does not fit this run" in last or "do not fit its model.json" in last
    assert "Traceback" not in done.err
