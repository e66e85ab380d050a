"""The choice of every setting that is None, from the machine, the cell and the size of the text.

The result is a config in which no setting is None, and the reason for each choice. If the text is
too short for the batch size or the window, these are lowered, even if the user set them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from charlm.config.definitions import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SamplesConfig,
    TrainerConfig,
)
from charlm.errors import CharlmError

Group = TypeVar("Group", DataConfig, ModelConfig, OptimizerConfig, SamplesConfig, TrainerConfig)

WORD_LEVEL = 1000
"""Vocabulary size from which a model is treated as one of words rather than of characters."""

TRAINED = 0.25
"""Learning rate of a run that starts from trained weights, relative to that of a new network."""


@dataclass(frozen=True)
class Facts:
    """The properties of text, machine and cell from which missing settings are chosen.

    Args:
        tokens: Number of tokens of the training text.
        vocab_size: Number of tokens of the vocabulary.
        items: Number of items of the training text (lines, documents); None for a stream.
        gpu: Whether the run has a GPU.
        processes: Number of processes that share the lanes or items of a batch.
        raw_input: Whether the cell uses its input without multiplying it by a matrix, so that the
            input must be as wide as the layer.
        gated: Whether the cell has gates.
        context: Default number of tokens that a layer of the cell sees; 0: no fixed number.
    """

    tokens: int
    vocab_size: int
    items: int | None = None
    gpu: bool = False
    processes: int = 1
    raw_input: bool = False
    gated: bool = True
    context: int = 0


class Choice(NamedTuple):
    """A setting that `resolve` has chosen: the dotted name, the value and the reason."""

    name: str
    value: Any
    reason: str


class Resolved(NamedTuple):
    """A config in which every setting has a value, and the list of the chosen settings."""

    config: Config
    choices: list[Choice]


def resolve(config: Config, facts: Facts) -> Resolved:
    """Choose every setting that is None, and fit the batch size and the window to a short text.

    Raises:
        CharlmError: the batch size is not a multiple of the number of processes, or the training
            text has fewer tokens to predict, or fewer items, than processes.
    """
    chosen = _Choices()
    trainer = _trainer(config.trainer, facts, chosen)
    model = _model(config.model, facts, chosen, timed=bool(config.trainer.max_time))
    data = _data(config.data, facts, chosen)
    optimizer = _optimizer(config.optimizer, model, facts, chosen, trained=bool(config.init_from))
    samples = replace(config.samples, prompts=config.samples.prompts or ("",))
    lines = config.data.unit == "line"
    samples = chosen.fill(samples, "samples.count", 5 if lines else 1, "lines are short" if lines else "long samples")
    resolved = replace(config, data=data, model=model, optimizer=optimizer, trainer=trainer, samples=samples)
    return Resolved(resolved, chosen.made)


@dataclass
class _Choices:
    """The list of the settings that were chosen so far, to which the methods add."""

    made: list[Choice] = field(default_factory=list)

    def fill(self, group: Group, name: str, value: Any, reason: str) -> Group:
        """Choose a setting if it is None, and return the group with it.

        If the setting has a value, return the group unchanged.

        Args:
            group: A group of settings.
            name, value, reason: The dotted name of the setting, the value to choose, and why.
        """
        if getattr(group, name.partition(".")[2]) is not None:
            return group
        return self.set(group, name, value, reason)

    def set(self, group: Group, name: str, value: Any, reason: str) -> Group:
        """Choose a setting even if it has a value, and return the group with it.

        Args:
            group: A group of settings.
            name, value, reason: The dotted name of the setting, the value to choose, and why.
        """
        self.made.append(Choice(name, value, reason))
        return replace(group, **{name.partition(".")[2]: value})


def _trainer(trainer: TrainerConfig, facts: Facts, chosen: _Choices) -> TrainerConfig:
    if trainer.num_nodes > 1 and trainer.strategy == "auto":
        trainer = chosen.set(trainer, "trainer.strategy", "ddp", "several machines")
    if trainer.max_time or trainer.max_steps > 0:
        bound = "`trainer.max_time`" if trainer.max_time else "`trainer.max_steps`"
        return chosen.fill(trainer, "trainer.max_epochs", -1, f"no limit: {bound} ends the run")
    aim = 200_000_000 if facts.gpu else 12_000_000
    epochs = max(1, min(50, round(aim / max(1, facts.tokens))))
    reason = f"about {aim / 1e6:g} million tokens in all, at most 50 epochs"
    return chosen.fill(trainer, "trainer.max_epochs", epochs, reason)


def _model(model: ModelConfig, facts: Facts, chosen: _Choices, *, timed: bool) -> ModelConfig:
    tokens, gpu = facts.tokens, facts.gpu
    size = f"{tokens:,} tokens of training text"
    if tokens < 150_000:
        layers, hidden, dropout = 1, 128, 0.1
    elif tokens < 600_000:
        layers, hidden, dropout = 2, 192 if not gpu else 256, 0.1
    elif tokens < 20_000_000 or not gpu:
        layers, hidden, dropout = 2, 512 if gpu else 256, 0.3 if gpu else 0.05
    else:
        layers, hidden, dropout = 2, 1024, 0.1
    model = chosen.fill(model, "model.layers", layers, size)
    model = chosen.fill(model, "model.hidden", hidden, f"{size}, on {'a GPU' if gpu else 'a CPU'}")
    if facts.context and not model.context:
        reason = f"tokens that a layer sees; the default of the cell {model.cell}"
        model = chosen.set(model, "model.context", facts.context, reason)
    if facts.raw_input:
        reason = f"{model.cell} reads its input as wide as its hidden units"
        model = chosen.fill(model, "model.embedding", model.hidden, reason)
    if facts.vocab_size >= WORD_LEVEL:
        reason = f"as wide as the layers, for {facts.vocab_size:,} different tokens"
        model = chosen.fill(model, "model.embedding", model.hidden, reason)
        reason = "one matrix for input and output: fewer weights for a large vocabulary"
        model = chosen.fill(model, "model.tie", True, reason)
        dropout = 0.4 if model.tie else dropout
    else:
        reason = f"enough for {facts.vocab_size:,} different tokens"
        model = chosen.fill(model, "model.embedding", min(64, model.hidden), reason)
        model = chosen.fill(model, "model.tie", False, "a small vocabulary gains nothing from sharing")
        if timed and not gpu:
            dropout = min(dropout, 0.05)
    return chosen.fill(model, "model.dropout", dropout, f"{size}; a shorter text needs more dropout")


def _data(data: DataConfig, facts: Facts, chosen: _Choices) -> DataConfig:
    if data.batch_size is not None and data.batch_size % facts.processes:
        raise CharlmError(
            f"`data.batch_size` {data.batch_size} cannot be shared by {facts.processes} devices; "
            f"take a multiple of {facts.processes}"
        )
    if facts.gpu:
        lanes = 128
    elif data.unit == "stream":
        lanes = 32
    else:
        lanes = 128 if data.unit == "line" else 32
    while lanes > 8 and facts.tokens / lanes < 2000:
        lanes //= 2
    lanes = -(-lanes // facts.processes) * facts.processes
    reason = "enough to keep the processor busy, few enough for many steps per epoch"
    data = chosen.fill(data, "data.batch_size", lanes, reason)
    window = 128 if facts.gpu or data.unit != "stream" else 64
    data = chosen.fill(
        data, "data.seq_length", window, "how far gradients are propagated back; the state is carried further"
    )
    return _fitted(data, facts, chosen)


def _fitted(data: DataConfig, facts: Facts, chosen: _Choices) -> DataConfig:
    """Lower the batch size and the window if the training text is too short for them.

    Raises:
        CharlmError: there are fewer tokens to predict, or fewer items, than processes.
    """
    most = facts.tokens - 1 if facts.items is None else facts.items
    if most < facts.processes:
        devices = f" on {facts.processes} devices" if facts.processes > 1 else ""
        raise CharlmError(
            f"the training text has {facts.tokens} tokens, too few to predict anything{devices}; give a longer text"
        )
    lanes, window = data.batch_size, data.seq_length
    if facts.items is None:
        lanes = max(min(lanes, most // window), 1)
    else:
        lanes = min(lanes, most)
    if lanes != data.batch_size:
        lanes = max(lanes - lanes % facts.processes, facts.processes)
    if facts.items is None:
        window = min(window, most // lanes)
    size = f"{facts.tokens:,} tokens" if facts.items is None else f"{most:,} items"
    for name, old, new in (("batch_size", data.batch_size, lanes), ("seq_length", data.seq_length, window)):
        if new != old:
            data = chosen.set(data, f"data.{name}", new, f"lowered from {old}: the training text has only {size}")
    return data


def _optimizer(
    optimizer: OptimizerConfig, model: ModelConfig, facts: Facts, chosen: _Choices, *, trained: bool
) -> OptimizerConfig:
    lr = 6e-3 if model.hidden <= 256 else 4e-3 if model.hidden <= 512 else 2e-3
    if (model.tie and optimizer.name in ("adamw", "adam", "muon")) or not facts.gated:
        lr = min(lr, 3e-3)
    if optimizer.name in ("sgd", "rmsprop"):
        lr = 1.0 if optimizer.name == "sgd" else 2e-3
    reason = f"suits {optimizer.name} with {model.hidden} hidden units per layer"
    if trained:
        lr *= TRAINED
        reason = f"{TRAINED:g} of what suits a new network: larger steps would undo what the weights have learnt"
    return chosen.fill(optimizer, "optimizer.lr", lr, reason)
