"""charlm doctor as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Charlm, small_text


def test_doctor_prints_its_sections_on_standard_output(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(small_text(30_000))
    done = charlm("doctor", "a.txt")
    assert done.status == 0
    assert done.out.startswith("Findings\n")
    assert "\nStart with\n  charlm train a.txt\n" in done.out


def test_json_has_the_same_facts(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(small_text(30_000) + "é")
    values = json.loads(charlm("doctor", "a.txt", "--json", "--device", "cpu").out)
    assert values["characters"] == 30_001
    assert values["start"]["command"] == "charlm train a.txt"
    assert values["rare_characters"][0]["code_point"] == "U+00E9"
    assert len(values["ngram_bits"]["bits"]) == 8
    assert len(values["drift"]["training_bits"]) == 36
    low, high = values["start"]["expected_bits_per_character"]
    assert low < high
    values = json.loads(charlm("doctor", "a.txt", "--json", "--device", "cuda").out)
    assert (values["start"]["seconds"], values["start"]["epochs"]) == (None, None)
    assert values["start"]["settings"]["model"]["hidden"] == 128


def test_the_text_is_read_as_training_reads_it(charlm: Charlm, tmp_path: Path) -> None:
    rows = "".join(f'{number},"{text}"\n' for number, text in enumerate(small_text(9_000).splitlines()))
    (tmp_path / "a.csv").write_text(f"id,text\n{rows}")
    (tmp_path / "held out.txt").write_text(small_text(2_000, seed=5))
    values = json.loads(charlm("doctor", "a.csv", "--data.column", "text", "--json").out)
    assert values["start"]["command"] == "charlm train a.csv --data.column text"
    values = json.loads(
        charlm("doctor", "a.csv", "--data.pattern", "*.csv", "--data.val", "held out.txt", "--json").out
    )
    assert values["splits"]["val"] == 2_000
    assert values["files"] == 2


def test_mistakes_are_one_line(charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "same.txt").write_text("a" * 900)
    (tmp_path / "noise.bin").write_bytes(bytes([0x81, 0x8D, 0x00, 0xFE, 0x90, 0x9D, 0xFF] * 300))
    assert "the text is empty" in charlm("doctor", "empty.txt").mistake
    assert "only one different character" in charlm("doctor", "same.txt").mistake
    assert "set --data.encoding to its encoding" in charlm("doctor", "noise.bin").mistake
    assert "there is no file" in charlm("doctor", "missing.txt").mistake
    assert "--data.unit" in charlm("doctor", "same.txt", "--data.unit", "page").mistake
