"""Every GPU test and every GPU benchmark in one command of under ten minutes, with a Markdown table as output.

    python scripts/gpu_check.py                         # on a machine with a GPU
    python scripts/gpu_check.py --device cpu --tiny     # every part with tiny sizes, within half a minute
    python scripts/gpu_check.py --parts tests scans

The parts: `tests` (pytest -m gpu), `fused` (training with cuDNN's kernels against a bare loop of torch's module),
`stepped` (training with the cells' own steps, captured as CUDA graphs and not), `scans`, `generation` (one row and 64),
`training` (the network of the preset `char`), `ddp` (a short training on two devices). A part that fails is reported in
the table, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
import yaml
from benchmark_cells import SIZES, VOCABULARY, Bare, Size, interleaved, network, ratio, synchronize, training_step
from benchmark_generation import torch_tokens

from charlm.config import Config, ModelConfig
from charlm.generation.sampling import Sampler, generate
from charlm.generation.stepper import TorchStepper
from charlm.network.cells import cells
from charlm.network.layer import Layer
from charlm.network.model import LanguageModel
from charlm.network.precision import cpu_lstm_runs_in
from charlm.network.scan import parallel_scan, sequential_scan

ROOT = Path(__file__).resolve().parent.parent
TINY = Size(2, 16, 8, 4)


class Row(NamedTuple):
    """One line of the table: what was measured, the result, and what it is compared with."""

    what: str
    result: str
    comparison: str = ""


class Check(NamedTuple):
    """How to run the parts: on which device, and with tiny sizes or real ones."""

    device: str
    tiny: bool

    @property
    def size(self) -> Size:
        return TINY if self.tiny else SIZES["medium"]

    @property
    def rounds(self) -> int:
        return 1 if self.tiny else 7

    @property
    def bf16(self) -> bool:
        return self.device != "cpu" or cpu_lstm_runs_in(torch.bfloat16)


def tests(check: Check) -> Iterator[Row]:
    """Run pytest -m gpu; with tiny sizes the tests of one file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        where = ROOT / "tests" / "network" / "test_scan.py" if check.tiny else ROOT / "tests"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", f"--junitxml={report}", str(where)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=_environment())
        if not report.is_file():
            raise RuntimeError(f"pytest did not run: {(done.stdout + done.stderr).strip()[-500:]}")
        suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    count, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    passed = count - skipped - failed
    yield Row("pytest -m gpu", f"{passed} passed, {failed} failed, {skipped} skipped")
    if failed:
        bad = [case for case in suite if len(case) and case[0].tag in ("failure", "error")]
        raise RuntimeError(", ".join(f"{case.get('classname')}::{case.get('name')}" for case in bad))
    if check.device != "cpu" and not passed:
        raise RuntimeError("no test ran")


def fused(check: Check) -> Iterator[Row]:
    """Training with torch's kernels against a bare loop of torch's own module."""
    size = check.size
    for name, kind in (("lstm", "LSTM"), ("gru", "GRU"), ("rnn", "RNN")):
        for bf16 in [False, True] if check.bf16 else [False]:
            times = interleaved(
                {
                    "bare": training_step(Bare(kind, size), size, bf16, check.device, "high"),
                    "charlm": training_step(network(name, size), size, bf16, check.device, "high"),
                },
                check.rounds,
                repeats=1 if check.tiny else 10,
            )
            yield Row(
                f"{name}, {size.layers} x {size.hidden}, {'bf16' if bf16 else 'fp32'}",
                _speed(size, times["charlm"]),
                f"{ratio(times['bare'], times['charlm']):.2f} x a bare loop of nn.{kind}",
            )


def stepped(check: Check) -> Iterator[Row]:
    """Training with the cells' own steps: as CUDA graphs (in training mode) and without (in evaluation mode)."""
    size = check.size
    names = [name for name in cells if cells[name].path(check.device, size.hidden) == "stepped"]
    for name in names[:2] if check.tiny else names:
        graphs, plain = network(name, size), network(name, size).eval()
        times = interleaved(
            {
                "graphs": training_step(graphs, size, check.bf16, check.device, "high"),
                "plain": training_step(plain, size, check.bf16, check.device, "high"),
            },
            1 if check.tiny else 3,
            repeats=1 if check.tiny else 3,
        )
        layers = [layer for layer in graphs.layers if isinstance(layer, Layer)]
        captured = sum(layer.cuda_graph is not None and layer.cuda_graph.captured > 0 for layer in layers)
        comparison = f"{ratio(times['plain'], times['graphs']):.2f} x without graphs"
        yield Row(
            f"{name}, {size.layers} x {size.hidden}",
            _speed(size, times["graphs"]),
            f"{comparison} ({captured} of {len(layers)} layers captured)",
        )


def scans(check: Check) -> Iterator[Row]:
    """The two scan algorithms, and the training of a cell that uses them."""
    size = check.size
    shape = (size.window, size.lanes, size.hidden)
    a, b = torch.rand(shape, device=check.device), torch.randn(shape, device=check.device)
    start = torch.zeros(shape[1:], device=check.device)
    algorithms = {"sequential": sequential_scan, "parallel": parallel_scan}
    runs = {
        name: partial(_timed, partial(algorithm, a, b, start), check.device) for name, algorithm in algorithms.items()
    }
    times = interleaved(runs, check.rounds, repeats=1 if check.tiny else 10)
    yield Row(
        f"parallel scan of {' x '.join(map(str, shape))}",
        f"{1000 * statistics.median(times['parallel']):.3f} ms",
        f"{ratio(times['sequential'], times['parallel']):.2f} x the sequential scan",
    )
    step = training_step(network("min_gru", size), size, check.bf16, check.device, "high")
    times = interleaved({"charlm": step}, check.rounds, repeats=1 if check.tiny else 10)
    yield Row(f"min_gru, {size.layers} x {size.hidden}", _speed(size, times["charlm"]))


def generation(check: Check) -> Iterator[Row]:
    """Tokens per second of TorchStepper against nn.LSTM called once per token."""
    size = check.size
    for rows in (1, 64):
        model = network("lstm", size).eval().to(check.device)
        count = 5 if check.tiny else 200
        ours, bare = generate(TorchStepper(model), [0], Sampler(1, rows)), torch_tokens(model, rows)
        runs = {
            "charlm": partial(_timed, partial(_take, ours, count), check.device),
            "bare": partial(_timed, partial(_take, bare, count), check.device),
        }
        times = interleaved(runs, check.rounds, repeats=1)
        yield Row(
            f"lstm, {size.layers} x {size.hidden}, {rows} {'row' if rows == 1 else 'rows'}",
            f"{rows * count / statistics.median(times['charlm']):,.0f} tokens/s",
            f"{ratio(times['bare'], times['charlm']):.2f} x nn.LSTM once per token",
        )


def training(check: Check) -> Iterator[Row]:
    """Tokens per second of the network of the preset `char`, with its own batches and with larger ones."""
    config = Config.from_dict(yaml.safe_load((ROOT / "configs" / "char.yaml").read_text(encoding="utf-8")))
    model: ModelConfig = replace(config.model, tie=False)
    if check.tiny:
        model = replace(model, hidden=TINY.hidden, embedding=TINY.hidden)
    size = Size(model.layers, model.hidden, config.data.seq_length, config.data.batch_size)
    for lanes in (4,) if check.tiny else (size.lanes, 256):
        size = size._replace(lanes=lanes, window=TINY.window if check.tiny else size.window)
        step = training_step(LanguageModel(model, VOCABULARY).train(), size, check.bf16, check.device, "high")
        times = interleaved({"charlm": step}, check.rounds, repeats=1 if check.tiny else 10)
        yield Row(
            f"the preset char, {size.layers} x {size.hidden}, {lanes} lanes x {size.window}",
            _speed(size, times["charlm"]),
        )


def ddp(check: Check) -> Iterator[Row]:
    """A short training on two devices with DDP, by the command line; on a CPU two processes."""
    if check.device != "cpu" and torch.cuda.device_count() < 2:
        yield Row("training on two devices", "skipped: one device")
        return
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("the cat sat on the mat and the dog ran to the old house by the sea.\n" * 40)
        options = {
            "run": Path(folder) / "run", "data.batch_size": 4, "data.seq_length": 16, "model.layers": 1,
            "model.hidden": 16, "model.embedding": 8, "trainer.max_steps": 6, "trainer.devices": 2,
            "trainer.accelerator": "cpu" if check.device == "cpu" else "gpu", "trainer.strategy": "ddp",
            "samples.length": 10, "samples.scored": 0, "inspect.images": "false",
        }  # fmt: skip
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "charlm", "train", str(text), *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=240, env=_environment(),
        )  # fmt: skip
        if done.returncode or not (Path(folder) / "run" / "model.safetensors").is_file():
            raise RuntimeError(done.stderr.strip()[-500:])
    yield Row(
        "training on two devices", f"6 steps, {time.perf_counter() - start:.0f} s with the start of two processes"
    )


PARTS: dict[str, Callable[[Check], Iterator[Row]]] = {
    "tests": tests,
    "fused": fused,
    "stepped": stepped,
    "scans": scans,
    "generation": generation,
    "training": training,
    "ddp": ddp,
}


def _speed(size: Size, seconds: list[float]) -> str:
    return f"{size.lanes * size.window / statistics.median(seconds):,.0f} tokens/s"


def _timed(run: Callable[[], object], device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def _take(tokens: Iterator[object], count: int) -> None:
    for _ in islice(tokens, count):
        pass


def _environment() -> dict[str, str]:
    """The environment in which a subprocess finds this checkout of charlm."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does every part run?")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; try --device cpu --tiny")
    torch.manual_seed(1)
    check = Check(arguments.device, arguments.tiny)
    name = torch.cuda.get_device_name() if check.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; {'bf16' if check.bf16 else 'fp32'} unless said otherwise\n")
    print("| part | what | result | comparison | seconds |\n|---|---|---:|---|---:|", flush=True)
    failed = False
    for part in arguments.parts:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for row in PARTS[part](check):
                    print(f"| {part} | {' | '.join(row)} | {time.perf_counter() - start:.0f} |", flush=True)
            notes = {str(warning.message) for warning in caught if "CUDA graph" in str(warning.message)}
        except Exception as error:  # the other parts are worth running
            notes, failed = {f"{type(error).__name__}: {error}"}, True
        for note in sorted(notes):
            print(
                f"| {part} | **problem** | {' '.join(note.split())} | | {time.perf_counter() - start:.0f} |", flush=True
            )
        failed = failed or bool(notes)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
