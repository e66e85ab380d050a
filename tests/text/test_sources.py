"""Finding and decoding files."""

import gzip
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from charlm.errors import CharlmError
from charlm.text import sources
from charlm.text.sources import Source, check_encoding, decoded, find


def read(place: object, encoding: str = "utf-8", pattern: str = "*.txt") -> str:
    return "".join(piece for source in find(str(place), pattern) for piece in decoded(source, encoding))


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_folder_is_read_at_any_depth_in_the_order_of_paths(tmp_path: Path) -> None:
    for name, data in {"b.txt": b"2", "a/z.txt": b"1", "c.md": b"-", "c/d/e.txt": b"3", ".git/f.txt": b"-"}.items():
        write(tmp_path / name, data)
    write(tmp_path / "z.txt.gz", gzip.compress(b"4"))
    assert read(tmp_path) == "1234"
    assert read(tmp_path, pattern="*.md") == "-"


def test_globs(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/er/c.txt"):
        write(tmp_path / name, name.encode())
    assert read(tmp_path / "*.txt") == "a.txtb.txt"
    assert read(tmp_path / "**" / "*.txt") == "a.txtb.txtdeep/er/c.txt"
    assert read(tmp_path / "[b]*") == "b.txt"


def test_a_name_that_looks_like_a_glob_is_a_name_first(tmp_path: Path) -> None:
    write(tmp_path / "a[1].txt", b"this")
    write(tmp_path / "a1.txt", b"not this")
    assert read(tmp_path / "a[1].txt") == "this"


def test_standard_input_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("naïve\r\n".encode())))
    (source,) = find("-", "*.txt")
    assert "".join(decoded(source, "utf-8")) == "".join(decoded(source, "utf-8")) == "naïve\r\n"
    assert source.name == "standard input"
    path = source.path
    del source
    assert not path.exists()


def test_a_pipe_can_be_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"once",))
    writer.start()
    (source,) = find(str(pipe), "*.txt")
    writer.join()
    assert "".join(decoded(source, "utf-8")) == "".join(decoded(source, "utf-8")) == "once"


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"\xef\xbb\xbfa\r\nb\rc\n", "utf-8", "a\r\nb\rc\n"),
        ("\ufeffaé".encode("utf-16-le"), "utf-16-le", "aé"),
        ("aé".encode("utf-16"), "utf-16", "aé"),
        (b"\xef\xbb\xbfa\xef\xbb\xbf", "utf-8", "a\ufeff"),
        (b"caf\xe9", "latin-1", "café"),
        (b"a\0b", "utf-8", "a\0b"),
        (b"", "utf-8", ""),
    ],
)
def test_decoding(tmp_path: Path, data: bytes, encoding: str, text: str) -> None:
    path = write(tmp_path / "a.txt", data)
    compressed = write(tmp_path / "a.txt.gz", gzip.compress(data))
    assert read(path, check_encoding(encoding)) == text
    assert read(compressed, check_encoding(encoding)) == text


def test_characters_cut_by_the_block_are_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "READ", 3)
    path = write(tmp_path / "a.txt", "\ufeffaé中\U0001f600z".encode())
    assert read(path) == "aé中\U0001f600z"


@pytest.mark.parametrize("block", [1, 2, 3, 4, 100])
@pytest.mark.parametrize(("data", "offset"), [(b"ab\xff", 2), ("é中".encode() + b"\xe4\xb8z", 5), (b"abc\xe4\xb8", 3)])
def test_the_offset_of_a_wrong_byte_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, data: bytes, offset: int
) -> None:
    monkeypatch.setattr(sources, "READ", block)
    path = write(tmp_path / "bad.txt", data)
    with pytest.raises(CharlmError, match=rf"bad.txt is not utf-8: the byte at offset {offset} .*`data.encoding`"):
        read(path)


def test_the_bytes_reported_are_the_decompressed_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(b"\xef\xbb\xbfabc"))
    reported: list[bytes] = []
    assert "".join(decoded(Source(path, "a.gz"), "utf-8", reported.append)) == "abc"
    assert b"".join(reported) == b"\xef\xbb\xbfabc"


def test_missing_things_are_named_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "shakespeare.txt", b"x")
    with pytest.raises(CharlmError, match=r"there is no file .*shakespear.txt; did you mean 'shakespeare.txt'\?"):
        find(str(tmp_path / "shakespear.txt"), "*.txt")
    with pytest.raises(CharlmError, match=r"the folder .* has no file \*.md; .*`data.pattern`"):
        find(str(tmp_path), "*.md")
    with pytest.raises(CharlmError, match=r"no file matches '.*\*.md'"):
        find(str(tmp_path / "*.md"), "*.txt")
    with pytest.raises(CharlmError, match="there is no encoding 'utf8x'; did you mean"):
        check_encoding("utf8x")
    with pytest.raises(CharlmError, match="there is no encoding 'hex'"):
        check_encoding("hex")
    with pytest.raises(CharlmError, match="there is no encoding 'punycode2'"):
        check_encoding("punycode2")


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(
        CharlmError, match=r"cannot copy standard input to .*: No space left on device; free some space"
    ):
        sources.spooled(io.BytesIO(b"x"), "standard input")


def test_a_damaged_gz_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(os.urandom(1000))
    for data in (whole[:500], b"not compressed at all", whole[:-8] + b"\0" * 8):
        path = write(tmp_path / "a.txt.gz", data)
        with pytest.raises(CharlmError, match=r"a.txt.gz is not a complete gzip file"):
            read(path, "latin-1")


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.txt", b"x")

    def refuse(*args: Any, **options: Any) -> None:  # the tests may run as root, whom no mode stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CharlmError, match=r"cannot read .*secret.txt: Permission denied"):
        read(path)


def test_a_folder_without_a_match_says_what_it_has(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c/d.md.gz", "c/e.csv", "LICENSE", ".git/x.txt"):
        write(tmp_path / name, b"x")
    with pytest.raises(
        CharlmError, match=r"has no file \*.txt; it has 3 .md, 1 .csv, 1 without an ending; set `data.pat"
    ):
        find(str(tmp_path), "*.txt")
    (tmp_path / "none").mkdir()
    with pytest.raises(CharlmError, match=r"has no file \*.txt; it has no files"):
        find(str(tmp_path / "none"), "*.txt")


def test_several_patterns(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt.gz", "c.csv"):
        write(tmp_path / name, gzip.compress(b"x") if name.endswith("gz") else b"x")
    assert [source.path.name for source in find(str(tmp_path), "*.txt, *.md")] == ["a.md", "b.txt.gz"]
