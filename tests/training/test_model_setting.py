"""A setting of the network is added by one field and its one use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

import charlm
from conftest import SMALL, small_text

ROOT = Path(charlm.__file__).parent.parent
FIELD = (
    "    zoneout: ",
    '    embedding_scale: NonNegativeNumber = setting(1.0, "initial scale of the embedding", role="starts weights")\n',
)
USE = ("nn.init.normal_(self.embedding.weight, std=1.0)", "std=1.0", "std=self.config.embedding_scale")


def command(root: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "charlm", *arguments],
        capture_output=True, text=True, cwd=root, timeout=200,
        env=os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which `ModelConfig` has one more field, and the network uses it once."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "charlm", root / "charlm", ignore=shutil.ignore_patterns("__pycache__"))
    definitions, model = root / "charlm/config/definitions.py", root / "charlm/network/model.py"
    before, line = FIELD
    source = definitions.read_text(encoding="utf-8")
    assert source.count(before) == 1
    definitions.write_text(source.replace(before, line + before), encoding="utf-8")
    place, old, new = USE
    source = model.read_text(encoding="utf-8")
    assert source.count(place) == 1
    model.write_text(source.replace(place, place.replace(old, new)), encoding="utf-8")
    (root / "input.txt").write_text(small_text(600), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """A run of three small steps with the new option."""
    command(root, "train", "input.txt", "--run", "run", *SMALL, "--optimizer.lr", "1e-5",
            "--model.embedding_scale", "0.001")  # fmt: skip
    return root / "run"


def test_it_is_an_option_is_used_and_is_saved(root: Path, run: Path) -> None:
    saved = json.loads((run / "model.json").read_text(encoding="utf-8"))
    assert saved["embedding_scale"] == 0.001
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["model"]["embedding_scale"] == 0.001
    assert np.abs(load_file(run / "last.safetensors")["embedding.weight"]).max() < 0.01
    assert len(command(root, "generate", "run", "--length", "5", "--seed", "1").rstrip("\n")) > 0


def test_it_is_in_the_help_and_in_yaml_and_is_checked(root: Path) -> None:
    assert "initial scale of the embedding" in command(root, "train", "--help")
    (root / "settings.yaml").write_text("model:\n  embedding_scale: 0.5\n", encoding="utf-8")
    printed = yaml.safe_load(command(root, "train", "--config", "settings.yaml", "--print_config"))
    assert printed["model"]["embedding_scale"] == 0.5
    failed = command(root, "train", "input.txt", "--model.embedding_scale", "-1", status=2)
    assert failed.splitlines()[-1].startswith("charlm: --model.embedding_scale must be at least 0, not -1")


def test_weights_that_are_trained_refuse_it(root: Path, run: Path) -> None:
    """What the role of the field says holds without another line."""
    failed = command(
        root, "train", "input.txt", "--run", "other", "--init_from", "run", "--model.embedding_scale", "2", status=2
    )
    assert "--model.embedding_scale sets how weights start, and those of run are trained" in failed
