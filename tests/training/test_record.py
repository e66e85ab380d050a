from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from charlm.run import Run, Sample, read_metrics
from charlm.training.record import Record, wrapped


def test_rows_are_read_back_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add(1, 0.5, 1.0, {"train/loss": 2.5})
    record.add(2, 1.0, 2.0, {"val/loss": 2.0, "val/perplexity": 7.389056})
    record.close()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,1.5,3")
    rows = read_metrics(tmp_path / "metrics.csv")
    assert rows == [
        {"step": 1, "epoch": 0.5, "seconds": 1.0, "train/loss": 2.5},
        {"step": 2, "epoch": 1.0, "seconds": 2.0, "val/loss": 2.0, "val/perplexity": 7.38906},
    ]


def test_going_on_drops_the_rows_that_will_come_again(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for step in (1, 2, 3):
        record.add(step, step, step, {"train/loss": float(step)})
    record.close()
    Record(tmp_path, 2).close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == [1, 2]


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
        assert f"```text\n{wrapped(sample.text)}\n```" in text
    assert len(list(tiny_run.glob("events.out.tfevents*"))) == 1


def test_a_fence_is_longer_than_any_in_the_sample(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add_sample(Sample(1.0, 5, "", 1, 0.8, "a ```` b <b>bold</b>"))
    record.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    text = events.Tensors("samples/seed 1/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "\n`````text\na ```` b <b>bold</b>\n`````\n" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short\n\nlines", "short\n\nlines"),
        ("one two three", "one two \nthree"),
        ("abcdefghijklmno", "abcdefghij\nklmno"),
        ("一二三四五六七", "一二三四五\n六七"),
        ("a bcdefghijklm", "a \nbcdefghijk\nlm"),
        ("", ""),
    ],
)
def test_long_lines_are_broken_at_a_width(text: str, expected: str) -> None:
    assert wrapped(text, 10) == expected
