"""A run: what a person does with a trained model and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.config import Config
from charlm.errors import CharlmError, first_line
from charlm.generation.prompts import Unknown, adapt_prompt
from charlm.generation.sampling import stream_text
from charlm.generation.stepper import LongPromptStepper, NumpyStepper, Stepper, TorchStepper
from charlm.network.cells import cells
from charlm.run_directory import Checkpoint, RunDirectory, Sample
from charlm.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from charlm.evaluation.likelihood import Evaluation
    from charlm.network.model import LanguageModel
    from charlm.text.stream import TokenStream

MANY_ROWS, MANY_TOKENS = 16, 20_000
"""Rows, and tokens in all, from which torch generates faster than numpy on a CPU, its import included."""
LONG_PROMPT = 50_000
"""Tokens of a prompt that torch reads faster than numpy on a CPU, its import included."""


class Run:
    """A trained model with its vocabulary and its history: what `charlm.train` and `charlm.load` return.

    Args:
        path: The run directory.

    Raises:
        CharlmError: the directory is missing, is not a run, or is incomplete.
    """

    def __init__(self, path: str | Path) -> None:
        self.directory = RunDirectory(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def config(self) -> Config:
        """The resolved settings."""
        return self.directory.config

    @property
    def tokenizer(self) -> Tokenizer:
        return self.directory.tokenizer

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged numbers, one row per step, oldest first."""
        return self.directory.metrics

    @property
    def samples(self) -> list[Sample]:
        """The sample history, oldest first."""
        return self.directory.samples

    def load_model(self, checkpoint: Checkpoint = "best", device: str = "cpu") -> LanguageModel:
        """The network with its trained weights, in evaluation mode."""
        import torch

        from charlm.network.model import LanguageModel
        from charlm.network.precision import torch_device

        # First the weights: a network that they do not fit may be too large to build.
        weights = {name: torch.from_numpy(value) for name, value in self.directory.read_weights(checkpoint).items()}
        model = LanguageModel(self.directory.model_config, self.directory.vocab_size)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CharlmError(f"the weights of {self.path} do not fit its model.json: {first_line(error)}") from None
        return model.eval().to(torch_device(device))

    def load_stepper(
        self, checkpoint: Checkpoint = "best", device: str = "cpu", tokens: int = 1, rows: int = 1, prompt: int = 0
    ) -> Stepper:
        """The network one token at a time: numpy on a CPU, torch on a GPU.

        On a CPU torch is imported only for many `rows` side by side with many `tokens` in all, where its products are
        faster by more than its import takes, and for a `prompt` of many tokens where torch has a kernel for the cell
        or computes all of them at once.
        One row always takes the same path.
        """
        if device == "cpu" and rows >= MANY_ROWS and tokens >= MANY_TOKENS:
            from charlm.network.precision import fastest_dtype

            return TorchStepper(self.load_model(checkpoint), fastest_dtype())
        if device == "cpu":
            weights, directory = self.directory.read_weights(checkpoint), self.directory
            config, vocab_size = directory.model_config, directory.vocab_size
            try:
                if prompt >= LONG_PROMPT and cells[config.cell].path("cpu", config.hidden) in ("fused", "parallel"):
                    return LongPromptStepper(weights, config, vocab_size, self.load_model(checkpoint))
                return NumpyStepper(weights, config, vocab_size)
            except (KeyError, ValueError) as error:
                raise CharlmError(f"the weights of {self.path} do not fit its model.json: {error}") from None
        return TorchStepper(self.load_model(checkpoint, device))

    def stream_text(
        self,
        prompt: str = "",
        *,
        length: int = 500,
        seed: int = 1,
        stop: Sequence[str] = (),
        samples: int = 1,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        prompt_unknown: Unknown = "error",
        **processors: float,
    ) -> Iterator[list[str]]:
        """Generate texts side by side and yield a piece of each as they are made; see `generate`."""
        processors.setdefault("temperature", self.config.samples.temperature)
        prompt, _ = adapt_prompt(self.tokenizer, prompt, prompt_unknown)
        read = len(self.tokenizer.encode(prompt)) if len(prompt) > LONG_PROMPT / 4 else 0  # a character: up to 4 bytes
        stepper = self.load_stepper(checkpoint, device, length * samples, samples, read)
        return stream_text(
            stepper, self.tokenizer, prompt, length=length, seed=seed, stop=stop, samples=samples, **processors
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
        prompt_unknown: Unknown = "error",
        **processors: float,
    ) -> str:
        """Generate a text that continues `prompt`.

        Args:
            prompt: What the text starts with; it is not repeated in the result.
            length: Tokens to generate; a model of lines or documents may end earlier.
            seed: The same seed gives the same text.
            stop: The text ends before the first of these.
            checkpoint: The best weights or the last.
            device: "cpu" or a torch device.
            prompt_unknown: "error", "drop" or "nearest": what happens to what the vocabulary lacks (`adapt_prompt`).
            processors: temperature, top_k, top_p, min_p and every other logits processor; the temperature is by
                default that of the run's samples.
        """
        pieces = self.stream_text(
            prompt,
            length=length,
            seed=seed,
            stop=stop,
            checkpoint=checkpoint,
            device=device,
            samples=1,
            prompt_unknown=prompt_unknown,
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
        from charlm.evaluation.likelihood import evaluate
        from charlm.text.corpus import no_progress
        from charlm.text.stream import encode_text

        if text is None:
            stream = self.directory.stream(split)
        elif isinstance(text, str):
            stream = encode_text(self.tokenizer, text, self.config.data.unit)
        else:
            stream = text
        model = self.load_model(checkpoint, device)
        return evaluate(model, stream, lanes=lanes, progress=progress or no_progress)
