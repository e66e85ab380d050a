"""Damage: files of a run that are cut, flipped, missing, of another type, or well-formed with wrong values."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch
import yaml

from charlm.training.run_logger import CLOCK
from faults.commands import TINY, Ended, Running, charlm, problems, said, sentences

EXPECTED = (
    "success with the result of the undamaged run, or exit status 2 with one line; no traceback, no hang, at most "
    "1 GB; with wrong values and without checksums: the same, except for the result"
)

TRAINING = [
    *TINY, *"--trainer.max_epochs 3 --checkpoint.every 3 --samples.scored 300 --samples.prompts the".split()
]  # fmt: skip
READING = {
    "generate": ["generate", "run", "--seed", "1", "--length", "60", "--prompt", "the"],
    "generate last": ["generate", "run", "--seed", "1", "--length", "60", "--checkpoint", "last"],
    "evaluate": ["evaluate", "run", "--json", "--device", "cpu"],
    "samples": ["samples", "run"],
    "report": ["report", "run", "--output", "-"],
    "report md": ["report", "run", "--format", "md", "--output", "-"],
    "resume": ["train", "--resume", "run"],
}
"""The commands that read a run; the last one changes it."""

LOOKED_AT = {"metrics.csv": ("samples", "report", "report md"), "samples.jsonl": ("samples", "report", "report md")}
"""Files without a checksum, and the commands that show them; what is trained does not depend on them."""

NUMBERS = [-1, 0, 1, 2, -(10**9), 10**9, 10**18, 10**30, 0.5, -0.5, 1e308, math.inf, -math.inf, math.nan]
VALUES: list[Any] = [*NUMBERS, True, None, "", "x", "\x1b[31m", "9" * 5000, [], {}, [[]], [1], {"x": 1}, ["x"]]

IMPOSSIBLE = {
    ("charlm", "progress", name): value
    for name, value in {
        "step": -3, "epoch": -0.5, "tokens": -1, "skipped_steps": -1, "bad_steps": -1, "rollbacks": -1,
        "best_loss": math.nan, "stale_validations": -1, "validation_tokens": -1, "elapsed_before": -1.0,
    }.items()
} | {("global_step",): -3, ("epoch",): -1, ("charlm", "processes"): 0, ("charlm", "losses"): [math.nan]}  # fmt: skip
"""Values of a checkpoint that no training writes: resuming must refuse them also without checksums."""


def case(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Damage one file of a finished or an interrupted run, and read the run with three of the commands."""
    base = draw.choice(["finished", "interrupted"])
    expected = reference(work, base)
    run = folder / "run"
    shutil.copytree(work / base / "run", run)
    files = sorted(path for path in run.rglob("*") if path.is_file())
    looked_at = [path for path in files if path.parent.name == "projector" or path.name.startswith("events.")]
    path = draw.choice([*(path for path in files if path not in looked_at), draw.choice(looked_at)])
    name = str(path.relative_to(run))
    refused = False
    if draw.random() < 0.4 and name in WRONG:
        manifest = draw.choice(["deleted", "rewritten"])
        how, refused = WRONG[name](draw, path)
    else:
        manifest = draw.choice(["intact", "intact", "intact", "deleted", "rewritten"])
        how = draw.choice(DAMAGES)(draw, path)
    if manifest == "deleted":
        (run / "checksums.json").unlink(missing_ok=True)
    elif manifest == "rewritten" and path.is_file() and name != "checksums.json":
        _accept(run, name)
    found = []
    # The command that changes the run comes last.
    for command in sorted(draw.sample(list(READING), 3), key=list(READING).index):
        ended = charlm(READING[command], folder)
        wrong = problems(ended)
        if not wrong and ended.status == 2 and "the memory is full" in ended.err:
            wrong = [f"more than 1 GB of memory: {said(ended)}"]
        if not wrong and ended.status == 0 and refused and command == "resume":
            wrong = ["impossible values were accepted"]
        if not wrong and ended.status == 0 and manifest == "intact":
            wrong = _silent(command, _result(command, ended, run), expected[command], name, path, ended)
        found += [f"{command}: {one}" for one in wrong]
    return f"{base}, {name}: {how}, checksums {manifest}", found


def _silent(command: str, result: object, expected: object, name: str, path: Path, ended: Ended) -> list[str]:
    """What is wrong with a success, although checksums should have found the damage."""
    if result == expected or name == "checksums.json":
        return []
    if command in LOOKED_AT.get(name, ()):
        return [] if "warning: " in ended.err or _well_formed(path) else ["damage is left out and nothing is said"]
    if name in LOOKED_AT and isinstance(result, dict) and isinstance(expected, dict):
        different = [one for one in result if one != name and result[one] != expected[one]]
        return [f"{', '.join(different)} of the resumed run differ"] if different else []
    return ["it succeeds with another result than the undamaged run"]


def _well_formed(path: Path) -> bool:
    """Whether a file without a checksum has only whole lines, each as a training could write it."""
    if not path.is_file():
        return False
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if rest or not lines and path.name == "metrics.csv":
        return False
    try:
        if path.name == "samples.jsonl":
            return all(isinstance(json.loads(line), dict) for line in lines)
        rows = list(csv.reader(lines))
        return all(len(row) == len(rows[0]) and [float(cell) for cell in row if cell] for row in rows[1:])
    except ValueError:
        return False


def _result(command: str, ended: Ended, run: Path) -> object:
    """The result of a command: the text that it prints, or the files that it writes."""
    if command != "resume":
        return ended.out
    found: dict[str, object] = {}
    for name in ("model.safetensors", "last.safetensors", "samples.jsonl", "metrics.csv"):
        path = run / name
        found[name] = path.read_bytes() if path.is_file() else None
        if name == "metrics.csv" and path.is_file():
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                rows = csv.DictReader(file)
                found[name] = [[row[column] for column in row if column not in CLOCK] for row in rows]
    return found


# -- the runs


@cache
def reference(work: Path, base: str) -> dict[str, object]:
    """The result of each command for an undamaged run, which is trained if it is missing."""
    folder = work / base
    if not (folder / "trained").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "text.txt").write_text(sentences(random.Random(2), 45), encoding="utf-8")
        running = Running(["train", "text.txt", "--run", "run", *TRAINING], folder)
        if base == "interrupted":
            while sum(1 for _ in _lines(folder / "run" / "metrics.csv")) < 5:
                if running.wait(0.01) is not None:
                    raise RuntimeError("the training ended before it could be interrupted")
            running.send(2)
        ended = running.wait(120) or running.kill()
        if wrong := problems(ended, (130 if base == "interrupted" else 0,)):
            raise RuntimeError(f"the run {base} fails: {wrong[0]}")
        (folder / "trained").touch()
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    shutil.copytree(folder / "run", copy / "run")
    found = {}
    for command, arguments in READING.items():
        ended = charlm(arguments, copy)
        if wrong := problems(ended, (0,)):
            raise RuntimeError(f"{command} fails for the undamaged run {base}: {wrong[0]}")
        found[command] = _result(command, ended, copy / "run")
    return found


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from file


def _accept(run: Path, name: str) -> None:
    """Write the checksum of a damaged file into the manifest."""
    manifest = run / "checksums.json"
    known = json.loads(manifest.read_text(encoding="utf-8"))
    if name in known:
        known[name] = [zlib.crc32((run / name).read_bytes())]
        manifest.write_text(json.dumps(known), encoding="utf-8")


# -- damages: change a file and say how


def _truncate(draw: random.Random, path: Path) -> str:
    data = path.read_bytes()
    size = draw.randrange(len(data) + 1)
    path.write_bytes(data[:size])
    return f"cut at {size:,} of {len(data):,} bytes"


def _truncate_at_a_line_end(draw: random.Random, path: Path) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = draw.randrange(len(lines) + 1)
    path.write_bytes(b"".join(lines[:kept]))
    return f"cut behind line {kept:,} of {len(lines):,}"


def _flip(draw: random.Random, path: Path) -> str:
    data = bytearray(path.read_bytes())
    places = [draw.randrange(len(data)) for _ in range(draw.choice([1, 1, 1, 4, 64]))] if data else []
    for place in places:
        data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"{len(places)} bits flipped"


def _overwrite(draw: random.Random, path: Path) -> str:
    data = bytearray(path.read_bytes())
    start, length = draw.randrange(len(data) + 1), draw.choice([1, 16, 512])
    data[start : start + length] = draw.choice([bytes(length), draw.randbytes(length)])
    path.write_bytes(data)
    return f"{length} bytes overwritten from {start:,} on"


def _append(draw: random.Random, path: Path) -> str:
    with path.open("ab") as file:
        file.write(draw.choice([b"\0" * 100, b"x\n", b"\n", b"{}\n", draw.randbytes(50)]))
    return "bytes appended"


def _exchange(draw: random.Random, path: Path) -> str:
    """Replace the file by another one of its folder."""
    others = sorted(one for one in path.parent.iterdir() if one.is_file() and one != path)
    other = draw.choice(others)
    path.write_bytes(other.read_bytes())
    return f"replaced by {other.name.partition('.out')[0]}"


def _instead(make: Callable[[Path], Any], what: str) -> Callable[[random.Random, Path], str]:
    def damage(draw: random.Random, path: Path) -> str:
        path.unlink()
        make(path)
        return what

    return damage


DAMAGES = [
    _truncate, _truncate, _truncate_at_a_line_end, _flip, _flip, _overwrite, _append, _exchange,
    _instead(lambda path: None, "deleted"),
    _instead(Path.touch, "empty"),
    _instead(Path.mkdir, "a directory instead"),
    _instead(os.mkfifo, "a FIFO instead"),
    _instead(lambda path: path.symlink_to("nothing"), "a symbolic link into nothing instead"),
    _instead(lambda path: path.symlink_to(path.name), "a symbolic link to itself instead"),
]  # fmt: skip


# -- wrong values: change a well-formed file and say how, and whether resuming must refuse it


def _leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values in nested dictionaries and lists, inner ones included."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _leaves(inner, (*at, key))


def _put(value: Any, at: tuple[Any, ...], new: Any) -> None:
    for key in at[:-1]:
        value = value[key]
    value[at[-1]] = new


def _disturb(draw: random.Random, value: Any) -> str:
    """Replace or delete one value within nested dictionaries and lists."""
    at = draw.choice(list(_leaves(value)))
    name = ".".join(map(str, at))[:60]
    if draw.random() < 0.15:
        for key in at[:-1]:
            value = value[key]
        del value[at[-1]]
        return f"{name!r} deleted"
    new = draw.choice(VALUES)
    _put(value, at, new)
    return f"{name!r} becomes {str(new)[:20]!r}"


def _wrong_json(draw: random.Random, path: Path) -> tuple[str, bool]:
    value = json.loads(path.read_text(encoding="utf-8"))
    how = _disturb(draw, value)
    path.write_text(json.dumps(value, ensure_ascii=draw.random() < 0.5), encoding="utf-8")
    return how, False


def _wrong_lines(draw: random.Random, path: Path) -> tuple[str, bool]:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = draw.randrange(len(lines))
    value = json.loads(lines[number])
    how = _disturb(draw, value)
    lines[number] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"line {number + 1}, {how}", False


def _wrong_table(draw: random.Random, path: Path) -> tuple[str, bool]:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = draw.randrange(len(lines))
    cells = lines[number].split(",")
    column, new = draw.randrange(len(cells)), str(draw.choice(VALUES))
    cells[column] = new
    lines[number] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"line {number + 1}, column {column + 1} becomes {new[:20]!r}", False


def _wrong_yaml(draw: random.Random, path: Path) -> tuple[str, bool]:
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    how = _disturb(draw, value)
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return how, False


def _wrong_vocabulary(draw: random.Random, path: Path) -> tuple[str, bool]:
    if draw.random() < 0.5:
        return _wrong_json(draw, path)
    value = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = value["model"]["vocab"]
    kept = draw.randrange(len(vocabulary))
    value["model"]["vocab"] = {name: number for name, number in vocabulary.items() if number < kept}
    path.write_text(json.dumps(value), encoding="utf-8")
    return f"the first {kept} of {len(vocabulary)} tokens", False


def _wrong_network(draw: random.Random, path: Path) -> tuple[str, bool]:
    if draw.random() < 0.5:
        return _wrong_json(draw, path)
    value = json.loads(path.read_text(encoding="utf-8"))
    name = draw.choice(["layers", "hidden", "embedding", "vocab_size"])
    value[name] = draw.choice([value[name] + 1, max(1, value[name] - 1), 10**6, 10**9, 10**18, 10**30])
    path.write_text(json.dumps(value), encoding="utf-8")
    return f"{name} {value[name]}", False


def _wrong_ids(draw: random.Random, path: Path) -> tuple[str, bool]:
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 10, len(data)])):
        data[draw.randrange(len(data))] = draw.randrange(128, 256)
    path.write_bytes(data)
    return "ids out of range", False


def _wrong_tensor(draw: random.Random, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """A tensor with another shape, type or values."""
    kind = draw.choice(["nan", "inf", "flat", "shorter", "float64", "int64", "empty", "scalar", "bool"])
    if kind in ("nan", "inf"):
        tensor = tensor.clone().float()
        tensor.view(-1)[: 1 if tensor.numel() else 0] = float(kind)
        return kind, tensor
    changed = {
        "flat": tensor.flatten(), "shorter": tensor[:-1] if tensor.dim() else tensor[None], "float64": tensor.double(),
        "int64": tensor.nan_to_num().long(), "empty": tensor.new_empty(0), "scalar": tensor.new_zeros(()),
        "bool": tensor.bool(),
    }  # fmt: skip
    return kind, changed[kind].clone().contiguous()


def _wrong_weights(draw: random.Random, path: Path) -> tuple[str, bool]:
    weights = {name: torch.from_numpy(value) for name, value in safetensors.numpy.load_file(path).items()}
    name = draw.choice(sorted(weights))
    how = draw.choice(["changed", "deleted", "renamed", "added"])
    if how == "changed":
        kind, weights[name] = _wrong_tensor(draw, weights[name])
        how = f"becomes {kind}"
    elif how in ("deleted", "renamed"):
        value = weights.pop(name)
        weights |= {f"{name}.x": value} if how == "renamed" else {}
    else:
        weights["another"] = torch.zeros(3)
    safetensors.numpy.save_file({key: value.numpy() for key, value in weights.items()}, path)
    return f"{name} {how}", False


def _wrong_checkpoint(draw: random.Random, path: Path) -> tuple[str, bool]:
    value = torch.load(path, map_location="cpu", weights_only=True)
    if draw.random() < 0.3:
        at = draw.choice(list(IMPOSSIBLE))
        _put(value, at, IMPOSSIBLE[at])
        how = f"{'.'.join(at)!r} becomes {IMPOSSIBLE[at]}"
        torch.save(value, path)
        return how, path.name == "last.ckpt"
    found, refused = list(_leaves(value)), False
    at = draw.choice(found)
    inner = value
    for key in at:
        inner = inner[key]
    if isinstance(inner, torch.Tensor):
        kind, new = _wrong_tensor(draw, inner)
        _put(value, at, new)
        how = f"{'.'.join(map(str, at))!r} becomes {kind}"
        refused = kind in ("nan", "inf") and path.name == "last.ckpt" and at[0] in ("state_dict", "optimizer_states")
    else:
        how = _disturb(draw, value)
    torch.save(value, path)
    return how, refused


WRONG: dict[str, Callable[[random.Random, Path], tuple[str, bool]]] = {
    "config.yaml": _wrong_yaml, "model.json": _wrong_network, "tokenizer.json": _wrong_vocabulary,
    "quality.json": _wrong_json, "checksums.json": _wrong_json, "samples.jsonl": _wrong_lines,
    "metrics.csv": _wrong_table, "tokens/streams.json": _wrong_json, "tokens/train.ids": _wrong_ids,
    "tokens/val.ids": _wrong_ids, "model.safetensors": _wrong_weights, "last.safetensors": _wrong_weights,
    "checkpoints/last.ckpt": _wrong_checkpoint, "checkpoints/best.ckpt": _wrong_checkpoint,
}  # fmt: skip
