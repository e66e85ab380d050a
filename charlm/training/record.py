"""The numbers of a run: TensorBoard and metrics.csv."""

from __future__ import annotations

import csv
import io
import unicodedata
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from charlm.files import atomic
from charlm.measure.gates import CLOSED, OPEN
from charlm.measure.quality import Measure, measures
from charlm.run import Sample, read_metrics

COLUMNS = {
    "train/loss": "nats a token",
    "train/bits_per_character": "bits",
    "train/perplexity": "per token",
    "val/loss": "nats a token",
    "val/bits_per_character": "bits",
    "val/perplexity": "per token",
    "val/word_perplexity": "per word",
    "train/learning_rate": "",
    "train/gradient_norm": "before clipping",
    "train/tokens_per_second": "",
    "train/seconds_per_epoch": "",
    "train/skipped_steps": "not finite",
} | {f"quality/{name}": measure.unit for name, measure in measures.items()}
"""Every logged number with its unit; the columns of metrics.csv after step, epoch and seconds."""

CLOCK = ("seconds", "train/tokens_per_second", "train/seconds_per_epoch")
"""Columns that no two runs have in common, be their settings the same."""

REFERENCES = "quality references"
"""Where TensorBoard shows what the measures say of other texts: a constant, logged beside each score."""


def layout(measured: Collection[str]) -> dict[str, dict[str, list[Any]]]:
    """The charts of TensorBoard's custom scalars: categories, charts and the tags drawn in each, as patterns."""

    def chart(*patterns: str) -> list[Any]:
        return ["Multiline", [f"{pattern}$" for pattern in patterns]]

    return {
        "Learning": {
            "loss (nats a token): training and validation": chart("train/loss", "val/loss"),
            "bits a character": chart("train/bits_per_character", "val/bits_per_character"),
            "perplexity (a token)": chart("train/perplexity", "val/perplexity"),
        },
        "Generated text": {
            _title(measures[name]): chart(f"quality/{name}", f"{REFERENCES}/{name}/.*")
            for name in measures
            if name in measured
        },
        "Training": {
            "learning rate": chart("train/learning_rate"),
            "gradient norm before clipping": chart("train/gradient_norm"),
            "tokens a second": chart("train/tokens_per_second"),
            "seconds an epoch": chart("train/seconds_per_epoch"),
        },
        "Gates": {
            f"share of a gate's values below {CLOSED} (closed)": chart("gates closed/.*"),
            f"share of a gate's values above {OPEN} (open)": chart("gates open/.*"),
        },
    }


def _title(measure: Measure) -> str:
    wished = {"higher": "higher is better", "lower": "lower is better"}.get(measure.better, f"best {measure.better}")
    return f"{measure.label} ({measure.unit}{', ' if measure.unit else ''}{wished})"


COMPARED = ("data.batch_size", "data.seq_length", "data.unit", "model.", "optimizer.", "tokenizer.", "seed")
"""Settings by which runs are compared in the HParams tab."""

COLUMNS_WIDE = 110
"""Width at which a line of a sample is broken where it is shown in a page: code does not wrap there by itself."""


class Record:
    """Writes numbers and samples where people look for them.

    Args:
        path: The run directory.
        step: Where training begins: what was written of later steps is dropped, for it will come again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorBoard's own imports
            from torch.utils.tensorboard import SummaryWriter

        self.table = path / "metrics.csv"
        rows = [row for row in read_metrics(self.table) if row["step"] <= (step or -1)]  # step 0 is measured again
        with atomic(self.table) as file:
            writer = csv.DictWriter(file, ["step", "epoch", "seconds", *COLUMNS], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self.writer = SummaryWriter(str(path), purge_step=step + 1 if step else 0)

    def add_layout(self, references: dict[str, dict[str, float]]) -> None:
        """Lay out the charts of the custom scalars; of the measures, those that some text of reference has."""
        measured = {name for values in references.values() for name in values}
        self.writer.add_custom_scalars(layout(measured))

    def add(self, step: int, epoch: float, seconds: float, values: dict[str, float]) -> None:
        """Log numbers of one step under the names in `COLUMNS`."""
        row = {"step": step, "epoch": round(epoch, 4), "seconds": round(seconds, 3)}
        line = io.StringIO()
        csv.DictWriter(line, ["step", "epoch", "seconds", *COLUMNS], lineterminator="\n").writerow(
            row | {name: f"{value:.6g}" for name, value in values.items()}
        )
        with self.table.open("a", encoding="utf-8", newline="") as file:
            file.write(line.getvalue())  # one write: a row is there or it is not
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def add_scores(
        self,
        step: int,
        epoch: float,
        seconds: float,
        scores: dict[str, float],
        references: dict[str, dict[str, float]],
    ) -> None:
        """Log the measures of a generated text, and beside them the same measures of the texts of reference."""
        self.add(step, epoch, seconds, {f"quality/{name}": value for name, value in scores.items()})
        for source, values in references.items():
            for name, value in values.items():
                self.writer.add_scalar(f"{REFERENCES}/{name}/{source}", value, step)

    def add_sample(self, sample: Sample) -> None:
        """Show a sample in the Text tab, fenced so that new lines and markup stay as they are."""
        fence = "`" * max(3, _longest_run(sample.prompt + sample.text, "`") + 1)
        prompt = f"prompt {sample.prompt!r}, " if sample.prompt else ""
        tag = f"samples/{sample.prompt[:40]!r} seed {sample.seed}" if sample.prompt else f"samples/seed {sample.seed}"
        self.writer.add_text(
            tag,
            f"epoch {sample.epoch:g}, step {sample.step}, {prompt}temperature {sample.temperature:g}\n\n"
            f"{fence}text\n{wrapped(sample.prompt + sample.text)}\n{fence}\n",
            sample.step,
        )

    def add_settings(self, settings: dict[str, Any], results: dict[str, float], step: int) -> None:
        """Enter the run's settings with its final numbers into the HParams tab."""
        plain = {
            name: value if isinstance(value, int | float | str | bool) else repr(value)
            for name, value in settings.items()
            if name.startswith(COMPARED)
        }
        from torch.utils.tensorboard.summary import hparams

        # What SummaryWriter.add_hparams does, without its second event file.
        named = {f"final/{name}": value for name, value in results.items()}
        events = self.writer.file_writer
        for summary in hparams(plain, named):
            events.add_summary(summary)  # type: ignore[attr-defined]
        for name, value in named.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def wrapped(text: str, width: int = COLUMNS_WIDE) -> str:
    """A text whose long lines are broken, at a blank where there is one; wide characters count as two."""
    lines = []
    for line in text.split("\n"):
        start = used = 0
        blank = -1
        for index, character in enumerate(line):
            used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if character == " ":
                blank = index
            if used > width:
                end = blank + 1 if blank >= start else index
                lines.append(line[start:end])
                rest = line[end : index + 1]
                used = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in rest)
                start, blank = end, -1
        lines.append(line[start:])
    return "\n".join(lines)


def _longest_run(text: str, character: str) -> int:
    longest = run = 0
    for one in text:
        run = run + 1 if one == character else 0
        longest = max(longest, run)
    return longest
