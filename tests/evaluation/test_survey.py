"""The survey of files: counts and places, against a plain reading character by character."""

from __future__ import annotations

import codecs
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import DataConfig
from charlm.evaluation import survey as module
from charlm.evaluation.survey import RARE, Place, character_name, find_passages, survey
from charlm.text.corpus import Corpus, read_corpus


def corpus(*paths: Path, **more: Any) -> Corpus:
    return read_corpus(DataConfig(text=tuple(map(str, paths)), val_fraction=0.0, **more))


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def plain(texts: dict[str, str]) -> tuple[Counter[str], dict[str, list[Place]], int]:
    """How often each character occurs, the places of each, and the length of the longest line."""
    counts: Counter[str] = Counter()
    places: dict[str, list[Place]] = {}
    longest = 0
    for name, text in texts.items():
        line, column = 1, 1
        for character in text:
            counts[character] += 1
            places.setdefault(character, []).append(Place(name, line, column))
            line, column = (line + 1, 1) if character == "\n" else (line, column + 1)
        longest = max([longest, *map(len, text.split("\n"))])
    return counts, places, longest


@pytest.mark.parametrize("block", [1 << 14, 1 << 20])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_it_counts_and_finds_what_a_plain_reading_does(
    tmp_path_factory: pytest.TempPathFactory, block: int, seed: int
) -> None:
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("survey")
    texts = {}
    for name in ("a.txt", "b.txt"):
        letters = "ab \n\r\téя中\x0c" if draw.random() < 0.5 else "abc d"
        text = "".join(draw.choices(letters, k=draw.choice([1, 30, 20_000])))
        texts[str(written(folder / name, text))] = text
    found_before, module.BLOCK = module.BLOCK, block
    try:
        found = survey(corpus(*map(Path, texts), newlines="keep"))
    finally:
        module.BLOCK = found_before
    counts, places, longest = plain(texts)
    assert found.counts == dict(counts)
    assert found.characters == sum(counts.values())
    assert found.bytes == sum(len(text.encode()) for text in texts.values())
    assert found.words == sum(len(text.split()) for text in texts.values())
    pairs = sum(text.count("\r\n") for text in texts.values())
    assert found.line_ends == {"LF": counts["\n"] - pairs, "CR LF": pairs, "CR": counts["\r"] - pairs}
    assert found.lines == sum(text.count("\n") + (text[-1] != "\n") for text in texts.values())
    assert found.longest_line == longest
    assert found.places == {one: places[one][:3] for one, times in counts.items() if times < RARE}


def test_the_longest_line_has_its_place(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "short\n" + "x" * 40_000 + "\nshort\n")
    found = survey(corpus(path))
    assert (found.longest_line, found.longest_place) == (40_000, Place(str(path), 2, 1))
    path = written(tmp_path / "b.txt", "short\nthe last one")
    found = survey(corpus(path))
    assert (found.longest_line, found.longest_place) == (12, Place(str(path), 2, 1))


def test_byte_order_marks_are_counted(tmp_path: Path) -> None:
    marked = tmp_path / "a.txt"
    marked.write_bytes(codecs.BOM_UTF8 + b"abc\n")
    wide = tmp_path / "b.txt"
    wide.write_bytes("xyz\n".encode("utf-16"))
    found = survey(corpus(marked, wide, written(tmp_path / "c.txt", "none\n")))
    assert found.marks == {"utf-8": 1, "utf-16-le": 1}
    assert found.files == 3
    assert found.characters == len("abc\nxyz\nnone\n")


def test_signs_that_are_no_text_come_first_among_the_rare_ones(tmp_path: Path) -> None:
    found = survey(corpus(written(tmp_path / "a.txt", "aaaaa\n\n\n\n\nzyy\u200b\x07\x07\ufffd")))
    assert found.rare == ["\u200b", "\ufffd", "\x07", "z", "y"]
    assert found.controls == {"\x07": 2}
    assert [character_name(one) for one in "z\u200b\x07\x01"] == [
        "LATIN SMALL LETTER Z", "ZERO WIDTH SPACE", "BELL", "control character",
    ]  # fmt: skip


def test_rows_of_a_table_are_its_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,text\n1,first\n2,second\n")
    found = survey(corpus(path, column="text", unit="line"))
    assert found.characters == len("first\nsecond\n")
    assert found.places["d"] == [Place(str(path), 2, 6)]


@pytest.mark.parametrize("block", [1 << 14, 1 << 20])
def test_passages_are_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    filler = "line of text\r\n" * 1500  # more than a block
    path = written(tmp_path / "a.txt", filler + "here it\r\nbegins" + filler + "x" * 30_000 + "here it\r\nbegins")
    lines = 1500 + 1 + 1500 + 1
    assert find_passages(corpus(path), ["here it\nbegins", "nowhere", "t\nbegins"]) == [
        [Place(str(path), 1501, 1), Place(str(path), lines, 30_001)],
        [],
        [Place(str(path), 1501, 7), Place(str(path), lines, 30_007)],
    ]


def test_the_column_of_a_passage_in_a_line_longer_than_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 1 << 14)
    path = written(tmp_path / "a.txt", "x" * 500 + "begin\n" + "y" * 20_000 + "\n" + "z" * 300 + "it\nends")
    assert find_passages(corpus(path), ["n\ny", "it\nends", "yy\nzz"]) == [
        [Place(str(path), 1, 505)],
        [Place(str(path), 3, 301)],
        [Place(str(path), 2, 19_999)],
    ]
