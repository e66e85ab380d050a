"""A diagnosis of small texts, and what it takes of long ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from charlm.config import DataConfig
from charlm.errors import CharlmError
from charlm.evaluation import diagnosis as module
from charlm.evaluation.diagnosis import Diagnosis, diagnose, samples
from charlm.evaluation.findings import findings
from charlm.evaluation.survey import Place
from charlm.text.corpus import read_corpus
from conftest import small_text

FRENCH = "Été à la plage, où l'élève français mange une pâtisserie. C'était très bien, naïve et garçon.\n" * 40


def diagnosed(path: Path, text: str | bytes, **data: Any) -> Diagnosis:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return diagnose(DataConfig(text=(str(path),), **data))


def test_the_facts_of_a_plain_text(tmp_path: Path) -> None:
    text = small_text(60_000)
    found = diagnosed(tmp_path / "a.txt", text)
    assert found.characters == {"train": 54_000, "val": 6_000, "test": 0}
    assert (found.read, found.survey.characters, found.wrong_encoding) == (54_000, 60_000, "")
    assert found.drift is not None
    assert len(found.drift.training) + len(found.drift.validation) == 40
    assert found.held_out is not None
    assert found.held_out.what == "validation"
    assert found.start_held_out == found.held_out
    assert found.expected is not None
    assert found.expected[0] < found.held_out.bits[4] * 1.001 < found.expected[1] * 1.1
    assert found.seconds is not None
    assert found.seconds > 0
    assert findings(found) == []
    assert json.loads(json.dumps(found.to_dict()))["start"]["command"] == f"charlm train {tmp_path}/a.txt"


def test_it_is_deterministic(tmp_path: Path) -> None:
    first, second = (diagnosed(tmp_path / "a.txt", small_text(20_000)).to_dict() for _ in range(2))
    for one in (first, second):  # they are measured on the machine
        del one["start"]["seconds"], one["start"]["epochs"]
    assert first == second


def test_a_copied_validation_text_is_found_in_both_places(tmp_path: Path) -> None:
    text = small_text(30_000)
    copied = text[1_000:2_500]
    found = diagnosed(tmp_path / "a.txt", f"{text}\n!{copied}?\n{small_text(500, seed=3)}")
    assert found.copies is not None
    longest = found.copies.longest[0]
    assert longest.text == copied
    line = text[:1_000].count("\n") + 1
    column = 1_000 - text.rfind("\n", 0, 1_000)
    places = found.places[copied[:50]]
    assert places[0] == Place(f"{tmp_path}/a.txt", line, column)
    assert places[1] == Place(f"{tmp_path}/a.txt", text.count("\n") + 2, 2)
    said = findings(found)[0]
    assert "of the validation text is copied from the training text" in said
    assert f"the longest has 1,500 ({tmp_path}/a.txt:{line}:{column}, " in said


def test_a_wrong_encoding_is_found_and_read_anyway(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "a.txt", FRENCH.encode("cp1252"))
    assert found.data.encoding == "cp1252"
    assert found.survey.counts["é"] == FRENCH.count("é")
    assert "--data.encoding cp1252" in found.start.command
    assert findings(found)[0].startswith(
        f"{tmp_path}/a.txt is not utf-8: the byte at offset 0 cannot be decoded. Here it was read as cp1252"
    )
    found = diagnosed(tmp_path / "b.txt", FRENCH.encode("utf-16-le"))
    assert found.data.encoding == "utf-16-le"


def test_several_encodings_in_one_folder_name_the_file_that_differs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(FRENCH.encode("cp1252"))
    (tmp_path / "b.txt").write_bytes(FRENCH.encode("cp1252"))
    data = DataConfig(text=(str(tmp_path),))
    assert diagnose(data).data.encoding == "cp1252"
    (tmp_path / "b.txt").write_bytes(FRENCH.encode())
    with pytest.raises(
        CharlmError, match=r"a\.txt is not utf-8: .*, or save this file as utf-8 if the other files are"
    ):
        diagnose(data)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CharlmError, match=r"a.bin is not utf-8: the byte at offset \d+ cannot be decoded"):
        diagnosed(tmp_path / "a.bin", bytes([0x81, 0x8D, 0x00, 0xFE, 0x90, 0x9D, 0xFF] * 300))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        ("a", "nothing is left to train on|too little to judge"),
        ("a" * 5_000, r"only one different character \('a'\), too little to judge"),
        ("short text", "has 9 characters, too little to judge"),
    ],
)
def test_texts_that_cannot_be_judged(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CharlmError, match=message):
        diagnosed(tmp_path / "a.txt", text)


@pytest.mark.parametrize("size", [60, 600, 3_000])
def test_without_a_validation_text_the_end_of_the_training_text_is_held_out(tmp_path: Path, size: int) -> None:
    found = diagnosed(tmp_path / "a.txt", small_text(size), val_fraction=0.0)
    assert found.held_out is not None
    assert found.held_out.what == "training"
    assert found.copies is None
    assert any("There is no validation text" in one for one in findings(found))
    assert any("only" in one and "characters" in one for one in findings(found))


def test_lines_are_compared_as_wholes(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "a.txt", "ann\nbob\neve\njim\n" * 200, unit="line")
    assert (found.copies, found.repeats, found.drift) == (None, None, None)
    assert found.lines.shared == found.lines.validation > 0
    said = findings(found)
    assert any("100 % of the validation lines" in one for one in said)
    assert any("are duplicates of others" in one for one in said)


def test_another_unit_is_judged_on_its_own_split(tmp_path: Path) -> None:
    names = sorted(f"{a}{b}{c}n" for a in "abcdefgh" for b in "aeiou" for c in "klmnr")
    found = diagnosed(tmp_path / "a.txt", "".join(f"{name}\n" for name in names))
    assert found.start.unit.value == "line"
    assert found.start_held_out is not None
    assert found.held_out is not None
    assert found.start_held_out.bits[4] < found.held_out.bits[4], "the end of a sorted list is harder than a sample"


def test_of_a_long_text_parts_along_all_of_it_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TRAINING", 3_600)
    monkeypatch.setattr(module, "MOST_VALIDATION", 800)
    text = small_text(40_000)
    path = tmp_path / "a.txt"
    path.write_text(text)
    training, validation = samples(read_corpus(DataConfig(text=(str(path),))))
    assert len(training) == 36
    assert training == [text[start : start + 100] for start in range(0, 36_000, 1_000)]
    assert validation == [text[start : start + 200] for start in range(36_000, 40_000, 1_000)]
    found = diagnosed(path, text)
    assert found.read == 3_600


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(small_text(3_000))
    told: list[tuple[str, int, int]] = []
    diagnose(DataConfig(text=(str(path),)), progress=lambda *what: told.append(what))
    assert told[0][0] == "reading"
    assert told[-1] == ("finding places", 7, 7)
