"""A column of a table as a text."""

import gzip
import json
import re
from pathlib import Path

import pytest

from charlm.config import DataConfig
from charlm.errors import CharlmError
from charlm.text import sources
from charlm.text.corpus import Corpus, read_corpus

CSV = 'id,text\n1,"one, two"\n2,"a ""b""\r\nsecond line\n\nthird"\n3,\n4,last\n'
ROWS = ["one, two", 'a "b"\nsecond line\n\nthird', "last"]


def table(path: Path, data: str, column: str = "text", **settings: object) -> Corpus:
    path.write_bytes(data.encode())
    return read_corpus(DataConfig(text=(str(path),), column=column, val_fraction=0.0, **settings))  # type: ignore[arg-type]


TSV = re.sub(r"^(\w+),", r"\1\t", CSV, flags=re.MULTILINE)
SEMICOLONS = re.sub(r"^(\w+),", r"\1;", CSV, flags=re.MULTILINE)
VALUES = ["one, two", 'a "b"\r\nsecond line\n\nthird', None, "", "last"]
JSONL = "".join(json.dumps({"id": 1, "text": value}) + "\n" for value in VALUES)


@pytest.mark.parametrize(("name", "data"), [("a.csv", CSV), ("a.csv", SEMICOLONS), ("a.tsv", TSV), ("a.jsonl", JSONL)])
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_rows_become_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: str, block: int) -> None:
    monkeypatch.setattr(sources, "READ", max(4, block))
    assert list(table(tmp_path / name, data, unit="document").items("train")) == ROWS
    assert "".join(table(tmp_path / name, data).blocks("train")) == "".join(row + "\n" for row in ROWS)
    lines = list(table(tmp_path / name, data, unit="line").items("train"))
    assert lines == ["one, two", 'a "b" second line  third', "last"]
    kept = list(table(tmp_path / name, data, unit="document", newlines="keep").items("train"))
    assert kept[1] == 'a "b"\r\nsecond line\n\nthird'


def test_a_compressed_table_and_another_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    corpus = read_corpus(DataConfig(text=(str(tmp_path),), pattern="*.tsv, *.csv", column="id", val_fraction=0.0))
    assert "".join(corpus.blocks("train")) == "1\n2\n3\n4\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CSV, r"a.csv has no column 'txt'; did you mean 'text'\?; set `data.column` to one that it has \(id, text\)"),
        ('{"text": "x"}\n{"body": "y"}\n', r"has no column 'txt'; did you mean 'text'"),
        ('{"txt": "x"}\n{"txt": 5}\n', "line 2 has no text under 'txt'"),
        ('{"txt": "x"}\n[1]\n', "line 2 is not an object"),
        ('{"txt": "x"}\n\n{"tx', "line 3 is not JSON"),
        ("", "has no column 'txt'"),
        (f"{'x' * 1000},b\n", r"x{200}\.\.\."),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        table(tmp_path / "a.csv", data, "txt")


def test_a_row_longer_than_a_page_is_read(tmp_path: Path) -> None:
    row = "word " * 40_000 + "end"
    assert list(table(tmp_path / "a.csv", f"text\n{row}\n", unit="document").items("train")) == [row]
