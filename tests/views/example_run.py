"""A run directory for tests of the views, written without any training."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from charlm.config import Config
from charlm.config.plain import to_plain
from charlm.config.resolve import Facts, resolve
from charlm.evaluation.text_metrics import BASELINE, REFERENCE, WEAK_BASELINE
from charlm.run_directory import RunDirectory, Sample

REFERENCES = {
    REFERENCE: {"words_in_training_text": 0.9, "ngram_bits": 2.25, "character_divergence_4": 0.2},
    WEAK_BASELINE: {"words_in_training_text": 0.1, "ngram_bits": 4.5, "character_divergence_4": 0.8},
    BASELINE: {"words_in_training_text": 0.6, "ngram_bits": 2.5, "character_divergence_4": 0.4},
}

MODEL = {"layers": 1, "hidden": 8, "embedding": 4, "dropout": 0.1, "tie": False}


def example_run(
    path: Path,
    *,
    losses: Sequence[float] = (2.0, 1.8, 1.7),
    rows: int = 30,
    prompts: Sequence[str] = ("", "The "),
    text: Callable[[str, int], str] = lambda prompt, epoch: f"written at {epoch} after {prompt!r}",
    scored: bool = True,
    references: bool = True,
    **settings: dict[str, Any],
) -> RunDirectory:
    """Write a run directory with samples at initialisation and after each epoch.

    Args:
        path: The directory to create.
        losses: Validation loss of each epoch, in nats per token.
        rows: Number of logged training losses.
        prompts: Prompts of the samples.
        text: Function of (prompt, epoch) that returns the text of a sample.
        scored: Whether the samples have scores.
        references: Whether to write `quality.json`, the scores of the reference texts.
        settings: Groups of settings; `model` is merged with `MODEL`, others replace the defaults.
    """
    path.mkdir(parents=True)
    epochs = len(losses)
    values = {"trainer": {"max_epochs": epochs}, "model": {**MODEL, **settings.pop("model", {})}}
    config = resolve(Config.from_dict(values | settings), Facts(tokens=100_000, vocab_size=20)).config
    (path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()), encoding="utf-8")
    model = {"vocab_size": 20} | to_plain(config.model)
    (path / "model.json").write_text(json.dumps(model), encoding="utf-8")
    (path / "tokenizer.json").touch()  # no view reads it
    last = 100 * epochs
    with (path / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
        columns = ["step", "epoch", "seconds", "train/loss", "val/loss", "val/bits_per_character", "val/perplexity"]
        writer = csv.DictWriter(file, [*columns, "val/tokens", "train/learning_rate"], lineterminator="\n")
        writer.writeheader()
        for number in range(1, rows + 1):
            step = number * last // rows
            loss = 1.5 + 2.5 * math.exp(-5 * number / rows)
            writer.writerow(
                {
                    "step": step,
                    "epoch": step / 100,
                    "seconds": step / 10,
                    "train/loss": loss,
                    "train/learning_rate": 0.01,
                }
            )
        for epoch, loss in enumerate(losses, 1):
            bits = loss / math.log(2)
            row = {"step": 100 * epoch, "epoch": epoch, "seconds": 10 * epoch, "val/loss": loss, "val/tokens": 200}
            writer.writerow(row | {"val/bits_per_character": bits, "val/perplexity": math.exp(loss)})
    directory = RunDirectory(path)
    for epoch in range(epochs + 1):
        progress = 1 - math.exp(-epoch)
        low, high = REFERENCES[WEAK_BASELINE], REFERENCES[REFERENCE]
        scores = {name: low[name] + progress * (high[name] - low[name]) for name in low}
        for prompt in prompts:
            written = text(prompt, epoch)
            directory.add_sample(Sample(epoch, 100 * epoch, prompt, 1, 0.8, written, scores if scored else {}))
    if references:
        ngram = {"name": "8-gram, Kneser-Ney", "losses": {"100": 2.1, "200": 2.2}}
        left_out = dict.fromkeys(["zipf_exponent", "heaps_exponent"], "this text has fewer than 100 different words")
        quality = json.dumps({"references": REFERENCES, "left_out": left_out, "size": 10_000, "ngram": ngram})
        (path / "quality.json").write_text(quality, encoding="utf-8")
    return directory
