"""The settings of a run: one definition per setting.

A definition (name, type, default, range, one line of help) gives the option of the command line, the key of
the YAML file, the line saved in the run and the check. `None` stands for "chosen by the program": `choose`
fills such settings in from the size of the text, and says why.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from charlm.config.settings import build, check_ranges, seconds, setting
from charlm.errors import CharlmError


@dataclass
class DataConfig:
    """The text and how it is cut."""

    text: list[str] = setting([], "files, folders, globs or - for standard input; none: the built-in corpus")
    val: str | None = setting(None, "validation text (file, folder or glob), instead of a fraction of the text")
    test: str | None = setting(None, "test text (file, folder or glob), instead of a fraction of the text")
    val_fraction: float = setting(0.1, "share of the text kept for validation", low=0, below=1)
    test_fraction: float = setting(
        0.0, "share of the text kept for the test, after the validation part", low=0, below=1
    )
    pattern: str = setting("*.txt", "which files of a folder are read, at any depth")
    encoding: str = setting("utf-8", "character encoding of the files")
    unit: Literal["stream", "line", "document"] = setting(
        "stream", "one long text, or separate items: a line each, or documents parted by blank lines"
    )
    batch_size: int | None = setting(None, "lanes read side by side: places in the text (or items) a step", low=1)
    seq_length: int | None = setting(None, "tokens a lane advances a step, through which gradients flow", low=1)
    state_reset: float = setting(
        0.01, "chance that a lane's state starts a step from zero, as a text does (stream)", low=0, high=1
    )


@dataclass
class TokenizerConfig:
    """What a token is."""

    kind: str = setting("char", "what a token is: {tokenizers}")
    size: int | None = setting(
        None, "most tokens in the vocabulary (word, classic: 50,000; bpe, unigram: 4,096)", low=2
    )
    min_frequency: int | None = setting(None, "a token occurs at least so often (word, bpe: 2, others: 1)", low=1)
    lowercase: bool = setting(False, "read and write lower case only")


@dataclass
class ModelConfig:
    """The network."""

    cell: str = setting("lstm", "the recurrence: {cells}")
    layers: int | None = setting(None, "recurrent layers, one above the other", low=1)
    hidden: int | None = setting(None, "units of each layer", low=1)
    embedding: int | None = setting(None, "numbers that stand for one token", low=1)
    dropout: float | None = setting(None, "share of each layer's outputs dropped in training", low=0, below=1)
    input_dropout: float = setting(0.0, "share of the embedding's outputs dropped in training", low=0, below=1)
    tie: bool | None = setting(None, "embedding and output projection share one matrix")
    residual: bool = setting(False, "add each layer's input to its output (second layer and up)")
    layer_norm: bool = setting(False, "normalise what enters the second layer and up, and the output projection")
    zoneout: float = setting(0.0, "chance that a unit keeps its state for a step, in training", low=0, below=1)
    recurrent_dropout: float = setting(
        0.0, "share of the state that recurrent products do not see, the same for a window", low=0, below=1
    )
    weight_drop: float = setting(0.0, "share of the recurrent weights dropped for a window", low=0, below=1)
    forget_bias: float = setting(1.0, "initial bias of the gate that keeps the past, where the cell has one")
    chrono: int | None = setting(
        None, "start the gates for memories of up to so many tokens, instead of forget_bias", low=2
    )
    gate_scale: float = setting(
        1.0, "initial size of the weights that drive gates, relative to those of what is written", low=0
    )
    recurrent_init: Literal["orthogonal", "identity", "normal"] | None = setting(
        None, "how recurrent matrices start (none: orthogonal; rnn_relu: identity)"
    )
    recurrent_scale: float = setting(
        1.0, "initial size of recurrent matrices, where 1 keeps the size of what they are applied to", low=0
    )


@dataclass
class OptimizerConfig:
    """How the weights follow the gradient."""

    name: Literal["adamw", "adam", "sgd", "rmsprop", "muon"] = setting("adamw", "the optimiser")
    lr: float | None = setting(None, "learning rate at its highest", above=0)
    beta1: float = setting(0.9, "decay of the mean of gradients (adam, adamw)", low=0, below=1)
    beta2: float = setting(0.99, "decay of the mean of squared gradients (adam, adamw, rmsprop)", low=0, below=1)
    momentum: float = setting(0.0, "momentum (sgd, rmsprop)", low=0, below=1)
    weight_decay: float = setting(0.01, "decay of the weights", low=0)
    schedule: Literal["cosine", "linear", "constant", "plateau", "step"] = setting(
        "cosine", "how the learning rate falls over the run"
    )
    warmup: int = setting(50, "steps over which the learning rate rises from zero", low=0)
    final_lr: float = setting(0.02, "share of the learning rate left at the end (cosine, linear)", low=0, high=1)
    decay: float = setting(0.5, "factor of one fall (plateau, step)", above=0, high=1)
    decay_every: int = setting(5, "epochs between falls (step), validations without gain (plateau)", low=1)


@dataclass
class TrainerConfig:
    """How long and on what; names and meanings are those of Lightning's Trainer."""

    max_epochs: int | None = setting(None, "passes over the training text", low=1)
    max_time: str | None = setting(None, "end after this time: 90s, 3m, 1h30m or DD:HH:MM:SS; the schedule follows it")
    max_steps: int | None = setting(None, "end after so many steps", low=1)
    accelerator: str = setting("auto", "auto, cpu, gpu, cuda, mps, ...")
    devices: str = setting("auto", "how many devices, or which")
    num_nodes: int = setting(1, "how many machines", low=1)
    strategy: str = setting("auto", "auto, ddp, ...")
    precision: str = setting("auto", "auto (bf16 where the processor is quick at it), 32, bf16-mixed, 16-mixed, 64")
    gradient_clip_val: float = setting(1.0, "longest gradient let through (0: any)", low=0)
    gradient_clip_algorithm: Literal["norm", "value"] = setting("norm", "clip the norm of all or each value")
    accumulate_grad_batches: int = setting(1, "windows whose gradients are averaged for a step", low=1)
    val_check_interval: int | None = setting(None, "windows between validations (none: once an epoch)", low=1)
    log_every_n_steps: int = setting(20, "steps between two logged numbers", low=1)
    deterministic: bool = setting(False, "only operations that repeat exactly (GPU)")


@dataclass
class CheckpointConfig:
    """When the run is saved, and when it has learnt enough."""

    every: int | None = setting(None, "steps between checkpoints", low=1)
    minutes: float = setting(2.0, "minutes between checkpoints (0: only at the ends of epochs)", low=0)
    patience: int = setting(5, "validations without gain before training ends early (0: never)", low=0)


@dataclass
class SamplesConfig:
    """The texts that show the network learning, written at initialisation and after epochs."""

    prompts: list[str] = setting([""], "what the samples start with")
    length: int = setting(300, "tokens a sample", low=1)
    temperature: float = setting(0.8, "below 1 bolder, above 1 more surprising, 0 always the likeliest", low=0)
    count: int | None = setting(None, "samples for each prompt", low=1)
    every: int | None = setting(
        None, "epochs between samples (0: no samples; none: after each of the first ten, then fewer and fewer)", low=0
    )
    scored: int = setting(10_000, "characters drawn and scored beside the samples (0: no scores)", low=0)
    seed: int = setting(1, "seed of the first sample; the same at every epoch", low=0)


@dataclass
class InspectConfig:
    """What is looked at inside the network while it learns, for TensorBoard."""

    histograms: bool = setting(True, "weights, gradients and gates, and how often the gates are saturated")
    images: bool = setting(True, "how far gradients reach back in time, and how far back the network remembers")
    embeddings: bool = setting(True, "the tokens as points in the projector")
    every: int | None = setting(
        None, "epochs between looks (none: at samples, as long as looking takes under 1.5 % of the time)", low=1
    )


@dataclass
class Config:
    """Everything that decides what a run learns."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    init_from: str | None = setting(None, "start from the weights of this run; the tokens both know are kept")
    seed: int = setting(1, "seed of everything random", low=0, below=2**63)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Settings from nested plain values, checked; missing ones keep their defaults.

        Raises:
            CharlmError: an unknown key, a value of the wrong type or out of its range.
        """
        config: Config = build(cls, values)
        config.check()
        return config

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested plain values, in the order of their definitions."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raise CharlmError for the first value out of its range or at odds with another."""
        check_ranges(self)
        if self.data.val_fraction + self.data.test_fraction >= 1:
            raise CharlmError(
                "nothing is left to train on: --data.val_fraction and --data.test_fraction together must stay below 1"
            )
        if not self.samples.prompts:
            self.samples.prompts = [""]
        seconds(self.trainer.max_time)
        if self.trainer.num_nodes > 1 and self.trainer.strategy == "auto":
            self.trainer.strategy = "ddp"


@dataclass
class GenerateConfig:
    """What to write, and how. The logits processors (temperature, top_k, ...) bring their own options."""

    prompt: str = setting("", "what the text starts with")
    prompt_file: str | None = setting(None, "a file that holds the prompt (- for standard input)")
    length: int = setting(500, "tokens to write (characters of a character model, words of a word model)", low=1)
    samples: int = setting(1, "how many texts", low=1)
    seed: int | None = setting(
        None, "the same seed gives the same text (none: a new one, told on standard error)", low=0
    )
    stop: list[str] = setting([], "the text ends before any of these")
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("cpu", "cpu, cuda or auto")
    json: bool = setting(False, "print JSON, a line for each text")


@dataclass
class EvaluateConfig:
    """Which text, and how it is read."""

    split: Literal["train", "val", "test"] = setting("val", "which part of the run's own text, if no text is named")
    encoding: str = setting("utf-8", "character encoding of the files")
    lanes: int = setting(1, "places in the text read side by side: 1 is exact, more are quicker", low=1)
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("auto", "cpu, cuda or auto")
    json: bool = setting(False, "print JSON")


@dataclass
class CellsConfig:
    """Which size the cells are counted and measured at."""

    hidden: int = setting(256, "units of the layer", low=1)
    embedding: int | None = setting(None, "width of the layer's input (none: as wide as the layer)", low=1)
    time: bool = setting(False, "measure how quickly each cell learns on this machine (some seconds)")
    device: str = setting("cpu", "where to measure: cpu, cuda or auto")


@dataclass
class ReelConfig:
    """Which of the samples written during training are shown."""

    prompt: str | None = setting(None, "only samples of this prompt")
    epoch: float | None = setting(None, "only samples of this epoch (0: initialisation)", low=0)
    side_by_side: bool = setting(False, "what was written at different epochs in columns, as many as are wide enough")
    json: bool = setting(False, "print JSON, a line for each sample")


@dataclass
class ReportConfig:
    """What is written, and where."""

    format: Literal["html", "md"] = setting("html", "a page to open in a browser, or Markdown for a README")
    output: str | None = setting(
        None, "the file (- for standard output; none: report.html in the run, or here if there are several)"
    )
