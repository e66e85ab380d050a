"""Baselines: how well n-gram models and compressors predict a text after reading the training text.

Baselines need no network and no GPU. A network that is not better than they are has learned little.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from charlm.evaluation.ngram import SMOOTHINGS, NGramCounts, NGramModel, total_nats, tune
from charlm.text.corpus import Progress, no_progress
from charlm.text.stream import TokenStream

MOST_TRAINING = 5_000_000  # tokens of the training text that baselines read: the first ones
MOST_TUNING = 200_000  # tokens of the validation text that an n-gram model is tuned on: the first ones
SMALL_VOCABULARY = 1000  # tokens: up to that many, n-gram models are counted to order `LONG`, else to order `SHORT`
LONG, SHORT = 8, 5


def count_ngrams(train: TokenStream, vocab_size: int, most: int = MOST_TRAINING) -> NGramCounts:
    """Count the n-grams of a training text, of every order up to a highest one.

    The highest order is 8 for a vocabulary of at most 1,000 tokens, and 5 for a larger one.

    Args:
        train: The training text; if it consists of items, no n-gram crosses the border of an item.
        vocab_size: Tokens of the vocabulary.
        most: Only the first `most` tokens of the text are read.
    """
    starts = None if train.starts is None else train.starts[train.starts < most]
    return NGramCounts(train.ids[:most], LONG if vocab_size <= SMALL_VOCABULARY else SHORT, vocab_size, starts)


def describe_training(train: TokenStream, most: int = MOST_TRAINING) -> str:
    """Return a phrase that says how much of a training text the baselines read."""
    return (
        f"the {'first' if train.direction == 'forward' else 'last'} {most:,} of the {len(train):,} tokens of "
        "the training split"
        if len(train) > most
        else (f"the training split, {len(train):,} tokens")
    )


def tuned_model(counts: NGramCounts, validation: TokenStream) -> NGramModel:
    """Return the n-gram model of these counts that predicts a validation text best; see `tune`.

    Only the first `MOST_TUNING` tokens of the validation text are read.
    """
    ids, starts = validation.ids[:MOST_TUNING], validation.starts
    return tune(counts, list(counts.look_up(ids, None if starts is None else starts[starts < MOST_TUNING])))


def ngram_baselines(
    train: TokenStream, validation: TokenStream | None, text: TokenStream, vocab_size: int
) -> dict[str, float]:
    """Return the nats of a text under several n-gram models, by the name of the model.

    There is one model for every order and smoothing, and finally the model that `tuned_model`
    finds.

    Args:
        train: The training text.
        validation: The text for `tuned_model`; None: this model is left out.
        text: The text to predict; its first token is not predicted.
        vocab_size: Tokens of the vocabulary.
    """
    counts = count_ngrams(train, vocab_size)
    orders = range(1, counts.order + 1)
    models = {
        model.name: model for kind in SMOOTHINGS for order in orders for model in [NGramModel(counts, order, kind)]
    }
    if validation is not None:
        tuned = tuned_model(counts, validation)
        models[f"{tuned.name} (tuned)"] = tuned
    nats = total_nats(list(models.values()), counts.look_up(text.ids, text.starts))
    return dict(zip(models, nats, strict=True))


@dataclass(frozen=True)
class Compressor:
    """A compressor of bytes.

    Args:
        limit: A phrase that says how much of the preceding text the compressor can use.
        compress: A function from bytes to compressed bytes.
        decompress: A function from compressed bytes and the original number of bytes to the
            original bytes. It serves to check that compression loses nothing.
    """

    limit: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]


def compressors() -> dict[str, Compressor]:
    """Return the installed compressors by name.

    Each works at its strongest level, except PPMd, which has no levels. zstd needs the package
    `zstandard`, and PPMd the package `pyppmd`; without its package, a compressor is missing.
    """
    found = {
        "zlib": Compressor(
            "window of 32 KiB", lambda data: zlib.compress(data, 9), lambda data, _: zlib.decompress(data)
        ),
        "bz2": Compressor("blocks of 900 kB", lambda data: bz2.compress(data, 9), lambda data, _: bz2.decompress(data)),
        "xz": Compressor(
            "window of 64 MiB",
            lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
            lambda data, _: lzma.decompress(data),
        ),
    }
    for name, make in {"zstd": _zstd, "PPMd": _ppmd}.items():
        with contextlib.suppress(ImportError):
            found[name] = make()
    return found


def _zstd() -> Compressor:
    import zstandard

    window = 27  # its binary logarithm, the largest that every decompressor accepts
    level = zstandard.ZstdCompressionParameters.from_level(22, window_log=window)
    return Compressor(
        "window of 128 MiB",
        lambda data: zstandard.ZstdCompressor(compression_params=level).compress(data),
        lambda data, _: zstandard.ZstdDecompressor(max_window_size=1 << window).decompress(data),
    )


def _ppmd() -> Compressor:
    import pyppmd

    order, memory = 6, 256 << 20

    def compress(data: bytes) -> bytes:
        encoder = pyppmd.Ppmd7Encoder(order, memory)
        return bytes(encoder.encode(data) + encoder.flush())

    def decompress(data: bytes, length: int) -> bytes:
        return bytes(pyppmd.Ppmd7Decoder(order, memory).decode(data, length))

    return Compressor("order 6, 256 MiB", compress, decompress)


def compressor_baselines(train: bytes, text: bytes, progress: Progress = no_progress) -> dict[str, float]:
    """Return the nats of a text under each compressor.

    A key is the name of the compressor and its `Compressor.limit`, such as "zlib, window of 32 KiB".
    A compressor first reads the training text. So the cost of a text is the compressed length of
    the training text and the text together, minus the compressed length of the training text alone.
    Headers and checksums are part of both lengths.

    Args:
        train: The training text in bytes.
        text: The text to compress, in bytes.
        progress: A function that is told how many compressors are done, and of how many.
    """
    installed, nats = compressors(), {}
    for number, (name, compressor) in enumerate(installed.items()):
        progress("compressing", number, len(installed))
        added = len(compressor.compress(train + text)) - len(compressor.compress(train))
        nats[f"{name}, {compressor.limit}"] = 8 * math.log(2) * added
    progress("compressing", len(installed), len(installed))
    return nats
