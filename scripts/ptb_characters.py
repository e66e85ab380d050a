"""Train on the characters of the Penn Treebank and print samples and text metrics at three points of the training.

    python scripts/ptb_characters.py ../shared/data/ptb --epochs 5 --run runs/ptb-characters

Reads ptb.train.txt, ptb.valid.txt and ptb.test.txt (Mikolov's files), removes the spaces at the ends of lines (5.02
million characters, 50 different ones, as in published character-level results), trains, and prints in Markdown: a table
of text metrics at initialisation, after one epoch and at the end, with those of held-out text and of n-gram text, and
the samples of the same prompt and seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import charlm

METRICS = (
    "words_in_training_text",
    "word_ngrams_in_held_out_text_2",
    "character_divergence_4",
    "ngram_bits",
    "copied_characters",
)
"""The columns: names of metrics in charlm.evaluation.text_metrics."""


def stripped(source: Path, target: Path) -> Path:
    """Write one of the files without the spaces at the ends of its lines."""
    lines = source.read_text(encoding="utf-8").splitlines()
    target.write_text("".join(f"{line.strip()}\n" for line in lines), encoding="utf-8")
    return target


def table(run: charlm.Run, seed: int = 1) -> str:
    """The table of a run in Markdown."""
    from charlm.evaluation.text_metrics import metrics

    samples = {sample.epoch: sample for sample in run.samples if sample.seed == seed}
    bits = {row["epoch"]: row["val/bits_per_character"] for row in run.metrics if "val/bits_per_character" in row}
    last = max(samples)
    lines = [
        "| | " + " | ".join(metrics[name].label for name in METRICS) + " | validation bits per character |",
        "|---" * (len(METRICS) + 2) + "|",
    ]
    rows = [("initialisation", samples[0.0].scores, None), ("1 epoch", samples[1.0].scores, bits.get(1.0))]
    rows.append((f"{last:g} epochs", samples[last].scores, bits.get(last)))
    rows += [(name, scores, None) for name, scores in run.directory.quality["references"].items()]
    for name, scores, loss in rows:
        cells = [f"{scores[key]:.3g}" if key in scores else "" for key in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if loss is None else f'{loss:.3f}'} |")
    for name, epoch in (("initialisation", 0.0), ("1 epoch", 1.0), (f"{last:g} epochs", last)):
        lines += ["", f"{name}:", "```", samples[epoch].prompt + samples[epoch].text, "```"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of ptb.train.txt, ptb.valid.txt and ptb.test.txt")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--run", type=Path, default=Path("runs/ptb-characters"))
    arguments = parser.parse_args()
    if not arguments.run.exists():
        cut = arguments.run.parent / "ptb-characters-text"
        cut.mkdir(parents=True, exist_ok=True)
        train, val, test = (
            str(stripped(arguments.folder / f"ptb.{split}.txt", cut / f"{split}.txt"))
            for split in ("train", "valid", "test")
        )
        charlm.train(
            train,
            run=arguments.run,
            data={"val": val, "test": test, "batch_size": 64, "seq_length": 64},
            model={"layers": 1, "hidden": 320, "embedding": 64, "dropout": 0.0},
            optimizer={"lr": 0.006},
            trainer={"max_epochs": arguments.epochs},
            samples={"length": 200},
        )
    print(table(charlm.load(arguments.run)))


if __name__ == "__main__":
    main()
