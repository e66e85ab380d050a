"""A cell of a person's own file: every command that reads its run can import it, and names it where it is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SMALL, Charlm

CELL = '''
from charlm.network.cells import cells
from charlm.network.cells.gru import GRU


@cells.register("mine")
class Mine(GRU):
    """h = the GRU's, under another name."""
'''


@pytest.fixture
def trained(text: Path, tmp_path: Path) -> Path:
    (tmp_path / "my_cells.py").write_text(CELL)
    run = tmp_path / "run"
    arguments = ["train", text, "--import", "my_cells.py", "--run", run, "--model.cell", "mine", *SMALL]
    outside(tmp_path, *arguments)
    return run


def outside(folder: Path, *arguments: object) -> str:
    """A command in a process of its own, so that what it registers stays there."""
    words = [sys.executable, "-m", "charlm", *map(str, arguments)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_that_read_a_run_import_its_cell(trained: Path, tmp_path: Path) -> None:
    given = ["--import=my_cells.py", "--length", "5", "--seed", "1"]
    assert outside(tmp_path, "generate", trained, *given)
    assert outside(tmp_path, "report", "--import", "my_cells.py", trained)


def test_a_cell_that_is_not_imported_is_named_as_missing(trained: Path, charlm: Charlm) -> None:
    """Before, model.json was called damaged and the advice was to train again."""
    for command in ("generate", "report", "evaluate"):
        mistake = charlm(command, trained).mistake
        assert "has the cell 'mine', which is not part of charlm; name the Python file" in mistake
        assert "--import" in mistake
        assert "damaged" not in mistake


def test_a_file_that_is_missing_or_fails(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    assert "there is no such file" in charlm("generate", "--import", "none.py", tiny_run).mistake
    (tmp_path / "wrong.py").write_text("1 / 0")
    assert "fails: ZeroDivisionError" in charlm("generate", tiny_run, "--import", "wrong.py").mistake
