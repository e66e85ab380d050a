"""The directory of a run: its files, and how each is read and written.

::

    runs/NAME/
      config.yaml          the resolved settings, from which the run can be repeated
      tokenizer.json       the vocabulary
      model.json           ModelConfig and vocab_size: the network that the weights fit, whatever config.yaml says
      model.safetensors    the best weights so far; last.safetensors: the newest
      tokens/              the text as ids, so that resuming needs nothing from outside
      checkpoints/         best.ckpt, last.ckpt: what resuming reads
      metrics.csv          every logged number
      samples.jsonl        the sample history, one sample per line
      quality.json         what real text and n-gram models score on the text metrics; the loss of an n-gram model
      memory.json          how far back the network looks, as it was recorded last
      checksums.json       checksums of the files above but metrics.csv and samples.jsonl
      events.out.tfevents* TensorBoard; projector/: the embedding, for its projector
      .lock                names the process that trains the run
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import yaml

from charlm.config import Config, ModelConfig, settings
from charlm.config.fields import Direction
from charlm.config.plain import from_plain, to_plain
from charlm.config.shell import command
from charlm.errors import CharlmError, count, first_line
from charlm.files import atomic, checksum, drop_leftovers, kind
from charlm.manifest import Manifest
from charlm.network.cells import cells
from charlm.network.summary import parameter_count
from charlm.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from charlm.text.stream import TokenStream

Checkpoint = Literal["best", "last"]
WEIGHTS: dict[Checkpoint, str] = {"best": "model.safetensors", "last": "last.safetensors"}

KEPT_WHOLE = ("config.yaml", "tokenizer.json", "model.json", *WEIGHTS.values(), "quality.json", "memory.json")
"""Files that are replaced as a whole; checkpoints and tokens are, too."""

MOST_LAYERS = 10_000
"""Most layers that `model.json` may name; if it names more, the file counts as damaged."""

RESTORE = "restore it from a copy, or delete checksums.json to accept the files as they are"
"""What to do about a damaged file that nothing else can replace."""


@dataclass(frozen=True)
class Sample:
    """One text generated during training: a line of `samples.jsonl`."""

    epoch: float
    step: int
    prompt: str
    seed: int
    temperature: float
    text: str
    scores: dict[str, float] = field(default_factory=dict)
    direction: Direction = "forward"

    @property
    def whole(self) -> str:
        """The text with its prompt, which stands after it if the model writes backward."""
        return self.prompt + self.text if self.direction == "forward" else self.text + self.prompt


@dataclass(frozen=True)
class MemoryRecord:
    """How far back the network looks, as measured at one step: the content of `memory.json`.

    The measurement is described in `charlm.inspection.memory`.

    Args:
        step, epoch: The step and the epoch of the measurement.
        distances: Distances T - t between two positions t < T of a text, in tokens, ascending.
        gradients: For each layer, |dL_T / dh_t| at each distance: the norm of the gradient of L_T,
            the loss of predicting the token after position T, with respect to h_t, the state of the
            layer after position t.
        contexts: The contexts of `memory_horizon`, ascending: the smallest numbers of tokens that
            the network had read before each predicted token. Empty if the text is lines or
            documents, which are read without the text before them.
        losses: The loss with each of these contexts, in nats per token.
    """

    step: int
    epoch: float
    distances: list[int]
    gradients: list[list[float]]
    contexts: list[int]
    losses: list[float]

    def __post_init__(self) -> None:
        """Raise ValueError if lists that belong together differ in length."""
        if any(len(layer) != len(self.distances) for layer in self.gradients) or len(self.contexts) != len(self.losses):
            raise ValueError("its lists differ in length")


@dataclass(frozen=True)
class NGramLosses:
    """How well an n-gram model predicts the validation text of a run.

    Args:
        name: Name of the model: its order and smoothing.
        losses: Losses by number of tokens: the loss for the key n is the mean over the first n
            predicted tokens of the text, in nats per token. There is a key for each number of
            tokens that a validation may predict, except for very large numbers.
    """

    name: str
    losses: dict[int, float]


NO_QUALITY: dict[str, Any] = {"references": {}, "left_out": {}, "size": 0, "ngram": None}
"""The value of `RunDirectory.quality` for a run without a quality.json."""


class RunDirectory:
    """The files of a run, with methods to read and write them.

    A file that results depend on is compared with its checksum when it is read (see `Manifest`).
    metrics.csv and samples.jsonl only record what happened: they have no checksum, and their
    damaged lines are left out.

    Args:
        path: The run directory.

    Attributes:
        left_out: For each damaged file that was read, by name, a sentence that says what was left
            out.

    Raises:
        CharlmError: the directory is missing, is not a run, or is incomplete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            hint = " (it is a file)" if self.path.exists() else ""
            raise CharlmError(
                f"there is no run at {self.path}{hint}; name the directory of a training, such as runs/plays"
            )
        if not (self.path / "config.yaml").is_file():
            raise CharlmError(f"{self.path} is not a run: it has no config.yaml; name the directory of a training")
        for name in ("tokenizer.json", "model.json"):
            if not (self.path / name).is_file():
                raise CharlmError(f"the run {self.path} is half-written: it has no {name}; delete it and train again")
        self.manifest = Manifest(self.path)
        self.left_out: dict[str, str] = {}
        self._verified_splits: set[str] = set()

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | Path, config: Config, tokenizer: Tokenizer) -> RunDirectory:
        """Write the files of a new run into `path`, a directory that already holds its `tokens`."""
        path = Path(path)
        (path / "checkpoints").mkdir(exist_ok=True)
        tokenizer.save(path / "tokenizer.json")
        with atomic(path / "model.json") as file:
            json.dump({"vocab_size": len(tokenizer)} | to_plain(config.model), file, indent=2)
        with atomic(path / "config.yaml") as file:
            _dump_config(file, config)
        directory = cls(path)
        directory._accept_files()
        return directory

    def _accept_files(self) -> None:
        """Write a manifest with the checksums that the files have now, so that these are accepted.

        The checksums of the tokens are those that `streams.json` records.
        """
        from charlm.text.store import token_checksums

        names = [*KEPT_WHOLE, *(f"checkpoints/{path.name}" for path in (self.path / "checkpoints").glob("*.ckpt"))]
        found = {name: checksum(self.path / name) for name in names if (self.path / name).is_file()}
        tokens = token_checksums(self.path / "tokens")
        self.manifest.expect(found | {f"tokens/{name}": value for name, value in tokens.items()})

    def drop_leftovers(self) -> None:
        """Delete the temporary files that a killed training left in the run directory."""
        for folder in (self.path, self.path / "checkpoints", self.path / "tokens", self.path / "projector"):
            drop_leftovers(folder)

    @property
    def config(self) -> Config:
        """The resolved settings of the run, read from config.yaml.

        Raises:
            CharlmError: the file is damaged, is not YAML, or has an unknown key, a value that does
                not fit or a setting without a value.
        """
        path = self.path / "config.yaml"
        self.manifest.verify("config.yaml", RESTORE)
        try:
            config = Config.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
            if missing := [one.name for one in settings(config) if one.value is None]:  # `resolve` gave each a value
                raise CharlmError(f"`{missing[0]}` has no value")
            return config
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise CharlmError(f"{path} is damaged ({' '.join(str(error).split())}); train again") from None
        except CharlmError as error:
            raise CharlmError(f"{path}: {error}; correct it or train again") from None

    def write_config(self, config: Config) -> None:
        """Replace config.yaml by the given settings."""
        if not self.manifest.exists():  # deleted by the user, to accept the files as they are
            self._accept_files()
        with self.manifest.writing("config.yaml") as file:
            _dump_config(file, config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, read from tokenizer.json.

        Raises:
            CharlmError: the file is damaged, or the size of its vocabulary is not that of the
                network.
        """
        self.manifest.verify("tokenizer.json", RESTORE)
        tokenizer = Tokenizer.load(self.path / "tokenizer.json")
        if len(tokenizer) != self.vocab_size:
            raise CharlmError(
                f"{self.path / 'tokenizer.json'} does not fit model.json: it has {len(tokenizer):,} tokens, and the "
                f"network {self.vocab_size:,}; copy both again from one run"
            )
        return tokenizer

    @property
    def model_config(self) -> ModelConfig:
        """The settings of the network, read from model.json."""
        return self._model[0]

    @property
    def vocab_size(self) -> int:
        """The number of tokens in the vocabulary of the network, read from model.json."""
        return self._model[1]

    @cached_property
    def _model(self) -> tuple[ModelConfig, int]:
        path = self.path / "model.json"
        self.manifest.verify("model.json", RESTORE)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            vocab_size = values.pop("vocab_size")
            config = from_plain(ModelConfig, values, "model")
            missing = [name for name, value in vars(config).items() if value is None]
            if type(vocab_size) is not int or vocab_size < 1 or missing:
                raise ValueError(f"no {', '.join(missing) or 'vocabulary'}")
            if config.layers > MOST_LAYERS:
                raise ValueError(f"{config.layers:,} layers")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, CharlmError) as error:
            raise CharlmError(f"{path} is damaged ({first_line(error)}); train again") from None
        if config.cell not in cells:
            raise CharlmError(
                f"{self.path} has the cell {config.cell!r}, which is not part of charlm; name the Python file that "
                "registers it with `import`, or import it before you load the run"
            )
        return config, vocab_size

    def read_weights(self, checkpoint: Checkpoint = "best") -> dict[str, np.ndarray]:
        """Return the weights as numpy arrays under the names of `LanguageModel.state_dict`.

        Args:
            checkpoint: "best": the weights with the lowest validation loss; "last": the newest
                weights.

        Raises:
            CharlmError: the run has no weights yet, the weights are damaged, or the number of
                weights is not that of the network's parameters.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path, resume = self.path / WEIGHTS[checkpoint], command("train", resume=self.path)
        if not path.is_file():
            raise CharlmError(f"the run {self.path} has no weights yet ({path.name}); go on with {resume}")
        remedy = f"{resume} writes it anew from the checkpoint"
        self.manifest.verify(path.name, remedy)
        try:
            weights = load_file(path)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise CharlmError(f"{path} is damaged ({first_line(error)}); {remedy}") from None
        self.check_parameters(sum(array.size for array in weights.values()))
        # The sum of finite numbers is finite in float64, so one number tells of each array.
        with np.errstate(invalid="ignore"):
            finite = all(np.isfinite(array.sum(dtype=np.float64)) for array in weights.values())
        if not finite:
            raise CharlmError(f"{path} is damaged (a weight is not a finite number); {remedy}")
        return weights

    def check_parameters(self, number: int) -> None:
        """Raise CharlmError unless the network of the run has `number` parameters.

        The network is not built: the number of its parameters is computed from its settings and the
        size of the vocabulary.
        """
        expected = parameter_count(self.model_config, self.vocab_size)
        if number != expected:
            raise CharlmError(
                f"the weights of {self.path} do not fit its model.json: they are {number:,} numbers, and the network "
                f"has {expected:,} parameters; copy both again from one run"
            )

    def write_weights(self, weights: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Replace the file of the weights atomically.

        Args:
            weights: Torch tensors on any device, by name.
            checkpoint: Which weights these are: "best" or "last".
        """
        from safetensors.torch import save

        data = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
        with self.manifest.writing(WEIGHTS[checkpoint], "wb") as file:
            file.write(data)

    def has_split(self, split: str) -> bool:
        """Return whether the text of the run has this split: train, val or test."""
        from charlm.text.stream import TokenStream

        return TokenStream.exists(self.path / "tokens", split) or f"tokens/{split}.ids" in self.manifest

    def stream(self, split: str) -> TokenStream:
        """Return the ids of a split of the run's text (train, val or test), as the network reads them.

        The ids are verified when this object opens the split for the first time. Where the file
        system allows it, their files are hard links into the cache, which other runs share, so
        damage to a file reaches all of these runs.

        Raises:
            CharlmError: the run has no such split, or its tokens are damaged.
        """
        from charlm.text.store import check_ids, token_files
        from charlm.text.stream import TokenStream

        if not self.has_split(split):
            raise CharlmError(
                f"the run {self.path} has no {split} split; train with `data.{split}_fraction` 0.1 or name a file with "
                f"`data.{split}`, or evaluate another text"
            )
        unverified = split not in self._verified_splits
        if unverified:
            remedy = f"start a new run on the same text with `init_from` {self.path}"
            for name in token_files(self.path / "tokens", split):
                self.manifest.verify(f"tokens/{name}", remedy)
        stream = TokenStream.load(self.path / "tokens", split)
        if unverified:
            check_ids(stream, self.vocab_size, self.path / "tokens" / f"{split}.ids")
            self._verified_splits.add(split)
        return stream.in_order(self.config.data.direction)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The intact rows of metrics.csv, oldest first.

        A step can have several rows: for its training, its validation and the end of an epoch.
        """
        return [values for _, values in self._metric_rows()[1]]

    def drop_metrics_after(self, step: int, header: Sequence[str]) -> None:
        """Delete the damaged rows of metrics.csv, and the rows after `step`.

        A resumed run logs the steps after `step` again. The other rows stay exactly as they are,
        unless the file has other columns than `header`: then the rows get the columns of `header`.
        """
        names, rows = self._metric_rows()
        kept = [line for line, values in rows if values["step"] <= step]
        if names != list(header):  # written by a version with other columns
            at = {name: names.index(name) for name in header if name in names}
            cells = [line.rstrip("\r\n").split(",") for line in kept]
            kept = [",".join(row[at[name]] if name in at else "" for name in header) + "\n" for row in cells]
        with atomic(self.path / "metrics.csv") as file:
            file.write(",".join(header) + "\n")
            file.writelines(kept)

    def _metric_rows(self) -> tuple[list[str], list[tuple[str, dict[str, Any]]]]:
        """Return the names of the columns of metrics.csv, and its intact rows.

        A row is a pair: its line, and its numbers by the name of the column.
        """
        found = self._lines("metrics.csv")
        header, *lines = found or [""]
        names = header.rstrip("\r\n").split(",")
        rows = []
        for line in lines:
            try:
                cells = zip(names, _whole(line).rstrip("\r").split(","), strict=True)
                values: dict[str, Any] = {name: float(cell) for name, cell in cells if cell}
                values["step"] = int(line.partition(",")[0] if names[0] == "step" else "")
                rows.append((line, values))
            except ValueError:
                pass
        empty = not found and (self.path / "metrics.csv").is_file()
        self._leave_out("metrics.csv", len(lines) - len(rows) + empty, "row")
        return names, rows

    def _lines(self, name: str) -> list[str]:
        """Return the lines of a file that grows line by line, with their line ends.

        If the file is missing or no regular file, the list is empty and `left_out` says so. But a
        run without weights may lack the file: then `left_out` does not mention it.
        """
        path = self.path / name
        found = kind(path) or (None if path.exists() else "missing")
        if found is None:
            with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
                return list(file)
        if found != "missing" or (self.path / WEIGHTS["last"]).exists():  # a trained run has it
            self.left_out[name] = f"{path} is {found}, and left out"
        return []

    def _leave_out(self, name: str, number: int, what: str) -> None:
        if number and name not in self.left_out:
            some = count(number, f"damaged {what}")
            self.left_out[name] = f"left {some} of {self.path / name} out"

    @property
    def quality(self) -> dict[str, Any]:
        """What the run is compared with, as a dictionary read from quality.json.

        `references` has the scores of real text and of n-gram text on the text metrics, by name.
        `left_out` has the metrics that were left out, with the reasons. `size` is the number of
        characters of a scored text. If the run did not score its samples, `references` and
        `left_out` are empty and `size` is 0. `ngram` is an `NGramLosses`, or None if there is none,
        for example because the run has no validation text.
        """
        path = self.path / "quality.json"
        self.manifest.verify(path.name, RESTORE)
        if not path.exists():
            return NO_QUALITY
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {
                "references": msgspec.convert(found["references"], dict[str, dict[str, float]]),
                "left_out": msgspec.convert(found["left_out"], dict[str, str]),
                "size": msgspec.convert(found["size"], int),
                "ngram": msgspec.convert(found["ngram"], NGramLosses | None, str_keys=True),
            }
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CharlmError(f"{path} is damaged ({first_line(error)}); delete it") from None

    def write_quality(self, **parts: Any) -> None:
        """Replace some entries of `quality`.

        The other entries are kept, or become empty if the file is damaged.
        """
        try:
            kept = self.quality
        except CharlmError:
            kept = NO_QUALITY
        with self.manifest.writing("quality.json") as file:
            json.dump(kept | parts, file, indent=2, ensure_ascii=False, default=dataclasses.asdict)

    @property
    def memory(self) -> MemoryRecord | None:
        """The last measurement of how far back the network looks, read from memory.json.

        It is None if there was no measurement.
        """
        path = self.path / "memory.json"
        self.manifest.verify(path.name, RESTORE)
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=MemoryRecord)
        except (ValueError, RecursionError) as error:
            raise CharlmError(f"{path} is damaged ({first_line(error)}); delete it") from None

    def write_memory(self, record: MemoryRecord) -> None:
        """Replace memory.json by a new measurement."""
        with self.manifest.writing("memory.json") as file:
            json.dump(dataclasses.asdict(record), file)

    @property
    def samples(self) -> list[Sample]:
        """The samples of samples.jsonl, oldest first; damaged lines are left out."""
        return [sample for _, sample in self._sample_lines()]

    def add_sample(self, sample: Sample) -> None:
        """Append a sample to samples.jsonl."""
        line = json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n"
        with (self.path / "samples.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())  # one write: a reader sees the line or does not

    def drop_samples_after(self, step: int) -> None:
        """Delete the damaged lines of samples.jsonl, and the samples after `step`.

        A resumed run generates these samples again.
        """
        kept = [line for line, sample in self._sample_lines() if sample.step <= step]
        with atomic(self.path / "samples.jsonl") as file:
            file.writelines(kept)

    def _sample_lines(self) -> list[tuple[str, Sample]]:
        """Return the intact lines of samples.jsonl, each with the sample that the line holds."""
        lines, found = self._lines("samples.jsonl"), []
        for line in lines:
            try:
                sample = msgspec.convert(json.loads(_whole(line)), Sample)
                (sample.prompt + sample.text).encode()  # half of a surrogate pair cannot be shown
                found.append((line, sample))
            except (ValueError, RecursionError):
                pass
        self._leave_out("samples.jsonl", len(lines) - len(found), "line")
        return found


def _whole(line: str) -> str:
    """Return a line without its line end.

    Raises:
        ValueError: the line has no line end, because the file was cut there.
    """
    if not line.endswith("\n"):
        raise ValueError("the line is cut")
    return line[:-1]


def _dump_config(file: IO[str], config: Config) -> None:
    yaml.safe_dump(config.to_dict(), file, sort_keys=False, allow_unicode=True)
