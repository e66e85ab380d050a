"""The settings of a run, in groups; each setting is defined once.

The definition of a setting has a name, a type with its range, a default and one line of help. The
option of the command line, the key of the YAML file, the environment variable, the check of the
value and the documentation are all made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from charlm.config.durations import seconds
from charlm.config.fields import (
    Auto,
    Direction,
    Fraction,
    NonNegativeInteger,
    NonNegativeNumber,
    Number,
    PositiveInteger,
    PositiveNumber,
    Probability,
    Seed,
    StepLimit,
    setting,
)
from charlm.config.plain import from_plain, to_plain
from charlm.errors import CharlmError


@dataclass(frozen=True)
class DataConfig:
    """Settings of the text and of how it is cut into batches."""

    text: tuple[str, ...] = setting((), "files, folders, globs or - for standard input; none: the built-in corpus")
    val: str = setting("", "validation text (file, folder or glob), instead of a fraction of the text")
    test: str = setting("", "test text (file, folder or glob), instead of a fraction of the text")
    val_fraction: Fraction = setting(0.1, "fraction of the text kept for validation")
    test_fraction: Fraction = setting(0.0, "fraction of the text kept for the test, after the validation part")
    pattern: str = setting("*.txt", "which files of a folder are read, at any depth; several: '*.txt, *.md'")
    encoding: str = setting("utf-8", "character encoding of files without a byte-order mark")
    newlines: Literal["lf", "keep"] = setting("lf", "lf: the line ends of Windows (CR LF) become LF; keep: they stay")
    column: str = setting(
        "", "the text is this column of CSV or TSV files, or this key of JSON Lines: one item per row"
    )
    unit: Literal["stream", "line", "document"] = setting(
        "stream", "one long text, or separate items: one per line, or documents separated by blank lines"
    )
    direction: Direction = setting(
        "forward", "in which order the network reads tokens: from the start of the text, or backward from its end"
    )
    batch_size: Auto[PositiveInteger] = setting(None, "rows of a batch: lanes (places of the text), or items")
    seq_length: Auto[PositiveInteger] = setting(
        None, "tokens per window: the length of truncated back-propagation through time"
    )
    state_reset: Probability = setting(
        0.01, "probability that the state of a lane is reset to zero before a window (unit stream)"
    )


@dataclass(frozen=True)
class TokenizerConfig:
    """Settings of the tokenizer, which decide what a token is."""

    kind: str = setting("char", "what a token is", choices="tokenizers")
    size: Annotated[int, Meta(ge=0)] = setting(
        0, "largest vocabulary (0: word and classic 50,000, bpe and unigram 4,096, others no limit)"
    )
    min_frequency: NonNegativeInteger = setting(
        0, "how often a token must occur to be in the vocabulary (0: word, bpe and unigram 2, others 1)"
    )
    lowercase: bool = setting(False, "read and write lower case only")


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the network."""

    cell: str = setting("lstm", "the cell of the layers", role="shapes weights", choices="cells")
    layers: Auto[PositiveInteger] = setting(None, "layers, stacked", role="shapes weights")
    hidden: Auto[PositiveInteger] = setting(None, "hidden units per layer", role="shapes weights")
    embedding: Auto[PositiveInteger] = setting(None, "width of the token embedding", role="shapes weights")
    dropout: Auto[Fraction] = setting(None, "fraction of each layer's outputs dropped in training", role="regularises")
    input_dropout: Fraction = setting(
        0.0, "fraction of the embedding's outputs dropped in training", role="regularises"
    )
    tie: Auto[bool] = setting(None, "embedding and output projection share one matrix", role="shapes weights")
    residual: bool = setting(
        False, "add each layer's input to its output, from the second layer on", role="shapes weights"
    )
    layer_norm: bool = setting(
        False, "layer normalisation before the second and later layers and before the output", role="shapes weights"
    )
    context: NonNegativeInteger = setting(
        0, "tokens that a layer of the cells window and transformer sees, the current one included "
        "(0: window 8, transformer 64)", role="shapes weights",
    )  # fmt: skip
    heads: NonNegativeInteger = setting(
        0, "attention heads of the cell transformer, a divisor of hidden (0: heads of at least 32 units)",
        role="shapes weights",
    )  # fmt: skip
    zoneout: Fraction = setting(
        0.0, "probability that a unit keeps its state for one time step in training", role="regularises"
    )
    recurrent_dropout: Fraction = setting(
        0.0, "fraction of the state dropped before recurrent products, the same for a whole window", role="regularises"
    )
    weight_drop: Fraction = setting(0.0, "fraction of the recurrent weights dropped for a window", role="regularises")
    forget_bias: Number = setting(1.0, "initial bias of the forget gate, where the cell has one", role="starts weights")
    chrono: NonNegativeInteger = setting(
        0, "initialise the gate biases for dependencies of up to this many tokens, in place of forget_bias (0: off)",
        role="starts weights",
    )  # fmt: skip
    gate_scale: NonNegativeNumber = setting(
        1.0, "initial scale of the weights that drive gates, relative to the other weights", role="starts weights"
    )
    recurrent_init: Literal["default", "orthogonal", "identity", "normal"] = setting(
        "default", "initial recurrent matrices (default: identity for rnn_relu, else orthogonal)", role="starts weights"
    )
    recurrent_scale: NonNegativeNumber = setting(
        1.0, "initial scale of the recurrent matrices; at 1 an orthogonal one keeps the norm of the state",
        role="starts weights",
    )  # fmt: skip


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimiser and the learning rate."""

    name: Literal["adamw", "adam", "sgd", "rmsprop", "muon"] = setting("adamw", "the optimiser")
    lr: Auto[PositiveNumber] = setting(None, "peak learning rate")
    beta1: Fraction = setting(0.9, "decay of the running mean of gradients (adam, adamw, muon)")
    beta2: Fraction = setting(0.99, "decay of the running mean of squared gradients (adam, adamw, muon, rmsprop)")
    momentum: Fraction = setting(0.0, "momentum (sgd, rmsprop)")
    weight_decay: NonNegativeNumber = setting(0.01, "weight decay of matrices")
    schedule: Literal["cosine", "linear", "constant", "plateau", "step"] = setting(
        "cosine", "how the learning rate falls over the run"
    )
    warmup: NonNegativeInteger = setting(
        50, "steps over which the learning rate rises from zero, at most a tenth of the run"
    )
    final_lr: Probability = setting(0.02, "learning rate at the end, as a fraction of the peak (cosine, linear)")
    decay: Annotated[float, Meta(gt=0, le=1)] = setting(
        0.5, "factor of one decrease of the learning rate (plateau, step)"
    )
    decay_every: PositiveInteger = setting(
        5, "epochs between decreases (step), validations without improvement before one (plateau)"
    )


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of a training: its length, devices, precision, gradients, validation and logging.

    They are named like the arguments of Lightning's Trainer.
    """

    max_epochs: Auto[StepLimit] = setting(None, "passes over the training text (-1: no limit)")
    max_time: str = setting(
        "", "end after this time: 90s, 3m, 1h30m, DD:HH:MM:SS or seconds; the learning rate falls over this time"
    )
    max_steps: StepLimit = setting(-1, "end after so many optimiser steps (-1: no limit)")
    accelerator: str = setting("auto", "auto, cpu, gpu, cuda, mps, ...")
    devices: int | str = setting("auto", "how many devices (2), or which (0,1)")
    num_nodes: PositiveInteger = setting(1, "how many machines")
    strategy: str = setting("auto", "auto, ddp, ...")
    precision: Literal[
        "auto", "32", "32-true", "bf16", "bf16-mixed", "bf16-true", "16", "16-mixed", "16-true", "64", "64-true"
    ] = setting("auto", "number format of the arithmetic (auto: bf16-mixed where that is fast, or 32)")
    gradient_clip_val: NonNegativeNumber = setting(1.0, "clipping threshold of the gradient (0: no clipping)")
    gradient_clip_algorithm: Literal["norm", "value"] = setting("norm", "clip the norm of all gradients, or each value")
    accumulate_grad_batches: PositiveInteger = setting(1, "batches whose gradients are averaged for one step")
    val_check_interval: PositiveInteger | Annotated[float, Meta(gt=0, le=1)] | Literal["auto"] = setting(
        "auto",
        "batches between validations (a whole number: 1 is each batch) or epochs (a number with a point: 1.0 is each "
        "epoch); auto: 8 to 20 times in a run",
    )
    limit_val_batches: Annotated[float, Meta(gt=0, le=1)] | Literal["auto"] = setting(
        "auto",
        "fraction of the validation text, from its beginning, that a validation reads; auto: all, but with "
        "val_check_interval auto at most as much as takes about 3 % of the time",
    )
    log_every_n_steps: PositiveInteger = setting(20, "optimiser steps between two logged numbers")
    deterministic: bool = setting(False, "only operations that repeat exactly (GPU)")
    logger: str = setting(
        "tensorboard,csv", "where numbers are logged: tensorboard, csv (always), wandb, mlflow, ...; comma-separated"
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """Settings of when checkpoints are saved, and when training stops early."""

    every: NonNegativeInteger = setting(
        0,
        "save a checkpoint also every so many optimiser steps (0: no), not only at best validations and ends of epochs",
    )
    minutes: NonNegativeNumber = setting(2.0, "save a checkpoint also after so many minutes without one (0: no)")
    patience: NonNegativeInteger = setting(
        5, "validations in a row without improvement that end the training early, from step 100 on (0: never)"
    )


@dataclass(frozen=True)
class SamplesConfig:
    """Settings of the samples and the scored text that are generated before and during training."""

    prompts: tuple[str, ...] = setting(("",), "what the samples start with, one or several (default: one empty prompt)")
    length: PositiveInteger = setting(300, "tokens per sample")
    temperature: NonNegativeNumber = setting(
        0.8, "below 1: more probable tokens; above 1: less probable ones; 0: always the most probable"
    )
    count: Auto[PositiveInteger] = setting(None, "samples per prompt")
    every: NonNegativeInteger | Literal["auto"] = setting(
        "auto", "epochs between samples (0: no samples; auto: after each of the first ten epochs, then less often)"
    )
    scored: NonNegativeInteger = setting(
        10_000, "further characters that are generated with the samples and scored (0: no scores)"
    )
    seed: Seed = setting(1, "seed of the first sample; the same at every epoch")


@dataclass(frozen=True)
class InspectConfig:
    """Settings of what is recorded of the network for TensorBoard and the report."""

    histograms: bool = setting(True, "weights, gradients and gates, and how often the gates are saturated")
    images: bool = setting(True, "gradient through time, and memory horizon")
    embeddings: bool = setting(True, "the token embedding in the projector")
    every: PositiveInteger | Literal["auto"] = setting(
        "auto", "epochs between records (auto: when there are samples, as long as they take under 1.5 % of the time)"
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    A setting that is None is chosen by `charlm.config.resolve`, from the machine, the cell and the
    size of the text.
    """

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    init_from: str = setting("", "start from the weights of this run; tokens that both vocabularies have are kept")
    seed: Seed = setting(1, "seed of everything random")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Make settings from nested dictionaries, and check every value.

        Missing settings keep their defaults.

        Args:
            values: Settings by group and name, such as {"model": {"hidden": 256}}.

        Raises:
            CharlmError: an unknown name, a value of the wrong type or out of its range, or values
                that contradict each other.
        """
        config = from_plain(cls, values)
        data, trainer = config.data, config.trainer
        if data.val_fraction + data.test_fraction >= 1:
            raise CharlmError(
                "nothing is left to train on: `data.val_fraction` and `data.test_fraction` together must stay below 1"
            )
        if trainer.max_time:
            seconds(trainer.max_time)
        for name, limit in (("max_epochs", trainer.max_epochs), ("max_steps", trainer.max_steps)):
            if limit == 0:
                raise CharlmError(f"`trainer.{name}` must be at least 1 (or -1: no limit), not 0")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as nested dictionaries, in the order of their definitions."""
        return to_plain(self)
