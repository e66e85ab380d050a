"""Preparing a run: all of it or nothing, and starting from the weights of another."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from charlm.config import Config
from charlm.errors import CharlmError
from charlm.network.model import LanguageModel
from charlm.run import Run, inherit
from charlm.training.preparation import PARTIAL, prepare
from charlm.training.trainer import adopt, fit
from charlm.watcher import Watcher
from conftest import small_settings, small_text


class Lines(Watcher):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


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
    watcher, source = Lines(), Run(tiny_run)
    run = prepare(from_run(tiny_run, other_text), tmp_path / "run", watcher)
    old, new = source.tokenizer.tokens, run.tokenizer.tokens
    assert set(new) - set(old) == {"ö", "ß"}
    assert f"it knows {len(new) - 2} of the {len(new)} tokens (new: 2)" in watcher.lines[-1]
    torch.manual_seed(1)
    model = LanguageModel(run.shape)
    fresh = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    adopt(model, run, source)
    trained = source.weights("best")
    for name, weight in model.state_dict().items():
        if not name.startswith(("embedding", "output")):
            assert (weight.numpy() == trained[name]).all(), name
            continue
        for row, token in enumerate(new):
            expected = trained[name][old.index(token)] if token in old else fresh[name][row]
            assert (weight.numpy()[row] == expected).all(), (name, token)


def test_a_run_from_weights_begins_with_what_they_know(tiny_run: Path, text_file: Path, tmp_path: Path) -> None:
    run = prepare(from_run(tiny_run, text_file), tmp_path / "run", Watcher())
    assert run.shape == Run(tiny_run).shape
    fit(run, Watcher())
    assert run.samples[0].text == Run(tiny_run).generate(length=40, seed=1, temperature=0.8)


def test_a_network_of_another_form_is_explained(tiny_run: Path, text_file: Path, tmp_path: Path) -> None:
    values = from_run(tiny_run, text_file).to_dict()
    values["model"]["hidden"] = 99
    with pytest.raises(CharlmError, match=r"--model.hidden 99 does not fit .* have 24; leave it out"):
        prepare(Config.from_dict(values), tmp_path / "run", Watcher())
    run = prepare(from_run(tiny_run, text_file), tmp_path / "made", Watcher())
    weights = {name: torch.from_numpy(value) for name, value in Run(tiny_run).weights().items()}
    weights["layers.0.W"] = torch.from_numpy(np.zeros((3, 2), np.float32))
    run.save_weights(weights, "best")
    with pytest.raises(CharlmError, match=r"layers.0.W is 3x2 there and 96x12 here"):
        adopt(LanguageModel(run.shape), run, run)


def test_a_named_setting_is_never_overruled_by_the_weights(text_file: Path, tmp_path: Path) -> None:
    source = prepare(small_settings(text_file, model={"cell": "gru", "layers": 1}), tmp_path / "source", Watcher())
    source.save_weights(LanguageModel(source.shape).state_dict(), "best")
    values = {"data": {"text": [str(text_file)]}, "init_from": str(source.path)}
    assert prepare(Config.from_dict(inherit(values)), tmp_path / "run", Watcher()).shape == source.shape
    for model in ({"cell": "lstm"}, {"cell": "lstm", "hidden": None}):  # the default, and named all the same
        with pytest.raises(CharlmError, match=r"--model.cell lstm does not fit .*, whose weights have gru; leave it"):
            prepare(Config.from_dict(inherit(values | {"model": model})), tmp_path / "other", Watcher())
    with pytest.raises(CharlmError, match=r"--model.chrono says how weights start, and those of .* are trained; leave"):
        prepare(Config.from_dict(inherit(values | {"model": {"chrono": 9}})), tmp_path / "other", Watcher())
    assert inherit(values | {"init_from": "null"}) == values | {"init_from": "null"}
    changed = Config.from_dict(inherit(values | {"model": {"dropout": 0.0, "zoneout": 0.2}}))
    assert prepare(changed, tmp_path / "dropping", Watcher()).shape.zoneout == 0.2


def test_two_trainings_that_start_at_once_take_two_names(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Rival(Watcher):
        def say(self, line: str) -> None:
            if line.startswith("vocabulary"):  # in the midst of preparing
                Path("runs/text").mkdir(exist_ok=True)
                Path("runs/text/file").touch()

    assert prepare(small_settings(text_file), None, Rival()).path == Path("runs/text-2")
    with pytest.raises(CharlmError, match="runs/text exists already and is never overwritten"):
        prepare(small_settings(text_file), Path("runs/text"), Watcher())
    (tmp_path / "runs" / "named").mkdir()
    with pytest.raises(CharlmError, match="exists already"):
        prepare(small_settings(text_file), Path("runs/named"), Watcher())
    assert sorted(os.listdir("runs")) == ["named", "text", "text-2"]


def test_what_a_kill_left_behind_goes_after_a_day(text_file: Path, tmp_path: Path) -> None:
    for name, age in (("old", 90_000), ("new", 80_000)):
        folder = tmp_path / f"{PARTIAL}{name}"
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    prepare(small_settings(text_file), tmp_path / "run", Watcher())
    assert [path.name for path in tmp_path.glob(f"{PARTIAL}*")] == [f"{PARTIAL}new"]


def test_the_batch_is_chosen_for_the_devices(text_file: Path, tmp_path: Path) -> None:
    values = small_settings(text_file, trainer={"devices": "3", "strategy": "ddp"}).to_dict()
    values["data"]["batch_size"] = None
    run = prepare(Config.from_dict(values), tmp_path / "run", Watcher())
    assert run.config.data.batch_size is not None
    assert run.config.data.batch_size % 3 == 0
