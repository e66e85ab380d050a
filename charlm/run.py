"""Run: the directory of one training, with everything needed to go on, to generate and to compare.

::

    runs/NAME/
      config.yaml          the resolved settings, itself a valid --config
      tokenizer.json       the vocabulary
      model.json           what rebuilds the network around the weights
      model.safetensors    the best weights so far; last.safetensors: the newest
      tokens/              the text as ids, so that going on needs nothing from outside
      checkpoints/         best.ckpt, last.ckpt: what --resume reads
      metrics.csv          every logged number
      samples.jsonl        the samples, one a line
      quality.json         how held-out text and n-gram models score on the measures of generated text
      events.out.tfevents* TensorBoard; projector/: the embedding, for its projector
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from charlm.config import Config, DataConfig
from charlm.config.settings import merge
from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.generation.sampling import write
from charlm.generation.stepper import NumpyStepper, Stepper, TorchStepper
from charlm.network.shape import ModelShape
from charlm.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from charlm.measure.evaluation import Evaluation
    from charlm.network.model import LanguageModel
    from charlm.text.stream import TokenStream

Checkpoint = Literal["best", "last"]
MANY_ROWS, MANY_TOKENS = 16, 20_000
"""From where on torch writes quicker than numpy on a CPU, its import included."""

INHERITED_OF_TOKENS = ("kind", "lowercase")
"""Settings of the tokenizer that a run has in common with the run that it starts from."""

WEIGHTS: dict[Checkpoint, str] = {"best": "model.safetensors", "last": "last.safetensors"}


@dataclass(frozen=True)
class Sample:
    """One text written during training: what `samples.jsonl` holds, a line each."""

    epoch: float
    step: int
    prompt: str
    seed: int
    temperature: float
    text: str
    scores: dict[str, float] = field(default_factory=dict)


class Run:
    """One training on disk: loads its tokenizer, weights and samples, generates and evaluates.

    Args:
        path: The run directory.

    Raises:
        CharlmError: the directory is not there, is not a run, or its start was cut off half-way.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            hint = " (it is a file)" if self.path.exists() else ""
            raise CharlmError(f"there is no run at {self.path}{hint}; `ls runs` shows what there is")
        if not (self.path / "config.yaml").is_file():
            raise CharlmError(f"{self.path} is not a run: it has no config.yaml; name the directory of a training")
        for name in ("tokenizer.json", "model.json"):
            if not (self.path / name).is_file():
                raise CharlmError(f"the run {self.path} is half-written: it has no {name}; delete it and train again")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | Path, config: Config, tokenizer: Tokenizer, shape: ModelShape) -> Run:
        """Write what a run starts with into `path`, a directory that already holds its `tokens`."""
        path = Path(path)
        (path / "checkpoints").mkdir(exist_ok=True)
        tokenizer.save(path / "tokenizer.json")
        with atomic(path / "model.json") as file:
            json.dump(dataclasses.asdict(shape), file, indent=2)
        save_config(path, config)
        return cls(path)

    @cached_property
    def config(self) -> Config:
        """The settings of the run."""
        return load_config(self.path / "config.yaml")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.path / "tokenizer.json")

    @cached_property
    def shape(self) -> ModelShape:
        """What rebuilds the network."""
        path = self.path / "model.json"
        try:
            return ModelShape(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, CharlmError) as error:
            raise CharlmError(f"{path} is damaged ({_first_line(error)}); train again") from None

    def weights(self, checkpoint: Checkpoint = "best") -> dict[str, np.ndarray]:
        """The weights as numpy arrays under the names of `LanguageModel.state_dict`."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.path / WEIGHTS[checkpoint]
        if not path.is_file():
            raise CharlmError(
                f"the run {self.path} has no weights yet ({path.name}); go on with charlm train --resume {self.path}"
            )
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CharlmError(
                f"{path} is damaged ({_first_line(error)}); charlm train --resume {self.path} "
                f"writes it anew from the checkpoint"
            ) from None

    def save_weights(self, weights: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Write weights (torch tensors on any device) under their names, whole or not at all."""
        from safetensors.torch import save

        data = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
        with atomic(self.path / WEIGHTS[checkpoint], "wb") as file:
            file.write(data)

    def load_model(self, checkpoint: Checkpoint = "best", device: str = "cpu") -> LanguageModel:
        """The network with its trained weights, in evaluation mode."""
        import torch

        from charlm.network.model import LanguageModel
        from charlm.network.precision import torch_device

        model = LanguageModel(self.shape)
        weights = {name: torch.from_numpy(value) for name, value in self.weights(checkpoint).items()}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CharlmError(f"the weights of {self.path} do not fit its model.json: {_first_line(error)}") from None
        return model.eval().to(torch_device(device))

    def load_stepper(
        self, checkpoint: Checkpoint = "best", device: str = "cpu", tokens: int = 1, rows: int = 1
    ) -> Stepper:
        """The network one token at a time: numpy on a CPU, torch on a GPU.

        On a CPU torch is imported only for many `rows` side by side with many `tokens` in all, where its products
        are quicker by more than its import takes. One row always takes the same way.
        """
        if device == "cpu" and rows >= MANY_ROWS and tokens >= MANY_TOKENS:
            from charlm.network.precision import quick_dtype

            return TorchStepper(self.load_model(checkpoint), quick_dtype())
        if device == "cpu":
            try:
                return NumpyStepper(self.weights(checkpoint), self.shape)
            except (KeyError, ValueError) as error:
                raise CharlmError(f"the weights of {self.path} do not fit its model.json: {error}") from None
        return TorchStepper(self.load_model(checkpoint, device))

    def write(
        self,
        prompt: str = "",
        *,
        length: int = 500,
        seed: int = 1,
        stop: Sequence[str] = (),
        samples: int = 1,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        **processors: float,
    ) -> Iterator[list[str]]:
        """Generate texts side by side and yield a piece of each as they are made; see `generate`."""
        stepper = self.load_stepper(checkpoint, device, length * samples, samples)
        return write(
            stepper,
            self.tokenizer,
            prompt,
            length=length,
            seed=seed,
            stop=stop,
            samples=samples,
            **processors,
        )

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = 500,
        seed: int = 1,
        stop: Sequence[str] = (),
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        **processors: float,
    ) -> str:
        """Generate a text that goes on from `prompt`.

        Args:
            prompt: What the text starts with; it is not repeated in the result.
            length: Tokens to write; a model of lines or documents may end earlier.
            seed: The same seed gives the same text.
            stop: The text ends before the first of these.
            checkpoint: The best weights or the last.
            device: "cpu" or a torch device.
            processors: temperature, top_k, top_p, min_p and whatever else `charlm generate --help` lists.
        """
        pieces = self.write(
            prompt,
            length=length,
            seed=seed,
            stop=stop,
            samples=1,
            checkpoint=checkpoint,
            device=device,
            **processors,
        )
        return "".join(piece[0] for piece in pieces)

    def evaluate(
        self,
        text: str | TokenStream | None = None,
        *,
        split: str = "val",
        lanes: int = 1,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Evaluation:
        """How well the model predicts `text`, or a split of the run's own text when none is given."""
        from charlm.measure.evaluation import evaluate
        from charlm.text.corpus import silent
        from charlm.text.stream import encode_text

        if text is None:
            stream = self.stream(split)
        elif isinstance(text, str):
            stream = encode_text(self.tokenizer, text, self.config.data.unit)
        else:
            stream = text
        model = self.load_model(checkpoint, device)
        return evaluate(model, stream, lanes=lanes, progress=progress or silent)

    def encode(self, texts: Sequence[str], encoding: str = "utf-8") -> TokenStream:
        """The ids of files, folders, globs or - in this run's vocabulary, for `evaluate`."""
        import tempfile

        from charlm.text.corpus import read_corpus
        from charlm.text.store import build

        data = DataConfig(text=list(texts), val_fraction=0.0, encoding=encoding, unit=self.config.data.unit)
        with tempfile.TemporaryDirectory() as folder:
            corpus = read_corpus(data)
            _, streams = build(corpus, self.config.tokenizer, Path(folder), tokenizer=self.tokenizer)
            return streams["train"]

    def has_split(self, split: str) -> bool:
        """Whether the run's text has this part: train, val or test."""
        return (self.path / "tokens" / f"{split}.npy").is_file()

    def stream(self, split: str) -> TokenStream:
        """A split of the run's text as ids: train, val or test."""
        from charlm.text.stream import TokenStream

        if not self.has_split(split):
            raise CharlmError(
                f"the run {self.path} has no {split} split; it was trained without one "
                "(--data.val_fraction, --data.test_fraction, --data.val, --data.test)"
            )
        return TokenStream.load(self.path / "tokens", split)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged numbers so far, a row a step, oldest first; see `read_metrics`."""
        return read_metrics(self.path / "metrics.csv")

    @property
    def quality(self) -> dict[str, dict[str, Any]]:
        """What samples are measured against: `references` (name to scores) and `left_out` (measure to reason).

        Both are empty where the run did not measure its samples.
        """
        path = self.path / "quality.json"
        if not path.is_file():
            return {"references": {}, "left_out": {}}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {"references": dict(found["references"]), "left_out": dict(found["left_out"])}
        except (ValueError, TypeError, KeyError) as error:
            raise CharlmError(f"{path} is damaged ({_first_line(error)}); delete it") from None

    @property
    def samples(self) -> list[Sample]:
        """The samples written so far, oldest first."""
        path = self.path / "samples.jsonl"
        try:
            return [Sample(**line) for line in _json_lines(path)]
        except TypeError as error:
            raise CharlmError(f"{path} is damaged ({_first_line(error)}); delete it") from None

    def add_sample(self, sample: Sample) -> None:
        """Append a sample to `samples.jsonl`."""
        with (self.path / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n")

    def drop_samples_after(self, step: int) -> None:
        """Forget samples of steps that a resumed run will make again."""
        kept = [sample for sample in self.samples if sample.step <= step]
        with atomic(self.path / "samples.jsonl") as file:
            for sample in kept:
                file.write(json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv with numbers for text; a row cut short by a kill is left out."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    rows = []
    for row in csv.DictReader(lines):
        if row.get("step") and None not in row.values():
            kept = {name: float(value) for name, value in row.items() if value not in ("", None)}
            rows.append(kept | {"step": int(row["step"])})
    return rows


def first_process() -> bool:
    """Whether this is the process that writes the run (Lightning, torchrun and SLURM number theirs)."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") in ("0", "") for name in names)


def save_config(path: Path, config: Config) -> None:
    """Write the settings of a run."""
    with atomic(path / "config.yaml") as file:
        yaml.safe_dump(config.to_dict(), file, sort_keys=False, allow_unicode=True)


def load_config(path: Path) -> Config:
    """Read settings from a YAML file.

    Raises:
        CharlmError: not YAML, an unknown key, or a value that does not fit.
    """
    try:
        return Config.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CharlmError(f"{path} is damaged ({' '.join(str(error).split())}); train again") from None
    except CharlmError as error:
        raise CharlmError(f"{path}: {error}; correct it or train again") from None


def inherit(values: dict[str, Any]) -> dict[str, Any]:
    """Nested settings over those of the run whose weights they start from: its network and its kind of tokens.

    Raises:
        CharlmError: there is no such run, or its settings are damaged.
    """
    if values.get("init_from") in (None, "", "null"):
        return values
    theirs = Run(str(values["init_from"])).config
    tokens = {name: getattr(theirs.tokenizer, name) for name in INHERITED_OF_TOKENS}
    return merge({"model": vars(theirs.model), "tokenizer": tokens}, values)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            # The last line may be half-written when the run is alive or was killed.
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
