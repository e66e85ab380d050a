"""The corpus that needs no download."""

import re
import sys
from pathlib import Path

import pytest

from charlm.config import DataConfig
from charlm.text import builtin
from charlm.text.corpus import read_corpus


@pytest.fixture(scope="module")
def text() -> str:
    return builtin.make().decode()


def test_it_is_large_and_mostly_english(text: str) -> None:
    assert len(text) > 1_000_000
    words = re.findall(r"[a-z]+", text.lower())
    common = {"the", "a", "of", "to", "is", "and", "in", "if", "for", "be"}
    assert sum(word in common for word in words) > 0.2 * len(words)
    assert ">>>" not in text
    assert "\n\n\n" not in text


def test_it_is_kept_and_a_damaged_copy_is_not_trusted(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builtin, "make", lambda: text.encode())
    assert builtin.source().path.read_text(encoding="utf-8") == text
    monkeypatch.setattr(builtin, "make", lambda: b"made anew")
    source = builtin.source()
    assert source.path.read_text(encoding="utf-8") == text
    source.path.write_bytes(text.encode()[:-1])
    assert builtin.source().path.read_bytes() == b"made anew"


def test_it_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(builtin, "make", lambda: b"some text of Python\n")
    corpus = read_corpus(DataConfig(val_fraction=0.0))
    assert list(corpus.blocks("train")) == ["some text of Python\n"]
    assert corpus.description == "the built-in corpus (the documentation inside Python), 20 characters"


def test_examples_and_columns_are_left_out() -> None:
    prose = "Return the sum of all.  Two blanks\nend a sentence."
    others = ["    >>> print(sum(range(9)))\n    36", "name    what it means to us", "see a", "f(x) = {y[z] + 1} - 2"]
    assert builtin._tidied("\n\n".join([prose, *others])) == prose


def test_sources_are_read_and_never_imported(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "a.py").write_text('"""What this module is for."""\nraise SystemExit\n')
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "test" / "b.py").write_text('"""Not this one, it is a test."""\n')
    assert list(builtin._docstrings(tmp_path)) == [("module a.py", "What this module is for.")]
    assert "a" not in sys.modules
