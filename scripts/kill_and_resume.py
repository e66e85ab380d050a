"""Kill a training at random moments, resume it each time, and check that it ends as an unbroken run does.

    python scripts/kill_and_resume.py [--kills 20] [--seed 1]

Every attempt starts the same small training in a new process, sends it a signal at a random moment while it prepares
(every fourth attempt) or trains, and continues with `charlm train --resume`, or with the same command if there was no
run yet. Weights, samples and losses must equal those of an unbroken run bit for bit. The signal is SIGKILL, in the last
four attempts SIGINT and SIGTERM, while training and while preparing.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPTIONS = (
    "--data.batch_size 4 --data.seq_length 32 --model.layers 2 --model.hidden 24 --model.embedding 12 "
    "--model.dropout 0.3 --trainer.max_epochs 5 --trainer.accelerator cpu --trainer.precision 32 "
    "--trainer.log_every_n_steps 5 --checkpoint.every 3 --checkpoint.patience 0 --samples.length 20"
).split()
WORDS = "the cat sat on the mat and the dog ran to the old house by the sea where nobody was at home".split()


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a training at random moments and resume it.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        text.write_text("".join(" ".join(draw.choices(WORDS, k=6)) + ".\n" for _ in range(110)), encoding="utf-8")
        unbroken = folder / "unbroken"
        code, last, preparing, training = attempt(["train", str(text), "--run", str(unbroken), *OPTIONS], unbroken)
        assert code == 0, last
        print(f"the unbroken run prepared for {preparing:.1f} s and trained for {training:.1f} s\n")
        print("signal   sent after              stood at                  exit  then  same  said")
        failures = 0
        signals = [signal.SIGKILL] * arguments.kills + [signal.SIGINT, signal.SIGTERM] * 2
        for number, sent in enumerate(signals):
            early = number % 4 == 0 if sent == signal.SIGKILL else number >= len(signals) - 2
            run = folder / f"run-{number}"
            first = ["train", str(text), "--run", str(run), *OPTIONS]
            code, latest = 0, 0.9 * preparing if early else 0.6 * training  # at its end it leaves for long
            while not code:  # a signal that came after the end is sent again, earlier
                shutil.rmtree(run, ignore_errors=True)
                after = draw.uniform(0, latest)
                code, last, *_ = attempt(first, run, sent, early, after)
                latest = after
            stood = where(run)
            again = ["train", "--resume", str(run)] if run.exists() else first
            then, message, *_ = attempt(again, run)
            same = then == 0 and contents(run) == contents(unbroken)
            failures += not same
            said = last if sent != signal.SIGKILL else "" if same else message
            moment = f"{after:4.2f}s of {'preparing' if early else 'training'}"
            print(
                f"{sent.name:8} {moment:23} {stood:25} {code:4}  {then:4}  {'yes' if same else 'NO':4}  "
                f"{said.replace(str(folder), '')}",
                flush=True,
            )
    print(f"\n{len(signals) - failures} of {len(signals)} ended as the unbroken run")
    sys.exit(1 if failures else 0)


def attempt(
    arguments: list[str], run: Path, sent: int | None = None, early: bool = True, after: float = 0.0
) -> tuple[int, str, float, float]:
    """Run a command and perhaps send it a signal so many seconds after it began, or after its run was there.

    Returns its exit status, its last line, and the seconds that it prepared and trained.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if sent is not None and early:
        time.sleep(after)
        process.send_signal(sent)
    while not run.exists() and process.poll() is None:
        time.sleep(0.002)
    there = time.monotonic()
    if sent is not None and not early:
        time.sleep(after)
        process.send_signal(sent)
    _, errors = process.communicate()
    return process.returncode, (errors.splitlines() or [""])[-1], there - began, time.monotonic() - there


def where(run: Path) -> str:
    """How far a training had come."""
    if not run.exists():
        return "no run yet"
    if not (run / "checkpoints" / "last.ckpt").exists():
        return "no checkpoint yet"
    with (run / "metrics.csv").open(encoding="utf-8", errors="replace") as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    return f"step {steps[-1]} or later" if steps else "its first steps"


def contents(run: Path) -> list[object]:
    """What must not differ: weights, samples and losses."""
    files: list[object] = [
        (run / name).read_bytes() for name in ("last.safetensors", "model.safetensors", "samples.jsonl")
    ]
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        rows = [(row["step"], row["train/loss"], row["val/loss"]) for row in csv.DictReader(file)]
    return [*files, rows]


if __name__ == "__main__":
    main()
