"""How fast each cell trains on this machine."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network.model import LanguageModel
from charlm.network.precision import choose_precision, matmul_precision

VOCABULARY, LANES, WINDOW = 65, 32, 64


def training_speed(
    names: Sequence[str],
    hidden: int,
    *,
    rounds: int = 3,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, float]:
    """Measure tokens per second, forward and backward, of a one-layer network of each cell.

    The precision is that of training. The cells take turns, so that a change of the machine's load
    affects all of them. The result is the median over the rounds.

    Args:
        names: Names of cells.
        hidden: Units of the layer, and width of the embedding.
        rounds: Measurements of each cell, after one to warm up.
        device: "cpu" or a torch device.
        progress: Called with the task, what is done of it, and the total.
    """
    models = {name: LanguageModel(ModelConfig(name, 1, hidden, hidden, 0.0, tie=False), VOCABULARY) for name in names}
    return model_speed(models, LANES, WINDOW, rounds=rounds, device=device, progress=progress)


def model_speed(
    models: Mapping[str, LanguageModel],
    lanes: int,
    window: int,
    *,
    rounds: int = 3,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, float]:
    """The same of whole networks by name, on batches of so many lanes and tokens of each."""
    bf16 = choose_precision("auto", device != "cpu")[0] == "bf16-mixed"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device != "cpu" else matmul_precision())
    generator = torch.Generator().manual_seed(1)
    ids = {
        name: torch.randint(model.vocab_size, (lanes, window + 1), generator=generator).to(device)
        for name, model in models.items()
    }
    for model in models.values():
        model.to(device)
    times: dict[str, list[float]] = {name: [] for name in models}
    try:
        for turn in range(rounds + 1):
            for number, (name, model) in enumerate(models.items()):
                progress("measuring", turn * len(models) + number, (rounds + 1) * len(models))
                start = time.perf_counter()
                with torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext():
                    logits, _ = model(ids[name][:, :-1])
                    loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[name][:, 1:].flatten())
                loss.backward()
                if device != "cpu":
                    torch.cuda.synchronize()
                if turn:
                    times[name].append(time.perf_counter() - start)
    finally:
        torch.set_float32_matmul_precision(before)
    progress("measuring", 1, 1)
    return {name: lanes * window / statistics.median(seconds) for name, seconds in times.items()}
