"""Files are replaced atomically, with ordinary permissions, and nothing is left of a failure."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from charlm.errors import CharlmError
from charlm.files import (
    READ,
    atomic,
    checksum,
    describe_os_error,
    drop_leftovers,
    link,
    new_directory,
    output,
    temporary_path,
)


def test_the_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic(path) as file:
        file.write("é\r\n")
        assert not path.exists()
    assert path.read_bytes() == "é\r\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic(path, "wb") as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        with atomic(tmp_path / "a") as file:
            file.write("x")
        (tmp_path / "b").touch()
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_the_umask_of_the_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", None)  # other threads create files in the meantime
    with atomic(tmp_path / "a") as file:
        file.write("x")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "missing" / "a"):
        raise AssertionError


def test_data_is_on_the_disk_before_the_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def record(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return original(*arguments)

        monkeypatch.setattr(owner, name, call)

    record(os, "fsync")
    record(Path, "replace")
    with atomic(tmp_path / "a") as file:
        file.write("x")
    assert calls == ["fsync", "replace"]
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a"), "the disk is full; free some space"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a"),
            "cannot use a: Permission denied; choose another place or change its permissions",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), None),
    ],
)
def test_what_a_user_can_do_about_an_error(error: OSError, words: str | None) -> None:
    assert describe_os_error(error) == words


@pytest.mark.parametrize("possible", [True, False])
def test_a_second_name_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, possible: bool) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    if not possible:

        def refuse(*names: object) -> None:
            raise OSError

        monkeypatch.setattr(os, "link", refuse)
    link(source, target)
    assert target.read_bytes() == b"new"
    assert target.samefile(source) == possible
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, text in (("file", "old"), ("missing", None)):
        target, path = tmp_path / "folder" / name, tmp_path / name
        if text is not None:
            target.write_text(text)
        path.symlink_to(target)
        with atomic(path) as file:
            file.write("new")
        assert path.is_symlink()
        assert target.read_text() == "new"
    assert sorted(os.listdir(tmp_path / "folder")) == ["file", "missing"]


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


@pytest.mark.parametrize(("make", "what"), [(os.mkdir, "a directory"), (os.mkfifo, "a FIFO"), (socket_at, "a socket")])
def test_only_regular_files_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, what: str) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("it"))
    kind_before = Path("it").lstat().st_mode
    for write in (atomic, output) if what != "a FIFO" else (atomic,):
        with pytest.raises(CharlmError, match=f"cannot write it: it is {what}; name a file"), write(Path("it")):
            raise AssertionError
    with pytest.raises(CharlmError, match=f"it is {what}"):
        link(Path("file"), Path("it"))
    assert Path("it").lstat().st_mode == kind_before
    assert os.listdir() == ["it"]


def test_output_to_a_device_or_a_fifo_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, text=True)
    for target in (path, Path(os.devnull)):
        before = target.stat().st_mode
        with output(target) as file:
            file.write("a page")
        assert target.stat().st_mode == before
    assert read.communicate()[0] == "a page"


def test_leftovers_of_killed_processes_go_and_others_stay(tmp_path: Path) -> None:
    code = (
        "import sys; from charlm.files import temporary_path; from pathlib import Path; "
        "temporary_path(Path(sys.argv[1])).touch()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a [1].txt")], check=True)
    ours = temporary_path(tmp_path / "a")
    ours.touch()
    for name in (".a.tmp", ".hidden", "a.txt", ".a.00000000-1-aa.tmp"):
        (tmp_path / name).touch()
    drop_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([ours.name, ".a.tmp", ".hidden", "a.txt", ".a.00000000-1-aa.tmp"])
    drop_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("size", [0, 5, READ, READ + 5])
def test_a_checksum_covers_the_whole_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size - 1) + b"x" if size else b"")
    assert checksum(path) == zlib.crc32(path.read_bytes())


def test_a_new_directory_is_there_when_its_block_ends_without_an_error(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with new_directory(target) as partial:
        (partial / "file").write_text("x")
        assert not target.exists()
        assert partial.parent == target.parent
    assert [path.name for path in target.iterdir()] == ["file"]
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "other") as partial:
        (partial / "file").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
