"""Tiny Shakespeare with the preset, for three minutes and for ten: validation loss in nats per character.

    python scripts/tinyshakespeare.py ../shared/data/tinyshakespeare/input.txt --folder runs/measured

Trains with configs/tinyshakespeare-char.yaml and configs/char.yaml, loads the best weights and reads the whole
validation part (the last tenth, nanoGPT's split) twice: with the state carried through from its first character to its
last, and in windows of 256 characters that each start from the zero state. The latter is the number
to compare with nanoGPT's published 1.4697 (GPU) and 1.88 (CPU).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from torch.nn import functional as F

import charlm
from charlm.network.summary import parameter_count

PRESETS = {"3m": "tinyshakespeare-char.yaml", "10m": "char.yaml"}
WINDOW = 256


@torch.no_grad()
def zero_state_loss(run: charlm.Run) -> float:
    """Nats per character over consecutive windows of 256 characters, each read from the zero state."""
    model = run.load_model()
    ids = torch.from_numpy(run.directory.stream("val").ids[:].astype("int64"))
    windows = (len(ids) - 1) // WINDOW
    inputs = ids[: windows * WINDOW].view(windows, WINDOW)
    targets = ids[1 : windows * WINDOW + 1].view(windows, WINDOW)
    total = 0.0
    for x, y in zip(inputs.split(64), targets.split(64), strict=True):
        total += float(F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten(), reduction="sum"))
    return total / targets.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="tinyshakespeare/input.txt")
    parser.add_argument("--folder", type=Path, default=Path("runs/tinyshakespeare"), help="receives the runs")
    parser.add_argument("--only", choices=["3m", "10m"])
    arguments = parser.parse_args()
    for name, preset in PRESETS.items():
        if arguments.only in (None, name):
            settings = yaml.safe_load((Path(__file__).parent.parent / "configs" / preset).read_text())
            run = charlm.train(str(arguments.text), run=arguments.folder / name, **settings)
            model = run.config.model
            parameters = parameter_count(model, run.directory.vocab_size)
            print(
                f"{name}: {model.layers} x {model.hidden} {model.cell}, {parameters / 1e6:.2f} M parameters, "
                f"validation {run.evaluate().loss:.4f} nats per character (state carried), "
                f"{zero_state_loss(run):.4f} (zero state, windows of {WINDOW})",
                flush=True,
            )


if __name__ == "__main__":
    main()
