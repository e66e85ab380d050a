from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from charlm.training.projector import MOST, Projector, kind, label


@pytest.mark.parametrize(
    ("token", "shown", "what"),
    [
        ("a", "a", "letter"),
        ("A", "A", "capital"),
        ("\n", "␊", "blank"),
        ("\t", "␉", "blank"),
        (" ", "␣", "blank"),
        (" the", "␣the", "blank"),
        ("海", "海", "letter"),
        ("\u0301", "◌\u0301", "mark"),
        ("\x7f", "\\u007f", "blank"),
        ("\u200f", "\\u200f", "blank"),
        ("7", "7", "digit"),
        ("“", "“", "punctuation"),
        ("\ufffd", "\ufffd", "symbol"),
        ("", "(nothing)", "blank"),
    ],
)
def test_every_token_is_one_visible_line(token: str, shown: str, what: str) -> None:
    assert (label(token), kind(token)) == (shown, what)


def test_of_a_large_vocabulary_the_most_frequent_are_shown(tmp_path: Path) -> None:
    tokens = [f"w{number}" for number in range(MOST + 500)]
    counts = np.arange(len(tokens))
    projector = Projector(tmp_path, tokens, counts)
    vectors = np.stack([counts, -counts], 1).astype(np.float32)
    projector.add(vectors, 7)
    labels = (tmp_path / "projector/tokens.tsv").read_text().splitlines()
    assert labels[:2] == ["token\tkind\tcount", f"w{MOST + 499}\tletter\t{MOST + 499}"]
    assert len(labels) == MOST + 1
    table = np.loadtxt(tmp_path / "projector/step-7.tsv", delimiter="\t")
    assert table.shape == (MOST, 2)
    assert table[0].tolist() == [MOST + 499, -(MOST + 499)]
    projector.add(vectors, 12)
    listed = (tmp_path / "projector_config.pbtxt").read_text()
    assert [line.split('"')[1] for line in listed.splitlines()] == ["newest: step 0000012", "step 0000007"]
