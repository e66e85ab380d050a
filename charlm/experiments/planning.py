"""The start of a race: the text is read, and the plan of the race is made and written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.config import Config
from charlm.config.durations import duration, seconds
from charlm.errors import CharlmError
from charlm.experiments.budget import Budget, divide
from charlm.experiments.plan import Plan
from charlm.experiments.race import FACTORS, RaceOptions, searched
from charlm.experiments.race_directory import RaceDirectory
from charlm.experiments.sizes import equal_networks
from charlm.files import new_directory
from charlm.reporter import Reporter
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer

DEFAULT_BUDGET = "3m"
"""Time for each cell and seed, if nothing else bounds a trial."""


def start(options: RaceOptions, config: Config, path: Path | None, reporter: Reporter) -> RaceDirectory:
    """Read the text of a race, and create the directory of the race with its plan.

    If something fails, no directory is created.

    Args:
        options: The options of the race, such as its cells and its budget.
        config: The settings that all networks share, from `race.base_settings`. A setting that is
            None is chosen for each network.
        path: The directory to create; None: a free name under `races/`.
        reporter: Receives messages about the text and the progress of reading it.

    Raises:
        CharlmError: `path` exists already, or the text, the settings or the machine cause an error
            that the user can fix.
    """
    from charlm.training.preparation import encode, free_path, read_text

    if path is not None and path.exists():
        raise CharlmError(f"{path} exists already and is never overwritten; choose another `race`")
    target = path or free_path(config.data.text, "races")
    corpus = read_text(config, reporter)
    with new_directory(target) as partial:
        tokenizer, streams = encode(corpus, config, partial / "tokens", reporter)
        RaceDirectory.create(partial, _plan(options, config, tokenizer, streams, reporter), tokenizer)
    return RaceDirectory(target)


def _plan(
    options: RaceOptions, config: Config, tokenizer: Tokenizer, streams: dict[str, TokenStream], reporter: Reporter
) -> Plan:
    """Make the plan of a race: networks of equal size, their measured speeds, and the budgets.

    Args:
        options: The options of the race.
        config: The settings that all networks share.
        tokenizer: The tokenizer of the text.
        streams: The tokens of each split, by the name of the split.
        reporter: Receives the progress of measuring the speeds.
    """
    from charlm.training.preparation import check_memory, facts

    train = streams["train"]
    timed = not (options.epochs or options.tokens or _steps_of(config, options))
    bound = replace(config.trainer, max_epochs=-1, max_steps=-1 if timed else 1, max_time="1s" if timed else "")
    networks = equal_networks(
        replace(config, trainer=bound),
        list(options.cells),
        options.equal,
        lambda name: facts(_with_cell(config, name), tokenizer, train),
    )
    reference = networks[options.cells[0]]
    gpu = facts(config, tokenizer, train).gpu
    for network in networks.values():
        check_memory(network.model, len(tokenizer), gpu)
    steps_per_epoch = _steps_per_epoch(reference, train)
    total, words = _total(options, config, len(train), steps_per_epoch)
    tokens_per_step = train.predicted.tokens / steps_per_epoch
    shares = divide(total, options.seeds, searched(options), tokens_per_step)
    speeds = _speeds(networks, len(tokenizer), "cuda" if gpu else "cpu", reporter)
    smallest = shares.search.seconds
    if smallest is not None and smallest * min(speeds.values()) < 2 * tokens_per_step:
        slowest = min(speeds, key=lambda name: speeds[name])
        raise CharlmError(
            f"the budget is too small: the shortest trial has {smallest:g} seconds, in which {slowest} does not train "
            "two steps; raise `budget`, or lower `data.batch_size` or `model.hidden`"
        )
    part = _validation_part(shares.trial, min(speeds.values()), len(streams["val"]), reference)
    plain = {}
    for name, network in networks.items():
        trainer = replace(shares.trial.limit(network.trainer), limit_val_batches=part)
        plain[name] = replace(network, trainer=trainer).to_dict()
    seeds = [config.seed + number for number in range(options.seeds)]
    return Plan(
        plain, len(tokenizer), seeds, FACTORS[options.search], options.equal, words, shares, speeds, tokens_per_step,
        len(train),
    )  # fmt: skip


def _with_cell(config: Config, name: str) -> Config:
    return replace(config, model=replace(config.model, cell=name))


def _steps_of(config: Config, options: RaceOptions) -> bool:
    """Return whether the training is limited by `max_epochs` or `max_steps`, and not by time."""
    trainer = config.trainer
    bounded = (trainer.max_epochs or -1) > 0 or trainer.max_steps > 0
    return bounded and not (options.budget or trainer.max_time)


def _total(options: RaceOptions, config: Config, tokens: int, steps_per_epoch: int) -> tuple[Budget, str]:
    """Return the budget of a network for each seed, and a description of this budget.

    Args:
        options: The options of the race; a budget given there is used instead of the limits
            in `config`.
        config: The settings that all networks share.
        tokens: Number of tokens of the training split.
        steps_per_epoch: Number of optimiser steps in an epoch.
    """
    trainer = config.trainer
    if options.tokens:
        return Budget(steps=int(options.tokens / tokens * steps_per_epoch)), f"{options.tokens:,} tokens"
    if options.epochs:
        return Budget(steps=int(options.epochs * steps_per_epoch)), f"{options.epochs:g} epochs"
    if _steps_of(config, options):
        epochs = math.inf if (trainer.max_epochs or -1) < 0 else trainer.max_epochs * steps_per_epoch
        steps = int(min(epochs, math.inf if trainer.max_steps < 0 else trainer.max_steps))
        return Budget(steps=steps), f"{steps:,} optimiser steps"
    name = "budget" if options.budget else "trainer.max_time"
    time = seconds(options.budget or trainer.max_time or DEFAULT_BUDGET, name)
    return Budget(seconds=time), duration(time)


def _steps_per_epoch(config: Config, train: TokenStream) -> int:
    from charlm.text.batching import batches

    count = len(batches(train, config.data.batch_size, config.data.seq_length))
    return -(-count // config.trainer.accumulate_grad_batches)


def _speeds(networks: dict[str, Config], vocab_size: int, device: str, reporter: Reporter) -> dict[str, float]:
    """Measure the training speed of each network in tokens per second.

    The forward and the backward pass are measured on batches of the size that the race uses,
    without the optimiser.
    """
    from charlm.evaluation.speed import model_speed
    from charlm.network.model import LanguageModel

    data = next(iter(networks.values())).data
    models = {name: LanguageModel(config.model, vocab_size) for name, config in networks.items()}
    return model_speed(models, data.batch_size, data.seq_length, rounds=2, device=device, progress=reporter.progress)


def _validation_part(trial: Budget, slowest: float, tokens: int, config: Config) -> Any:
    """Return the value of `trainer.limit_val_batches` for all trials of the race.

    If the trials are limited by time, this value is the fraction of the validation text that each
    validation reads. It is chosen for the slowest network and used for all, so that their curves
    can be compared. If the trials are limited by steps, or if the user has set how validations are
    done, the value in `config` is returned unchanged.

    Args:
        trial: Budget of a trial of the race.
        slowest: Training speed of the slowest network in tokens per second.
        tokens: Number of tokens of the validation split.
        config: Settings of one of the networks.
    """
    from charlm.training.validation_points import COST, LEAST_TOKENS, SPEED, USUAL, halved

    trainer = config.trainer
    if trial.seconds is None or trainer.val_check_interval != "auto" or trainer.limit_val_batches != "auto":
        return trainer.limit_val_batches
    most = max(LEAST_TOKENS, int(COST * SPEED * slowest * trial.seconds / USUAL))
    return halved(tokens, most) / tokens
