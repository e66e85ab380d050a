"""prepare: from settings and a text to the start of a run directory."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from charlm.config import Config
from charlm.errors import CharlmError
from charlm.network.precision import choose_precision
from charlm.network.shape import ModelShape, check_widths
from charlm.run import INHERITED_OF_TOKENS, Run
from charlm.text.batching import fit_to
from charlm.text.corpus import read_corpus
from charlm.text.store import build
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer, tokenizers
from charlm.training.choices import choose
from charlm.training.machine import build_trainer, has_gpu, physical_memory
from charlm.watcher import Watcher

PARTIAL = ".charlm-"
"""How the name of a directory begins in which a run is prepared, until all of it is there."""


DROPPING = ("dropout", "input_dropout", "recurrent_dropout", "weight_drop", "zoneout")
"""Settings of the model that leave its weights as they are."""

STARTING = ("forget_bias", "chrono", "gate_scale", "recurrent_init", "recurrent_scale")
"""Settings of the model that say where its weights start."""


def prepare(config: Config, path: Path | None, watcher: Watcher) -> Run:
    """Read the text and write the start of a run: all of it or, if something is wrong, nothing.

    Without a path the run gets a free name under `runs/`.
    """
    if path is not None and path.exists():
        raise _taken(path)
    config = copy.deepcopy(config)
    # What can be found wrong is found before long work.
    tokenizers[config.tokenizer.kind]
    model = config.model
    check_widths(model.cell, model.embedding, model.hidden)
    precision, _ = choose_precision(config.trainer.precision, has_gpu(config))
    processes = build_trainer(config, precision, []).world_size
    source = _source(config) if config.init_from else None
    corpus = read_corpus(config.data, watcher.progress)
    watcher.say(f"text: {corpus.description}")
    target = path or _new_path(config)
    _drop_leftovers(target.parent)
    partial = target.with_name(f"{PARTIAL}{target.name}-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        tokenizer, streams = build(corpus, config.tokenizer, partial / "tokens", progress=watcher.progress)
        _describe(tokenizer, streams, watcher)
        check_prompts(config, tokenizer)
        _settle(config, tokenizer, streams, processes, watcher)
        shape = ModelShape(vocabulary=len(tokenizer), **vars(config.model))
        _check_size(shape, has_gpu(config))
        Run.create(partial, config, tokenizer, shape)
        if source is not None:
            known = len(set(tokenizer.tokens) & set(source.tokenizer.tokens))
            watcher.say(
                f"starting from the weights of {source.path}: it knows {known:,} of the {len(tokenizer):,} tokens "
                f"(new: {len(tokenizer) - known:,})"
            )
        while True:
            try:
                partial.rename(target)
                return Run(target)
            except OSError:  # another training was quicker to take the name
                if not target.exists():
                    raise
                if path is not None:
                    raise _taken(path) from None
                target = _new_path(config)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _new_path(config: Config) -> Path:
    """A free directory under `runs/` named after the text."""
    texts = config.data.text
    name = Path(texts[0].rstrip("/*")).name if texts and texts[0] != "-" else ""
    name = re.sub(r"\.(txt|gz|abc|md)\b", "", name)
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or ("text" if texts else "python-documentation")
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def _taken(path: Path) -> CharlmError:
    return CharlmError(
        f"{path} exists already and is never overwritten; choose another --run, or go on with --resume {path}"
    )


def _drop_leftovers(folder: Path) -> None:
    """Delete what preparations that were killed left behind a day ago or longer."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > 86400:
                shutil.rmtree(leftover)


def check_prompts(config: Config, tokenizer: Tokenizer) -> None:
    for prompt in config.samples.prompts:
        if unknowns := tokenizer.unknowns(tokenizer.prompt(prompt)):
            raise CharlmError(
                f"--samples.prompts has {', '.join(map(repr, list(unknowns)[:8]))}, which the training text never "
                "has; write the prompt without"
            )


def _check_size(shape: ModelShape, gpu: bool) -> None:
    """Raise CharlmError for a network that the machine's memory cannot hold, before anything is made of it."""
    one, two = (sum(count for _, _, count in replace(shape, layers=n).table()) for n in (1, 2))
    parameters = one + (shape.layers - 1) * (two - one)
    # Made in fp32 on the CPU; trained there it needs a gradient and, with Adam, two averages for each parameter.
    needed = 4 * parameters * (1 if gpu else 4)
    memory = physical_memory()
    if needed > memory:
        raise CharlmError(
            f"a network of {parameters:,} parameters needs {needed / 1e9:,.0f} GB of memory and this machine has "
            f"{memory / 1e9:,.0f}; lower --model.hidden, --model.layers or --tokenizer.size"
        )


def _describe(tokenizer: Tokenizer, streams: dict[str, TokenStream], watcher: Watcher) -> None:
    """Say what was read, and warn once about what the vocabulary lacks."""
    for split, stream in streams.items():
        watcher.say(f"{split}: {stream.counts.tokens:,} tokens, {stream.counts.characters:,} characters")
    watcher.say(f"vocabulary: {len(tokenizer):,} tokens ({tokenizer.kind})")
    total = sum(stream.unknown_tokens for stream in streams.values())
    if total:
        seen: Counter[str] = Counter()
        for stream in streams.values():
            seen.update(stream.unknown)
        names = ", ".join(f"{piece!r} ({count:,})" for piece, count in seen.most_common(5))
        watcher.say(
            f"warning: {total:,} tokens are not in the vocabulary and become the unknown token, most often {names}"
        )


def _settle(
    config: Config, tokenizer: Tokenizer, streams: dict[str, TokenStream], processes: int, watcher: Watcher
) -> None:
    """Choose every setting that nobody named, fit the windows to the text, and say why."""
    for split, what in (("val", "validation"), ("test", "test")):
        if split in streams and len(streams[split]) < 2:
            raise CharlmError(
                f"the {what} text has {len(streams[split])} tokens, too few to predict anything; "
                f"raise --data.{split}_fraction (0: no {what}) or give a longer text"
            )
    data = config.data
    if data.batch_size is not None and data.batch_size % processes:
        raise CharlmError(
            f"--data.batch_size {data.batch_size} cannot be shared by {processes} devices; take a multiple of it"
        )
    choices = choose(config, len(streams["train"]), len(tokenizer), has_gpu(config), processes)
    assert data.batch_size is not None
    assert data.seq_length is not None
    data.batch_size, data.seq_length, note = fit_to(
        streams["train"], data.batch_size, data.seq_length, world_size=processes
    )
    for name, value, reason in choices:
        watcher.say(f"chosen: --{name} {value} ({reason})")
    if note:
        watcher.say(note)


def _source(config: Config) -> Run:
    """The run that a new one starts from, whose network is that of the new one."""
    source = Run(config.init_from or "")
    source.weights("best"), source.tokenizer  # damage is found now
    shared = [("model", name) for name in vars(config.model)] + [("tokenizer", name) for name in INHERITED_OF_TOKENS]
    for group, name in shared:
        ours, theirs = (getattr(getattr(one, group), name) for one in (config, source.config))
        if ours is None:
            setattr(getattr(config, group), name, theirs)
        elif ours != theirs and name in STARTING:
            raise CharlmError(
                f"--{group}.{name} says how weights start, and those of {source.path} are trained; leave it out"
            )
        elif ours != theirs and name not in DROPPING:
            raise CharlmError(
                f"--{group}.{name} {ours} does not fit {source.path}, whose weights have {theirs}; leave it out"
            )
    return source
