"""Time `charlm score` of a text of 1 MB and `charlm attribute` of 1,000 lines by five models, as a person types them.

    python scripts/benchmark_score.py TEXT [--repeats 3]

The networks are LSTMs of 2 x 256 that were trained for two steps: the time does not depend on what they learned. The
table goes to standard output; times are those of whole commands, imports included.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS, LINES, BYTES = 5, 1000, 1_000_000


def charlm(*arguments: object) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "charlm", *map(str, arguments)], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    data = arguments.text.read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, lines = folder / "text.txt", folder / "lines.txt"
        text.write_bytes((data * (1 + BYTES // len(data)))[:BYTES].decode(errors="ignore").encode())
        full = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
        lines.write_text("\n".join(full[:LINES]) + "\n", encoding="utf-8")
        runs = [folder / f"run-{number}" for number in range(MODELS)]
        options = "--model.layers 2 --model.hidden 256 --trainer.max_steps 2 --samples.every 0 --samples.scored 0"
        for number, run in enumerate(runs):
            charlm("train", arguments.text, "--run", run, "--seed", number, *options.split())
        commands = {
            "score, 1 MB": ("score", runs[0], text),
            "score, 1 MB, with the page": ("score", runs[0], text, "--html", folder / "page.html"),
            f"attribute, {LINES:,} lines by {MODELS} models": ("attribute", lines, "--by", "line", "--runs", *runs),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.repeats):
            for name, command in commands.items():
                seconds[name].append(charlm(*command))
        size = (folder / "page.html").stat().st_size / 1e6
    print("| command | seconds, median | lowest | highest |\n|---|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")
    print(f"\nThe page has {size:.1f} MB.")


if __name__ == "__main__":
    main()
