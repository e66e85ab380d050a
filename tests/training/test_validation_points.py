"""When a run is validated and how much is read: points counted for runs of many lengths, and real runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlm.config import Config
from charlm.config.definitions import TokenizerConfig
from charlm.config.limits import Limits
from charlm.text.stream import Counts, TokenStream, encode_text
from charlm.text.tokenization import learn
from charlm.training.progress import Progress
from charlm.training.trainer import train
from charlm.training.validation_points import ValidationPoints, beginning, halved
from charlm.views.summary import Summary
from conftest import small_settings, small_text


def progress(batches: int, **trainer: Any) -> Progress:
    config = Config.from_dict({"trainer": {"max_epochs": -1, **trainer}})
    return Progress(Limits.of(config.trainer, config.checkpoint), batches_per_epoch=batches)


def validated(run: Progress, steps: range) -> list[int]:
    """The steps after which a run is validated."""
    points = ValidationPoints()
    points.start(run)
    found = []
    for step in steps:
        run.step, run.batch = step, (step - 1) % run.batches_per_epoch + 1
        run.epoch = step / run.batches_per_epoch
        if points.reached(run):
            found.append(step)
    return found


@pytest.mark.parametrize(
    ("batches", "trainer", "count"),
    [
        (1000, {"max_epochs": 1}, 8),
        (1000, {"max_epochs": 3}, 9),
        (100, {"max_epochs": 13}, 13),
        (100, {"max_epochs": 50}, 20),
        (10_000_000, {"max_steps": 600}, 12),
        (7, {"max_steps": 600}, 12),
        (1000, {"max_epochs": 9, "max_steps": 600}, 12),
    ],
)
def test_every_run_is_validated_a_few_times(batches: int, trainer: dict[str, Any], count: int) -> None:
    run = progress(batches, **trainer)
    last = min(trainer.get("max_steps", math.inf), trainer.get("max_epochs", math.inf) * batches)
    found = validated(run, range(1, int(last) + 1))
    assert len(found) == count
    assert found[-1] == last
    assert max(np.diff([0, *found])) <= last / count + 1


def test_ends_of_epochs_are_among_the_points() -> None:
    for epochs in (1, 2, 3, 5, 7, 8, 20):
        found = validated(progress(100, max_epochs=epochs), range(1, 100 * epochs + 1))
        assert set(range(100, 100 * epochs + 1, 100)) <= set(found)


def test_a_resumed_run_has_the_points_of_one_that_never_stopped() -> None:
    whole = validated(progress(1000, max_epochs=3), range(1, 3001))
    for stop in (1, 333, 1000, 2999):
        first = validated(progress(1000, max_epochs=3), range(1, stop + 1))
        assert first + validated(progress(1000, max_epochs=3), range(stop + 1, 3001)) == whole


def test_a_run_without_an_end_is_validated_after_each_epoch() -> None:
    assert validated(progress(10), range(1, 31)) == [10, 20, 30]


def test_a_run_bound_by_time_is_validated_as_its_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    run = progress(10_000_000, max_time="120s")
    run.start_clock()
    points, found, read = ValidationPoints(), [], []
    points.start(run)
    while now < 120:
        now += 0.5
        run.step, run.tokens = run.step + 1, run.tokens + 4000
        if now == 5:  # samples take a quarter of the time at first
            run.paused, now = 30.0, 35.0
        if points.reached(run):
            found.append(now)
            read.append(points.tokens(run))
    assert found == [35.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0, 120.0]
    # 10 s lie between two points, of which 3 % read 1.4 times as fast as training.
    assert read[0] == pytest.approx(0.03 * 1.4 * 10 * 8000, rel=0.01)


def test_the_beginning_of_a_stream_and_of_items() -> None:
    text = "abcd" * 2500
    tokenizer = learn(TokenizerConfig(), [text])
    whole = encode_text(tokenizer, text)
    part = beginning(whole, 2000)
    assert (len(part), part.predicted.tokens, part.predicted.characters) == (2000, 1999, 1999)
    assert beginning(whole, 9000) is whole
    ids = np.array([0, 1, 1, 0, 2, 2, 0, 3, 3, 0])
    items = TokenStream(ids, np.array([0, 3, 6]), Counts(10, 10, 10, 3), Counts(9, 18, 18, 3))
    part = beginning(items, 5)
    assert part.ids.tolist() == [0, 1, 1, 0, 2, 2, 0]
    assert part.starts is not None
    assert part.starts.tolist() == [0, 3]
    assert part.predicted == Counts(6, 12, 12, 2)


def test_a_run_shorter_than_an_epoch_has_a_curve_and_a_verdict(tmp_path: Path) -> None:
    """Before, it was validated once, at its end: "Too early to judge" beside a chart of one dot."""
    text = tmp_path / "text.txt"
    text.write_text(small_text(60_000), encoding="utf-8")
    run = train(small_settings(text, trainer={"max_epochs": None, "max_steps": 48}), tmp_path / "run")
    summary = Summary(run.directory)
    curve = summary.curve("val/loss")
    assert len(curve) == 12
    assert curve[-1][0] < 0.1
    assert summary.verdict.state in ("still improving", "converged")
    assert {row["val/tokens"] for row in summary.rows if "val/loss" in row} == {2999.0}  # of 6,000


def test_runs_of_a_little_different_speed_read_the_same_part() -> None:
    assert halved(100_000, 30_000) == halved(100_000, 48_000) == 25_000
    assert halved(100_000, 120_000) == 100_000
    assert halved(3_000, 2_000) == 3_000  # a half would be fewer than the fewest
