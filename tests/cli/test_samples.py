"""charlm samples as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import SMALL, Charlm


def test_samples_can_be_picked(charlm: Charlm, text: Path) -> None:
    options = ["--samples.prompts", "The", "", "--samples.count", "2"]
    assert charlm("train", text, *SMALL, *options, "--run", "run").status == 0
    rows = [json.loads(line) for line in charlm("samples", "run", "--json").out.splitlines()]
    epochs = sorted({row["epoch"] for row in rows})
    assert len(epochs) == 4  # 3 steps: a point at 1/8 and 1/4 of them, one at 1/2, one at the end
    assert [(row["prompt"], row["seed"], row["epoch"]) for row in rows] == [
        (prompt, seed, epoch) for epoch in epochs for prompt in ("The", "") for seed in (1, 2)
    ]
    picked = charlm("samples", "run", "--json", "--prompt", "The", "--epoch", "0").out.splitlines()
    assert [json.loads(line) for line in picked] == rows[:2]
    named = ", ".join(f"{epoch:g}" for epoch in epochs)
    assert f"it has prompts '', 'The' at epochs {named}" in charlm("samples", "run", "--epoch", "7").mistake
    shown = charlm("samples", "run").out
    assert shown.index("initialisation (step 0, prompt 'The', seed 1") < shown.index("(step 3, prompt 'The', seed 2")
