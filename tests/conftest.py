"""What several tests share: a small text, and one small run trained on it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports torch: tests run side by side, and their small networks gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from charlm.config import Config

WORDS = "the cat sat on the mat and the dog ran to the old house by the sea where nobody was at home".split()


def small_text(characters: int, seed: int = 0) -> str:
    """Sentences of a few words, so that a small network learns something within seconds."""
    draw = random.Random(seed)
    lines: list[str] = []
    while sum(map(len, lines)) < characters:
        words = draw.choices(WORDS, k=draw.randint(3, 9))
        lines.append(" ".join(words).capitalize() + ".\n")
    return "".join(lines)[:characters]


def small_settings(text: Path, **groups: dict[str, object]) -> Config:
    """A network that trains within a second; groups of settings on top."""
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
    """Tests never touch the cache of the person who runs them, nor are they moved by their variables."""
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
    """The directory of a finished run of two epochs; not to be changed."""
    from charlm.training.trainer import train

    folder = tmp_path_factory.mktemp("tiny")
    text = folder / "text.txt"
    text.write_text(small_text(3000), encoding="utf-8")
    return train(small_settings(text), folder / "run").path
