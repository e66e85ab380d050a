"""The diagnosis as a person reads it."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from charlm.config import DataConfig
from charlm.evaluation.diagnosis import Diagnosis, diagnose
from charlm.evaluation.drift import Drift
from charlm.views.diagnosis import print_diagnosis
from conftest import small_text

TITLES = ["Findings", "Start with", "Text", "Characters", "Copies and repeats", "Along the text", "N-gram models"]


def printed(diagnosis: Diagnosis, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    print_diagnosis(diagnosis)
    return capsys.readouterr().out


@pytest.fixture
def diagnosis(tmp_path: Path) -> Diagnosis:
    path = tmp_path / "a.txt"
    path.write_text(small_text(30_000) + "\x1b\u200bé")
    return diagnose(DataConfig(text=(str(path),)))


def test_sections_in_their_order(diagnosis: Diagnosis, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(diagnosis, capsys)
    assert [line for line in out.splitlines() if line[:1].isalpha()] == TITLES
    assert out.splitlines()[TITLES.index("Findings") + 1].startswith("  1. The text has 1 control character (U+001B 1)")
    assert f"\n  {diagnosis.start.command}\n" in out
    assert "\x1b" not in out, "it would control the terminal"
    assert "U+200B ZERO WIDTH SPACE: 1 at " in out
    assert "é U+00E9 LATIN SMALL LETTER E WITH ACUTE: 1 at " in out
    assert "only in the validation text: 3 characters, 3 occurrences" in out
    assert out.rstrip().splitlines()[-2] == "  order       1      2      3      4      5      6      7      8"


def test_without_findings_that_is_said(diagnosis: Diagnosis, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"a": 30_000}
    survey = replace(diagnosis.survey, counts=counts, places={})
    out = printed(replace(diagnosis, survey=survey), capsys)
    assert "  nothing that a training would suffer from\n" in out
    assert "  1 different ones, none rare" in out


def test_a_loss_is_expected_only_where_the_rule_was_measured(
    diagnosis: Diagnosis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diagnosis.expected is not None
    assert re.search(r"expect     \d\.\d\d to \d\.\d\d bits per character", printed(diagnosis, capsys))
    many = replace(diagnosis, start=replace(diagnosis.start, vocab_size=4_000))
    assert many.expected is None
    assert "expect     not estimated" in printed(many, capsys)


def test_the_chart_has_a_bar_for_each_part(diagnosis: Diagnosis, capsys: pytest.CaptureFixture[str]) -> None:
    shown = replace(diagnosis, drift=Drift([1.0, 1.5, 2.0], [3.0]))
    assert "\n  ▁▃▅ | █\n" in printed(shown, capsys)
    assert "harder" in printed(shown, capsys)
    assert "not computed: the text is too short" in printed(replace(diagnosis, drift=None), capsys)


def test_a_terminal_without_blocks_gets_digits(diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", out)
    print_diagnosis(replace(diagnosis, drift=Drift([1.0, 1.5, 2.0], [3.0])))
    out.seek(0)
    assert "\n  024 | 9\n" in out.read()
