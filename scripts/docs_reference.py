"""The pages of the documentation that are written from the definitions; a hook of mkdocs (see mkdocs.yml).

    python scripts/docs_reference.py FOLDER       writes the same pages as files, without mkdocs

Options come from the typed settings, cells and presets from what the commands print and read, metrics from their
registry. `options`, `metrics` and `presets` are the only functions that know where the definitions are.
"""

from __future__ import annotations

import contextlib
import html
import inspect
import io
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from charlm.cli import GROUPS, build_app
from charlm.cli import main as charlm
from charlm.cli.attribute import AttributeOptions
from charlm.cli.cells import CellsOptions
from charlm.cli.doctor import DoctorOptions
from charlm.cli.evaluate import EvaluateOptions
from charlm.cli.fill import FillOptions
from charlm.cli.generate import GenerateOptions, SamplingOptions
from charlm.cli.options import option_names
from charlm.cli.play import PlayOptions
from charlm.cli.report import ReportOptions
from charlm.cli.samples import SamplesOptions
from charlm.cli.score import ScoreOptions
from charlm.config import Config, settings
from charlm.config.fields import bounds
from charlm.config.presets import presets as package_presets
from charlm.experiments.race import RaceOptions
from charlm.experiments.sweep import SweepOptions

ROOT = Path(__file__).parent.parent
SETTINGS: dict[str, list[type]] = {
    "train": [Config],
    "race": [RaceOptions],
    "sweep": [SweepOptions],
    "generate": [GenerateOptions, SamplingOptions],
    "play": [PlayOptions, SamplingOptions],
    "fill": [FillOptions],
    "evaluate": [EvaluateOptions],
    "score": [ScoreOptions],
    "attribute": [AttributeOptions],
    "doctor": [DoctorOptions],
    "samples": [SamplesOptions],
    "report": [ReportOptions],
    "cells": [CellsOptions],
}
"""The classes of settings behind the options of each command."""

TAKES_ALL_OF_TRAIN = ("race", "sweep")
"""Commands that take every setting of `charlm train` as well, which are listed only there."""

TYPES = {int: "integer", float: "number", bool: "true, false", str: "text"}


class Option(NamedTuple):
    """One row of the table of options.

    Args:
        command: The command it belongs to.
        group: The group of settings; "" for an option outside a group.
        name: As it is typed, without the dashes.
        type: The values it takes.
        default: Empty if there is none.
        help: One line.
    """

    command: str
    group: str
    name: str
    type: str
    default: str
    help: str


def options() -> Iterator[Option]:
    """Every option of every command, in the order of the help."""
    app = build_app()
    for command in (name for names in GROUPS.values() for name in names):
        elsewhere = {one.name for one in settings(Config)} if command in TAKES_ALL_OF_TRAIN else set()
        definitions = {one.name: one for cls in SETTINGS.get(command, ()) for one in settings(cls)}
        arguments = {name: one for one in app[command].assemble_argument_collection() for name in one.names}
        for name in option_names(app[command]):
            argument = arguments[f"--{name}"]
            if name not in definitions and name not in elsewhere:
                kind = type_words(argument.field_info.annotation)
                yield Option(command, "", name, kind, "", argument.parameter.help or "")
        for name, one in definitions.items():
            kind, group = type_words(one.type), name.rpartition(".")[0]
            yield Option(command, group, name, kind, default_words(one.value), one.help)


def metrics() -> Iterator[tuple[str, str, str, str]]:
    """Every metric of generated text: name, unit, which way is better, description."""
    from charlm.evaluation.text_metrics import metrics

    for name, metric in metrics.items():
        yield name, metric.unit, metric.better, metric.description


def presets() -> Iterator[tuple[str, dict[str, str]]]:
    """Every preset: its name and the entries of its header."""
    for preset in package_presets().values():
        yield preset.name, preset.about


def type_words(hint: Any) -> str:
    """A type and its range in a few words: `integer >= 1`, `cosine, linear`, `integer or auto`."""
    origin, parts = typing.get_origin(hint), [part for part in typing.get_args(hint) if part is not type(None)]
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_words, parts)))
    if origin is Annotated:
        own = {} if bounds(parts[0]) else bounds(hint)
        ranges = (f"{sign} {bound:g}" if bound < 1e9 else f"{sign} {bound}" for sign, bound in own.items())
        return f"{type_words(parts[0])} {', '.join(ranges)}".strip()
    return "texts" if origin in (list, tuple) else TYPES[hint]


def default_words(value: Any) -> str:
    """A default as it is typed; an empty text for one that is chosen, empty or missing."""
    if value in (None, "", (), ("",), inspect.Parameter.empty):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def options_page() -> str:
    """The options of every command, a table for each group."""
    lines = [
        "# Options and settings", "",
        "Every option of `charlm train` is also a key of a YAML file (`--config`) and an environment variable: "
        "`--model.hidden 256`, `model: {hidden: 256}` and `CHARLM_MODEL__HIDDEN=256` mean the same. An option "
        "without a default is chosen from the size of the text, or is off; the run prints what it chose and why. "
        "`charlm COMMAND --help` prints the same list.",
    ]  # fmt: skip
    last: tuple[str, str] = ("", "")
    for option in options():
        if option.command != last[0]:
            lines += ["", f"## charlm {option.command}", ""]
            if option.command in TAKES_ALL_OF_TRAIN:
                lines += ["It also takes every option of `charlm train`.", ""]
        if (option.command, option.group) != last:
            if option.group:
                lines += ["", f"### {option.command}: {option.group}", ""]
            lines += ["| option | values | default | meaning |", "|---|---|---|---|"]
        last = option.command, option.group
        words = html.escape(option.help, quote=False).replace("|", "&#124;")
        cells = f"`--{option.name}`", code(option.type), code(option.default), words
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cells_page() -> str:
    """The equations of every cell, as `charlm cells` prints them."""
    blocks = re.split(r"\n\n(?=\S)", printed("cells").strip())
    lines = ["# Cells", "", "What `charlm cells` prints. [How to choose and add one](../guide/cells.md)."]
    for block in blocks:
        name = block.split()[0]
        lines += ["", f"## {name}", "", "```text", block, "```"]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """The metrics of generated text."""
    lines = [
        "# Metrics of generated text", "",
        "Each is written to `samples.jsonl`, to TensorBoard and to the report, beside the same number of real "
        "held-out text and of texts by n-gram models. No single metric shows that a text is good: a text that "
        "repeats one sentence has only valid words, and a text that copies the training text resembles real text "
        "in most metrics. A metric that a corpus does not allow (for example, one of words in a script without "
        "spaces) is left out.", "",
        "| metric | unit | better | what it is |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, unit, better, description in metrics():
        lines.append(f"| `{name}` | {unit} | {better} | {' '.join(description.split())} |")
    return "\n".join(lines) + "\n"


def presets_page() -> str:
    """The presets, with what they train, what they take and what they reached."""
    lines = ["# Presets", "", "`charlm train TEXT --config NAME` uses one; options named beside it win."]
    for name, header in presets():
        lines += ["", f"## {name}", ""]
        for key, value in header.items():
            words = code(value) if key == "Example" else re.sub(r"(--[\w.]+\w)", r"`\1`", value)
            lines.append(f"- **{key}**: {words}")
        lines += ["", "```yaml", "".join(settings_of(name)).strip(), "```"]
    return "\n".join(lines) + "\n"


def settings_of(preset: str) -> list[str]:
    """The lines of a preset below its header."""
    lines = (ROOT / "configs" / f"{preset}.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if not line.startswith("#")]


def printed(*arguments: str) -> str:
    """What a command prints on standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        charlm(arguments)
    return out.getvalue()


def code(text: str) -> str:
    """A piece of code in Markdown; an empty text stays empty."""
    return f"`{text}`" if text else ""


def pages() -> dict[str, str]:
    """The Markdown of every generated page by its path in the site."""
    return {
        "reference/options.md": options_page(),
        "reference/cells.md": cells_page(),
        "reference/metrics.md": metrics_page(),
        "reference/presets.md": presets_page(),
    }


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs: add the generated pages to those of `docs/`."""
    from mkdocs.structure.files import File

    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(inspect.cleandoc(__doc__ or ""))
    for path, content in pages().items():
        file = Path(sys.argv[1]) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
