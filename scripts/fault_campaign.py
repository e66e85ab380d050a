"""A fault campaign: kills, damaged files, hostile files and fuzzed command lines against what charlm promises.

    python scripts/fault_campaign.py [--minutes 30] [--work fault-campaign] [--seed 1] [--parts kills damage ...]
    python scripts/fault_campaign.py --case damage:17      # repeat one case and show how it goes

The parts take turns for the given time, each with cases of its own random stream:

- `kills`: SIGKILL, SIGINT and SIGTERM at random moments of a training, one to four times, and `--resume`.
- `damage`: truncated, flipped, emptied, deleted and replaced files, and well-formed files with wrong values.
- `hostile`: files that try to execute code, to exhaust the memory, or to control a terminal or a page.
- `command_lines`: options with borderline values, wrong types, unknown names, missing values, repeated options.

Everything happens in the folder `--work`, and no file outside of it is named. `results.jsonl` there has a line for each
case; a campaign that is started again in the same folder repeats the cases that failed and
continues after the last. A case depends on the seed and its number only.

Commands run in forks of one process that has imported everything, so that a command takes a
fraction of a second. About every seventh command of `kills` runs in a new Python instead; only
these cover the import of modules. Training on several devices or machines, which starts processes,
is tested by `tests/training/test_launchers.py` instead.

The output is a Markdown table, and each failure with the command that repeats it; then the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# Before anything imports torch or numpy: a fork keeps no threads, and results must not depend on their number.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "100"}

from faults import command_lines, damage, hostile, kills
from faults.commands import warm_up

Case = Callable[[random.Random, Path, Path], tuple[str, list[str]]]
"""(random stream, folder of the campaign, empty folder) to what a case did and what went wrong."""


class Part(NamedTuple):
    """One part of the campaign: the function of a case, what must hold, and seconds per round."""

    case: Case
    expected: str
    slice: float


PARTS = {
    "kills": Part(kills.case, kills.EXPECTED, 40),
    "damage": Part(damage.case, damage.EXPECTED, 30),
    "hostile": Part(hostile.case, hostile.EXPECTED, 20),
    "command_lines": Part(command_lines.case, command_lines.EXPECTED, 20),
}


class Campaign:
    """The cases of a campaign and their results.

    Args:
        work: Its folder.
        seed: Seed of all cases.
    """

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work.resolve(), seed
        (self.work / "cases").mkdir(parents=True, exist_ok=True)
        self.file = self.work / "results.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if self.file.exists() else []
        self.results: dict[tuple[str, int], dict[str, Any]] = {}  # the newest of each case
        for line in lines:
            if line.endswith("\n"):
                result = json.loads(line)
                self.results[result["part"], result["number"]] = result
        if any(result["seed"] != seed for result in self.results.values()):
            raise SystemExit(f"{work} has results of another seed; name another folder with --work")
        self.file.write_text("".join(line for line in lines if line.endswith("\n")), encoding="utf-8")
        for name in [name for name in os.environ if name.startswith("CHARLM_")]:
            del os.environ[name]
        os.environ |= {"CHARLM_CACHE": str(self.work / "cache"), "HOME": str(self.work), "TERM": "dumb"}

    def run(self, minutes: float, parts: list[str], most: int | None) -> None:
        """Repeat failed cases, then run the parts in turn, for `minutes` or up to `most` cases."""
        until = time.monotonic() + 60 * minutes
        for (part, number), result in list(self.results.items()):
            if result["failures"] and part in parts:
                self._add(self.case(part, number))
        following = {part: 1 + sum(known == part for known, _ in self.results) for part in parts}
        while (now := time.monotonic()) < until and any(most is None or following[part] <= most for part in parts):
            share = min(1.0, (until - now) / sum(PARTS[part].slice for part in parts))
            for part in parts:
                end = time.monotonic() + PARTS[part].slice * share
                while time.monotonic() < end and (most is None or following[part] <= most):
                    self._add(self.case(part, following[part]))
                    following[part] += 1

    def case(self, part: str, number: int) -> dict[str, Any]:
        """Run one case and return its result; the folder of a case that fails is kept."""
        folder, began = self.work / "cases" / f"{part}-{number}", time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            what, failures = PARTS[part].case(random.Random(f"{self.seed} {part} {number}"), self.work, folder)
        except Exception:  # of the campaign itself: the other cases go on
            what, failures = "the case itself", [traceback.format_exc()[-600:]]
        if not failures:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = round(time.monotonic() - began, 2)
        return {
            "part": part, "number": number, "seed": self.seed, "what": what, "failures": failures, "seconds": seconds
        }  # fmt: skip

    def _add(self, result: dict[str, Any]) -> None:
        self.results[result["part"], result["number"]] = result
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
        for failure in result["failures"]:
            print(f"{result['part']}:{result['number']} {result['what']}: {failure}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """The results as a Markdown table, and the failures below it."""
        lines = ["| part | cases | minutes | expected | failures |", "|---|---|---|---|---|"]
        for name, part in PARTS.items():
            results = [result for (part_name, _), result in self.results.items() if part_name == name]
            minutes = sum(result["seconds"] for result in results) / 60
            failed = sum(bool(result["failures"]) for result in results)
            lines.append(f"| {name} | {len(results):,} | {minutes:.1f} | {part.expected} | {failed} |")
        for result in self.results.values():
            for failure in result["failures"]:
                case = f"{result['part']}:{result['number']}"
                lines.append(f"\n- `--case {case}` ({result['what']}): {failure}")
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--work", type=Path, default=Path("fault-campaign"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", type=int, help="most cases of each part (default: no limit)")
    parser.add_argument("--case", metavar="PART:NUMBER", help="run this case alone; its result is not stored")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.work, arguments.seed)
    warm_up()
    if arguments.case:
        part, _, number = arguments.case.partition(":")
        result = campaign.case(part, int(number))
        print(json.dumps(result, ensure_ascii=False, indent=1))
        raise SystemExit(bool(result["failures"]))
    campaign.run(arguments.minutes, arguments.parts, arguments.cases)
    print(campaign.table())
    raise SystemExit(any(result["failures"] for result in campaign.results.values()))


if __name__ == "__main__":
    main()
