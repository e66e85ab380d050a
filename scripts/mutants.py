"""Change the code in small ways, one at a time, and check that its tests notice each change (mutation testing).

    python scripts/mutants.py [--workers 2] [--only WORDS] [--work FOLDER]
    python scripts/mutants.py --check

The changes are listed in `mutant_list.py`. Each is made in a copy of the checkout, uncommitted changes included, and
the tests of the changed package run there until one fails: first those that belong to the changed file, then the
others. A change that no test notices survives. Before that, the same tests must pass without any change.

Results are kept in the work folder. A second call with the same code and tests runs only what is missing. The table
goes to standard output; the exit status is 1 if a change survives for which the list gives no reason.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from mutant_list import MUTANTS, Mutant

from charlm.files import atomic

A = TypeVar("A")
B = TypeVar("B")

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1200.0
"""Seconds that tests of a package may take; a change with which they take longer is noticed. pytest itself ends a test
that hangs after the `timeout` in pyproject.toml."""

SURVIVED = "(nothing)"


class Outcome(NamedTuple):
    """How a run of some tests ended.

    Attributes:
        noticed_by: The test that failed, or how else the run ended; `SURVIVED` if all tests passed.
        seconds: Time on the clock.
        cpu: Seconds of CPU time, with all processes that the tests started.
    """

    noticed_by: str
    seconds: float
    cpu: float


# -- the list


def complaints(mutants: Sequence[Mutant], root: Path) -> list[str]:
    """What is wrong with a list of changes to the code in `root`, one sentence each."""
    found, seen = [], dict[tuple[str, str], str]()
    for mutant in mutants:
        path = root / mutant.file
        code = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (count := code.count(mutant.text)) != 1:
            found.append(f"stale: {mutant.name!r}: its text occurs {count} times in {mutant.file}, not once")
            continue
        changed = code.replace(mutant.text, mutant.replacement)
        try:
            compile(changed, mutant.file, "exec")
        except SyntaxError as error:
            found.append(f"{mutant.name!r}: {mutant.file} cannot be compiled after the change ({error})")
        if changed == code:
            found.append(f"{mutant.name!r} changes nothing")
        other = seen.setdefault((mutant.file, changed), mutant.name)
        if other is not mutant.name:
            found.append(f"{mutant.name!r} is the same change as {other!r}")
        found += [
            f"{mutant.name!r}: there is no {test}" for test in mutant.tests if not test_file(test, root).is_file()
        ]
    names = [mutant.name for mutant in mutants]
    return found + [f"two changes are called {name!r}" for name in sorted(set(names)) if names.count(name) > 1]


def test_file(test: str, root: Path) -> Path:
    """The file of a test, which may be named by a file or by `file::function`."""
    return root / test.partition("::")[0]


def first_tests(mutant: Mutant, root: Path) -> list[str]:
    """The tests that most likely notice a change: those that it names, or the one that mirrors its file."""
    if mutant.tests:
        return list(mutant.tests)
    path = Path(mutant.file)
    mirrored = Path("tests", *path.parts[1:-1], f"test_{path.stem}.py")
    return [str(mirrored)] if (root / mirrored).is_file() else package_tests(mutant, root)


def package_tests(mutant: Mutant, root: Path) -> list[str]:
    """All test files of the package of the changed file."""
    package = mutant.package
    folder = root / "tests" / package
    files = sorted(folder.rglob("test_*.py")) if folder.is_dir() else [root / "tests" / f"test_{package}.py"]
    return [str(file.relative_to(root)) for file in files]


# -- copies of the checkout, in which tests run


def tracked_files(root: Path) -> list[str]:
    """The files of a checkout, without those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout
    return sorted(name for name in listed.split("\0") if name and (root / name).is_file())


def code_hash(root: Path, files: Iterable[str]) -> str:
    """A hash of the code of a checkout and of what its tests share; test files are not in it."""
    value = hashlib.blake2b(digest_size=8)
    for name in files:
        shared = name.startswith(("charlm/", "configs/", "tests/")) and not Path(name).name.startswith("test_")
        if shared or name == "pyproject.toml":
            value.update(f"{name}\0".encode() + hashlib.blake2b((root / name).read_bytes()).digest())
    return value.hexdigest()


def copy_checkout(root: Path, files: Iterable[str], folder: Path) -> None:
    """Copy files of a checkout into a folder, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)


def check_import(folder: Path) -> None:
    """Make sure that tests in a copy of the checkout use the code of the copy.

    Raises:
        RuntimeError: they would use other code.
    """
    command = [sys.executable, "-c", "import charlm; print(charlm.__file__)"]
    found = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True)
    if folder not in Path(found.stdout.strip()).parents:
        raise RuntimeError(f"tests in {folder} would use {found.stdout.strip()}")


def environment(folder: Path) -> dict[str, str]:
    """The environment variables for tests in a copy of the checkout."""
    return os.environ | {"PYTHONPATH": str(folder)}


@contextlib.contextmanager
def mutated(mutant: Mutant, folder: Path) -> Iterator[None]:
    """Make a change in a copy of the checkout, and undo it at the end."""
    path = folder / mutant.file
    code = path.read_text(encoding="utf-8")
    # Python compares times of files in whole seconds, so it might use the old compiled code.
    compiled = Path(importlib.util.cache_from_source(str(path)))
    try:
        path.write_text(code.replace(mutant.text, mutant.replacement), encoding="utf-8")
        compiled.unlink(missing_ok=True)
        yield
    finally:
        path.write_text(code, encoding="utf-8")
        compiled.unlink(missing_ok=True)


def run_tests(folder: Path, tests: Sequence[str], limit: float = LIMIT) -> Outcome:
    """Run test files in a copy of the checkout until one test fails.

    Raises:
        RuntimeError: no test could be run.
    """
    temporary = folder.with_name(f"{folder.name}-tmp")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--basetemp", str(temporary), *tests]
    log = folder.with_name(f"{folder.name}.log")
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env=environment(folder),
        )  # fmt: skip
        ended, late = 0, False
        while not ended:
            time.sleep(0.05)
            late = time.monotonic() - began > limit
            if late:
                os.killpg(process.pid, signal.SIGKILL)
            ended, status, usage = os.wait4(process.pid, 0 if late else os.WNOHANG)
        process.returncode = code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what the tests started and left
        os.killpg(process.pid, signal.SIGKILL)
    shutil.rmtree(temporary, ignore_errors=True)
    said = log.read_text(encoding="utf-8", errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[|\s|$)", said, re.MULTILINE)
    if code in (3, 4, 5) and not late and not failed:
        raise RuntimeError(f"pytest could not run {' '.join(tests)}: {said.strip()[-500:]}")
    by = "time limit" if late else SURVIVED if code == 0 else failed[1] if failed else f"exit status {code}"
    return Outcome(by, time.monotonic() - began, usage.ru_utime + usage.ru_stime)


# -- all of it


class Results:
    """What was found out about one state of the code, kept in a JSON file.

    Args:
        path: The file; it may not exist yet.

    Attributes:
        used: The outcomes that were asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: dict[str, Outcome] = {}
        self._known: dict[str, Outcome] = {}
        self._lock = threading.Lock()
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._known = {key: Outcome(*values) for key, values in stored.items()}

    def get(self, key: str) -> Outcome | None:
        """The outcome of an earlier call, if there was one."""
        if key in self._known:
            self.used[key] = self._known[key]
        return self._known.get(key)

    def add(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome."""
        with self._lock:
            self._known[key] = self.used[key] = outcome
            with atomic(self.path) as file:
                json.dump(self._known, file, indent=1)


class Campaign:
    """Runs tests against changes in several copies of the checkout at once.

    Args:
        root: The checkout.
        work: Where the copies and the results are.
        workers: How many copies.
    """

    def __init__(self, root: Path, work: Path, workers: int) -> None:
        self.root = root
        self.workers = workers
        files = tracked_files(root)
        self.results = Results(work / f"{code_hash(root, files)}.json")
        self._copies: queue.Queue[Path] = queue.Queue()
        for number in range(workers):
            copy_checkout(root, files, copy := work / f"copy-{number}")
            check_import(copy)
            self._copies.put(copy)
            self._tests = copy  # test files as they are run, even if the checkout changes meanwhile

    def judge(self, mutants: Sequence[Mutant], tests: Callable[[Mutant], list[str]]) -> dict[str, Outcome]:
        """Run the tests without any change, then with each; the outcomes by name of the change."""
        wanted = {mutant.name: tests(mutant) for mutant in mutants}
        files = sorted({test for group in wanted.values() for test in group})
        groups = [list(group) for _, group in itertools.groupby(files, os.path.dirname)]
        unchanged = self._each(self._unchanged, groups)
        if failed := [outcome.noticed_by for outcome in unchanged if outcome.noticed_by != SURVIVED]:
            raise SystemExit(f"these tests fail without any change: {', '.join(failed)}")
        outcomes = self._each(lambda mutant: self._changed(mutant, wanted[mutant.name]), mutants)
        return dict(zip(wanted, outcomes, strict=True))

    def _each(self, function: Callable[[A], B], arguments: Sequence[A]) -> list[B]:
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(function, arguments))

    def _unchanged(self, tests: list[str]) -> Outcome:
        return self._kept([], tests, lambda copy: run_tests(copy, tests), "without a change")

    def _changed(self, mutant: Mutant, tests: list[str]) -> Outcome:
        def run(copy: Path) -> Outcome:
            with mutated(mutant, copy):
                return run_tests(copy, tests)

        return self._kept([mutant.file, mutant.text, mutant.replacement], tests, run, mutant.name)

    def _kept(self, change: list[str], tests: list[str], run: Callable[[Path], Outcome], name: str) -> Outcome:
        """The outcome of some tests: that of an earlier call with the same code and the same tests, or a new one."""
        what = [*change, *tests, *(test_file(test, self._tests).read_text(encoding="utf-8") for test in tests)]
        key = hashlib.blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()
        outcome = self.results.get(key)
        if outcome is None:
            copy = self._copies.get()
            try:
                outcome = run(copy)
            finally:
                self._copies.put(copy)
            self.results.add(key, outcome)
            print(f"{outcome.seconds:6.1f} s  {name} ({tests[0]}): {outcome.noticed_by}", file=sys.stderr, flush=True)
        return outcome


def table(mutants: Sequence[Mutant], outcomes: dict[str, Outcome]) -> str:
    """Two Markdown tables: how many changes of each package are noticed, and all changes, those that survive first."""
    survive = [mutant for mutant in mutants if outcomes[mutant.name].noticed_by == SURVIVED]
    lines = ["| package | changes | noticed |", "|---|---|---|"]
    for package in dict.fromkeys(mutant.package for mutant in mutants):
        count, lost = (sum(mutant.package == package for mutant in some) for some in (mutants, survive))
        lines.append(f"| {package} | {count} | {count - lost} |")
    lines += ["", "| change | package | noticed by | CPU seconds |", "|---|---|---|---|"]
    for mutant in [*survive, *(mutant for mutant in mutants if mutant not in survive)]:
        by, _, cpu = outcomes[mutant.name]
        noticed = f"nothing: {mutant.reason or 'no reason is given'}" if by == SURVIVED else f"`{by}`"
        lines.append(f"| {mutant.name} | {mutant.package} | {noticed} | {cpu:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Check that tests notice small changes of the code.")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "charlm-mutants")
    parser.add_argument("--workers", type=int, default=2, help="copies of the checkout in which tests run")
    parser.add_argument("--only", default="", help="only changes whose name or file contains this")
    parser.add_argument("--check", action="store_true", help="only check the list")
    arguments = parser.parse_args()
    if wrong := complaints(MUTANTS, ROOT):
        raise SystemExit("\n".join(wrong))
    if arguments.check:
        print(f"{len(MUTANTS)} changes in {len({mutant.file for mutant in MUTANTS})} files")
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(ROOT, arguments.work.resolve(), arguments.workers)
    mutants = [one for one in MUTANTS if arguments.only in one.name or arguments.only in one.file]
    outcomes = campaign.judge(mutants, lambda mutant: first_tests(mutant, ROOT))
    left = [mutant for mutant in mutants if outcomes[mutant.name].noticed_by == SURVIVED]
    done = {mutant.name: first_tests(mutant, ROOT) for mutant in left}
    others = {
        mutant.name: [test for test in package_tests(mutant, ROOT) if test not in done[mutant.name]] for mutant in left
    }
    left = [mutant for mutant in left if others[mutant.name]]
    for name, second in campaign.judge(left, lambda mutant: others[mutant.name]).items():
        first = outcomes[name]
        outcomes[name] = Outcome(second.noticed_by, first.seconds + second.seconds, first.cpu + second.cpu)
    noticed = sum(outcome.noticed_by != SURVIVED for outcome in outcomes.values())
    used = campaign.results.used.values()
    minutes, cpu = (sum(one) / campaign.workers / 60 for one in ([o.seconds for o in used], [o.cpu for o in used]))
    print(
        f"**{noticed} of {len(mutants)} changes are noticed ({noticed / len(mutants):.1%}).** "
        f"Each of {campaign.workers} workers took {minutes:.0f} minutes, {cpu:.0f} minutes of CPU time.\n"
    )
    print(table(mutants, outcomes))
    if any(outcomes[mutant.name].noticed_by == SURVIVED and not mutant.reason for mutant in mutants):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
