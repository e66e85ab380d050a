"""train: from settings to a trained run; resume: from a run directory onwards."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from charlm.config import Config
from charlm.config.settings import merge, nest, seconds, settings
from charlm.errors import CharlmError, Interrupted
from charlm.files import trouble
from charlm.network.model import LanguageModel
from charlm.network.precision import choose_precision
from charlm.run import WEIGHTS, Run, first_process
from charlm.training.callbacks import (
    Limits,
    Report,
    Saving,
    Validation,
    load_checkpoint,
)
from charlm.training.data import LanguageData
from charlm.training.inspection import Inspection
from charlm.training.machine import build_trainer, has_gpu, quick, quiet
from charlm.training.module import LanguageModule
from charlm.training.preparation import DROPPING, check_prompts, prepare
from charlm.training.record import Record
from charlm.training.reel import Reel
from charlm.watcher import Watcher

OTHER_PROCESSES = "CHARLM_RUN"
"""Environment variable that tells the other processes of a run its directory."""

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
    try:
        return fit(prepared, watcher)
    except KeyboardInterrupt:  # before the run listens to it; what is prepared can go on
        raise Interrupted(signal.SIGINT, prepared.path) from None


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
        group, _, name = fixed[0].rpartition(".")
        other = name == "init_from" or (group in ("model", "tokenizer") and name not in DROPPING)  # than these weights
        start = "train a new run" if other else f"start a new one with --init_from {run.path}"
        raise CharlmError(f"--{fixed[0]} cannot change when a run goes on; {start}")
    run.config = Config.from_dict(merge(run.config.to_dict(), nest(changed)))  # saved when training begins
    check_prompts(run.config, run.tokenizer)
    return fit(run, watcher if watcher and first_process() else Watcher(), resuming=True)


def fit(run: Run, watcher: Watcher, *, resuming: bool = False, callbacks: Sequence[lightning.Callback] = ()) -> Run:
    """Train from a prepared run directory; every process of a run comes here.

    `callbacks` act after a step's validation, samples and report, before it is saved.
    """
    config, shape = run.config, run.shape
    first = first_process()
    checkpoint = run.path / "checkpoints" / "last.ckpt"
    if resuming and not checkpoint.is_file():
        if any(row["step"] for row in run.metrics):  # at step 0 the initialisation is measured
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
    gpu = has_gpu(config)
    precision, reason = choose_precision(config.trainer.precision, gpu)
    record = Record(run.path, step) if first else None
    if first:
        run.drop_samples_after(step or -1)  # at the start the initialisation is sampled again
        if resuming:
            watcher.say(f"going on with {run.path} at step {step:,}")
        watcher.say(f"precision: {precision} ({reason})")
        watcher.table(model.table())
        watcher.say(f"recurrence: {shape.cell}, {model.describe('cuda' if gpu else 'cpu')}")
        for reason in shape.idle():
            watcher.say(f"warning: nothing is changed by {reason}")
    validation = Validation(run, record, watcher, run.stream("val") if run.has_split("val") else None)
    saving = Saving(run, validation, watcher)
    acting: list[lightning.Callback] = [Limits(), validation]
    if record is not None:
        acting += [Reel(run, record, watcher), Inspection(run, record)]
    acting += [Report(run, record, watcher, validation), *callbacks, saving]
    trainer = build_trainer(config, precision, acting)
    with quiet(), _explained(run), saving.listening(), quick(gpu):
        try:
            data = LanguageData(run)
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resuming else None, weights_only=True)
        finally:
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


def _prepared(run: str | Path | None) -> Path:
    """The directory that the first process prepares, once it stands there."""
    named = run if run is not None else os.environ.get(OTHER_PROCESSES)
    if named is None:
        raise CharlmError("with several processes started from outside, name the directory: --run runs/NAME")
    path = Path(named)
    while not (path / "config.yaml").is_file():
        time.sleep(0.2)
    return path


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
