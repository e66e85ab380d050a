"""The training of a run: `train` starts a run, `resume` continues one; both call `fit`."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

from charlm.config import Config
from charlm.config.limits import Limits
from charlm.config.shell import command
from charlm.errors import CharlmError, Interrupted
from charlm.files import describe_os_error
from charlm.network.model import LanguageModel
from charlm.network.precision import choose_precision
from charlm.network.summary import unused_settings
from charlm.reporter import Reporter
from charlm.run import Run
from charlm.run_directory import RunDirectory
from charlm.training.callbacks import Checkpointing, ProgressLogging, StoppingCriteria, Validation
from charlm.training.checkpoint import OURS
from charlm.training.data import LanguageData
from charlm.training.diagnostics import Diagnostics
from charlm.training.interruption import describe_interruption
from charlm.training.lock import locked
from charlm.training.machine import build_trainer, fast_matmul, has_gpu, quiet
from charlm.training.module import LanguageModule
from charlm.training.ngram_losses import ngram_losses
from charlm.training.preparation import check_memory, prepare
from charlm.training.pretrained import load_pretrained
from charlm.training.processes import (
    announced,
    is_first_process,
    lost_process,
    prepared_directory,
    watching,
)
from charlm.training.progress import Progress
from charlm.training.recovery import Recovery, check_initial_weights
from charlm.training.resume import (
    changed_settings,
    check_processes,
    fitting,
    last_checkpoint,
    restore_progress,
    restore_weights,
)
from charlm.training.run_logger import RunLogger, logger_classes, logger_names, other_loggers
from charlm.training.sample_logger import SampleLogger


def train(
    config: Config,
    run: str | Path | None = None,
    reporter: Reporter | None = None,
    *,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Run:
    """Train on a text and write a run directory.

    Args:
        config: The settings; those that are None are chosen (see `charlm.config.resolve`).
        run: The directory to create, which must not exist; None: an unused name under `runs/`.
        reporter: Receives messages and progress; None: nothing is reported.
        callbacks: Lightning callbacks; see `fit`.
        loggers: Lightning loggers beside those of `trainer.logger`.

    Returns:
        The finished run.

    Raises:
        CharlmError: the text, the settings or the machine have a fault that a user can fix.
        Interrupted: Ctrl-C or SIGTERM stopped the training; the run is saved and can be resumed.
        KeyboardInterrupt: Ctrl-C was pressed before the run directory was complete.
    """
    reporter = reporter or Reporter()
    logger_classes(config.trainer.logger)  # an unknown name is found before long work
    trainer = build_trainer(config.trainer)
    directory = None
    try:
        if is_first_process():
            directory = prepare(config, None if run is None else Path(run), reporter, trainer.world_size)
        else:
            directory = RunDirectory(prepared_directory(run, reporter.say))
            reporter = Reporter()
        with announced(directory.path), locked(directory.path):
            return fit(directory, reporter, trainer=trainer, callbacks=callbacks, loggers=loggers)
    except KeyboardInterrupt:  # before `Checkpointing` handles signals
        if directory is None:
            raise
        raise Interrupted(signal.SIGINT, directory.path) from None


def resume(
    path: str | Path,
    changes: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    *,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Run:
    """Continue a run from its last checkpoint, as if it had not been interrupted.

    Args:
        path: The run directory.
        changes: New values of settings by dotted name; only of the groups trainer, checkpoint,
            samples and inspect.
        reporter, callbacks, loggers: As for `train`.

    Raises:
        CharlmError: something that a user can fix. For example, the directory is not a run, another
            process trains the run, the checkpoint is damaged, or a setting cannot change.
        Interrupted: Ctrl-C or SIGTERM stopped the training; the run is saved and can be resumed.
    """
    directory = RunDirectory(path)
    with locked(directory.path):
        config = changed_settings(directory, changes or {})
        reporter = reporter if reporter and is_first_process() else Reporter()
        try:
            return fit(directory, reporter, config=config, resuming=True, callbacks=callbacks, loggers=loggers)
        except KeyboardInterrupt:  # before `Checkpointing` handles signals
            raise Interrupted(signal.SIGINT, directory.path) from None


def fit(
    directory: RunDirectory,
    reporter: Reporter,
    *,
    config: Config | None = None,
    trainer: lightning.Trainer | None = None,
    resuming: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Run:
    """Train the run in a prepared directory; every process of a training calls this function.

    Args:
        directory: The run.
        reporter: Receives messages and progress.
        config: The resolved settings; None: those of the directory.
        trainer: Lightning's Trainer; None: it is built from the settings.
        resuming: Whether to start from the last checkpoint.
        callbacks: Lightning callbacks; they act after the validation, the samples and the logging
            of a step, and before its checkpoint.
        loggers: Lightning loggers beside those of `trainer.logger`.
    """
    config = config or directory.config
    saved = last_checkpoint(directory, reporter) if resuming else None
    progress = Progress(Limits.of(config.trainer, config.checkpoint))
    if saved is not None:
        restore_progress(directory, progress, saved)
        if reason := stop_reason(config, progress):
            reporter.say(f"{directory.path} has nothing left to train: {reason}")
            restore_weights(directory, reporter)
            return Run(directory.path)
    gpu = has_gpu(config.trainer)
    check_memory(directory.model_config, directory.vocab_size, gpu)
    model = _build_model(directory, config, initialised=saved is None)
    module = LanguageModule(model, config.optimizer, config.trainer, progress)
    trainer = trainer or build_trainer(config.trainer)
    if saved is not None:
        check_processes(directory, saved[OURS]["processes"], trainer.world_size)
    run_logger = None
    if is_first_process():
        run_logger = _open_logger(directory, config, progress.step, loggers, reporter)
        _introduce(directory, model, config, progress, gpu, reporter)
        if trainer.world_size > 1:
            reporter.say(f"processes: {trainer.world_size}; the training begins when all of them have started")
    recovery = Recovery(directory, reporter)
    checkpointing = Checkpointing(directory, config, reporter, recovery)
    trainer.callbacks.extend(  # type: ignore[attr-defined]
        listed := step_callbacks(directory, config, run_logger, reporter, callbacks, checkpointing, recovery)
    )
    trainer.loggers = [run_logger, *run_logger.others] if run_logger else [DummyLogger()]
    with (
        quiet(),
        watching(lambda: reporter.say(_lost(directory))),
        _explained(directory, trainer.world_size),
        checkpointing.listening(),
        fast_matmul(gpu),
    ):
        try:
            data = LanguageData(directory.stream("train"), config.data, config.seed)
            last = directory.path / "checkpoints" / "last.ckpt"
            with fitting(directory, until=lambda: checkpointing.training):
                trainer.fit(module, datamodule=data, ckpt_path=last if saved is not None else None, weights_only=True)
        except Interrupted as interrupted:
            if run_logger is not None:
                validation = next(one for one in listed if isinstance(one, Validation))
                patient = interrupted.signal == signal.SIGINT  # SLURM's SIGTERM leaves no time
                describe_interruption(trainer, module, directory, config, validation, reporter, patient=patient)
            raise
        finally:
            reporter.close()
            if run_logger is not None:
                run_logger.close()
    reporter.on_end(directory)
    return Run(directory.path)


def _build_model(directory: RunDirectory, config: Config, *, initialised: bool) -> LanguageModel:
    """Build the network of a run.

    Args:
        directory: The run.
        config: The settings of the run.
        initialised: Whether to set the output bias from the training text and, if `init_from` names
            a run, copy the weights of that run. If false, all weights stay random, because a
            checkpoint will replace them.
    """
    torch.manual_seed(config.seed)
    model = LanguageModel(directory.model_config, directory.vocab_size)
    if initialised:
        model.initialise_output_bias(torch.from_numpy(directory.stream("train").token_counts(directory.vocab_size)))
        if config.init_from:
            load_pretrained(model, directory, RunDirectory(config.init_from))
        check_initial_weights(model)
    return model


def _open_logger(
    directory: RunDirectory, config: Config, step: int, loggers: Sequence[Logger], reporter: Reporter
) -> RunLogger:
    """Open the logger of a run, and delete numbers and samples of steps after `step`.

    The training will log these steps again.
    """
    directory.drop_leftovers()
    others = [*other_loggers(config.trainer.logger, directory), *loggers]
    directory.drop_samples_after(step or -1)  # at step 0, the initial weights are sampled again
    tensorboard = "tensorboard" in logger_names(config.trainer.logger)
    ngram = ngram_losses(directory, reporter)
    run_logger = RunLogger(directory, step, tensorboard=tensorboard, others=others, ngram=ngram)
    for line in directory.left_out.values():
        reporter.say(f"warning: {line}")
    run_logger.add_settings(config)
    return run_logger


def step_callbacks(
    directory: RunDirectory,
    config: Config,
    run_logger: RunLogger | None,
    reporter: Reporter,
    others: Sequence[lightning.Callback],
    checkpointing: Checkpointing,
    recovery: Recovery,
) -> list[lightning.Callback]:
    """Return the callbacks of a run, in the order in which they act when a step is complete.

    1. StoppingCriteria: is this the last step?
    2. Validation: the validation loss; is it the best so far, and does it still improve?
    3. SampleLogger: samples, and the text metrics of generated text.
    4. Diagnostics: memory.json, and for TensorBoard histograms, images and the embedding.
    5. ProgressLogging: training loss, learning rate, speed.
    6. The callbacks of the user.
    7. Checkpointing: the weights and all that resuming needs.

    SampleLogger and Diagnostics exist only in the first process.
    """
    validation = directory.stream("val") if directory.has_split("val") else None
    predicted = directory.stream("train").predicted
    listed: list[lightning.Callback] = [
        StoppingCriteria(),
        Validation(
            config.trainer, config.checkpoint, config.data.batch_size, validation, run_logger, reporter, recovery
        ),
    ]
    if run_logger is not None:
        listed.append(SampleLogger(directory, config, run_logger, reporter))
        listed.append(Diagnostics(directory, config, run_logger))
    tokens_per_character = predicted.tokens / max(1, predicted.characters)
    listed.append(ProgressLogging(config.trainer.log_every_n_steps, tokens_per_character, run_logger, reporter))
    return [*listed, *others, checkpointing]


def stop_reason(config: Config, progress: Progress) -> str:
    """Return in words why a run is over and how to continue it; empty if the run is not over."""
    trainer, patience = config.trainer, config.checkpoint.patience
    match progress.limit_reached():
        case "epochs":
            more = 2 * math.ceil(progress.epoch)
            return f"it has trained {progress.epoch:g} epochs; raise `trainer.max_epochs`, for example to {more}"
        case "steps":
            more = 2 * progress.step
            return f"it has trained {progress.step:,} steps; raise `trainer.max_steps`, for example to {more}"
        case "time":
            return (
                f"its time of {trainer.max_time} is over; raise `trainer.max_time`, which counts from the start of "
                "the run"
            )
        case "patience":
            return f"{patience} validations in a row brought no improvement; raise `checkpoint.patience`"
    return ""


def _introduce(
    directory: RunDirectory, model: LanguageModel, config: Config, progress: Progress, gpu: bool, reporter: Reporter
) -> None:
    """Report which network is about to be trained, and in which precision."""
    if progress.step:
        reporter.say(f"resuming {directory.path} at step {progress.step:,}")
    precision, reason = choose_precision(config.trainer.precision, gpu)
    reporter.say(f"precision: {precision} ({reason})")
    reporter.parameter_table(model.table())
    reporter.say(f"cell: {model.config.cell}, {model.describe('cuda' if gpu else 'cpu')}")
    for line in unused_settings(model.config):
        reporter.say(f"warning: nothing is changed by {line}")


def _lost(directory: RunDirectory) -> str:
    """Return the message that another process of the training has ended, and what to do."""
    resume = command("train", resume=directory.path)
    return f"another process of the training has ended; go on with {resume} and as many processes as before"


@contextlib.contextmanager
def _explained(directory: RunDirectory, processes: int) -> Iterator[None]:
    """Turn errors of the system within the block into a CharlmError that says what to do.

    Such errors are, for example, a full disk, a full memory, or the end of another process. All
    other errors are raised unchanged.
    """
    try:
        yield
    except OSError as error:
        description = describe_os_error(error)
        if description is None:
            raise
        raise CharlmError(f"{description} and go on with {command('train', resume=directory.path)}") from error
    except (MemoryError, RuntimeError) as error:
        if processes > 1 and lost_process(error):
            raise CharlmError(_lost(directory)) from error
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise CharlmError(
            "the memory is full; lower `data.batch_size`, `data.seq_length` or `model.hidden` in a new run"
        ) from error
