from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from charlm.config.limits import Limits
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.run_directory import RunDirectory, Sample
from charlm.training.preparation import prepare
from charlm.training.progress import Progress
from charlm.training.run_logger import NGRAM, REFERENCES, WIDTH, RunLogger, layout
from charlm.training.trainer import fit
from charlm.views.text import wrap
from conftest import small_settings


def at(step: int, epoch: float, seconds: float) -> Progress:
    """The progress of a training that does not run: its clock stands still."""
    return Progress(Limits(1, 1, 1, 1), step=step, epoch=epoch, elapsed_before=seconds)


@pytest.fixture
def directory(text_file: Path, tmp_path: Path) -> RunDirectory:
    """A run directory in which nothing has been logged."""
    return prepare(small_settings(text_file), tmp_path / "run", Reporter())


def test_rows_are_read_back_and_a_torn_one_is_left_out(directory: RunDirectory) -> None:
    logger = RunLogger(directory)
    logger.add(at(1, 0.5, 1.0), {"train/loss": 2.5})
    logger.add(at(2, 1.0, 2.0), {"val/loss": 2.0, "val/perplexity": 7.389056})
    logger.close()
    with (directory.path / "metrics.csv").open("a") as file:
        file.write("3,1.5,3")
    assert directory.metrics == [
        {"step": 1, "epoch": 0.5, "seconds": 1.0, "train/loss": 2.5},
        {"step": 2, "epoch": 1.0, "seconds": 2.0, "val/loss": 2.0, "val/perplexity": 7.38906},
    ]


def test_resumed_it_drops_the_rows_that_will_come_again(directory: RunDirectory) -> None:
    logger = RunLogger(directory)
    for step in (1, 2, 3):
        logger.add(at(step, step, step), {"train/loss": float(step)})
    logger.close()
    RunLogger(directory, 2).close()
    assert [row["step"] for row in directory.metrics] == [1, 2]


def test_tensorboard_has_curves_layout_samples_and_settings(tiny_run: Path) -> None:
    events = EventAccumulator(str(tiny_run), size_guidance={"tensors": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "val/loss", "val/bits_per_character", "train/gradient_norm"} <= scalars
    tensors = events.Tags()["tensors"]
    assert "custom_scalars__config__" in tensors
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("samples/seed 1/text_summary")]
    samples = Run(tiny_run).samples
    assert len(texts) == len(samples) == 6
    for text, sample in zip(texts, samples, strict=True):
        assert f"```text\n{wrap(sample.text, WIDTH)}\n```" in text
    assert len(list(tiny_run.glob("events.out.tfevents*"))) == 1


def test_the_loss_of_an_ngram_model_is_drawn_beside_the_validation(tiny_run: Path) -> None:
    events = EventAccumulator(str(tiny_run), size_guidance={"scalars": 0})
    events.Reload()
    ngram = RunDirectory(tiny_run).quality["ngram"]
    rows = [row for row in Run(tiny_run).metrics if "val/loss" in row]
    assert len(rows) > 2
    losses = [ngram.losses[int(row["val/tokens"])] for row in rows]
    characters = [row["val/bits_per_character"] / row["val/loss"] for row in rows]
    expected = {
        "loss": losses,
        "bits_per_character": [loss * ratio for loss, ratio in zip(losses, characters, strict=True)],
        "perplexity": [math.exp(loss) for loss in losses],
    }
    charts = {pattern for title, chart in layout(())["Learning"].items() for pattern in chart[1]}
    for name, values in expected.items():
        line = events.Scalars(f"{NGRAM}/{name}")
        assert [event.step for event in line] == [row["step"] for row in rows]
        assert [event.value for event in line] == pytest.approx(values, rel=1e-5)
        assert f"{NGRAM}/{name}$" in charts


def test_charts_draw_their_tags_and_no_others() -> None:
    charts = {title: chart for category in layout({"ngram_bits"}).values() for title, chart in category.items()}
    patterns = {title: chart[1] for title, chart in charts.items()}
    (bits,) = (found for title, found in patterns.items() if "6-gram" in title or "n-gram" in title)
    tags = [
        "text_metrics/ngram_bits",
        f"{REFERENCES}/ngram_bits/held-out text",
        "text_metrics/ngram_bits_2",
        "val/loss",
    ]
    assert [any(re.match(pattern, tag) for pattern in bits) for tag in tags] == [True, True, False, False]
    assert not any("compression" in title for title in patterns)


def test_training_is_logged_in_bits_a_character_and_perplexity_too(tiny_run: Path) -> None:
    rows = [row for row in Run(tiny_run).metrics if "train/loss" in row]
    assert rows
    for row in rows:
        assert row["train/bits_per_character"] == pytest.approx(row["train/loss"] / math.log(2), rel=1e-4)
        assert row["train/perplexity"] == pytest.approx(math.exp(row["train/loss"]), rel=1e-4)
    epochs = [row["epoch"] for row in Run(tiny_run).metrics if row.get("train/seconds_per_epoch", 0) > 0]
    assert epochs == [1.0, 2.0]


def test_bits_per_character_of_words_are_not_those_per_token(text_file: Path, tmp_path: Path) -> None:
    config = small_settings(
        text_file, tokenizer={"kind": "word", "min_frequency": 1}, trainer={"max_steps": 5}, samples={"every": 0}
    )
    run = fit(prepare(config, tmp_path / "run", Reporter()), Reporter())
    predicted = run.directory.stream("train").predicted
    assert predicted.characters > 3 * predicted.tokens
    (row,) = [row for row in run.metrics if "train/loss" in row]
    bits = row["train/loss"] / math.log(2) * predicted.tokens / predicted.characters
    assert row["train/bits_per_character"] == pytest.approx(bits, rel=1e-4)


def test_a_fence_is_longer_than_any_in_the_sample(directory: RunDirectory) -> None:
    logger = RunLogger(directory)
    logger.add_sample(Sample(1.0, 5, "", 1, 0.8, "a ```` b <b>bold</b>"))
    logger.close()
    events = EventAccumulator(str(directory.path))
    events.Reload()
    text = events.Tensors("samples/seed 1/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "\n`````text\na ```` b <b>bold</b>\n`````\n" in text
