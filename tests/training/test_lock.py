"""A run is trained by one process at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.errors import CharlmError
from charlm.training.lock import LOCK, locked

HOLD = "import sys; from pathlib import Path; from charlm.training.lock import locked\nwith locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"  # noqa: E501


def holder(run: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(CharlmError) as refused, locked(tmp_path):
        pass
    message = str(refused.value)
    assert f"is being trained by process {process.pid} on {socket.gethostname()} since 2" in message
    assert "\n" not in message
    process.communicate()
    assert process.returncode == 0
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert (tmp_path / LOCK).read_bytes() == b""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert str(process.pid) in (tmp_path / LOCK).read_text()
    with locked(tmp_path):
        pass


def test_a_program_that_the_holder_starts_does_not_keep_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    with locked(tmp_path):
        pass
    child.communicate()


def test_two_trainings_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(CharlmError, match=f"process {os.getpid()} on"), locked(tmp_path):
        pass


def test_other_processes_of_the_same_training_do_not_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with locked(tmp_path):
            pass


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(CharlmError, match=r"\.lock is not a file \(.*delete it"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize(("make", "what"), [(os.mkfifo, "a FIFO"), (os.mkdir, "a directory")])
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    make(tmp_path / LOCK)
    with pytest.raises(CharlmError, match=rf"\.lock is {what} and not a file; delete it"), locked(tmp_path):
        pass
