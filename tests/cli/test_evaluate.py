"""charlm evaluate as a person types it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from charlm.run import Run
from conftest import Charlm


def test_evaluate_of_a_file_reads_it_to_its_last_token(charlm: Charlm, tiny_run: Path, text: Path) -> None:
    row = json.loads(charlm("evaluate", tiny_run, text, "--json").out)
    content = text.read_text()
    assert (row["tokens"], row["characters"], row["bytes"]) == (len(content) - 1,) * 3
    assert row["words"] == len(content[1:].split()) + content.count("\n")
    assert row["unknown_tokens"] == 0
    nats = row["nats_per_token"]
    for unit in ("token", "character", "byte"):
        assert row[f"bits_per_{unit}"] == pytest.approx(nats / math.log(2), rel=1e-12)
    assert row["perplexity_per_token"] == pytest.approx(math.exp(nats))
    assert row["perplexity_per_word"] == pytest.approx(math.exp(nats * row["tokens"] / row["words"]))
    shown = charlm("evaluate", tiny_run, text).out
    assert f"{nats:.4f}" in shown
    assert "the state is carried from the first token to the last" in shown
    model, ids = Run(tiny_run).load_model(), torch.from_numpy(Run(tiny_run).tokenizer.encode(content)).long()
    logits, _ = model(ids[None, :-1])
    expected = torch.nn.functional.cross_entropy(logits[0], ids[1:]).item()
    assert nats == pytest.approx(expected, rel=1e-5)


def test_evaluate_of_a_split_and_in_lanes(charlm: Charlm, tiny_run: Path) -> None:
    row = json.loads(charlm("evaluate", tiny_run, "--json").out)
    assert row["tokens"] == 299
    several = json.loads(charlm("evaluate", tiny_run, "--json", "--lanes", "3").out)
    assert several["tokens"] == 299
    assert several["nats_per_token"] == pytest.approx(row["nats_per_token"], rel=1e-5)


def test_evaluate_counts_what_the_vocabulary_lacks(charlm: Charlm, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("the ß at é\n", encoding="utf-8")
    row = json.loads(charlm("evaluate", tiny_run, "new.txt", "--json").out)
    assert (row["unknown_tokens"], row["bytes"], row["characters"]) == (2, 12, 10)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, ["--split", "test"], "has no test split"),
        (None, ["--split", "trian"], "--split must be one of train, val, test, not 'trian'; did you mean 'train'?"),
        (None, ["nowhere.txt"], "there is no file nowhere.txt"),
        ("", [], "the text is empty"),
        ("a", [], "too short to evaluate: it needs at least two tokens"),
        ("caf\xe9", [], "offset 3 cannot be decoded; set --encoding to its encoding"),
        (None, ["--lanes", "0"], "--lanes must be at least 1"),
    ],
)
def test_what_cannot_be_evaluated(
    charlm: Charlm, tiny_run: Path, tmp_path: Path, content: str | None, options: list[str], message: str
) -> None:
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content.encode("latin-1"))
        options = ["mine.txt"]
    assert message in charlm("evaluate", tiny_run, *options).mistake
