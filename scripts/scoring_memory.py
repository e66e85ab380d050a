"""The memory that preparing and scoring need before training begins, for texts of several sizes.

    python scripts/scoring_memory.py [--megabytes 30 300 1000] [--folder /tmp]

For each size a text of random words is written, and a process of its own does what `charlm train` does before the first
step, with default settings: it reads the text, learns the vocabulary, writes the tokens, and
computes the scores of real and n-gram text with which samples are compared. Then it scores a text.
It prints the peak of the resident memory after each part. The texts are deleted.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = 50_000  # different words of the text; frequency is proportional to 1 / rank (Zipf)
LINE = 12  # words of a line


def write_text(path: Path, megabytes: int) -> None:
    """Write a text of random words."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    frequent = [1 / rank for rank in range(1, len(letters) + 1)]
    words = ["".join(draw.choices(letters, frequent, k=draw.randint(1, 10))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            drawn = draw.choices(words, weights, k=100_000)
            file.writelines(" ".join(drawn[at : at + LINE]) + ".\n" for at in range(0, len(drawn), LINE))


def peak() -> int:
    """The peak resident memory of this process so far, in MiB."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0  # Linux only


def measure(text: Path, folder: Path) -> None:
    """Print one line: the peaks after each part; call it in a new process."""
    from charlm.config import Config
    from charlm.reporter import Reporter
    from charlm.training.preparation import prepare
    from charlm.training.run_logger import RunLogger
    from charlm.training.sample_logger import SampleLogger
    from charlm.training.trainer import train  # noqa: F401 - what training imports is part of its memory

    loaded, began = peak(), time.perf_counter()
    config = Config.from_dict({"data": {"text": [str(text)]}})
    directory = prepare(config, folder / "run", Reporter())
    prepared, middle = peak(), time.perf_counter()
    logger = RunLogger(directory, 0, tensorboard=False, others=[])
    metrics = SampleLogger(directory, directory.config, logger, Reporter())._prepare_metrics()
    metrics.score(metrics.held_out.text)
    print(
        f"{text.stat().st_size / 1e6:7,.0f} MB of text: {loaded} MB with torch and lightning loaded, "
        f"{prepared} MB after preparing ({middle - began:.0f} s), {peak()} MB after scoring "
        f"({time.perf_counter() - middle:.0f} s)"
    )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[30, 300, 1000])
    parser.add_argument("--folder", type=Path, help="where the texts are written (default: the temporary folder)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.measure.parent)
        return
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="charlm-") as folder:
            text = Path(folder) / "text.txt"
            write_text(text, megabytes)
            environment = {**os.environ, "CHARLM_CACHE": f"{folder}/cache"}
            subprocess.run([sys.executable, __file__, "--measure", text], check=True, env=environment)


if __name__ == "__main__":
    main()
