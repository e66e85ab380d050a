"""How the processes of one training find the directory that the first of them prepares."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from pathlib import Path

import pytest
from lightning.fabric.strategies.launchers import subprocess_script

import charlm
from charlm.errors import CharlmError
from charlm.training.processes import (
    RANK_VARIABLES,
    RUN_VARIABLE,
    announced,
    is_first_process,
    prepared_directory,
    watching,
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher has started this process."""
    for name in (RUN_VARIABLE, *RANK_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", RANK_VARIABLES)
def test_the_first_process_has_the_number_zero_or_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first_process()
    for value, first in (("0", True), ("", True), ("1", False)):
        monkeypatch.setenv(name, value)
        assert is_first_process() is first


def test_a_directory_is_announced_to_the_processes_that_start_meanwhile(tiny_run: Path) -> None:
    with announced(tiny_run):
        assert os.environ[RUN_VARIABLE] == str(tiny_run)
        assert prepared_directory(None, pytest.fail) == tiny_run
        with pytest.raises(CharlmError, match="has not prepared elsewhere"):  # what a command names comes first
            prepared_directory("elsewhere", lambda line: None, 0.0)
    assert RUN_VARIABLE not in os.environ
    with pytest.raises(CharlmError, match="several processes started by a launcher, name the directory with `run`"):
        prepared_directory(None, pytest.fail)


def test_waiting_is_said_once_and_ends_when_the_directory_is_complete(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "run"

    def complete() -> None:
        path.mkdir()
        time.sleep(0.3)  # a directory that is still empty is not complete
        (path / "config.yaml").touch()

    first = threading.Timer(0.3, complete)
    first.start()
    assert prepared_directory(path, said.append, 30.0) == path
    first.join()
    assert said == [f"waiting for the first process to prepare {path}"]


def test_waiting_has_a_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    said: list[str] = []
    with pytest.raises(CharlmError, match=r"has not prepared .*run within 0 s; see what it printed, or prepare") as end:
        prepared_directory(tmp_path / "run", said.append, 0.05)
    assert "\n" not in str(end.value)
    assert time.monotonic() - began < 5
    assert len(said) == 1


def test_training_asks_the_environment_in_one_place() -> None:
    folder = Path(charlm.__file__).parent
    modules = [*(folder / "training").rglob("*.py"), folder / "run.py", folder / "run_directory.py"]
    asking = {path.name for path in modules if "environ" in path.read_text(encoding="utf-8").replace("environment", "")}
    assert len(modules) > 10
    assert asking == {"processes.py"}
    assert "getenv" not in "".join(path.read_text(encoding="utf-8") for path in modules)


def test_what_lightning_says_before_it_kills_this_process_is_passed_on() -> None:
    told: list[str] = []
    name = "lightning.fabric.strategies.launchers.subprocess_script"
    with watching(lambda: told.append("lost")):
        logging.getLogger(name).info("Child process with PID 7 terminated with code -9. Forcefully terminating")
        logging.getLogger(name).info("something else")
    logging.getLogger(name).debug("Child process with PID 7 terminated with code -9.")
    assert told == ["lost"]


def test_lightning_still_has_that_logger_and_those_words() -> None:
    source = inspect.getsource(subprocess_script)
    assert subprocess_script._logger.name == "lightning.fabric.strategies.launchers.subprocess_script"
    assert "terminated with code" in source
