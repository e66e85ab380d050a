"""Text in other encodings than the one that is set: marks decide, and nothing is read silently as other text."""

import codecs
from pathlib import Path

import pytest

from charlm.config import DataConfig
from charlm.errors import CharlmError
from charlm.text import sources
from charlm.text.corpus import check_text, read_corpus
from charlm.text.encodings import likely_encoding

RUSSIAN = "Привет, как дела? Это обычный русский текст, написанный для проверки кодировки.\n" * 40
FRENCH = "Été à la plage, où l'élève français mange une pâtisserie. C'était très bien, naïve et garçon.\n" * 40
GERMAN = "Größe ändert schöne Füße über Österreich, daß er müßte – “so” nicht.\n" * 40
JAPANESE = "これは日本語の文章です。文字コードを調べるために書かれました。今日は天気がいい。\n" * 40
CHINESE = "这是一个中文文本，用来测试编码检测。今天天气很好，我们去公园。\n" * 40


def read(path: Path, data: bytes, encoding: str = "utf-8") -> tuple[str, list[str]]:
    """The text of a file and the notes about it."""
    path.write_bytes(data)
    config = DataConfig(text=(str(path),), encoding=encoding, val_fraction=0.0)
    corpus = read_corpus(config)
    return "".join(corpus.blocks("train")), corpus.notes


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    ("mark", "own"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: bytes, own: str, encoding: str, block: int
) -> None:
    monkeypatch.setattr(sources, "READ", max(block, 4))
    text, notes = read(tmp_path / "a.txt", mark + "aé中\U0001f600\nz".encode(own), encoding)
    assert text == "aé中\U0001f600\nz"
    told = [note for note in notes if "byte-order mark" in note]
    assert len(told) == (own != encoding)
    assert all(f"read as {own}" in note for note in told)


@pytest.mark.parametrize(
    ("text", "own", "named"),
    [
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (FRENCH, "latin-1", "cp1252"),
        (GERMAN, "cp1252", "cp1252"),
        (JAPANESE, "cp932", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (CHINESE, "gbk", "gb18030"),
    ],
)
def test_a_wrong_encoding_is_named_with_a_likely_one(tmp_path: Path, text: str, own: str, named: str) -> None:
    with pytest.raises(CharlmError, match=rf"a.txt is not utf-8: .* probably {named}: set `data.encoding` to {named}"):
        read(tmp_path / "a.txt", text.encode(own))
    assert read(tmp_path / "a.txt", text.encode(own), named) == (text, [])


@pytest.mark.parametrize("wide", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark_is_not_read_as_utf_8(tmp_path: Path, wide: str) -> None:
    with pytest.raises(CharlmError, match=f"a.txt is not utf-8: .* as in {wide}; set `data.encoding` to {wide}"):
        read(tmp_path / "a.txt", FRENCH.encode(wide))
    assert read(tmp_path / "a.txt", FRENCH.encode(wide), wide) == (FRENCH, [])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "cp437", "utf-16-le", "gb18030"])
def test_utf_8_is_not_read_as_something_else(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(CharlmError, match=r"a.txt is not .*set `data.encoding` to utf-8"):
        read(tmp_path / "a.txt", FRENCH.encode(), encoding)


def test_implausible_text_is_noted(tmp_path: Path) -> None:
    text, (note,) = read(tmp_path / "a.txt", b"ASCII first. " * 9000 + RUSSIAN.encode("cp1251"), "latin-1")
    assert note == f"warning: {tmp_path}/a.txt: read as iso8859-1, but it is probably cp1251 (data.encoding)"
    assert text.endswith(RUSSIAN.encode("cp1251").decode("latin-1"))


def test_a_few_bytes_prove_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", b"caf\xc3\xa9", "latin-1") == ("cafÃ©", [])
    assert read(tmp_path / "a.txt", b"a\0b") == ("a\0b", [])
    assert likely_encoding(b"") is None


def test_mistakes_are_found_before_anything_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(RUSSIAN.encode("cp1251"))
    with pytest.raises(CharlmError, match="probably cp1251"):
        check_text(DataConfig(text=(str(path),)))
    check_text(DataConfig(text=(str(path), "-"), encoding="cp1251"))
    check_text(DataConfig())
    with pytest.raises(CharlmError, match="there is no file"):
        check_text(DataConfig(text=(str(path),), encoding="cp1251", val=str(tmp_path / "none.txt")))
