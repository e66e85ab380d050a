"""Kills: a training that is stopped at random moments and resumed must end like an unbroken one."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from functools import cache
from pathlib import Path

from charlm.training.run_logger import CLOCK
from faults.commands import TINY, Running, charlm, problems, said, sentences

EXPECTED = "weights, samples and metrics.csv (but for its clocks) equal those of the unbroken run, bit for bit"

COMMON = [*TINY, *"--model.dropout 0.3 --trainer.max_epochs 3 --checkpoint.every 3 --checkpoint.patience 0".split()]
TRAININGS = {
    "characters": [],
    "scored": ["--samples.scored", "300", "--samples.prompts", "the", "the old "],
    "lines": ["--data.unit", "line", "--optimizer.name", "sgd", "--optimizer.momentum", "0.9"],
    "words": "--tokenizer.kind word --model.cell gru --model.zoneout 0.1 --trainer.val_check_interval 0.5".split(),
    "accumulated": "--trainer.accumulate_grad_batches 3 --model.cell min_lstm --optimizer.schedule plateau".split(),
}
"""What is trained, by name."""

STATUS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
SECONDS = 120.0  # after which a training counts as hanging, on a machine with other work


def case(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Kill a training one to four times, while it prepares or trains, and let it end."""
    name = draw.choice(list(TRAININGS))
    unbroken, whole = _unbroken(work, name)
    if draw.random() < 0.3:  # without a cache, the signal may come while the tokens are made
        os.environ["CHARLM_CACHE"] = str(folder / ".cache")
    run, found, moments = folder / "run", [], []
    try:
        for _ in range(draw.randint(1, 4)):
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
            interpreter, twice = draw.random() < 0.15, draw.random() < 0.2
            after = draw.uniform(0, whole * (2.5 if interpreter else 1))
            running = Running(_command(work, name, run), folder, interpreter=interpreter)
            if (ended := running.wait(after)) is None:
                running.send(number)
                if twice:
                    time.sleep(draw.uniform(0, 0.1))
                    running.send(number)
                ended = running.wait(SECONDS) or running.kill()
                moments.append(f"{number.name}{' twice' * twice} after {after:.2f} s")
            # Before it prints that, the command handles no signals, and any ending is right.
            if "loading" in ended.err:
                # Python lets the signal end it after an import was interrupted; for a shell the status is the same.
                found += problems(ended, (0, STATUS[number], -number))
        ended = charlm(_command(work, name, run), folder, seconds=SECONDS)
        found += problems(ended, (0,))
        if not found and (different := [part for part, content in contents(run).items() if content != unbroken[part]]):
            found.append(f"{', '.join(different)} differ from the unbroken run; the last command said {said(ended)}")
        strangers = {path.name for path in folder.iterdir()} - {"run", ".out", ".err", ".cache"}
        leftovers = [str(path) for path in run.rglob("*.tmp")]
        if not found and (strangers or leftovers):
            found.append(f"left behind: {', '.join([*strangers, *leftovers])}")
    finally:
        os.environ["CHARLM_CACHE"] = str(work / "cache")
    return f"{name}: {', '.join(moments) or 'ended before any signal'}", found


def contents(run: Path) -> dict[str, object]:
    """What must not differ between two runs, by name."""
    found: dict[str, object] = {
        name: (run / name).read_bytes() for name in ("last.safetensors", "model.safetensors", "samples.jsonl")
    }
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        found["metrics.csv"] = [[row[name] for name in row if name not in CLOCK] for row in csv.DictReader(file)]
    return found


def _command(work: Path, name: str, run: Path) -> list[str]:
    if run.exists():
        return ["train", "--resume", "run"]
    return ["train", str(work / "text.txt"), "--run", "run", *COMMON, *TRAININGS[name]]


@cache
def _unbroken(work: Path, name: str) -> tuple[dict[str, object], float]:
    """What an unbroken run holds in the end, and how many seconds it takes."""
    folder = work / "unbroken" / name
    folder.mkdir(parents=True, exist_ok=True)
    text = work / "text.txt"
    if not text.exists():
        text.write_text(sentences(random.Random(1), 60), encoding="utf-8")
    run, began = folder / "run", time.monotonic()
    if not (folder / "seconds").exists():
        ended = charlm(_command(work, name, run), folder, seconds=SECONDS)
        if wrong := problems(ended, (0,)):
            raise RuntimeError(f"the unbroken run {name} fails: {wrong[0]}")
        (folder / "seconds").write_text(str(time.monotonic() - began))
    return contents(run), float((folder / "seconds").read_text())
