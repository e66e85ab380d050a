"""The manifest of a run: damage is found when a file is read, and a kill at any moment is no damage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from charlm.errors import CharlmError
from charlm.manifest import Manifest
from charlm.run_directory import MemoryRecord, RunDirectory
from conftest import Charlm

READ_BY = {
    "config.yaml": ["train", "--resume"],
    "tokenizer.json": ["generate"],
    "model.json": ["generate"],
    "model.safetensors": ["generate"],
    "checkpoints/last.ckpt": ["train", "--resume"],
    "tokens/streams.json": ["evaluate"],
    "tokens/val.ids": ["evaluate"],
    "tokens/train.ids": ["train", "--trainer.max_epochs", "3", "--resume"],
    "quality.json": ["report"],
    "memory.json": ["report"],
}
"""A file of a run, and a command whose result depends on it."""


def rewrite(path: Path, data: bytes) -> None:
    """Change a file of this run alone: tokens are links into the cache."""
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("name", READ_BY)
@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_one_flipped_bit_is_found(charlm: Charlm, run: Path, name: str, where: float) -> None:
    if name == "quality.json":
        RunDirectory(run).write_quality(references={}, left_out={}, size=0)
    if name == "memory.json":
        RunDirectory(run).write_memory(MemoryRecord(8, 1.0, [1, 2], [[0.5, 0.25]], [1, 2], [3.0, 2.0]))
    data = bytearray((run / name).read_bytes())
    data[int(where * len(data))] ^= 4
    rewrite(run / name, bytes(data))
    mistake = charlm(*READ_BY[name], run).mistake
    assert f"{run / name} is damaged (its checksum is not that in checksums.json)" in mistake


def test_a_config_cut_at_a_line_end_does_not_take_defaults(charlm: Charlm, run: Path) -> None:
    lines = (run / "config.yaml").read_text().splitlines(keepends=True)
    (run / "config.yaml").write_text("".join(lines[: lines.index("optimizer:\n") + 1]))
    assert "config.yaml is damaged" in charlm("train", "--resume", run).mistake


def test_every_file_that_is_replaced_as_a_whole_is_in_it(tiny_run: Path) -> None:
    names = set(json.loads((tiny_run / "checksums.json").read_text()))
    grown = {"metrics.csv", "samples.jsonl", "checksums.json", "projector_config.pbtxt", ".lock"}
    files = {str(path.relative_to(tiny_run)) for path in tiny_run.rglob("*") if path.is_file()}
    assert names == {name for name in files - grown if not name.startswith(("events.", "projector/", "report."))}


def test_without_it_files_are_taken_as_they_are_and_the_next_training_makes_it(charlm: Charlm, run: Path) -> None:
    (run / "checksums.json").unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("max_epochs: 2", "max_epochs: 3"))
    assert charlm("train", "--resume", run).status == 0
    assert set(json.loads((run / "checksums.json").read_text())) >= {"config.yaml", "model.json", "tokens/train.ids"}
    RunDirectory(run).read_weights("last")


def test_a_process_killed_before_the_renaming_leaves_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, path = Manifest(tmp_path), tmp_path / "file"
    for text in ("first", "second"):
        with manifest.writing("file") as file:
            file.write(text)
    replace = Path.replace

    def kill(self: Path, target: Path) -> Path:
        if Path(target) == path:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", kill)
    with pytest.raises(KeyboardInterrupt), manifest.writing("file") as file:
        file.write("third")
    assert path.read_text() == "second"
    manifest.verify("file", "")
    path.write_text("first")  # of two versions ago
    with pytest.raises(CharlmError, match="file is damaged"):
        manifest.verify("file", "")


def test_a_file_that_is_replaced_while_it_is_read_is_not_damaged(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    with manifest.writing("file") as file:
        file.write("old")
    read = manifest._read

    def late() -> dict[str, list[int]]:
        known = read()
        for text in ("new", "newest"):
            with Manifest(tmp_path).writing("file") as file:
                file.write(text)
        manifest._read = read  # type: ignore[method-assign]
        return known

    manifest._read = late  # type: ignore[method-assign]
    manifest.verify("file", "")


@pytest.mark.parametrize("content", ["", "[]", '{"config.yaml": ["x"]}'])
def test_a_damaged_manifest_is_named(charlm: Charlm, run: Path, content: str) -> None:
    (run / "checksums.json").write_text(content)
    assert "checksums.json is damaged" in charlm("generate", run).mistake


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "tokens/val.ids", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_named_and_never_waited_for(charlm: Charlm, run: Path, name: str, make: object) -> None:
    (run / name).unlink()
    make(run / name)  # type: ignore[operator]
    assert charlm(*READ_BY[name], run).mistake


def test_a_copy_of_a_run_is_whole(charlm: Charlm, run: Path) -> None:
    shutil.copytree(run, "copy")
    assert charlm("evaluate", "copy").status == 0


def test_another_runs_tokens_are_found(charlm: Charlm, run: Path) -> None:
    """Without checksums too: ids that the vocabulary does not have would end a training with an error of torch."""
    (run / "checksums.json").unlink()
    path = run / "tokens" / "train.ids"
    rewrite(path, b"\xfe" * path.stat().st_size)
    assert "train.ids is damaged (it does not fit its vocabulary)" in charlm(*READ_BY["tokens/train.ids"], run).mistake


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: (path.unlink(), path.mkdir())])
def test_a_run_that_lost_its_validation_text_does_not_train_without(charlm: Charlm, run: Path, damage: object) -> None:
    damage(run / "tokens" / "val.ids")  # type: ignore[operator]
    done = charlm("train", "--resume", run, "--trainer.max_epochs", "3")
    assert done.status == 2
    assert "val.ids is missing" in done.err or "val.ids is damaged (it is a directory)" in done.err


@pytest.mark.parametrize(("name", "value"), [("characters", 0), ("bytes", 0), ("tokens", 1), ("characters", -1)])
def test_counts_that_no_text_has_are_named(charlm: Charlm, run: Path, name: str, value: int) -> None:
    (run / "checksums.json").unlink()
    path = run / "tokens" / "streams.json"
    facts = json.loads(path.read_text())
    facts["splits"]["val"]["predicted"][name] = value
    rewrite(path, json.dumps(facts).encode())
    assert "val.ids is damaged" in charlm("evaluate", run).mistake
