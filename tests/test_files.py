from __future__ import annotations

import os
from pathlib import Path

import pytest

from charlm.files import atomic, link


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


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic(tmp_path / "a") as file:
            file.write("x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


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
