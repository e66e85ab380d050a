"""train: from settings to a trained run; resume: from a run directory onwards."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from charlm.config import Config, merge, nest, settings
from charlm.errors import CharlmError
from charlm.network.cells import cells
from charlm.network.model import LanguageModel
from charlm.network.shape import ModelShape
from charlm.run import Run, new_path, save_config
from charlm.text.batching import fit_to
from charlm.text.corpus import read_corpus
from charlm.text.store import build
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer, tokenizers
from charlm.training.callbacks import (
    Limits,
    Reel,
    Report,
    SafeCheckpointIO,
    Saving,
    Validation,
    load_checkpoint,
)
from charlm.training.choices import choose, choose_precision, matmul_precision
from charlm.training.data import LanguageData
from charlm.training.module import LanguageModule
from charlm.training.record import Record
from charlm.watcher import Watcher

OTHER_PROCESSES = "CHARLM_RUN"
"""Environment variable that tells the other processes of a run its directory."""

RESUMABLE = ("trainer", "checkpoint", "samples")
"""Groups of settings that a run may change when it goes on."""


def train(config: Config, run: str | Path | None = None, watcher: Watcher | None = None) -> Run:
    """Learn a text and leave a run directory behind.

    Args:
        config: The settings; those that are None are chosen from the size of the text.
        run: Where to put the run; it must not exist. None: a free name under `runs/`.
        watcher: Who looks on.

    Returns:
        The finished run.

    Raises:
        CharlmError: something about the text, the settings or the machine that a user can fix.
        Interrupted: it was asked to stop, and has saved itself.
    """
    watcher = watcher or Watcher()
    config.check()
    if first_process():
        path = Path(run) if run is not None else new_path(config)
        prepare(config, path, watcher)
        os.environ[OTHER_PROCESSES] = str(path)
    else:
        path = _prepared(run)
    return fit(Run(path), watcher)


def prepare(config: Config, path: Path, watcher: Watcher) -> Run:
    """Read the text and write the start of a run: all of it or, if something is wrong, nothing."""
    if path.exists():
        raise CharlmError(
            f"{path} exists already and is never overwritten; choose another --run, or go on with --resume {path}"
        )
    config = copy.deepcopy(config)
    cells[config.model.cell], tokenizers[config.tokenizer.kind]  # unknown names are found before long work
    source = _inherit(config) if config.init_from else None
    corpus = read_corpus(config.data, watcher.progress)
    watcher.say(f"text: {corpus.description}")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        tokenizer, streams = build(corpus, config.tokenizer, partial / "tokens", progress=watcher.progress)
        _describe(tokenizer, streams, watcher)
        _settle(config, tokenizer, streams, watcher)
        Run.create(partial, config, tokenizer, ModelShape(vocabulary=len(tokenizer), **vars(config.model)))
        if source is not None:
            known = len(set(tokenizer.tokens) & set(source.tokenizer.tokens))
            watcher.say(
                f"starting from the weights of {source.path}: it knows {known:,} of the {len(tokenizer):,} tokens, "
                f"{len(tokenizer) - known:,} are new"
            )
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Run(path)


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


def _settle(config: Config, tokenizer: Tokenizer, streams: dict[str, TokenStream], watcher: Watcher) -> None:
    """Choose every setting that nobody named, fit the windows to the text, and say why."""
    for split in ("val", "test"):
        if split in streams:
            fit_to(streams[split], 1, 1, what={"val": "validation text", "test": "test text"}[split])
    choices = choose(config, len(streams["train"]), len(tokenizer), _has_gpu(config))
    data = config.data
    assert data.batch_size is not None
    assert data.seq_length is not None
    data.batch_size, data.seq_length, note = fit_to(
        streams["train"], data.batch_size, data.seq_length, world_size=_processes(config)
    )
    for name, value, reason in choices:
        watcher.say(f"chosen: --{name} {value} ({reason})")
    if note:
        watcher.say(note)


def resume(path: str | Path, changes: dict[str, Any] | None = None, watcher: Watcher | None = None) -> Run:
    """Go on with a run exactly where its last checkpoint stands.

    Args:
        path: The run directory.
        changes: Dotted names and new values; only of the groups trainer, checkpoint and samples.
        watcher: Who looks on.

    Raises:
        CharlmError: not a run, a setting that cannot change half-way, or nothing left to do.
    """
    run = Run(path)
    values = dict(changes or {})
    current = {setting.name: setting.value for setting in settings(run.config)}
    changed = {name: value for name, value in values.items() if current.get(name) != value}
    fixed = [name for name in changed if name.split(".")[0] not in RESUMABLE]
    if fixed:
        raise CharlmError(f"--{fixed[0]} cannot change when a run goes on; start a new one with --init_from {run.path}")
    if changed and first_process():
        save_config(run.path, Config.from_dict(merge(run.config.to_dict(), nest(changed))))
        run = Run(path)
    return fit(run, watcher or Watcher(), resuming=True)


def fit(run: Run, watcher: Watcher, *, resuming: bool = False, callbacks: Sequence[lightning.Callback] = ()) -> Run:
    """Train from a prepared run directory; every process of a run comes here.

    `callbacks` act after a step's validation, samples and report, before it is saved.
    """
    config = run.config
    checkpoint = run.path / "checkpoints" / "last.ckpt"
    step = int(load_checkpoint(checkpoint)["global_step"]) if resuming else None
    first = first_process()
    torch.manual_seed(config.seed)
    model = LanguageModel(run.shape)
    if config.init_from and not resuming:
        adopt(model, run, Run(config.init_from))
    module = LanguageModule(model, config)
    gpu = _has_gpu(config)
    precision, reason = choose_precision(config.trainer.precision, gpu)
    record = Record(run.path, step) if first else None
    if first:
        if step is not None:
            run.drop_samples_after(step)
            watcher.say(f"going on with {run.path} at step {step:,}")
        watcher.say(f"precision: {precision} ({reason})")
        watcher.table(model.table())
    validation = Validation(run, record, watcher, run.stream("val") if _has_split(run, "val") else None)
    saving = Saving(run, validation)
    acting: list[lightning.Callback] = [Limits(), validation]
    if record is not None:
        acting += [Reel(run, record, watcher), Report(run, record, watcher, validation)]
    acting += [*callbacks, saving]
    with _quiet():
        trainer = _trainer(config, precision, acting)
        matmul = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if gpu else matmul_precision())
        try:
            data = LanguageData(run)
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resuming else None, weights_only=True)
        finally:
            torch.set_float32_matmul_precision(matmul)
            if record is not None:
                record.close()
            watcher.close()
    if resuming and trainer.global_step == step and first:
        watcher.say(f"{run.path} has nothing left to train; give it more, for example --trainer.max_epochs")
    return run


def _trainer(config: Config, precision: str, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    named = config.trainer
    devices: Any = int(named.devices) if named.devices.lstrip("-").isdigit() else named.devices
    try:
        return lightning.Trainer(
            accelerator=named.accelerator,
            devices=devices,
            num_nodes=named.num_nodes,
            strategy=named.strategy,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=named.max_epochs or -1,
            accumulate_grad_batches=named.accumulate_grad_batches,
            deterministic=named.deterministic,
            callbacks=callbacks,
            plugins=[SafeCheckpointIO()],
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (
        ValueError,
        RuntimeError,
        lightning.fabric.utilities.exceptions.MisconfigurationException,
    ) as error:
        line = " ".join(str(error).split())
        raise CharlmError(f"this machine cannot train so: {line}; look at the --trainer options") from None


def adopt(model: LanguageModel, run: Run, source: Run) -> None:
    """Copy a trained run's weights into a model; rows of tokens that both vocabularies know go along."""
    old = {name: torch.from_numpy(value) for name, value in source.weights("best").items()}
    known = {token: number for number, token in enumerate(source.tokenizer.tokens)}
    pairs = [(new, known[token]) for new, token in enumerate(run.tokenizer.tokens) if token in known]
    to, from_ = (torch.tensor(column, dtype=torch.long) for column in zip(*pairs, strict=True))
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if name.startswith(("embedding.", "output.")):
                weight[to] = old[name][from_]
            else:
                weight.copy_(old[name])


def _inherit(config: Config) -> Run:
    """Take the network and the kind of tokens from the run that a new one starts from."""
    source = Run(config.init_from or "")
    fresh = Config()
    inherited = {("model", key) for key in vars(fresh.model)} | {
        ("tokenizer", "kind"),
        ("tokenizer", "lowercase"),
    }
    for group, key in sorted(inherited):
        value = getattr(getattr(config, group), key)
        theirs = getattr(getattr(source.config, group), key)
        if value not in (getattr(getattr(fresh, group), key), theirs):
            if (group, key) in (("model", "dropout"), ("model", "input_dropout")):
                continue  # the weights do not care
            raise CharlmError(
                f"--{group}.{key} {value} does not fit {source.path}, whose weights have {theirs}; leave it out"
            )
        setattr(getattr(config, group), key, theirs)
    return source


def first_process() -> bool:
    """Whether this is the process that prepares the run (Lightning, torchrun and SLURM number theirs)."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") in ("0", "") for name in names)


def _prepared(run: str | Path | None) -> Path:
    """The directory that the first process prepares, once it stands there."""
    named = run if run is not None else os.environ.get(OTHER_PROCESSES)
    if named is None:
        raise CharlmError("with several processes started from outside, name the directory: --run runs/NAME")
    path = Path(named)
    while not (path / "config.yaml").is_file():
        time.sleep(0.2)
    return path


def _has_gpu(config: Config) -> bool:
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _has_split(run: Run, split: str) -> bool:
    return (run.path / "tokens" / f"{split}.npy").is_file()


def _processes(config: Config) -> int:
    """How many processes will share the lanes."""
    devices = config.trainer.devices
    if devices.isdigit():
        count = int(devices)
    elif "," in devices:
        count = len([one for one in devices.split(",") if one.strip()])
    else:  # auto and -1: all GPUs, or one process
        count = torch.cuda.device_count() if _has_gpu(config) else 1
    return max(1, count) * config.trainer.num_nodes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its advertisements and the warnings that are about its own code."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            yield
        finally:
            logger.setLevel(level)
