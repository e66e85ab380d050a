"""Where the cache is, and that unused entries are deleted."""

import os
import sys
import time
from pathlib import Path

import platformdirs
import pytest

from charlm.text import cache


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CHARLM_CACHE", "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/base")
    assert cache.directory() == Path("/named")
    monkeypatch.delenv("CHARLM_CACHE")
    assert cache.directory() == Path(platformdirs.user_cache_dir("charlm"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other places")
def test_where_it_is_on_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CHARLM_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/base")
    assert cache.directory() == Path("/base/charlm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == tmp_path / ".cache" / "charlm"


def test_what_was_unused_for_a_month_is_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path))
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.ids").write_text("x")
        (tmp_path / f"{name}.txt").write_text("x")
    old = time.time() - 31 * 86400
    for path in (tmp_path / "old", tmp_path / "old.txt", tmp_path / "new"):
        os.utime(path, (old, old))
    cache.touch(tmp_path / "new")
    cache.drop_unused()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.txt"]


def test_no_cache_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "missing"))
    cache.drop_unused()
    cache.touch(tmp_path / "missing" / "entry")
    assert not (tmp_path / "missing").exists()
