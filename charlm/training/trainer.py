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

from charlm.config import Config, merge, nest, seconds, settings
from charlm.errors import CharlmError
from charlm.files import trouble
from charlm.network.cells import cells
from charlm.network.model import LanguageModel
from charlm.network.shape import ModelShape
from charlm.run import WEIGHTS, Run, first_process, new_path
from charlm.text.batching import fit_to
from charlm.text.corpus import read_corpus
from charlm.text.store import build
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer, tokenizers
from charlm.training.callbacks import (
    Limits,
    Report,
    SafeCheckpointIO,
    Saving,
    Validation,
    load_checkpoint,
)
from charlm.training.choices import choose, choose_precision, matmul_precision
from charlm.training.data import LanguageData
from charlm.training.inspection import Inspection
from charlm.training.module import LanguageModule
from charlm.training.record import Record
from charlm.training.reel import Reel
from charlm.watcher import Watcher

OTHER_PROCESSES = "CHARLM_RUN"
"""Environment variable that tells the other processes of a run its directory."""

PARTIAL = ".charlm-"
"""How the name of a directory begins in which a run is prepared, until all of it is there."""

RESUMABLE = ("trainer", "checkpoint", "samples", "inspect")
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
    if not first_process():
        return fit(Run(_prepared(run)), Watcher())
    prepared = prepare(config, None if run is None else Path(run), watcher)
    os.environ[OTHER_PROCESSES] = str(prepared.path)
    return fit(prepared, watcher)


def prepare(config: Config, path: Path | None, watcher: Watcher) -> Run:
    """Read the text and write the start of a run: all of it or, if something is wrong, nothing.

    Without a path the run gets a free name under `runs/`.
    """
    if path is not None and path.exists():
        raise _taken(path)
    config = copy.deepcopy(config)
    # What can be found wrong is found before long work.
    cells[config.model.cell], tokenizers[config.tokenizer.kind]
    precision, _ = choose_precision(config.trainer.precision, _has_gpu(config))
    processes = _trainer(config, precision, []).world_size
    source = _inherit(config) if config.init_from else None
    corpus = read_corpus(config.data, watcher.progress)
    watcher.say(f"text: {corpus.description}")
    target = path or new_path(config)
    _drop_leftovers(target.parent)
    partial = target.with_name(f"{PARTIAL}{target.name}-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        tokenizer, streams = build(corpus, config.tokenizer, partial / "tokens", progress=watcher.progress)
        _describe(tokenizer, streams, watcher)
        _check_prompts(config, tokenizer)
        _settle(config, tokenizer, streams, processes, watcher)
        Run.create(partial, config, tokenizer, ModelShape(vocabulary=len(tokenizer), **vars(config.model)))
        if source is not None:
            known = len(set(tokenizer.tokens) & set(source.tokenizer.tokens))
            watcher.say(
                f"starting from the weights of {source.path}: it knows {known:,} of the {len(tokenizer):,} tokens, "
                f"{len(tokenizer) - known:,} are new"
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
                target = new_path(config)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


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


def _check_prompts(config: Config, tokenizer: Tokenizer) -> None:
    for prompt in config.samples.prompts:
        if unknowns := tokenizer.unknowns(tokenizer.prompt(prompt)):
            raise CharlmError(
                f"--samples.prompts has {', '.join(map(repr, list(unknowns)[:8]))}, which the training text never "
                "has; write the prompt without"
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
    choices = choose(config, len(streams["train"]), len(tokenizer), _has_gpu(config), processes)
    assert data.batch_size is not None
    assert data.seq_length is not None
    data.batch_size, data.seq_length, note = fit_to(
        streams["train"], data.batch_size, data.seq_length, world_size=processes
    )
    for name, value, reason in choices:
        watcher.say(f"chosen: --{name} {value} ({reason})")
    if note:
        watcher.say(note)


def resume(path: str | Path, changes: dict[str, Any] | None = None, watcher: Watcher | None = None) -> Run:
    """Go on with a run exactly where its last checkpoint stands.

    Args:
        path: The run directory.
        changes: Dotted names and new values; only of the groups trainer, checkpoint, samples and inspect.
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
    run.config = Config.from_dict(merge(run.config.to_dict(), nest(changed)))  # saved when training begins
    _check_prompts(run.config, run.tokenizer)
    return fit(run, watcher if watcher and first_process() else Watcher(), resuming=True)


def fit(run: Run, watcher: Watcher, *, resuming: bool = False, callbacks: Sequence[lightning.Callback] = ()) -> Run:
    """Train from a prepared run directory; every process of a run comes here.

    `callbacks` act after a step's validation, samples and report, before it is saved.
    """
    config, shape = run.config, run.shape
    first = first_process()
    checkpoint = run.path / "checkpoints" / "last.ckpt"
    if resuming and not checkpoint.is_file():
        if run.metrics:
            raise CharlmError(f"there is no checkpoint {checkpoint}; start a new run with --init_from {run.path}")
        watcher.say(f"{run.path} was stopped before its first checkpoint; it starts from the beginning")
        resuming = False
    saved = load_checkpoint(checkpoint) if resuming else None
    step = int(saved["global_step"]) if saved else 0
    over = saved and _over(config, saved)
    if over:
        watcher.say(f"{run.path} has nothing left to train: {over}")
        _restore(run, watcher)
        return run
    torch.manual_seed(config.seed)
    model = LanguageModel(shape)
    if config.init_from and not resuming:
        adopt(model, run, Run(config.init_from))
    module = LanguageModule(model, config)
    gpu = _has_gpu(config)
    precision, reason = choose_precision(config.trainer.precision, gpu)
    record = Record(run.path, step) if first else None
    if first:
        run.drop_samples_after(step or -1)  # at the start the initialisation is sampled again
        if resuming:
            watcher.say(f"going on with {run.path} at step {step:,}")
        watcher.say(f"precision: {precision} ({reason})")
        watcher.table(model.table())
    validation = Validation(run, record, watcher, run.stream("val") if run.has_split("val") else None)
    saving = Saving(run, validation, watcher)
    acting: list[lightning.Callback] = [Limits(), validation]
    if record is not None:
        acting += [Reel(run, record, watcher), Inspection(run, record)]
    acting += [Report(run, record, watcher, validation), *callbacks, saving]
    trainer = _trainer(config, precision, acting)
    with _quiet(), _explained(run), saving.listening():
        matmul = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if gpu else matmul_precision())
        try:
            data = LanguageData(run)
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resuming else None, weights_only=True)
        finally:
            torch.set_float32_matmul_precision(matmul)
            watcher.close()
            if record is not None:
                record.close()
    watcher.finished(run)
    return run


def _over(config: Config, checkpoint: dict[str, Any]) -> str:
    """Why a run is over at a checkpoint and what would make it go on; empty if it is not."""
    language, named = checkpoint["language"], config.trainer
    stale = checkpoint["callbacks"].get("Validation", {}).get("stale", 0)
    if named.max_epochs and language["epochs"] >= named.max_epochs:
        return f"it has done {language['epochs']:g} epochs; give it more, --trainer.max_epochs {named.max_epochs * 2}"
    if named.max_steps and checkpoint["global_step"] >= named.max_steps:
        return f"it has done its steps; give it more, --trainer.max_steps {named.max_steps * 2}"
    if named.max_time and language["elapsed"] >= (seconds(named.max_time) or 0):
        return "its time is over; give it more --trainer.max_time, which counts from its start"
    if config.checkpoint.patience and stale >= config.checkpoint.patience:
        return f"{stale} validations in a row were without gain; for more of them raise --checkpoint.patience"
    return ""


def _restore(run: Run, watcher: Watcher) -> None:
    """Write damaged weights anew from the checkpoint that was saved with them."""
    for name, path in WEIGHTS.items():
        try:
            run.weights(name)
        except CharlmError:
            saved = load_checkpoint(run.path / "checkpoints" / f"{name}.ckpt")["state_dict"]
            run.save_weights({key.removeprefix("model."): value for key, value in saved.items()}, name)
            watcher.say(f"wrote {path} anew from the checkpoint")


def _trainer(config: Config, precision: str, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    named = config.trainer
    devices: Any = int(named.devices) if named.devices.lstrip("-").isdigit() else named.devices
    try:
        with _quiet():
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
        TypeError,
        RuntimeError,
        ModuleNotFoundError,
        lightning.fabric.utilities.exceptions.MisconfigurationException,
    ) as error:
        line = " ".join(str(error).split())
        raise CharlmError(f"this machine cannot train so: {line}; look at the --trainer options") from None


def adopt(model: LanguageModel, run: Run, source: Run) -> None:
    """Copy a trained run's weights into a model; rows of tokens that both vocabularies know go along."""
    old = {name: torch.from_numpy(value) for name, value in source.weights("best").items()}
    known = {token: number for number, token in enumerate(source.tokenizer.tokens)}
    pairs = [(new, known[token]) for new, token in enumerate(run.tokenizer.tokens) if token in known]
    to, from_ = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            rows = name.startswith(("embedding.", "output."))  # a row for each token
            if name not in old or old[name].shape[rows:] != weight.shape[rows:]:
                have = "x".join(map(str, old[name].shape)) if name in old else "missing"
                raise CharlmError(
                    f"the weights of {source.path} do not fit the new network: {name} is {have} there and "
                    f"{'x'.join(map(str, weight.shape))} here; start from another run"
                )
            if rows:
                weight[to] = old[name][from_]
            else:
                weight.copy_(old[name])


def _inherit(config: Config) -> Run:
    """Take the network and the kind of tokens from the run that a new one starts from."""
    source = Run(config.init_from or "")
    source.weights("best"), source.tokenizer  # damage is found now
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


@contextlib.contextmanager
def _explained(run: Run) -> Iterator[None]:
    """What stops a training from outside, in words: a full disk, a full memory."""
    try:
        yield
    except OSError as error:
        words = trouble(error)
        if words is None:
            raise
        raise CharlmError(f"{words} and go on with charlm train --resume {run.path}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise CharlmError(
            "the memory is full; lower --data.batch_size, --data.seq_length or --model.hidden in a new run"
        ) from error


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
