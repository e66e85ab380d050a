"""Settings that nobody named, chosen from the size of the text and the machine, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from charlm.config import Config
from charlm.network.cells import cells, gated

Choice = tuple[str, Any, str]
"""Dotted name of a setting, its value, and why."""

WORDS_LIKE = 1000
"""Vocabulary from which a model is treated as one of words rather than characters."""


def choose(config: Config, tokens: int, vocabulary: int, gpu: bool, processes: int = 1) -> list[Choice]:
    """Fill in every setting that is None; a setting that was named is left alone.

    Args:
        config: The settings; filled in place.
        tokens: Tokens of the training text.
        vocabulary: Distinct tokens.
        gpu: Whether the run has a GPU.
        processes: How many share the lanes.

    Returns:
        The choices that were made, for printing.
    """
    made: list[Choice] = []

    def fill(group: Any, name: str, value: Any, reason: str) -> Any:
        section, key = name.split(".")
        if getattr(group, key) is None:
            setattr(group, key, value)
            made.append((f"{section}.{key}", value, reason))
        return getattr(group, key)

    _choose_model(config, tokens, vocabulary, gpu, fill)
    _choose_reading(config, tokens, gpu, processes, fill)
    _choose_length(config, tokens, gpu, fill)
    if config.data.unit == "line":
        fill(config.samples, "samples.count", 5, "a line is short")
    else:
        config.samples.count = config.samples.count or 1
    return made


Fill = Callable[[Any, str, Any, str], Any]


def _choose_model(config: Config, tokens: int, vocabulary: int, gpu: bool, fill: Fill) -> None:
    model = config.model
    words = vocabulary >= WORDS_LIKE
    size = f"{tokens:,} tokens of training text"
    if tokens < 150_000:
        layers, hidden, dropout = 1, 128, 0.1
    elif tokens < 600_000:
        layers, hidden, dropout = 2, 192 if not gpu else 256, 0.1
    elif tokens < 20_000_000 or not gpu:
        layers, hidden, dropout = 2, 512 if gpu else 256, 0.3 if gpu else 0.05
    else:
        layers, hidden, dropout = 2, 1024, 0.1
    where = "a GPU" if gpu else "a CPU"
    fill(model, "model.layers", layers, size)
    hidden = fill(model, "model.hidden", hidden, f"{size}, on {where}")
    if not cells[model.cell].gates:
        fill(model, "model.embedding", hidden, f"{model.cell} reads its input as wide as its units")
    if words:
        fill(model, "model.embedding", hidden, f"as wide as the layers, for {vocabulary:,} distinct tokens")
        tie = fill(
            model,
            "model.tie",
            True,
            "one matrix for reading and writing: fewer weights for a large vocabulary",
        )
        dropout = 0.4 if tie else dropout
    else:
        fill(model, "model.embedding", min(64, hidden), f"enough for {vocabulary:,} distinct tokens")
        fill(model, "model.tie", False, "a small vocabulary gains nothing from sharing")
    if config.trainer.max_time is not None and not words and not gpu:
        dropout = min(dropout, 0.05)
    fill(model, "model.dropout", dropout, f"{size}: the fewer, the more is dropped")


def _choose_reading(config: Config, tokens: int, gpu: bool, processes: int, fill: Fill) -> None:
    data = config.data
    items = data.unit != "stream"
    if gpu:
        lanes = 128
    elif items:
        lanes = 128 if data.unit == "line" else 32
    else:
        lanes = 32
    while lanes > 8 and tokens / lanes < 2000:
        lanes //= 2
    fill(
        data,
        "data.batch_size",
        -(-lanes // processes) * processes,
        "enough to keep the processor busy, few enough for many steps an epoch",
    )
    fill(
        data,
        "data.seq_length",
        128 if gpu or items else 64,
        "gradients reach back so far; the state reaches further",
    )
    hidden = config.model.hidden or 256
    lr = 6e-3 if hidden <= 256 else 4e-3 if hidden <= 512 else 2e-3
    if (config.model.tie and config.optimizer.name in ("adamw", "adam", "muon")) or not gated(cells[config.model.cell]):
        lr = min(lr, 3e-3)
    if config.optimizer.name in ("sgd", "rmsprop"):
        lr = 1.0 if config.optimizer.name == "sgd" else 2e-3
    fill(
        config.optimizer,
        "optimizer.lr",
        lr,
        f"what {config.optimizer.name} bears with {hidden} units a layer",
    )


def _choose_length(config: Config, tokens: int, gpu: bool, fill: Fill) -> None:
    trainer = config.trainer
    if trainer.max_time is None and trainer.max_steps is None:
        aim = 200_000_000 if gpu else 12_000_000
        epochs = max(1, min(50, round(aim / max(1, tokens))))
        fill(
            trainer,
            "trainer.max_epochs",
            epochs,
            f"about {aim / 1e6:g} million tokens read in all, at most 50 times each",
        )
