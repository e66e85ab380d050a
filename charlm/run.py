"""`Run`: a trained model, its vocabulary and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.config import Config
from charlm.config.fields import SampleCount
from charlm.config.generation import Engine, FillConfig, GenerationConfig
from charlm.config.plain import checked, from_plain
from charlm.errors import CharlmError, first_line, nearest
from charlm.generation.exact import ExactStepper, exact_functions
from charlm.generation.generated_text import GeneratedText
from charlm.generation.processors import generation_settings
from charlm.generation.prompts import adapt_prompt
from charlm.generation.stepper import NumpyStepper, Stepper, TorchStepper
from charlm.generation.streaming import Generation, generate_texts
from charlm.run_directory import Checkpoint, RunDirectory, Sample
from charlm.text.tokenization import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlm.config.protocols import Protocol, ProtocolName
    from charlm.evaluation.likelihood import Evaluation
    from charlm.evaluation.scores import TokenScores
    from charlm.generation.fill import Filling
    from charlm.network.model import LanguageModel
    from charlm.text.spans import TrainingText
    from charlm.text.stream import TokenStream


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
        """The settings of the run, each with a value other than None."""
        return self.directory.config

    @property
    def tokenizer(self) -> Tokenizer:
        return self.directory.tokenizer

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged numbers of the training as rows, oldest first.

        A step can have several rows, each with other numbers: of training, of a validation or of
        the end of an epoch.
        """
        return self.directory.metrics

    @property
    def samples(self) -> list[Sample]:
        """The samples that were generated during training, oldest first."""
        return self.directory.samples

    def load_model(self, checkpoint: Checkpoint = "best", device: str = "cpu") -> LanguageModel:
        """Return the network with its trained weights, in evaluation mode.

        Args:
            checkpoint: "best": the weights with the lowest validation loss; "last": the newest
                weights.
            device: "cpu", "auto" (a GPU if there is one) or another torch device.
        """
        import torch

        from charlm.network.model import LanguageModel
        from charlm.network.precision import torch_device

        # The weights are read and checked first: a network that they do not fit may be too large
        # to build.
        weights = {name: torch.from_numpy(value) for name, value in self.directory.read_weights(checkpoint).items()}
        model = LanguageModel(self.directory.model_config, self.directory.vocab_size)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CharlmError(f"the weights of {self.path} do not fit its model.json: {first_line(error)}") from None
        return model.eval().to(torch_device(device))

    def load_stepper(
        self,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        tokens: int = 1,
        rows: int = 1,
        engine: Engine = "float",
    ) -> Stepper:
        """Load the network as a `Stepper`, which computes one token at a time.

        For the device "cpu" it computes by numpy, in float32 whatever the number of texts, so that
        a text of many is the same text alone. For every other device it computes by torch.

        Args:
            checkpoint: "best": the weights with the lowest validation loss; "last": the newest
                weights.
            device: "cpu", "auto" (a GPU if there is one) or another torch device.
            tokens: Number of tokens that will be generated, or read, in all texts together.
            rows: Number of texts that will be generated, or read, side by side.
            engine: "exact": an `ExactStepper`, on a CPU; "float": one of the others.
        """
        if engine == "exact" and device not in ("cpu", "auto"):
            raise CharlmError("`engine` exact computes on a CPU; leave `device` out")
        if engine == "exact":
            functions = exact_functions(tokens, rows)
            return self._numpy_stepper(partial(ExactStepper, functions=functions), checkpoint)
        if device == "cpu":
            return self._numpy_stepper(NumpyStepper, checkpoint)
        return TorchStepper(self.load_model(checkpoint, device))

    def _numpy_stepper(self, kind: Callable[..., NumpyStepper], checkpoint: Checkpoint) -> NumpyStepper:
        weights, directory = self.directory.read_weights(checkpoint), self.directory
        config, vocab_size = directory.model_config, directory.vocab_size
        try:
            return kind(weights, config, vocab_size)
        except (KeyError, ValueError) as error:
            raise CharlmError(f"the weights of {self.path} do not fit its model.json: {error}") from None

    def generation(
        self,
        prompts: Sequence[str] = ("",),
        *,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        record: bool = False,
        **settings: Any,
    ) -> Generation:
        """Start the generation of texts side by side, one for each prompt; see `Generation`.

        Args:
            prompts: The texts to continue.
            record: Whether the tokens and their log probabilities are recorded.
            checkpoint, device, settings: As for `generate`.
        """
        config, values = self._generation_settings(settings)
        prompts = [adapt_prompt(self.tokenizer, prompt, config.prompt_unknown)[0] for prompt in prompts]
        rows, direction = len(prompts), self.config.data.direction
        stepper = self.load_stepper(checkpoint, device, config.length * rows, rows, config.engine)
        return Generation(stepper, self.tokenizer, prompts, config, direction=direction, record=record, **values)

    def stream_text(self, prompt: str = "", *, samples: int = 1, **settings: Any) -> Iterator[list[str]]:
        """Generate texts side by side and yield lists of their next pieces, one piece per text.

        Args:
            prompt: The text to continue.
            samples: Number of texts.
            settings: As for `generate`.
        """
        samples = checked("samples", SampleCount, samples)
        return iter(self.generation([prompt] * samples, **settings))

    def generate(
        self, prompt: str = "", *, checkpoint: Checkpoint = "best", device: str = "cpu", **settings: Any
    ) -> str:
        """Generate a text that continues `prompt` or, with a backward model, that comes before it.

        Args:
            prompt: The text to continue; it is not repeated in the result.
            checkpoint: "best": the weights with the lowest validation loss; "last": the newest
                weights.
            device: "cpu", "auto" (a GPU if there is one) or another torch device.
            settings: Settings of `GenerationConfig` (length, seed, stop, ...), and values of logits
                processors (temperature, top_k, top_p, ban and all others in
                `charlm.generation.processors`) and of their parameters. The default temperature is
                that of the run's samples; with `beams` it is 1.

        Raises:
            CharlmError: a wrong setting, or no text that `dedupe` lets through.
        """
        config, _ = self._generation_settings(settings)
        network: dict[str, Any] = {"checkpoint": checkpoint, "device": device}
        if not config.whole:
            return self.generation([prompt], **network, **settings).finish()[0].text
        for text in self.generate_texts(prompt, **network, **settings | {"samples": 1}):
            return text.text
        raise CharlmError("no text that was found is new; try a higher `temperature`, or more `beams`")

    def generate_texts(
        self,
        prompts: str | Sequence[str] = "",
        *,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        progress: Callable[[str, int, int], None] | None = None,
        **settings: Any,
    ) -> Iterator[GeneratedText]:
        """Yield texts that continue one or several prompts, with their tokens and log probabilities.

        With `dedupe` or `beams` there may be fewer texts than `samples`, see
        `streaming.generate_texts`.

        Args:
            prompts: The texts to continue; from each, `samples` texts are generated.
            progress: A function that is told what is being done, how much of it is done, and how
                much there is to do.
            checkpoint, device, settings: As for `generate`.
        """
        from charlm.text.corpus import no_progress

        config, values = self._generation_settings(settings)
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        prompts = [adapt_prompt(self.tokenizer, prompt, config.prompt_unknown)[0] for prompt in prompts]
        rows = (config.beams or config.samples * config.best_of) * len(prompts)
        stepper = self.load_stepper(checkpoint, device, config.length * rows, rows, config.engine)
        known = self._training_items() if config.dedupe else ()
        return generate_texts(
            stepper,
            self.tokenizer,
            prompts,
            config,
            direction=self.config.data.direction,
            record=True,
            known=known,
            progress=progress or no_progress,
            **values,
        )

    @cached_property
    def training_text(self) -> TrainingText:
        """The text of the training split, to look up what a text copied from it (`training_text.count`).

        Its methods raise CharlmError if the run has no training text, for example because only a
        part of its files was copied.
        """
        from charlm.text.spans import TrainingText

        def load() -> TokenStream:
            if not (self.path / "tokens" / "train.ids").exists():
                raise CharlmError(
                    f"`no_copy` needs the training text, and {self.path} has no tokens/train.ids; copy it from the "
                    "original run, or leave `no_copy` out"
                )
            return self.directory.stream("train")

        return TrainingText(self.tokenizer, load)

    def fill(
        self, text: str, backward: Run, *, checkpoint: Checkpoint = "best", device: str = "cpu", **settings: Any
    ) -> list[Filling]:
        """Return the best fillings of the gap of a text, by this run and a run that reads backward.

        Args:
            text: The text, with ___ in place of the gap.
            backward: A run with the same vocabulary, trained with `data.direction` backward.
            checkpoint, device: As for `generate`, for both runs.
            settings: Settings of `FillConfig` (gap, mark, samples, beams, context).

        Raises:
            CharlmError: for example, the runs have different vocabularies, or not these directions.
        """
        from charlm.evaluation.attribution import check_same_vocabulary
        from charlm.generation.fill import fill

        config = from_plain(FillConfig, settings)
        for run, direction in ((self, "forward"), (backward, "backward")):
            if run.config.data.direction != direction:
                raise CharlmError(
                    f"{run.path} is trained {run.config.data.direction}; name the forward run first, then one that is "
                    "trained with `data.direction` backward"
                )
        if self.config.data.unit != backward.config.data.unit:
            raise CharlmError(f"{self.path} and {backward.path} are trained with different `data.unit`; name others")
        check_same_vocabulary({str(run.path): run.tokenizer for run in (self, backward)})
        own, other = (run.load_stepper(checkpoint, device) for run in (self, backward))
        return fill(own, other, self.tokenizer, text, config)

    def _training_items(self) -> frozenset[str]:
        """Return the lines of the training text, or its documents for a model of documents."""
        tokenizer = self.tokenizer
        end = "\n" if tokenizer.boundary is None else tokenizer.decode([tokenizer.boundary])
        text = self.directory.stream("train").text(tokenizer)
        return frozenset(item.strip("\n") for item in text.split(end))

    def _generation_settings(self, settings: dict[str, Any]) -> tuple[GenerationConfig, dict[str, Any]]:
        """Divide settings by name into those of `GenerationConfig` and those of logits processors."""
        own, processors = {one.name for one in fields(GenerationConfig)}, generation_settings()
        for name in settings.keys() - own - processors.keys():
            known = ["checkpoint", "device", *own, *processors]
            raise CharlmError(f"there is no argument and no logits processor {name!r}{nearest(name, known)}")
        values = {name: value for name, value in settings.items() if name in processors}
        config = from_plain(GenerationConfig, {name: value for name, value in settings.items() if name in own})
        values.setdefault("temperature", 1.0 if config.beams else self.config.samples.temperature)
        if values.get("no_copy"):
            values["training_text"] = self.training_text
        return config, values

    def evaluate(
        self,
        text: str | TokenStream | None = None,
        *,
        split: str = "val",
        protocol: Protocol | ProtocolName = "carried",
        lanes: int = 32,
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Evaluation:
        """Return how well the model predicts a text.

        Args:
            text: A text, or its ids; None: a split of the text of the run.
            split: The split that is read when no text is given.
            protocol: How the text is read, see `charlm.config.protocols`. Parameters of the
                protocol that have no value are tuned on the validation split.
            lanes: Largest number of lanes in which the text is read; more lanes are faster.
            checkpoint: "best": the weights with the lowest validation loss; "last": the newest
                weights.
            device: "cpu", "auto" (a GPU if there is one) or another torch device.
            progress: A function that is told what is being done, how much of it is done, and how
                much there is to do.
        """
        from charlm.evaluation.likelihood import evaluate
        from charlm.text.corpus import no_progress

        stream, progress = self._stream(text, split), progress or no_progress
        model, protocol, train = self._prepared(protocol, checkpoint, device, progress)
        return evaluate(model, stream, protocol, train=train, lanes=lanes, progress=progress)

    def score(
        self,
        text: str | Sequence[str] | TokenStream,
        *,
        preferred: int = 0,
        protocol: Protocol | ProtocolName = "carried",
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> TokenScores:
        """Return the negative log probability of every token of a text, in nats.

        The first token of a text or line is predicted, too, as the first token after the start of a
        text. If `text` is given as ids, the first id is not predicted. A backward model predicts
        each token from the tokens after it, and for it the last token is the first one.

        Args:
            text: A text, a sequence of lines that are read each on its own, or ids.
            preferred: How many of the most probable tokens are kept for each place of the text,
                together with the rank of the actual token.
            protocol, checkpoint, device, progress: As for `evaluate`.
        """
        from charlm.evaluation.scores import score
        from charlm.text.corpus import no_progress
        from charlm.text.separate import encode_lines, encode_whole

        data, progress = self.config.data, progress or no_progress
        if isinstance(text, str):
            text = encode_whole(self.tokenizer, text, data.unit, data.direction)
        elif isinstance(text, Sequence):
            text = encode_lines(self.tokenizer, text, data.unit, data.direction)
        text = text.in_order(data.direction)
        self._check_known([text])
        model, protocol, train = self._prepared(protocol, checkpoint, device, progress)
        return score(model, text, protocol, train=train, preferred=preferred, progress=progress)

    def log_likelihoods(
        self,
        texts: Sequence[str],
        *,
        by_line: bool = False,
        unknown_nats: float = 0.0,
        protocol: Protocol | ProtocolName = "carried",
        checkpoint: Checkpoint = "best",
        device: str = "cpu",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        """Return the natural log probability of each text, as an array (texts,); see `score`.

        Args:
            texts: The texts, each of which is read from its start.
            by_line: Whether each text is a line, whose end is predicted as well.
            unknown_nats: Nats that are subtracted from the log probability for each unknown token,
                because the unknown token stands for any of several pieces of text (see
                `charlm.evaluation.attribution.nats_of_unknown`).
            protocol, checkpoint, device, progress: As for `evaluate`.
        """
        import numpy as np

        from charlm.evaluation.scores import score
        from charlm.text.corpus import no_progress
        from charlm.text.separate import encode_lines, encode_whole

        data, progress = self.config.data, progress or no_progress
        if by_line:
            streams = [encode_lines(self.tokenizer, texts, data.unit, data.direction)]
        else:
            streams = [encode_whole(self.tokenizer, text, data.unit, data.direction) for text in texts]
        self._check_known(streams)
        model, protocol, train = self._prepared(protocol, checkpoint, device, progress)
        nats: list[NDArray[np.float64]] = []
        for number, stream in enumerate(streams):
            scores = score(model, stream, protocol, train=train)
            found = scores.item_nats + unknown_nats * scores.item_unknown(self.tokenizer.unknown)
            nats.append(found if by_line else found.sum(keepdims=True))
            progress(f"scoring by {self.path.name}", number + 1, len(streams))
        return -np.concatenate(nats)

    def _check_known(self, streams: Sequence[TokenStream]) -> None:
        ends = sum(0 if stream.starts is None else len(stream.starts) for stream in streams)  # are always known
        unknown = sum(stream.unknown_tokens for stream in streams)
        if unknown and unknown >= sum(stream.predicted.tokens for stream in streams) - ends:
            raise CharlmError(
                f"the text has nothing that the vocabulary of {self.path} knows; name another run or text"
            )

    def _prepared(
        self,
        protocol: Protocol | ProtocolName,
        checkpoint: Checkpoint,
        device: str,
        progress: Callable[[str, int, int], None],
    ) -> tuple[LanguageModel, Protocol, TokenStream | None]:
        """Return what an evaluation needs: the model, the protocol and the training text.

        Parameters of the protocol that have no value are tuned first. The training text is None
        unless the protocol needs it.
        """
        from charlm.config.protocols import Protocol
        from charlm.evaluation.tuning import tuned

        protocol = protocol if isinstance(protocol, Protocol) else Protocol(protocol)
        model = self.load_model(checkpoint, device)
        train = self.directory.stream("train") if protocol.name == "dynamic" else None
        validation = self.directory.stream("val") if protocol.untuned and self.directory.has_split("val") else None
        return model, tuned(protocol, model, train, validation, progress), train

    def baselines(
        self,
        text: str | TokenStream | None = None,
        *,
        split: str = "val",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[str, Evaluation]:
        """Return how well n-gram models and compressors predict a text.

        The text is that which `evaluate` would read. The models and compressors have first read the
        training split (at most its first `baselines.MOST_TRAINING` tokens). The n-gram models
        predict the run's tokens, so their losses can be compared with that of the network. If the
        run has a validation split, there is one more n-gram model, which is tuned on this split.
        The compressors read the decoded text in UTF-8.

        Args:
            text: A text, or its ids; None: a split of the text of the run.
            split: The split that is read when no text is given.
            progress: A function that is told what is being done, how much of it is done, and how
                much there is to do.

        Returns:
            Evaluations by name: first of the n-gram models, then of the compressors.

        Raises:
            CharlmError: for example, the text is too short, or it is the training split, which the
                baselines have already read.
        """
        from charlm.evaluation.baselines import MOST_TRAINING, compressor_baselines, ngram_baselines
        from charlm.evaluation.likelihood import Evaluation
        from charlm.text.corpus import no_progress

        if text is None and split == "train":
            raise CharlmError("baselines have read the training split and cannot be judged by it; name another `split`")
        stream, train = self._stream(text, split), self.directory.stream("train")
        if stream.predicted.tokens < 1:
            raise CharlmError("the text is too short to evaluate: it needs at least two tokens")
        validation = self.directory.stream("val") if self.directory.has_split("val") else None
        progress = progress or no_progress
        progress("fitting n-gram models", 0, 1)
        ngrams = ngram_baselines(train, validation, stream, self.directory.vocab_size)
        progress("fitting n-gram models", 1, 1)
        read, written = train.text(self.tokenizer, MOST_TRAINING).encode(), stream.text(self.tokenizer).encode()
        compressed = compressor_baselines(read, written, progress)
        return {name: Evaluation(nats, stream.predicted, stream.unknown_tokens) for name, nats in ngrams.items()} | {
            name: Evaluation(nats, stream.counts, stream.unknown_tokens) for name, nats in compressed.items()
        }

    def _stream(self, text: str | TokenStream | None, split: str) -> TokenStream:
        """Return the ids of a text, or of a split of the run's own text, in the order of the run's direction."""
        from charlm.text.stream import encode_text

        if text is None:
            return self.directory.stream(split)
        stream = encode_text(self.tokenizer, text, self.config.data.unit) if isinstance(text, str) else text
        return stream.in_order(self.config.data.direction)
