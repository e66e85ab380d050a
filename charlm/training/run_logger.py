"""The logger that writes the numbers of a run to metrics.csv, TensorBoard and other loggers."""

from __future__ import annotations

import csv
import inspect
import io
import math
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import lightning.pytorch.loggers
import numpy as np
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from charlm.config import Config
from charlm.config.plain import flat
from charlm.errors import CharlmError, first_line, nearest
from charlm.evaluation.text_metrics import Metric, metrics
from charlm.inspection.gates import CLOSED, OPEN
from charlm.run_directory import NGramLosses, RunDirectory, Sample
from charlm.training.progress import Progress
from charlm.views.text import wrap

COLUMNS = {
    "train/loss": "nats per token",
    "train/bits_per_character": "bits",
    "train/perplexity": "per token",
    "val/loss": "nats per token",
    "val/bits_per_character": "bits",
    "val/perplexity": "per token",
    "val/word_perplexity": "per word",
    "val/tokens": "tokens of the validation text that were read",
    "val/stale_validations": "validations since the best one",
    "train/learning_rate": "",
    "train/gradient_norm": "before clipping",
    "train/tokens_per_second": "",
    "train/seconds_per_epoch": "",
    "train/skipped_steps": "not finite",
} | {f"text_metrics/{name}": metric.unit for name, metric in metrics.items()}
"""Names of the numbers in metrics.csv, each with its unit or a remark.

They are the columns after step, epoch and seconds.
"""

HEADER = ["step", "epoch", "seconds", *COLUMNS]

CLOCK = ("seconds", "train/tokens_per_second", "train/seconds_per_epoch")
"""Columns that differ between two runs with the same settings."""

REFERENCES = "text_metrics of references"
"""TensorBoard tag of the reference texts' metrics: constants, logged again with every score."""

NGRAM = "n-gram model"
"""TensorBoard tag of the n-gram model's loss: a constant, logged again with every validation."""

COMPARED = ("data.batch_size", "data.seq_length", "data.unit", "model.", "optimizer.", "tokenizer.", "seed")
"""Settings by which runs are compared in TensorBoard's HParams tab: beginnings of their names."""

WIDTH = 110
"""Longest line of a sample in TensorBoard's text tab, in characters; the tab does not wrap code."""

BUILT_IN = ("tensorboard", "csv")
"""Names in `trainer.logger` that `RunLogger` itself handles; metrics.csv is always written."""


def logger_classes(names: str) -> dict[str, type[Logger]]:
    """Return Lightning's logger classes by their names in the setting `trainer.logger`.

    The names in `BUILT_IN` are left out.

    Args:
        names: Names separated by commas, without the suffix Logger: "tensorboard,csv,wandb".

    Raises:
        CharlmError: there is no such logger.
    """
    known = {
        name.removesuffix("Logger").lower(): getattr(lightning.pytorch.loggers, name)
        for name in lightning.pytorch.loggers.__all__
        if name.endswith("Logger") and name != "Logger"
    }
    found = {}
    for name in logger_names(names):
        if name in BUILT_IN:
            continue
        if name not in known:
            choices = sorted({*known, *BUILT_IN})
            raise CharlmError(
                f"`trainer.logger`: there is no logger {name!r}; "
                f"choose from {', '.join(choices)}{nearest(name, choices)}"
            )
        found[name] = known[name]
    return found


def logger_names(names: str) -> list[str]:
    """Split the setting `trainer.logger` into a list of names in lower case."""
    return [name.strip().lower() for name in names.split(",") if name.strip()]


def other_loggers(names: str, directory: RunDirectory) -> list[Logger]:
    """Create the loggers that `trainer.logger` names besides those in `BUILT_IN`.

    Args:
        names: Names separated by commas.
        directory: The run.

    Raises:
        CharlmError: there is no such logger, or it cannot be created, for example because a package
            that it needs is not installed.
    """
    made = []
    for name, cls in logger_classes(names).items():
        given = {"save_dir": str(directory.path), "run_name": directory.path.name}
        parameters = inspect.signature(cls).parameters
        arguments = {key: value for key, value in given.items() if key in parameters}
        try:
            made.append(cls(**arguments))
        except (ImportError, TypeError) as error:
            line = first_line(error)
            raise CharlmError(
                f"`trainer.logger`: {name} cannot be used here ({line}); install it or leave it out"
            ) from None
    return made


class RunLogger(Logger):
    """The Lightning logger of a run, which writes to metrics.csv, TensorBoard and other loggers.

    Args:
        directory: The run.
        step: Step at which training begins or resumes; numbers of later steps are deleted, because
            they will be logged again.
        tensorboard: Whether to write TensorBoard's events.
        others: Further loggers.
        ngram: Losses of an n-gram model, which TensorBoard shows beside those of the network; None:
            no comparison.
    """

    def __init__(
        self,
        directory: RunDirectory,
        step: int = 0,
        *,
        tensorboard: bool = True,
        others: Collection[Logger] = (),
        ngram: NGramLosses | None = None,
    ) -> None:
        super().__init__()
        self.directory = directory
        self.ngram = ngram
        self.others = list(others)
        self.table = directory.path / "metrics.csv"
        directory.drop_metrics_after(step or -1, HEADER)  # step 0 is measured again
        self.writer: Any = None
        if tensorboard:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about TensorBoard's own imports
                from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(directory.path), purge_step=step + 1 if step else 0)

    # -- what Lightning asks of a logger

    @property
    def name(self) -> str:
        return self.directory.path.name

    @property
    def version(self) -> str:
        return ""

    @property
    def experiment(self) -> Any:
        """TensorBoard's SummaryWriter; None if the run does not log to TensorBoard."""
        return self.writer

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers of a user's callback to TensorBoard only; metrics.csv has fixed columns."""
        for name, value in metrics.items():
            self.add_scalar(name, float(value), step or 0)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has the settings, and `add_results` logs them."""

    # -- what the training logs

    def add(self, progress: Progress, values: dict[str, float]) -> None:
        """Log numbers of a step to metrics.csv, TensorBoard and the further loggers.

        Args:
            progress: The counters of the training.
            values: The numbers, by their names in `COLUMNS`.
        """
        row = {"step": progress.step, "epoch": round(progress.epoch, 4), "seconds": round(progress.elapsed, 3)}
        line = io.StringIO()
        csv.DictWriter(line, HEADER, lineterminator="\n").writerow(
            row | {name: f"{value:.6g}" for name, value in values.items()}
        )
        with self.table.open("a", encoding="utf-8", newline="") as file:
            file.write(line.getvalue())  # one write, so that no row is incomplete
        for name, value in (values | self._beside_validation(values)).items():
            self.add_scalar(name, value, progress.step)
        for other in self.others:
            other.log_metrics(dict(values), progress.step)

    def _beside_validation(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the n-gram model's results for TensorBoard to show beside those of a validation.

        The n-gram model and the network have read the same part of the validation text.

        Args:
            values: The logged numbers of a step, by name.

        Returns:
            Loss per token, bits per character and perplexity, by tag; empty if the step had no
            validation or the loss of the n-gram model is not known.
        """
        loss = self.ngram.losses.get(int(values.get("val/tokens", 0))) if self.ngram else None
        if loss is None or not values.get("val/loss"):
            return {}
        bits = loss * values.get("val/bits_per_character", math.nan) / values["val/loss"]
        return {f"{NGRAM}/loss": loss, f"{NGRAM}/bits_per_character": bits, f"{NGRAM}/perplexity": math.exp(loss)}

    def add_scores(
        self, progress: Progress, scores: Mapping[str, float], references: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Log the text metrics of a generated text; TensorBoard also gets those of reference texts.

        Args:
            progress: The counters of the training.
            scores: Values of the metrics of the generated text, by name.
            references: Values of the metrics of each reference text, by the name of the text.
        """
        self.add(progress, {f"text_metrics/{name}": value for name, value in scores.items()})
        for source, values in references.items():
            for name, value in values.items():
                self.add_scalar(f"{REFERENCES}/{name}/{source}", value, progress.step)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Log a number to TensorBoard only."""
        if self.writer is not None:
            self.writer.add_scalar(tag, value, step)

    def add_histogram(self, tag: str, values: NDArray[Any], step: int, bins: int) -> None:
        """Log a histogram to TensorBoard."""
        if self.writer is not None:
            self.writer.add_histogram(tag, values, step, bins=bins)

    def add_image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Log an image, (height, width, 3) uint8, to TensorBoard."""
        if self.writer is not None:
            self.writer.add_image(tag, pixels, step, dataformats="HWC")

    def add_sample(self, sample: Sample) -> None:
        """Log a sample to TensorBoard's text tab.

        The sample is put in a code fence, so that Markdown in it is not interpreted.
        """
        if self.writer is None:
            return
        text = sample.whole
        fence = "`" * max(3, _longest_run(text, "`") + 1)
        tag = f"samples/{sample.prompt[:40]!r} seed {sample.seed}" if sample.prompt else f"samples/seed {sample.seed}"
        self.writer.add_text(
            tag,
            f"epoch {sample.epoch:g}, step {sample.step}, temperature {sample.temperature:g}\n\n"
            f"{fence}text\n{wrap(text, WIDTH)}\n{fence}\n",
            sample.step,
        )

    def add_layout(self, scored: Collection[str]) -> None:
        """Tell TensorBoard which charts to draw in its tab Custom Scalars.

        Args:
            scored: Names of the text metrics that this run computes.
        """
        if self.writer is not None:
            self.writer.add_custom_scalars(layout(scored))

    def add_settings(self, config: Config) -> None:
        """Send the settings to the further loggers.

        The settings are also kept, because `add_results` logs some of them, those in `COMPARED`, to
        TensorBoard.
        """
        for other in self.others:
            other.log_hyperparams(flat(config.to_dict()))
        self.settings = flat(config.to_dict())

    def add_results(self, results: Mapping[str, float], step: int) -> None:
        """Log the final numbers of a run.

        TensorBoard shows them in its HParams tab, together with the settings.
        """
        named = {f"final/{name}": value for name, value in results.items()}
        for other in self.others:
            other.log_metrics(named, step)
        if self.writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, int | float | str | bool) else repr(value)
            for name, value in self.settings.items()
            if name.startswith(COMPARED)
        }
        # What SummaryWriter.add_hparams does, without its second event file.
        events = self.writer.file_writer
        for summary in hparams(plain, named):
            events.add_summary(summary)
        for name, value in named.items():
            self.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close TensorBoard's event file."""
        if self.writer is not None:
            self.writer.close()


def layout(scored: Collection[str]) -> dict[str, dict[str, list[Any]]]:
    """Return the charts of TensorBoard's tab Custom Scalars.

    The result has a dictionary of charts for each category. Each chart has the tags that are drawn
    in it, as regular expressions.

    Args:
        scored: Names of the text metrics that the run computes.
    """

    def chart(*patterns: str) -> list[Any]:
        return ["Multiline", [f"{pattern}$" for pattern in patterns]]

    return {
        "Learning": {
            "loss (nats per token): training and validation": chart("train/loss", "val/loss", f"{NGRAM}/loss"),
            "bits per character": chart(
                "train/bits_per_character", "val/bits_per_character", f"{NGRAM}/bits_per_character"
            ),
            "perplexity per token": chart("train/perplexity", "val/perplexity", f"{NGRAM}/perplexity"),
        },
        "Text metrics": {
            _title(metrics[name]): chart(f"text_metrics/{name}", f"{REFERENCES}/{name}/.*")
            for name in metrics
            if name in scored
        },
        "Training": {
            "learning rate": chart("train/learning_rate"),
            "gradient norm before clipping": chart("train/gradient_norm"),
            "tokens per second": chart("train/tokens_per_second"),
            "seconds per epoch": chart("train/seconds_per_epoch"),
        },
        "Gates": {
            f"fraction of a gate's values below {CLOSED} (closed)": chart("gates closed/.*"),
            f"fraction of a gate's values above {OPEN} (open)": chart("gates open/.*"),
        },
    }


def _title(metric: Metric) -> str:
    wanted = {"higher": "higher is better", "lower": "lower is better"}.get(metric.better, f"best {metric.better}")
    return f"{metric.label} ({metric.unit}{', ' if metric.unit else ''}{wanted})"


def _longest_run(text: str, character: str) -> int:
    longest = run = 0
    for one in text:
        run = run + 1 if one == character else 0
        longest = max(longest, run)
    return longest
