"""Every cell on one text: parameters, speed, and validation loss after the same epochs and after the same time.

    python scripts/compare_cells.py input.txt --epochs 1 --minutes 3 --folder runs/cells

Each cell is trained twice. All settings but the cell are those of configs/tinyshakespeare-char.yaml:
once for `--epochs` and once for `--minutes`. In each, the learning rate falls over the whole
training. A run that is there already is read, not trained again, so that the table can be made in
several parts. Prints the table of the benchmarks page in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

import charlm
from charlm.config.plain import merge, nest
from charlm.network.cells import cells
from charlm.network.summary import parameter_count

PRESET = Path(__file__).parent.parent / "configs" / "tinyshakespeare-char.yaml"


def trained(text: Path, folder: Path, cell: str, settings: dict[str, Any]) -> charlm.Run:
    """The run in a directory, trained now if it is not there."""
    if (folder / "model.safetensors").is_file():
        return charlm.load(folder)
    wide = {} if cells[cell].gates else {"model.embedding": 256}
    preset = yaml.safe_load(PRESET.read_text())
    del preset["trainer"]
    return charlm.train(str(text), run=folder, **merge(preset, nest({"model.cell": cell, **wide, **settings})))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="tinyshakespeare/input.txt")
    parser.add_argument("--cells", nargs="+", default=list(cells), metavar="CELL")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/cells"), help="receives the runs")
    arguments = parser.parse_args()
    epochs, minutes = f"nats, {arguments.epochs} epochs", f"nats, {arguments.minutes:g} minutes"
    print(f"| cell | parameters | characters per second | {epochs} | {minutes} |")
    print("|---|---|---|---|---|", flush=True)
    for cell in arguments.cells:
        runs = [
            trained(arguments.text, arguments.folder / f"{cell}-{how}", cell, settings)
            for how, settings in (
                ("epochs", {"trainer.max_epochs": arguments.epochs}),
                ("minutes", {"trainer.max_time": f"{round(60 * arguments.minutes)}s"}),
            )
        ]
        losses = [min(row["val/loss"] for row in run.metrics if "val/loss" in row) for run in runs]
        last = runs[1].metrics[-1]
        read = last["epoch"] * len(runs[1].directory.stream("train"))
        parameters = parameter_count(runs[0].config.model, runs[0].directory.vocab_size)
        print(
            f"| `{cell}` | {parameters:,} | {read / last['seconds']:,.0f} | {losses[0]:.3f} | "
            f"{losses[1]:.3f} ({last['epoch']:.1f} epochs) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
