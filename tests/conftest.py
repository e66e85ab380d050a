"""Shared helpers and fixtures: a small text, a small run, and commands run in this process."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# Before anything imports torch: tests run side by side, and their small networks gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from charlm.config import Config

WORDS = "the cat sat on the mat and the dog ran to the old house by the sea where nobody was at home".split()


def small_text(characters: int, seed: int = 0) -> str:
    """Generate sentences of a few words, which a small network can learn within seconds."""
    draw = random.Random(seed)
    lines: list[str] = []
    while sum(map(len, lines)) < characters:
        words = draw.choices(WORDS, k=draw.randint(3, 9))
        lines.append(" ".join(words).capitalize() + ".\n")
    return "".join(lines)[:characters]


def small_settings(text: Path, **groups: dict[str, object]) -> Config:
    """Settings of a network that trains within a second; `groups` override them, group by group."""
    values: dict[str, dict[str, object]] = {
        "data": {"text": [str(text)], "batch_size": 4, "seq_length": 16},
        "model": {"layers": 2, "hidden": 24, "embedding": 12, "dropout": 0.1},
        "optimizer": {"lr": 0.01, "warmup": 5},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 5, "precision": "32"},
        "samples": {"length": 40, "scored": 0},
        "inspect": {"images": False},
    }
    for group, settings in groups.items():
        values[group] = {**values.get(group, {}), **settings}
    return Config.from_dict(values)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a temporary cache, and hide the `CHARLM_*` environment variables of the developer."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CHARLM_")}
    os.environ["CHARLM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["CHARLM_CACHE"]
    os.environ.update(kept)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A file of 3,000 characters."""
    path = tmp_path / "text.txt"
    path.write_text(small_text(3000), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of two epochs, shared by tests that must not change it."""
    from charlm.training.trainer import train

    folder = tmp_path_factory.mktemp("tiny")
    text = folder / "text.txt"
    text.write_text(small_text(3000), encoding="utf-8")
    return train(small_settings(text), folder / "run").path


# -- commands, run in this process

SMALL = (
    "--data.batch_size 4 --data.seq_length 16 --model.layers 1 --model.hidden 8 --model.embedding 4 "
    "--trainer.max_steps 3 --trainer.accelerator cpu --trainer.precision 32 --samples.length 10 "
    "--samples.scored 0 --inspect.images false"
).split()


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The error message of a command that ended with status 2, without the prefix `charlm: `.

        It must be the last line of stderr, after lines of progress only; stdout must be empty.
        """
        *progress, last = self.err.splitlines()
        assert self.status == 2, self.err
        assert last.startswith("charlm: ")
        assert not any(line.startswith("charlm: ") or "Traceback" in line for line in progress), self.err
        assert re.search("[;,:?] .|[(]", last.removeprefix("charlm: ")), "it says what to do"
        assert self.out == ""
        return last.removeprefix("charlm: ")


Charlm = Callable[..., Done]


@pytest.fixture
def charlm(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Charlm]:
    """A function that runs a command in this process, with `tmp_path` as working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.delenv("CHARLM_RUN", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    from charlm.cli import main

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capfd.readouterr())

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(small_text(600), encoding="utf-8")
    return path


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_run` that a test may damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))
