"""What the README says is true: its code runs, its files extend charlm, its options exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import charlm
from charlm.config import CellsConfig, Config, EvaluateConfig, GenerateConfig, ReelConfig, ReportConfig
from charlm.config.settings import settings
from charlm.generation.processors import processors
from conftest import small_text

ROOT = Path(charlm.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_after(heading: str) -> str:
    """The first Python block after a heading."""
    match = re.search(r"```python\n(.*?)```", README.split(f"\n## {heading}\n")[1], re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package to which the README's cell and tokenizer are added, one file each."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "charlm", root / "charlm", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "charlm/network/cells/minimal.py").write_text(code_after("Add a cell"), encoding="utf-8")
    (root / "charlm/text/kinds/runs.py").write_text(code_after("Add a tokenizer"), encoding="utf-8")
    (root / "input.txt").write_text(small_text(2000), encoding="utf-8")
    return root


def run(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cell_and_a_tokenizer_are_added_by_one_file_each(extended: Path) -> None:
    settings = ["--model.cell", "minimal_gated", "--tokenizer.kind", "runs", "--trainer.max_epochs", "1"]
    settings += ["--model.hidden", "16", "--trainer.accelerator", "cpu", "--samples.length", "5"]
    run(extended, "-m", "charlm", "train", "input.txt", "--run", "run", *settings)
    text = run(extended, "-m", "charlm", "generate", "run", "--length", "10", "--seed", "1")
    assert text == run(extended, "-m", "charlm", "generate", "run", "--length", "10", "--seed", "1")
    assert "minimal_gated" in run(extended, "-m", "charlm", "train", "--help")


@pytest.mark.parametrize("name", ["network/test_cells.py", "network/test_recurrence.py", "text/test_tokenization.py"])
def test_the_suite_finds_them_by_itself(extended: Path, name: str) -> None:
    filters = ["-k", "minimal_gated or runs", "-n", "0"]
    shutil.copy(ROOT / "pyproject.toml", extended)
    shutil.copytree(
        ROOT / "tests", extended / "tests", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    assert re.search(r"\d+ passed", run(extended, "-m", "pytest", *filters, f"tests/{name}"))


def test_the_python_of_the_readme_runs(extended: Path) -> None:
    code = code_after("From Python").replace('"3m"', '"2s"')
    small = 'model={"cell": "gru", "hidden": 256}'
    assert small in code
    code = (
        code.replace(small, 'model={"cell": "gru", "hidden": 16}')
        .replace("ROMEO:", "The ")
        .replace("To be, or not to be", "The cat sat on the mat")
    )
    printed = re.search(r"(\d+\.\d+)$", run(extended, "-c", code).strip())  # behind the text on the same line
    assert printed
    assert float(printed[1]) > 0


def test_every_option_of_the_readme_exists() -> None:
    commands = (Config, GenerateConfig, EvaluateConfig, ReelConfig, ReportConfig, CellsConfig)
    known = {setting.name for command in commands for setting in settings(command)}
    known |= set(processors) | {"config", "run", "resume", "print_config"}
    others = {"extra-index-url", "logdir", "samples_per_plugin", "nproc_per_node", "help"}
    named = set(re.findall(r"--([a-z][\w.-]*\w)", README))
    assert named - known - others == set()
    assert len(named & known) > 20
