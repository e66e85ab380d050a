"""Measurements of how fast networks train on this machine."""

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
    """Measure how many tokens per second a one-layer network of each cell reads in training.

    A measurement covers the forward and the backward pass, with the precision that training uses.
    The cells take turns, so a change of the machine's load affects all of them. The result for a
    cell is the median over the rounds.

    Args:
        names: Names of the cells.
        hidden: Units of the layer, which is also the width of the embedding.
        rounds: Number of measurements of each cell, after one that is not counted.
        device: "cpu" or the name of another torch device.
        progress: Called with the name of the task, how much of it is done, and how much there is to
            do.

    Returns:
        Tokens per second by the name of the cell.
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
    """Measure how many tokens per second each network reads in training, as `training_speed` does.

    Args:
        models: The networks by name.
        lanes: Number of lanes (rows) of a batch.
        window: Tokens of each lane.
        rounds, device, progress: As for `training_speed`.

    Returns:
        Tokens per second by the name of the network.
    """
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
