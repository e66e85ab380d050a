"""Preparing a run: all of it or nothing, and starting from the weights of another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from charlm.config import Config
from charlm.errors import CharlmError
from charlm.files import temporary_path
from charlm.network.model import LanguageModel
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.run_directory import RunDirectory
from charlm.training.preparation import prepare
from charlm.training.pretrained import inherit, load_pretrained
from charlm.training.trainer import fit
from conftest import small_settings, small_text


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def network(directory: RunDirectory) -> LanguageModel:
    """The network of a run, with newly initialised weights."""
    return LanguageModel(directory.model_config, directory.vocab_size)


def from_run(source: Path, text: Path) -> Config:
    values = small_settings(text, data={"val_fraction": 0.2}).to_dict()
    values["model"] = {}
    return Config.from_dict(inherit(values | {"init_from": str(source)}))


@pytest.fixture
def other_text(tmp_path: Path) -> Path:
    """A text that lacks some of the first one's characters and has two of its own."""
    path = tmp_path / "other.txt"
    path.write_text("ö" + small_text(2000, seed=5).replace("w", "ß"), encoding="utf-8")
    return path


def test_tokens_that_both_know_keep_their_rows(tiny_run: Path, other_text: Path, tmp_path: Path) -> None:
    reporter, source = Lines(), RunDirectory(tiny_run)
    run = prepare(from_run(tiny_run, other_text), tmp_path / "run", reporter)
    old, new = source.tokenizer.tokens, run.tokenizer.tokens
    assert set(new) - set(old) == {"ö", "ß"}
    assert f"it knows {len(new) - 2} of the {len(new)} tokens (new: 2)" in reporter.lines[-1]
    torch.manual_seed(1)
    model = network(run)
    fresh = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    load_pretrained(model, run, source)
    trained = source.read_weights("best")
    for name, weight in model.state_dict().items():
        if not name.startswith(("embedding", "output")):
            assert (weight.numpy() == trained[name]).all(), name
            continue
        for row, token in enumerate(new):
            expected = trained[name][old.index(token)] if token in old else fresh[name][row]
            assert (weight.numpy()[row] == expected).all(), (name, token)


def test_a_run_from_weights_begins_with_what_they_know(tiny_run: Path, text_file: Path, tmp_path: Path) -> None:
    directory, source = prepare(from_run(tiny_run, text_file), tmp_path / "run", Reporter()), RunDirectory(tiny_run)
    assert (directory.model_config, directory.vocab_size) == (source.model_config, source.vocab_size)
    run = fit(directory, Reporter())
    assert run.samples[0].text == Run(tiny_run).generate(length=40, seed=1, temperature=0.8)


def test_a_network_of_another_shape_is_explained(tiny_run: Path, text_file: Path, tmp_path: Path) -> None:
    values = from_run(tiny_run, text_file).to_dict()
    values["model"]["hidden"] = 99
    with pytest.raises(CharlmError, match=r"`model.hidden` 99 does not fit .* have 24; leave it out"):
        prepare(Config.from_dict(values), tmp_path / "run", Reporter())
    run = prepare(from_run(tiny_run, text_file), tmp_path / "made", Reporter())
    weights = {name: torch.from_numpy(value) for name, value in RunDirectory(tiny_run).read_weights().items()}
    weights["layers.0.W"] = torch.from_numpy(np.zeros((12, 96), np.float32))
    run.write_weights(weights, "best")
    with pytest.raises(CharlmError, match=r"layers.0.W is 12x96 there and 96x12 here"):
        load_pretrained(network(run), run, run)


def test_a_named_setting_is_never_overruled_by_the_weights(text_file: Path, tmp_path: Path) -> None:
    source = prepare(small_settings(text_file, model={"cell": "gru", "layers": 1}), tmp_path / "source", Reporter())
    source.write_weights(network(source).state_dict(), "best")
    values = {"data": {"text": [str(text_file)]}, "init_from": str(source.path)}
    taken = prepare(Config.from_dict(inherit(values)), tmp_path / "run", Reporter())
    assert (taken.model_config, taken.vocab_size) == (source.model_config, source.vocab_size)
    for model in ({"cell": "lstm"}, {"cell": "lstm", "hidden": None}):  # the default, and named all the same
        with pytest.raises(CharlmError, match=r"`model.cell` lstm does not fit .*, whose weights have gru; leave it"):
            prepare(Config.from_dict(inherit(values | {"model": model})), tmp_path / "other", Reporter())
    with pytest.raises(CharlmError, match=r"`model.chrono` sets how weights start, and those of .* are trained; leave"):
        prepare(Config.from_dict(inherit(values | {"model": {"chrono": 9}})), tmp_path / "other", Reporter())
    assert inherit(values | {"init_from": ""}) == values | {"init_from": ""}
    changed = Config.from_dict(inherit(values | {"model": {"dropout": 0.0, "zoneout": 0.2}}))
    assert prepare(changed, tmp_path / "dropping", Reporter()).model_config.zoneout == 0.2


def test_two_trainings_that_start_at_once_take_two_names(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Rival(Reporter):
        def say(self, line: str) -> None:
            if line.startswith("vocabulary"):  # in the midst of preparing
                Path("runs/text").mkdir(exist_ok=True)
                Path("runs/text/file").touch()

    assert prepare(small_settings(text_file), None, Rival()).path == Path("runs/text-2")
    with pytest.raises(CharlmError, match="runs/text exists already and is never overwritten"):
        prepare(small_settings(text_file), Path("runs/text"), Reporter())
    (tmp_path / "runs" / "named").mkdir()
    with pytest.raises(CharlmError, match="exists already"):
        prepare(small_settings(text_file), Path("runs/named"), Reporter())
    assert sorted(os.listdir("runs")) == ["named", "text", "text-2"]


def test_what_killed_preparations_left_behind_goes(text_file: Path, tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    alive = temporary_path(tmp_path / "run")
    dead = alive.with_name(alive.name.replace(f"-{os.getpid()}-", f"-{killed.pid}-"))
    elsewhere = [tmp_path / f".{name}.00000000-1-abcdef.tmp" for name in ("old", "new")]
    for folder in (alive, dead, *elsewhere):
        folder.mkdir()
        (folder / "file").touch()
    os.utime(elsewhere[0], (time.time() - 90_000,) * 2)
    prepare(small_settings(text_file), tmp_path / "run", Reporter())
    assert sorted(tmp_path.glob(".*.tmp")) == sorted([alive, elsewhere[1]])


def test_the_batch_is_chosen_for_the_devices(text_file: Path, tmp_path: Path) -> None:
    values = small_settings(text_file, trainer={"devices": "3", "strategy": "ddp"}).to_dict()
    values["data"]["batch_size"] = None
    run = prepare(Config.from_dict(values), tmp_path / "run", Reporter(), processes=3)
    assert run.config.data.batch_size is not None
    assert run.config.data.batch_size % 3 == 0
