"""What TensorBoard is shown of the inside of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from charlm.config import Config
from charlm.inspection.memory import excerpts, gradient_through_time
from charlm.run import Run
from charlm.training.sample_logger import TimeBudget
from charlm.training.trainer import resume, train
from conftest import small_settings, small_text


def settings(folder: Path, **groups: dict[str, Any]) -> Config:
    path = folder / "text.txt"
    path.write_text(small_text(4000), encoding="utf-8")
    given: dict[str, dict[str, Any]] = {"samples": {"every": 0, "scored": 0}, "inspect": {"images": True, "every": 1}}
    return small_settings(path, **{**given, **groups})


def events_of(run: Run) -> EventAccumulator:
    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0, "scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    return events


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("inspected")
    return train(settings(folder), folder / "run")


RECORDS = [0, 8, 15, 29, 57, 114]  # initialisation, 1/8, 1/4 and 1/2 of an epoch of 57 steps, two epochs


def test_weights_gradients_and_gates_have_histograms(run: Run) -> None:
    events = events_of(run)
    tags = set(events.Tags()["histograms"])
    parameters = [name for name in run.directory.read_weights() if not name.startswith("norm")]
    assert {f"weights/{name}" for name in parameters} <= tags
    assert {f"gradients/{name}" for name in parameters} <= tags
    gates = {f"layer {layer} {gate}" for layer in (1, 2) for gate in ("forget", "input", "output")}
    assert {tag.removeprefix("gates/") for tag in tags if tag.startswith("gates/")} == gates
    assert [event.step for event in events.Histograms("weights/layers.0.U")] == RECORDS
    assert [event.step for event in events.Histograms("gradients/layers.0.U")] == RECORDS[1:]
    for gate in gates:
        for state in ("open", "closed"):
            line = events.Scalars(f"gates {state}/{gate}")
            assert [event.step for event in line] == RECORDS
            assert all(0 <= event.value <= 1 for event in line)


def test_images_are_drawn_in_every_record(run: Run) -> None:
    events = events_of(run)
    for tag in ("gradient through time", "memory horizon"):
        images = events.Images(tag)
        assert [image.step for image in images] == RECORDS
        assert all(image.width > image.height > 100 for image in images)


def test_the_newest_memory_record_is_kept_for_the_report(run: Run) -> None:
    record = run.directory.memory
    assert record is not None
    assert (record.step, record.epoch) == (RECORDS[-1], 2.0)
    distances, gradients = gradient_through_time(
        run.load_model("last"), excerpts(run.directory.stream("val").ids, 16, 258)
    )
    assert record.distances == distances
    assert np.array(record.gradients) == pytest.approx(gradients.numpy(), rel=1e-3, abs=1e-12 * float(gradients.max()))
    assert record.contexts == [1, 2, 4, 8, 16, 32, 64, 128]
    assert len(record.losses) == 8


def test_without_tensorboard_the_memory_is_recorded_too(tmp_path: Path) -> None:
    config = settings(tmp_path, trainer={"logger": "csv", "max_epochs": 1}, inspect={"images": True})
    run = train(config, tmp_path / "run")
    assert run.directory.memory is not None
    assert not list(run.path.glob("events.*"))
    assert not (run.path / "projector").exists()


def test_the_projector_has_a_table_for_every_record(run: Run) -> None:
    listed = (run.path / "projector_config.pbtxt").read_text()
    tables = [f"step-{step}.tsv" for step in reversed(RECORDS)]
    assert [line.split('"')[3] for line in listed.splitlines()] == [f"projector/{table}" for table in tables]
    labels = (run.path / "projector/tokens.tsv").read_text(encoding="utf-8").splitlines()
    assert len(labels) == len(run.tokenizer) + 1
    last = np.loadtxt(run.path / "projector" / tables[0], delimiter="\t")
    spaces = next(row for row, text in enumerate(labels[1:]) if text.startswith("␣\tblank\t"))
    expected = run.directory.read_weights("last")["embedding.weight"][run.tokenizer.tokens.index(" ")]
    assert last[spaces] == pytest.approx(expected, rel=1e-3)


def test_each_can_be_switched_off(tmp_path: Path) -> None:
    off = {"images": False, "histograms": False, "embeddings": False}
    tags = events_of(train(settings(tmp_path, inspect=off), tmp_path / "run")).Tags()
    assert (tags["histograms"], tags["images"]) == ([], [])
    assert not any(tag.startswith("gates") for tag in tags["scalars"])
    assert not (tmp_path / "run" / "projector").exists()
    assert not (tmp_path / "run" / "projector_config.pbtxt").exists()
    assert not (tmp_path / "run" / "memory.json").exists()


def test_it_records_at_the_start_and_the_end_and_in_between_only_within_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimeBudget, "available", property(lambda self: False))
    run = train(settings(tmp_path, inspect={"images": False}), tmp_path / "run")
    assert [event.step for event in events_of(run).Histograms("weights/layers.0.U")] == [0, 114]


def test_resumed_it_keeps_the_tables_of_steps_that_were_done(tmp_path: Path) -> None:
    run = train(settings(tmp_path, inspect={"images": False, "every": 1}), tmp_path / "run")
    (run.path / "projector" / "step-500.tsv").write_text("1\t2\n")  # of a step that a kill took back
    resume(run.path, {"trainer.max_epochs": 3})
    assert {path.name for path in (run.path / "projector").glob("step-*")} == {
        f"step-{step}.tsv" for step in [*RECORDS, 171]
    }


@pytest.mark.parametrize("unit", ["line", "document"])
def test_items_have_gradients_but_no_memory_horizon(tmp_path: Path, unit: str) -> None:
    config = settings(tmp_path, data={"unit": unit}, trainer={"max_epochs": 1})
    path = Path(config.data.text[0])
    path.write_text(path.read_text().replace("\n", "\n\n"), encoding="utf-8")
    tags = events_of(train(config, tmp_path / "run")).Tags()
    assert tags["images"] == ["gradient through time"]


@pytest.mark.parametrize("characters", [40, 300])
def test_a_text_of_a_few_characters_has_images(tmp_path: Path, characters: int) -> None:
    config = settings(tmp_path, data={"batch_size": 1, "seq_length": 4}, trainer={"max_steps": 3, "max_epochs": -1})
    Path(config.data.text[0]).write_text(small_text(characters), encoding="utf-8")
    assert "gradient through time" in events_of(train(config, tmp_path / "run")).Tags()["images"]


def test_a_network_that_diverges_is_recorded_too(tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        inspect={"images": True, "every": 1},
        samples={"scored": 50, "length": 5},
        optimizer={"lr": 1e30},
        trainer={"gradient_clip_val": 0.0, "max_steps": 8, "val_check_interval": 1.0},
    )
    run = train(config, tmp_path / "run")
    assert events_of(run).Tags()["images"] == ["gradient through time", "memory horizon"]
    assert max(sample.step for sample in run.samples) == 8  # of the weights that were restored
