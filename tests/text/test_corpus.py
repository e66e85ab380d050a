"""Splits: their sizes, their borders, and that nothing is lost between them."""

import gzip
from pathlib import Path

import pytest

from charlm.config import DataConfig
from charlm.errors import CharlmError
from charlm.text import items, sources
from charlm.text.corpus import SPLITS, Corpus, read_corpus


def corpus_of(folder: Path, text: str, **settings: object) -> Corpus:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return read_corpus(DataConfig(text=(str(path),), **settings))  # type: ignore[arg-type]


def texts(corpus: Corpus) -> list[str]:
    return ["".join(corpus.blocks(split)) for split in SPLITS]


@pytest.mark.parametrize(
    ("val", "test", "cuts"),
    [(0.1, 0.0, (9, 10)), (0.1, 0.1, (8, 9)), (0.8, 0.1, (1, 9)), (0.0, 0.0, (10, 10)), (0.0, 0.3, (7, 7))],
)
def test_a_stream_is_cut_by_position(tmp_path: Path, val: float, test: float, cuts: tuple[int, int]) -> None:
    for text in ("012345678é", "é中\r\n\n\U0001f600xyzA" * 200_000):
        first, second = (cut * len(text) // 10 for cut in cuts)
        corpus = corpus_of(tmp_path, text, val_fraction=val, test_fraction=test, newlines="keep")
        assert texts(corpus) == [text[:first], text[first:second], text[second:]]
        assert list(corpus.characters.values()) == [first, second - first, len(text) - second]


def test_the_usual_cut_is_that_of_the_floating_point_product(tmp_path: Path) -> None:
    for length in range(50, 80):
        assert corpus_of(tmp_path, "x" * length).characters["train"] == int(0.9 * length)


def test_blocks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items.blocks, "__defaults__", (items.LONGEST_LINE,))
    text = "line\n" * 10_000
    corpus = corpus_of(tmp_path, text, val_fraction=0.0)
    cut = list(corpus.blocks("train"))
    assert "".join(cut) == text
    assert max(map(len, cut)) <= items.LONGEST_LINE
    assert all(block.endswith("\n") for block in cut)


def test_lines_are_assigned_at_random_but_always_the_same(tmp_path: Path) -> None:
    names = [f"name{i}" for i in range(1000)]
    corpus = corpus_of(tmp_path, "\n".join(names), unit="line", val_fraction=0.2, test_fraction=0.1)
    parts = [list(corpus.items(split)) for split in SPLITS]
    assert [len(part) for part in parts] == [700, 200, 100]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(part == sorted(part, key=names.index) for part in parts)  # in the order of the text
    assert parts[1] != names[700:900]
    again = corpus_of(tmp_path, "\n".join(names), unit="line", val_fraction=0.2, test_fraction=0.1)
    assert [list(again.items(split)) for split in SPLITS] == parts
    assert "".join(corpus.blocks("val")) == "".join(name + "\n" for name in parts[1])
    assert corpus.characters["val"] == sum(len(name) + 1 for name in parts[1])


def test_a_document_belongs_where_it_begins(tmp_path: Path) -> None:
    # With separators: 12 + 5 + 6 characters, of which int(0.6 * 23) = 13 are for training.
    corpus = corpus_of(tmp_path, "first\nsong\n\n\nabc\n\nlast\n", unit="document", val_fraction=0.4)
    assert [list(corpus.items(split)) for split in SPLITS] == [["first\nsong", "abc"], ["last"], []]
    assert corpus.characters == {"train": 17, "val": 6, "test": 0}


def test_validation_and_test_texts_replace_the_fractions(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("validation")
    with gzip.open(tmp_path / "test.txt.gz", "wb") as file:
        file.write(b"test")
    corpus = corpus_of(tmp_path, "x" * 100, val=str(tmp_path / "val.txt"))
    assert texts(corpus) == ["x" * 100, "validation", ""]
    assert corpus.description == "2 files, 110 characters"
    corpus = corpus_of(tmp_path, "x" * 100, test=str(tmp_path / "test.txt.gz"))
    assert texts(corpus) == ["x" * 90, "x" * 10, "test"]


def test_sources_are_joined_in_the_order_given(tmp_path: Path) -> None:
    paths = []
    for name in ("b", "a"):
        path = tmp_path / f"{name}.txt"
        path.write_bytes(f"\ufeff{name}1\r\n{name}2".encode())
        paths.append(str(path))
    stream = read_corpus(DataConfig(text=tuple(paths), val_fraction=0.0))
    assert texts(stream)[0] == "b1\nb2a1\na2"
    lines = read_corpus(DataConfig(text=tuple(paths), val_fraction=0.0, unit="line"))
    assert list(lines.items("train")) == ["b1", "b2", "a1", "a2"]


def test_the_fingerprint_is_of_content_and_cut(tmp_path: Path) -> None:
    prints = [
        corpus_of(tmp_path, "abc" * 30).fingerprint,
        corpus_of(tmp_path, "abd" * 30).fingerprint,
        corpus_of(tmp_path, "abc" * 30, val_fraction=0.2).fingerprint,
        corpus_of(tmp_path, "abc" * 30, unit="line", val_fraction=0).fingerprint,
        corpus_of(tmp_path, "abc" * 30, encoding="latin-1").fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    (tmp_path / "elsewhere").mkdir()
    assert corpus_of(tmp_path / "elsewhere", "abc" * 30).fingerprint == prints[0]


def test_reading_reports_its_progress(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 2_500_000)
    read_corpus(DataConfig(text=(str(path),)), lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {"reading"}
    assert [done for _, done, _ in told] == [1 << 20, 2 << 20, 2_500_000, 2_500_000]
    assert {total for _, _, total in told} == {2_500_000}


@pytest.mark.parametrize("unit", ["stream", "line", "document"])
def test_an_empty_text_is_refused(tmp_path: Path, unit: str) -> None:
    with pytest.raises(CharlmError, match=r"the text is empty \(.*text.txt\)"):
        corpus_of(tmp_path, "" if unit == "stream" else " \n\n", unit=unit)
    (tmp_path / "val.txt").write_text("")
    with pytest.raises(CharlmError, match=r"the val text is empty \(.*val.txt\)"):
        corpus_of(tmp_path, "abc\n\n", unit=unit, val=str(tmp_path / "val.txt"))


def test_a_text_too_short_to_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match=r"nothing is left to train on; .* lower `data.val_fraction`"):
        corpus_of(tmp_path, "one line\n", unit="line")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match="no split 'valid'; choose from train, val, test; did you mean 'val'"):
        list(corpus_of(tmp_path, "abc").blocks("valid"))


@pytest.mark.parametrize("block", [4, 5, 1 << 20])
@pytest.mark.parametrize("end", ["", "\r", "\r\n"])
def test_the_line_ends_of_windows_become_lf_unless_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    monkeypatch.setattr(sources, "READ", block)
    text = "one\r\n\r\ntwo\rthree\r\r\nfour" + end
    corpus = corpus_of(tmp_path, text, val_fraction=0.0)
    assert texts(corpus)[0] == text.replace("\r\n", "\n")
    assert corpus.characters["train"] == len(text.replace("\r\n", "\n"))
    assert corpus.notes == [f"{tmp_path}/text.txt: CR LF line ends become LF (data.newlines keep: they stay)"]
    kept = corpus_of(tmp_path, text, val_fraction=0.0, newlines="keep")
    assert texts(kept)[0] == text
    assert kept.notes == []
    assert kept.fingerprint != corpus.fingerprint
    assert corpus_of(tmp_path, "one\ntwo\rthree\n").notes == []


def test_line_ends_of_many_files_are_said_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_bytes(b"one\r\ntwo\r\n")
    corpus = read_corpus(DataConfig(text=(str(tmp_path),), val_fraction=0.0))
    assert corpus.notes == [f"{tmp_path}/a.txt and 2 more: CR LF line ends become LF (data.newlines keep: they stay)"]
