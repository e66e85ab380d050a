"""Cold start: is text without a prompt as good as text with one, from the first sample after initialisation on?

    python scripts/cold_start.py --folder runs/cold_start english=input.txt chinese=hongloumeng.txt \
        japanese=usr/share/man/ja c=/usr/include/linux words=wikitext-2/train.txt

A network that is asked for text without a prompt starts from the zero state, which it rarely sees in training. Each
text is trained on for a few steps from each seed, with an output bias that starts at the log frequencies of the tokens
("frequencies") and with one that starts at zero ("zero"). At initialisation and at each point of the sample schedule,
50 characters are generated in 200 rows at temperature 1, without a prompt and after 64 tokens of the validation text.
Their bits per character (or per word, for `words`) under n-gram models of the training text tell noise from text.
Prints Markdown tables: the bits without and with a prompt, means over the seeds, and the validation losses.

A text is a file, the folder of Japanese manual pages of Debian's package manpages-ja (their prose on one line, without
blanks) or a folder of C headers; its first million characters are used. The text `words` is read word by word, the
others character by character. A run that is measured already is not trained again, so that the tables can be made in
several calls.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import lightning
import numpy as np

import charlm
from charlm.evaluation.ngram import NGramCounts, NGramModel
from charlm.files import atomic
from charlm.generation.sampling import Sampler
from charlm.generation.stepper import NumpyStepper
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.text.tokenization import Tokenizer
from charlm.training.callbacks import StepCallback
from charlm.training.module import LanguageModule
from charlm.training.sample_schedule import SampleSchedule

STEPS = {"english": 220, "chinese": 220, "japanese": 160, "c": 160, "words": 60}
OTHER_STEPS = 160  # for other names
CHARACTERS = 1_000_000  # of each text
ROWS, LENGTH, PROMPT = 200, 50, 64  # texts, characters of each, tokens before it
ORDERS = (1, 3)  # of the n-gram models
STARTS = ("zero", "frequencies")
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")


class Bits:
    """Bits per piece of texts under n-gram models of a training text; a piece is a character or a word.

    Models of characters know only how words are spelled, so they cannot tell random words from real
    text.
    """

    def __init__(self, training: str, words: bool) -> None:
        self.pieces = re.compile(r"\w+|[^\w ]" if words else r"(?s).")
        self.ids = {piece: number for number, piece in enumerate(sorted(set(self.pieces.findall(training))))}
        ids = self._encode(training)
        counts = NGramCounts(ids, max(ORDERS), len(self.ids) + 1)
        self.models = [NGramModel(counts, order) for order in ORDERS]

    def _encode(self, text: str) -> list[int]:
        return [self.ids.get(piece, len(self.ids)) for piece in self.pieces.findall(text)]

    def of(self, texts: list[str]) -> list[float]:
        """The mean bits per piece under each model; each text starts with an empty context."""
        ids = [self._encode(text) for text in texts if text]
        return [
            float(-np.concatenate([model.log_probabilities(text) for text in ids]).mean() / np.log(2))
            for model in self.models
        ]


def generated(stepper: NumpyStepper, tokenizer: Tokenizer, prompts: np.ndarray, seed: int) -> list[str]:
    """Generate at least `LENGTH` characters after each of the prompts, (rows, tokens)."""
    rows = len(prompts)
    sampler, decoders, texts = Sampler(seed, rows), [tokenizer.decoder() for _ in range(rows)], [""] * rows
    logits, state = stepper.prefill(prompts, stepper.initial_state(rows))
    while True:
        tokens = sampler(logits)
        texts = [
            text if len(text) >= LENGTH else text + decoder.push(token)
            for text, decoder, token in zip(texts, decoders, tokens, strict=True)
        ]
        if min(map(len, texts)) >= LENGTH:
            return texts
        logits, state = stepper.step(tokens, state)


class ColdStart(StepCallback):
    """Measures bits at initialisation and at each point of the sample schedule."""

    def __init__(self, path: Path, start: str, bits: Bits, seed: int) -> None:
        self.path, self.start, self.bits, self.seed = path, start, bits, seed
        self.schedule = SampleSchedule("auto")
        self.points: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.start == "zero":
            assert isinstance(pl_module, LanguageModule)
            pl_module.model.output["bias"].data.zero_()

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self.schedule.start(module.progress)
        self._measure(module)

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        if self.schedule.reached(module.progress) or module.progress.stop_reason:
            self._measure(module)

    def _measure(self, module: LanguageModule) -> None:
        model, directory = module.model, RunDirectory(self.path)
        weights = {name: value.float().cpu().numpy() for name, value in model.state_dict().items()}
        stepper = NumpyStepper(weights, model.config, model.vocab_size)
        ids = np.asarray(directory.stream("val").ids)
        places = np.linspace(0, len(ids) - PROMPT, ROWS, dtype=np.int64)
        prompts = {
            "without": np.full((ROWS, 1), directory.tokenizer.start()),
            "with": np.stack([ids[place : place + PROMPT] for place in places]).astype(np.int64),
        }
        texts = {how: generated(stepper, directory.tokenizer, ids, self.seed) for how, ids in prompts.items()}
        bits = {how: self.bits.of(these) for how, these in texts.items()}
        self.points.append({"step": module.progress.step, **bits, "text": texts["without"][:3]})


def read(path: Path) -> str:
    """The first `CHARACTERS` characters of a file, a folder of C headers, or a folder of Japanese manual pages."""
    if path.is_file():
        return path.read_text(encoding="utf-8")[:CHARACTERS]
    headers = [file.read_text(encoding="utf-8", errors="replace") for file in sorted(path.glob("*.h"))]
    return ("".join(headers) or _japanese_prose(path))[:CHARACTERS]


def _japanese_prose(path: Path) -> str:
    pages = (gzip.decompress(page.read_bytes()).decode("utf-8", "replace") for page in sorted(path.rglob("*.gz")))
    lines = (line for page in pages for line in page.splitlines() if not line.startswith((".", "'")))
    plain = (re.sub(r"\\f\[?.|\\[&%|^ ]|\\.|\s", "", line) for line in lines)
    return "".join(line for line in plain if 2 * len(JAPANESE.findall(line)) > len(line) > 10)


def measured(folder: Path, name: str, start: str, seed: int, steps: int, text: Path, bits: Bits) -> dict[str, Any]:
    """The measurements of a run, which is trained first if they are not stored yet."""
    path = folder / f"{name}-{start}-{seed}"
    result = path.with_suffix(".json")
    if not result.is_file():
        shutil.rmtree(path, ignore_errors=True)
        callback = ColdStart(path, start, bits, seed)
        run = charlm.train(
            text,
            run=path,
            reporter=Reporter(),
            callbacks=[callback],
            seed=seed,
            data={"batch_size": 32, "seq_length": 64},
            model={"layers": 2, "hidden": 128},
            tokenizer={"kind": "word" if name == "words" else "char"},
            trainer={"max_steps": steps, "accelerator": "cpu"},
            samples={"scored": 0, "count": 1, "length": 100},
            inspect={"histograms": False, "images": False, "embeddings": False},
        )
        loss = min(row["val/loss"] for row in run.metrics if "val/loss" in row)
        with atomic(result) as file:
            file.write(json.dumps({"loss": loss, "points": callback.points}, ensure_ascii=False, indent=1))
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 1 on (default: 3)")
    parser.add_argument("--steps", type=int, help="of each run (default: 60 to 220, by the text)")
    parser.add_argument("--folder", type=Path, default=Path("runs/cold_start"), help="receives the runs")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    losses = ["| text | nats, zero | nats, frequencies | difference of each seed |", "|---|---|---|---|"]
    columns = " | ".join(f"{start}, order {order}" for order in ORDERS for start in STARTS)
    print(f"| text | steps | {columns} |\n|---|---|{'---|' * len(ORDERS) * len(STARTS)}", flush=True)
    for name, _, place in (text.partition("=") for text in arguments.texts):
        path = arguments.folder / f"{name}.txt"
        if not path.is_file():
            with atomic(path) as file:
                file.write(read(Path(place)))
        content = path.read_text(encoding="utf-8")
        bits = Bits(content[: len(content) * 9 // 10], words=name == "words")  # of the training part
        steps = arguments.steps or STEPS.get(name, OTHER_STEPS)
        found = {
            start: [
                measured(arguments.folder, name, start, seed, steps, path, bits)
                for seed in range(1, arguments.seeds + 1)
            ]
            for start in STARTS
        }
        for index, point in enumerate(found["zero"][0]["points"]):
            cells = []
            for order in range(len(ORDERS)):
                for start in STARTS:
                    points = [run["points"][index] for run in found[start]]
                    without, prompted = (np.mean([each[how][order] for each in points]) for how in ("without", "with"))
                    cells.append(f"{without:.2f} / {prompted:.2f}")
            print(f"| {name} | {point['step']} | {' | '.join(cells)} |", flush=True)
        zero, frequencies = ([run["loss"] for run in found[start]] for start in STARTS)
        differences = ", ".join(f"{b - a:+.3f}" for a, b in zip(zero, frequencies, strict=True))
        losses.append(f"| {name} | {np.mean(zero):.3f} | {np.mean(frequencies):.3f} | {differences} |")
    print("", *losses, sep="\n")


if __name__ == "__main__":
    main()
