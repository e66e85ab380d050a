"""Fuzzed command lines: random and borderline values of every option of every command."""

from __future__ import annotations

import random
import shutil
import signal
import typing
from functools import cache
from pathlib import Path
from typing import Any

from charlm.cli.cells import CellsOptions
from charlm.cli.doctor import DoctorOptions
from charlm.cli.evaluate import EvaluateOptions
from charlm.cli.generate import GenerateOptions, SamplingOptions
from charlm.cli.report import ReportOptions
from charlm.cli.samples import SamplesOptions
from charlm.config import Config
from charlm.config.fields import Setting, bounds, settings
from charlm.network.cells import cells
from charlm.text.tokenization import tokenizer_kinds
from faults.commands import TINY, Running, charlm, problems, sentences

EXPECTED = (
    "exit status 0, or 2 with one line; what takes more than eight seconds ends at Ctrl-C with 130; no traceback, "
    "no hang"
)

OPTIONS: dict[str, list[Any]] = {
    "train": [Config], "generate": [GenerateOptions, SamplingOptions], "evaluate": [EvaluateOptions],
    "doctor": [DoctorOptions],
    "samples": [SamplesOptions], "report": [ReportOptions], "cells": [CellsOptions], "presets": [],
}  # fmt: skip
"""Where the options of a command are defined."""

STARTING = ("trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.logger", "init_from")
"""Settings that start processes or other programs: only checked and printed, not trained with."""

WORDS = [
    "", " ", "x", "0", "-0", "1", "-1", "2", "3.0", "0.5", "1e-9", "1e39", "1e400", "-1e400", "nan", "inf", "-inf",
    "0x10", "1_000", "１２", "٣", "1,5", "1e", "+1", "--1", "9" * 30, "9" * 5000, "true", "false", "TRUE", "none",
    "null", "None", "auto", "-", "--", "---", "=", "==", "x=y", "é", "日本語", "😀", "\u202e", "\ud800", "\x1b[31m",
    "a\nb", "a\tb", "'", '"', "`", "``x``", "{x}", "[1]", "{}", "%s", "%(x)s", "$HOME", "*", "?", "[", "a" * 5000,
    "wide word " * 300, "best", "last", "char", "lstm", "html", "md", "3m", "90s", "00:00:00:01", "1h30m",
    "99:99:99:99", "-5s", "cpu", "run", "text.txt", "missing.txt", "utf-8", "utf-16", "rot13", "latin-1", "line",
]  # fmt: skip
"""Values for any option; as a path, each stays within the folder."""

PATIENCE = 8.0  # seconds that a command may run before it gets Ctrl-C
LEAVE = 30.0  # seconds that a command may take to end after Ctrl-C


def case(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Run one command with a few options."""
    command = draw.choice([*OPTIONS, "train", "train", "generate"])
    printing = command == "train" and draw.random() < 0.7
    shutil.copytree(_run(work), folder / "run")
    (folder / "text.txt").write_text(sentences(random.Random(3), 30), encoding="utf-8")
    arguments = [command, *_places(draw, command)]
    if command == "train":
        arguments += [*TINY, "--trainer.max_steps", "2", "--samples.scored", "0"]
    known = [one for cls in OPTIONS[command] for one in settings(cls)]
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        arguments += _option(draw, [one for one in known if printing or one.name not in STARTING])
    if printing:
        arguments.append("--print_config")
    arguments = [argument.replace("\0", "") for argument in arguments]
    running = Running([_as_argument(argument) for argument in arguments], folder)
    ended = running.wait(PATIENCE)
    if ended is None:
        running.send(signal.SIGINT)
        ended = running.wait(LEAVE) or running.kill()
    shown = " ".join(repr(argument[:40]) for argument in arguments if argument not in TINY)
    return shown, problems(ended, (0, 2, 130))


def _places(draw: random.Random, command: str) -> list[str]:
    """The positional arguments: texts, runs or cells."""
    if command in ("presets", "cells"):
        return draw.choice([[], [], [draw.choice([*cells, *WORDS])]])
    right = "text.txt" if command in ("train", "doctor") else "run"
    places = [right] if draw.random() < 0.9 else [draw.choice(WORDS)]
    if draw.random() < 0.1:
        places.append(draw.choice(WORDS))
    return places if draw.random() < 0.97 else []


def _option(draw: random.Random, known: list[Setting]) -> list[str]:
    """An option with a value, in one of the ways that people type it, or mistype it."""
    if not known:
        return draw.choice([["--x"], ["--x", "1"], ["-x"], ["--help"]])
    setting = draw.choice(known)
    name, value = f"--{setting.name}", _value(draw, setting)
    way = draw.random()
    if way < 0.04:
        return [name]
    if way < 0.08:
        at = draw.randrange(2, len(name))
        return [name[:at] + draw.choice(["", "x", "-", name[at] * 2, "é"]) + name[at + 1 :], value]
    if way < 0.12:
        return [name.rpartition(".")[0] or name, value]
    if way < 0.2:
        return [name, _value(draw, setting), name, value]
    if way < 0.25:
        return [name.replace("_", "-"), value]
    if way < 0.3:
        return [name, value, *(draw.choice(WORDS) for _ in range(3))]
    return [f"{name}={value}"] if draw.random() < 0.3 else [name, value]


def _value(draw: random.Random, setting: Setting) -> str:
    """A value of a setting: near a bound, near the default, one of its choices, or anything."""
    way = draw.random()
    choices = _literals(setting.type)
    if setting.choices:
        choices += list(cells if setting.choices == "cells" else tokenizer_kinds)
    if way < 0.3 and choices:
        return draw.choice(choices)
    limits = [bound for bound in bounds(setting.type).values() if abs(bound) < 1e15]
    near = [limit + step for limit in limits for step in (0, -1, 1, -1e-9, 1e-9)]
    if isinstance(setting.value, int | float) and not isinstance(setting.value, bool):
        near += [setting.value, setting.value + 1, setting.value / 2, -setting.value]
    if way < 0.6 and near:
        value = draw.choice(near)
        return str(int(value) if value == int(value) and draw.random() < 0.8 else value)
    return draw.choice(WORDS)


def _literals(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return [str(value) for value in typing.get_args(hint)]
    return [value for one in typing.get_args(hint) for value in _literals(one)]


def _as_argument(argument: str) -> str:
    """An argument as Python decodes it: a lone surrogate stands for a byte that is not UTF-8."""
    return argument.replace("\ud800", "\udc80")


@cache
def _run(work: Path) -> Path:
    """A small finished run, which is trained if it is missing."""
    folder = work / "fuzzed"
    if not (folder / "trained").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "text.txt").write_text(sentences(random.Random(3), 60), encoding="utf-8")
        ended = charlm(["train", "text.txt", "--run", "run", *TINY, "--trainer.max_epochs", "1"], folder)
        if wrong := problems(ended, (0,)):
            raise RuntimeError(f"the run to be read fails: {wrong[0]}")
        (folder / "trained").touch()
    return folder / "run"
