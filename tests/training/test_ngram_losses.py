"""The n-gram model that stands in the loss charts of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from charlm.evaluation.baselines import count_ngrams, tuned_model
from charlm.evaluation.ngram import total_nats
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.training import ngram_losses as module
from charlm.training import validation_points
from charlm.training.ngram_losses import ngram_losses
from charlm.training.preparation import prepare
from charlm.training.trainer import resume
from charlm.training.validation_points import beginning, halved
from conftest import small_settings, small_text


class Lines(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.mark.parametrize("unit", ["stream", "line"])
def test_every_part_that_a_validation_may_read_has_its_loss(
    tmp_path: Path, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_points, "LEAST_TOKENS", 100)
    text = tmp_path / "text.txt"
    text.write_text(small_text(9000), encoding="utf-8")
    directory = prepare(small_settings(text, data={"unit": unit}), tmp_path / "run", Reporter())
    reporter = Lines()
    found = ngram_losses(directory, reporter)
    assert found is not None
    train, val = directory.stream("train"), directory.stream("val")
    counts = count_ngrams(train, directory.vocab_size)
    model = tuned_model(counts, val)
    sizes = set()
    for most in [*range(1, len(val), 7), len(val)]:
        part = beginning(val, halved(len(val), most))
        (nats,) = total_nats([model], counts.look_up(part.ids, part.starts))
        assert found.losses[part.predicted.tokens] == pytest.approx(nats / part.predicted.tokens)
        sizes.add(part.predicted.tokens)
    assert found.losses.keys() == sizes
    assert len(sizes) > 2
    assert f"{found.losses[val.predicted.tokens]:.3f} nats per token" in reporter.said[-1]
    assert directory.quality["ngram"] == found


def test_a_first_item_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VALIDATION", 3)
    text = tmp_path / "text.txt"
    text.write_text(small_text(3000), encoding="utf-8")
    directory = prepare(small_settings(text, data={"unit": "line"}), tmp_path / "run", Reporter())
    assert ngram_losses(directory, Reporter()) is None


def test_a_long_text_is_read_in_part_and_that_is_said(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TRAINING", 1000)
    directory = prepare(small_settings(text_file), tmp_path / "run", Reporter())
    reporter = Lines()
    found = ngram_losses(directory, reporter)
    assert "the first 1,000 of the 2,700 tokens of the training split" in reporter.said[-1]
    monkeypatch.setattr(module, "MOST_TRAINING", 2700)
    assert ngram_losses(directory, Lines()) == found  # what is stored is not computed again


def test_it_is_kept_when_references_are_written_and_made_again_when_damaged(run: Path) -> None:
    found = RunDirectory(run).quality["ngram"]
    written = {"references": {"held-out text": {"x": 1.0}}, "left_out": {}, "size": 9}
    RunDirectory(run).write_quality(**written)
    assert RunDirectory(run).quality == {**written, "ngram": found}
    (run / "quality.json").write_text("{")
    resume(run, {"trainer.max_epochs": 3})
    assert json.loads((run / "quality.json").read_text())["ngram"]["name"] == found.name
    assert RunDirectory(run).quality["ngram"] == found
