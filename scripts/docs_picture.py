"""The picture of the README: three points of a sample history, side by side in a terminal, as SVG.

    charlm train input.txt --run runs/plays --config configs/quick-char.yaml --trainer.max_time '' \
        --trainer.max_epochs 4 --samples.every 2 --samples.prompts $'ROMEO:\n' --samples.length 260
    python scripts/docs_picture.py runs/plays --epochs 0 0.501 4 > docs/images/samples.svg
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMAND = ["samples", "runs/plays", "--side_by_side"]


def main() -> None:
    parser = argparse.ArgumentParser(description="The sample history of a run as SVG, on standard output.")
    parser.add_argument("run", type=Path, help="the directory of a training")
    parser.add_argument("--epochs", type=float, nargs="+", default=[0, 0.501, 4], help="the points shown")
    parser.add_argument("--columns", type=int, default=108, help="width of the terminal")
    parser.add_argument("--lines", type=int, default=22, help="most lines shown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, COMMAND[1])
        run.mkdir(parents=True)
        for file in arguments.run.glob("*.[jy]*"):
            run.joinpath(file.name).write_bytes(file.read_bytes())
        samples = (arguments.run / "samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        shown = [line for line in samples if json.loads(line)["epoch"] in arguments.epochs]
        run.joinpath("samples.jsonl").write_text("".join(shown), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "charlm", *COMMAND],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=folder,
            env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(arguments.columns)},
        )
    console = Console(record=True, width=arguments.columns, file=io.StringIO())
    lines = done.stdout.splitlines()[: arguments.lines]
    console.print(Text.from_ansi("\n".join(lines)), no_wrap=True, crop=True)
    print(console.export_svg(title=f"$ charlm {' '.join(COMMAND)}"))


if __name__ == "__main__":
    main()
