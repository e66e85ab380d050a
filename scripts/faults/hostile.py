"""Hostile files: they try to execute code, to exhaust the memory, or to control a terminal or a page."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from charlm.run_directory import Sample
from faults import damage
from faults.commands import MEMORY, TINY, Ended, charlm, problems, said, sentences

EXPECTED = (
    "nothing executes; exit status 0 or 2 with one line; at most 1 GB and no hang; no control character reaches a "
    "terminal and no markup a page"
)

CANARY = "canary"
"""The name of a folder that appears in the folder of a case only if something executes."""

MARKUP = "<img src=x onerror=alert(1)>"
"""What no page may hold as markup: as text it is `&lt;img ...`."""

TEXTS = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;x\x07link", "\x9b31m", "\x07\x08\x0b\x0c\x7f", "\r", "\x00",
    MARKUP, f"</script><script>{MARKUP}", f"--><!-- {MARKUP}", f"]]>{MARKUP}", "\"'><b>", "&lt;", "```\n# heading\n",
    "|a|b|", "![x](x)", "[link=x]rich[/link]", "[bold red]", "[/]", "\\[", "${x}", "{{x}}", "\u202e\u2066",
    "\u200b\ufeff", "e\u0301" * 50, "\U0001f468\u200d\U0001f469", "\ufffd", "\u2028\u2029", "W" * 3000, "漢" * 500,
    "\t" * 100, "=cmd()", "\U0010ffff",
]  # fmt: skip
"""What a corpus, a sample, a name or a setting may hold."""


class Payload:
    """Unpickling it would make the canary."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (CANARY,)


def case(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Put one hostile file where commands read it."""
    kind = draw.choice([_corpus, _corpus, _in_run, _in_run, _in_run, _in_run, _shown, _shown, _named, _settings])
    what, found = kind(draw, work, folder)
    if any(folder.rglob(CANARY)):
        found.append("code of a file was executed")
    return what, found


def _checked(ended: Ended, allowed: tuple[int, ...] = (0, 2)) -> list[str]:
    """What is wrong with a command that read a hostile file and wrote to a terminal or a page."""
    found = problems(ended, allowed)
    if "the memory is full" in ended.err + ended.out:
        found.append(f"more than 1 GB of memory: {said(ended)}")
    return found


def _on_terminal(arguments: list[str], folder: Path) -> list[str]:
    """What is wrong with what a command shows on a terminal without colours."""
    ended = charlm(arguments, folder, terminal=True)
    found = _checked(ended)
    if controls := sorted(set(re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", ended.out))):
        found.append(f"{arguments[0]} sends {controls} to the terminal: {said(ended)}")
    return found


def _page(folder: Path) -> list[str]:
    """What is wrong with the pages of a run that holds hostile text."""
    found = []
    for form in ("html", "md"):
        ended = charlm(["report", "run", "--format", form, "--output", "-"], folder)
        found += _checked(ended)
        outside = ended.out if form == "html" else re.sub(r"(?ms)^ *(`{3,})[^\n]*\n.*?^ *\1|`[^`\n]*`", "", ended.out)
        if MARKUP in outside:
            found.append(f"markup reaches the {form} page: {outside.partition(MARKUP)[0][-100:]!r}")
        if "\x1b" in ended.out or "\x9b" in ended.out or "\0" in ended.out:
            found.append(f"control characters reach the {form} page")
    return found


# -- hostile text in a corpus, in samples, in names


def _corpus(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Train on a hostile text, and run the commands that show its samples."""
    chosen = draw.sample(TEXTS, draw.randint(1, 6))
    lines = sentences(draw, 25).splitlines()
    for one in chosen:
        lines.insert(draw.randrange(len(lines)), one)
    data = "\n".join(lines * 2).encode()
    if damaged := draw.random() < 0.2:
        data = data[:50] + draw.choice([b"\xff\xfe", b"\xed\xa0\x80", b"\0" * 20, b"\xf8\x88"]) + data[50:]
    (folder / "text.txt").write_bytes(data)
    prompts = [one for one in chosen if "\0" not in one and not one.startswith("-")][:2] or ["the"]
    options = [
        "--data.unit",
        draw.choice(["stream", "line"]),
        "--tokenizer.kind",
        draw.choice(["char", "word", "byte"]),
    ]
    options += ["--trainer.max_steps", "3", "--samples.scored", "0", "--samples.prompts", *prompts]
    found = _on_terminal(["train", "text.txt", "--run", "run", *TINY, *options], folder)
    if (folder / "run").is_dir():
        found += _on_terminal(["samples", "run"], folder) + _on_terminal(["samples", "run", "--side_by_side"], folder)
        found += _on_terminal(["generate", "run", "--length", "50", "--seed", "1", "--prompt", prompts[0]], folder)
        found += _page(folder)
    return f"corpus with {', '.join(repr(one[:20]) for one in chosen)}{', not UTF-8' * damaged}", found


def _shown(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Samples of hostile text in the history of a run."""
    _copy_run(work, folder)
    chosen = draw.sample(TEXTS, 3)
    samples = [
        Sample(epoch=0.5 * n, step=n, prompt=prompt, seed=1, temperature=0.8, text=f"a {one} b", scores={})
        for n, one in enumerate(chosen)
        for prompt in ("", draw.choice(TEXTS))
    ]
    lines = [json.dumps(vars(sample), ensure_ascii=draw.random() < 0.5) for sample in samples]
    (folder / "run" / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = _on_terminal(["samples", "run"], folder) + _on_terminal(["samples", "run", "--side_by_side"], folder)
    found += _on_terminal(["samples", "run", "--epoch", "77"], folder)
    return f"samples with {', '.join(repr(one[:20]) for one in chosen)}", found + _page(folder)


def _named(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """Runs and texts whose names are hostile, and names of what is not there."""
    short = [one for one in TEXTS if len(one) < 100 and not set("\0/") & set(one) and not one.startswith("-")]
    name = draw.choice(short)
    _copy_run(work, folder)
    (folder / "run").rename(folder / name)
    (folder / f"{name}.txt").write_text(sentences(draw, 12), encoding="utf-8")
    train = ["train", f"{name}.txt", "--run", f"{name} 2", *TINY, "--trainer.max_steps", "2", "--samples.scored", "0"]
    commands = [
        ["generate", name, "--length", "5"], ["evaluate", name], ["samples", name],
        ["report", name, "--output", "page"], ["train", "--resume", name], train,
        ["generate", f"{name} not"], ["evaluate", name, f"{name}.csv"],
        ["train", f"{name}*not"], ["train", "--config", name], ["generate", name, f"--{name}"], [name],
        ["samples", name, "--prompt", name], ["generate", name, "--prompt", name], ["report", name, "--format", name],
        ["train", f"{name}.txt", "--model.cell", name], ["evaluate", name, f"{name}.txt", "--encoding", name],
    ]  # fmt: skip
    found = [problem for command in draw.sample(commands, 6) for problem in _on_terminal(command, folder)]
    page = folder / "page"
    if page.exists() and MARKUP in page.read_text(encoding="utf-8"):
        found.append("markup of a name reaches the page")
    return f"the name {name[:30]!r}", found


# -- settings


def _settings(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """A settings file that would execute, or that is deep, large or recursive."""
    what, text = draw.choice(_yaml(draw))
    (folder / "text.txt").write_text(sentences(draw, 12), encoding="utf-8")
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
    found = _on_terminal(["train", "text.txt", "--config", "settings.yaml", "--print_config"], folder)
    return f"--config with {what}", found


def _yaml(draw: random.Random) -> list[tuple[str, str]]:
    tags = ["os.mkdir", "subprocess.check_output", "eval", "exec", "builtins.exec", "posix.mkdir"]
    tag = draw.choice(["apply", "new", "name", "module"])
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    nested = draw.choice([1_000, 100_000])
    name, items = "!!python/name:os.mkdir ", f"listitems: [{CANARY}]\n"
    return [
        ("a tag", f"model: !!python/object/{tag}:{draw.choice(tags)} [{CANARY}]\n"),
        ("a tag as a value", f"seed: !!python/object/{tag}:{draw.choice(tags)} ['{CANARY}']\n"),
        ("a tag of an object", f"!!python/object/new:type\nargs: [x, !!python/tuple [], {{extend: {name}}}]\n{items}"),
        ("aliases of aliases", f"a0: &a0 [x, x]\n{levels}model: *a11\n"),
        ("an alias of itself", "model: &m\n  hidden: *m\n"),
        ("nested lists", f"model: {'[' * nested}{']' * nested}\n"),
        ("nested maps", "model: " + "{a: " * nested + "1" + "}" * nested + "\n"),
        ("a long number", f"seed: {'9' * draw.choice([400, 5_000, 100_000])}\n"),
        ("a sexagesimal number", "seed: 1" + ":59" * 3000 + "\n"),
        ("a long name", f"{'x' * 100_000}: 1\n"),
        ("a control character", 'seed: "' + draw.choice(["\\e[31m", "\\0", "\\x9b"]) + '"\n'),
        ("markup", f"model: {{cell: '{MARKUP}'}}\n"),
        ("many documents", "---\nseed: 1\n" * 1000),
        ("a date", "seed: 2001-01-01\n"), ("a set", "model: !!set {hidden}\n"), ("bytes", "seed: !!binary aGk=\n"),
        ("a merge of itself", "model: &m\n  <<: *m\n"),
    ]  # fmt: skip


# -- files of a run


def _in_run(draw: random.Random, work: Path, folder: Path) -> tuple[str, list[str]]:
    """A hostile file in a run without checksums."""
    _copy_run(work, folder)
    run = folder / "run"
    name = draw.choice(
        ["checkpoints/last.ckpt"] * 4 + ["checkpoints/best.ckpt", "model.safetensors", "last.safetensors"] * 2
        + ["tokenizer.json", "model.json", "config.yaml", "quality.json", "samples.jsonl", "metrics.csv",
           "tokens/streams.json", "tokens/val.ids", "tokens/train.ids", "checksums.json", ".lock"]
    )  # fmt: skip
    what, data = _archive(draw) if name.endswith(("ckpt", "safetensors")) else draw.choice(_contents(draw, name))
    (run / "checksums.json").unlink()
    (run / name).unlink(missing_ok=True)
    (run / name).write_bytes(data)
    found = []
    for command in sorted(draw.sample(list(damage.READING), 3), key=list(damage.READING).index):
        found += _checked(charlm(damage.READING[command], folder))
    return f"{name}: {what}", found


def _archive(draw: random.Random) -> tuple[str, bytes]:
    """Content for a checkpoint or for weights, and what it is."""
    if draw.random() < 0.4:
        bombs = {"a zip bomb": _bomb, "a pickle bomb": _pickle_bomb, "a large storage": _large_storage}
        what = draw.choice(list(bombs))
        return what, bombs[what](draw)
    protocol = draw.randrange(6)
    value: Any = draw.choice([Payload(), {"state_dict": {}, "global_step": 1, "charlm": Payload()}, [Payload()]])
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(value, old, _use_new_zipfile_serialization=False)
    torch.save(value, new)
    header = draw.choice([
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
        {f"{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(50_000)},
        {"\x1b[31m": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": {"x": MARKUP}},
        [],
    ])  # fmt: skip
    text = json.dumps(header).encode()
    found = [
        ("a pickle", pickle.dumps(value, protocol)), ("an old archive of torch", old.getvalue()),
        ("an archive of torch", new.getvalue()), ("a hostile header", struct.pack("<Q", len(text)) + text + bytes(4)),
        ("a header of 2^60 bytes", struct.pack("<Q", 1 << 60) + text),
        ("a nested header", struct.pack("<Q", 200_000) + b"[" * 200_000),
    ]  # fmt: skip
    return draw.choice(found)


def _bomb(draw: random.Random) -> bytes:
    """A small archive of torch in which one file unpacks to two gigabytes."""
    data = io.BytesIO()
    inner = draw.choice(["archive/data.pkl", "archive/data/0", "archive/version"])
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/byteorder", "little")
        if inner != "archive/version":
            archive.writestr("archive/version", "3")
        if inner != "archive/data.pkl":
            archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        with archive.open(inner, "w", force_zip64=True) as file:
            for _ in range(2 * MEMORY >> 24):
                file.write(bytes(1 << 24))
    return data.getvalue()


def _pickle_bomb(draw: random.Random) -> bytes:
    """A pickle whose few bytes make an object that is deep or large."""
    deep = draw.random() < 0.5
    code = b"\x80\x02" + (b"(" * 100_000 + b"l" * 100_000 if deep else b"]" + b"q\x00" + b"h\x00a" * 200_000) + b"."
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", "3")
    return draw.choice([code, data.getvalue()])


def _large_storage(draw: random.Random) -> bytes:
    """An archive of torch with a tensor whose stated size is far larger than its data."""
    count = draw.choice([2**31, 2**40, 2**62])
    data, out = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(7).expand(7)}, "global_step": 1, "charlm": {}}, data)
    with zipfile.ZipFile(data) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("data.pkl"):  # 7 as a one-byte integer becomes a long one
                content = content.replace(b"K\x07", b"\x8a\x09" + count.to_bytes(9, "little"))
            changed.writestr(name, content)
    return out.getvalue()


def _contents(draw: random.Random, name: str) -> list[tuple[str, bytes]]:
    """Contents for a file of text or of numbers."""
    nested = draw.choice([900, 100_000])
    brackets = draw.choice([b"[" * nested + b"]" * nested, b'{"a":' * nested + b"1" + b"}" * nested, b"[" * nested])
    end = b"\n" if name == "samples.jsonl" else b""
    found = [
        ("a pickle", pickle.dumps(Payload(), draw.randrange(6))), ("nested brackets", brackets + end),
        ("a long number", b"9" * draw.choice([400, 5_000, 1_000_000]) + end), ("an infinite number", b"1e999" + end),
        ("a long text", b'"' + b"x" * 10_000_000 + b'"' + end), ("zeros", bytes(1_000_000)),
        ("half of a pair", b'"\\ud800"' + end), ("not UTF-8", b"\xff\xfe\xff" + end), ("markup", MARKUP.encode() + end),
        ("a null byte", b"{\0}" + end), ("a byte-order mark", b"\xef\xbb\xbf{}" + end), ("Infinity", b"Infinity" + end),
        ("a repeated key", b'{"a": 1, "a": 2}' + end), ("a hundred thousand lines", b"{}\n" * 100_000),
    ]  # fmt: skip
    if name == "config.yaml":
        found = [(what, text.encode()) for what, text in _yaml(draw)]
    return found


def _copy_run(work: Path, folder: Path) -> None:
    """Put the interrupted run of the part `damage` into a folder: resuming it reads its checkpoint."""
    damage.reference(work, "interrupted")
    shutil.copytree(work / "interrupted" / "run", folder / "run")
