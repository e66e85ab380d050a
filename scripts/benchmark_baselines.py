"""Measures the baselines: n-gram models and compressors.

    python scripts/benchmark_baselines.py ../shared/data

Times are processor time of one core, so that other work on the machine counts less. Prints three things, for the texts
that the folder has:

1. Speed: megabytes per second in which n-gram models of the characters of tiny Shakespeare are fitted and score a text.
2. Tiny Shakespeare (first 90 % for training, the rest for validation): nats and bits per character of the n-gram models
   of order 1 to 8 with both smoothings, of the tuned one and of the compressors, and how long each took.
3. Penn Treebank by word (Mikolov's files; each sentence starts with an empty context and ends with one end-of-sentence
   token): test perplexities. Published for Kneser-Ney without count cut-offs: 148.3 (order 3), 141.2 (order 5)
   (Mikolov et al., 2011, "Empirical Evaluation and Combination of Advanced Language Modeling Techniques").
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.baselines import compressors
from charlm.evaluation.ngram import SMOOTHINGS, NGramCounts, NGramModel, total_nats, tune

T = TypeVar("T")
ORDERS = range(1, 9)


def timed(work: Callable[[], T], rounds: int = 1) -> tuple[T, float]:
    """What `work` returns, and the seconds of processor time of its fastest round."""
    best = math.inf
    for _ in range(rounds):
        began = time.process_time()
        result = work()
        best = min(best, time.process_time() - began)
    return result, best


def speed(ids: NDArray[np.uint8], size: int, rounds: int) -> None:
    """Print how fast models of each order are fitted to a text of single-byte characters and score it."""
    for order in ORDERS:
        model, fitting = timed(lambda order=order: NGramModel(NGramCounts(ids, order, size)), rounds)  # type: ignore[misc]
        _, scoring = timed(lambda model=model: total_nats([model], model.counts.look_up(ids)), rounds)  # type: ignore[misc]
        megabytes = len(ids) / 1e6
        print(f"order {order}: fits {megabytes / fitting:5.1f} MB/s, scores {megabytes / scoring:5.1f} MB/s")


def characters(text: bytes, rounds: int) -> None:
    """Print the speed and what all baselines reach on the last tenth of an ASCII text."""
    known, inverse = np.unique(np.frombuffer(text, np.uint8), return_inverse=True)
    ids, cut, size = inverse.astype(np.uint8), int(0.9 * len(inverse)), len(known)
    speed(ids[:cut], size, rounds)
    predicted = len(ids) - cut - 1

    def table() -> tuple[list[NGramModel], list[float]]:
        counts = NGramCounts(ids[:cut], max(ORDERS), size)
        models = [NGramModel(counts, order, smoothing) for smoothing in SMOOTHINGS for order in ORDERS]
        return models, total_nats(models, counts.look_up(ids[cut:]))

    (models, nats), seconds = timed(table, rounds)
    for model, one in zip(models, nats, strict=True):
        print(f"{model.name:40} {one / predicted:.4f} nats, {one / predicted / math.log(2):.4f} bits per character")
    print(f"these {len(models)} models: {seconds:.1f} s")
    looked_up = list(models[0].counts.look_up(ids[cut:]))
    tuned, seconds = timed(lambda: tune(models[0].counts, looked_up))
    (one,) = total_nats([tuned], looked_up)
    print(
        f"{tuned.name:40} {one / predicted:.4f} nats, {one / predicted / math.log(2):.4f} bits, {seconds:.1f} s to tune"
    )
    train, rest = text[:cut], text[cut:]
    for name, compressor in compressors().items():
        (both, alone), seconds = timed(
            lambda compress=compressor.compress: (len(compress(train + rest)), len(compress(train)))  # type: ignore[misc]
        )
        bits = 8 * (both - alone) / len(rest)
        print(f"{name + ', ' + compressor.limit:40} {bits * math.log(2):.4f} nats, {bits:.4f} bits, {seconds:.1f} s")


def words(folder: Path) -> None:
    """Print perplexities per word on Penn Treebank."""
    ids: dict[str, int] = {"<eos>": 0}

    def read(split: str) -> tuple[list[int], list[int]]:
        tokens, starts = [0], []
        for line in (folder / f"ptb.{split}.txt").read_text(encoding="utf-8").splitlines():
            starts.append(len(tokens) - 1)
            tokens += [*(ids.setdefault(word, len(ids)) for word in line.split()), 0]
        return tokens, starts

    splits = {split: read(split) for split in ("train", "valid", "test")}
    size = sum((folder / f"ptb.{split}.txt").stat().st_size for split in ("train",)) / 1e6
    counts, seconds = timed(lambda: NGramCounts(splits["train"][0], 5, len(ids), splits["train"][1]))
    print(f"Penn Treebank: {len(ids):,} words, counted to order 5 in {seconds:.1f} s ({size / seconds:.1f} MB/s)")
    models = [NGramModel(counts, order, smoothing) for smoothing in SMOOTHINGS for order in range(1, 6)]
    models.append(tune(counts, list(counts.look_up(*splits["valid"]))))
    for split in ("valid", "test"):
        tokens, starts = splits[split]
        for model, nats in zip(models, total_nats(models, counts.look_up(tokens, starts)), strict=True):
            print(f"{split:5} {model.name:40} perplexity {math.exp(nats / (len(tokens) - 1)):.2f}")
    tokens = splits["test"][0]
    across = NGramCounts(splits["train"][0], 5, len(ids))
    (nats,) = total_nats([NGramModel(across)], across.look_up(tokens))
    print(f"test  5-gram, Kneser-Ney, context across sentences: perplexity {math.exp(nats / (len(tokens) - 1)):.2f}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with tinyshakespeare/input.txt and ptb/")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts")
    options = parser.parse_args()
    if (text := options.data / "tinyshakespeare" / "input.txt").exists():
        characters(text.read_bytes(), options.rounds)
    if (folder := options.data / "ptb").is_dir():
        words(folder)


if __name__ == "__main__":
    main()
