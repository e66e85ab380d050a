"""How the loss of a recommended run relates to the bits of a 5-gram model: the range that `charlm doctor` expects.

    python scripts/doctor_calibration.py names.txt nottingham_cleaned.abc --minutes 3 --folder runs/doctor

For each text, trains what `charlm doctor` recommends, for so many minutes where the recommendation has no time of its
own or a longer one, and prints a row of the table of docs/guide/doctor.md. A run that is there already is read, not
trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import charlm
from charlm.config import DataConfig
from charlm.config.durations import seconds
from charlm.evaluation.diagnosis import diagnose
from charlm.evaluation.recommendation import EXPECTED_ORDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/doctor"), help="receives the runs")
    arguments = parser.parse_args()
    print(f"| text | recommended | epochs | {EXPECTED_ORDER}-gram, bits per character | network | network / n-gram |")
    print("|---|---|---|---|---|---|", flush=True)
    for text in arguments.texts:
        diagnosis = diagnose(DataConfig(text=(str(text),)))
        start = diagnosis.start
        settings = start.config.to_dict()
        limit = 60 * arguments.minutes
        if not settings["trainer"]["max_time"] or seconds(settings["trainer"]["max_time"]) > limit:
            settings["trainer"] |= {"max_time": f"{round(limit)}s", "max_epochs": -1}
        del settings["data"]["text"]
        folder = arguments.folder / text.stem
        if (folder / "model.safetensors").is_file():
            run = charlm.load(folder)
        else:
            run = charlm.train(str(text), run=folder, **settings)
        network = run.evaluate().bits_per_character
        assert diagnosis.start_held_out is not None, "each text has a validation part"
        ngram = diagnosis.start_held_out.bits[EXPECTED_ORDER - 1]
        epochs = run.metrics[-1]["epoch"]
        recommended = start.command.partition(str(text))[2].strip() or "the defaults"
        row = (text.name, f"`{recommended}`", f"{epochs:.1f}", f"{ngram:.3f}", f"{network:.3f}")
        print(f"| {' | '.join(row)} | {network / ngram:.3f} |", flush=True)


if __name__ == "__main__":
    main()
