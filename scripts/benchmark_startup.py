"""Seconds from the start of a command: `charlm --help` to its end, `charlm generate` to its first character.

    python scripts/benchmark_startup.py [RUN ...]

Without a run, two untrained ones (LSTM 2 x 256 and 2 x 512) are made in a temporary folder. Prints the median of
`--rounds`, and the range.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from charlm.config import Config, ModelConfig
from charlm.network.model import LanguageModel
from charlm.run_directory import RunDirectory
from charlm.text.tokenization import learn

CHARLM = Path(sys.executable).with_name("charlm")


def untrained(path: Path, hidden: int) -> Path:
    """A run directory with random weights, as a training leaves one."""
    path.mkdir()
    config = replace(Config(), model=ModelConfig("lstm", 2, hidden, embedding=64, dropout=0.0, tie=False))
    tokenizer = learn(config.tokenizer, ["".join(chr(32 + i) for i in range(64)) + "\n"])
    directory = RunDirectory.create(path, config, tokenizer)
    torch.manual_seed(0)
    directory.write_weights(LanguageModel(config.model, len(tokenizer)).state_dict(), "best")
    return path


def seconds(*arguments: str, first: bool = False) -> float:
    """How long a command takes to its end, or to the first byte of its standard output."""
    start = time.perf_counter()
    with subprocess.Popen(
        [str(CHARLM), *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        if first:
            assert process.stdout.read(1)
            took = time.perf_counter() - start
        process.communicate()
        return took if first else time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = arguments.runs or [untrained(Path(folder) / f"2x{hidden}", hidden) for hidden in (256, 512)]
        rows: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            rows.setdefault("charlm --help, to its end", []).append(seconds("--help"))
            for run in runs:
                generate = ("generate", str(run), "--seed", "1", "--length", "200")
                rows.setdefault(f"charlm generate {run.name}, first character", []).append(
                    seconds(*generate, first=True)
                )
                rows.setdefault(f"charlm generate {run.name}, 200 characters to the end", []).append(seconds(*generate))
        for name, times in rows.items():
            print(f"{name:50} median {statistics.median(times):.3f} s, {min(times):.3f} to {max(times):.3f}")


if __name__ == "__main__":
    main()
