"""The commands. Each imports what it needs when it runs, so that `charlm --help` is there at once."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from charlm.config import (
    Config,
    EvaluateConfig,
    GenerateConfig,
    ReelConfig,
    ReportConfig,
    build,
    check_ranges,
    merge,
    nest,
    settings,
)
from charlm.errors import CharlmError, Interrupted, nearest
from charlm.files import trouble
from charlm.options import add_settings, from_environment, parse, parser_of, read_text, read_yaml
from charlm.watcher import Watcher

if typing.TYPE_CHECKING:
    from charlm.run import Run


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 when it went well, 2 with one line when a user can fix it, 130 after Ctrl-C."""
    threading.excepthook = _thread_failed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":  # characters the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except CharlmError as error:
        status = _fail(str(error))
    except Interrupted as interrupted:
        status = 128 + interrupted.signal
    except KeyboardInterrupt:
        _fail("interrupted")
        status = 130
    except BrokenPipeError:
        # Whoever read our output has gone; what is left in the buffer must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        words = trouble(error)
        if words is None:
            raise
        status = _fail(words)
    sys.exit(status)


def _fail(message: str) -> int:
    print(f"charlm: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread; a full disk there is raised again where the next number is logged."""
    if not (isinstance(failure.exc_value, OSError) and trouble(failure.exc_value)):
        threading.__excepthook__(failure)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        from charlm import __version__

        print(f"charlm {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise CharlmError(f"there is no command {name!r}; choose from {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    return COMMANDS[name][1](rest)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {about}" for name, (about, _) in COMMANDS.items())
    return (
        "usage: charlm COMMAND ...\n\n"
        "Recurrent language models: train on your own text, watch it learn to write, generate.\n\n"
        f"{lines}\n\n"
        "charlm COMMAND --help lists a command's options. First steps:\n\n"
        "  charlm train input.txt --run runs/first\n"
        "  charlm generate runs/first --prompt 'Once upon'\n"
    )


# -- the commands


def _train(arguments: list[str]) -> int:
    leave = _Leave()
    parser = parser_of(
        "train",
        "Learn a text: files, folders, globs or - for standard input; without any, the built-in corpus.",
        "Settings come from defaults, then --config files, then environment variables (CHARLM_MODEL__HIDDEN=256), "
        "then options. A setting without a default is chosen by the size of the text, or off. The run's path is "
        "printed on standard output.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="the text to learn")
    parser.add_argument(
        "--config", metavar="FILE", action="append", default=[], help="settings in YAML; may be repeated"
    )
    parser.add_argument("--run", metavar="DIR", help="where to put the run (default: a free name under runs/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run")
    parser.add_argument("--print_config", action="store_true", help="print the settings as YAML and exit")
    add_settings(parser, Config, skip=("data.text",))
    named = parse(parser, arguments)
    texts, files = named.pop("text"), named.pop("config")
    path, resumed, printing = named.pop("run", None), named.pop("resume", None), named.pop("print_config")
    if resumed is not None:
        if texts or path is not None or files:
            raise CharlmError(
                "--resume goes on in the run's own directory with its own text and settings; "
                "leave TEXT, --run and --config out"
            )
        return _resume(resumed, named, printing, leave)
    if texts:
        named["data.text"] = texts
    elif eaten := [prompt for prompt in named.get("samples.prompts", ()) if Path(prompt).is_file()]:
        raise CharlmError(f"--samples.prompts took {eaten[0]} for a prompt; name the text before the options")
    values: dict[str, Any] = {}
    for file in files:
        values = merge(values, read_yaml(Path(file)))
    config = Config.from_dict(merge(merge(values, from_environment()), nest(named)))
    if printing:
        return _print_config(config)
    from charlm.run import first_process
    from charlm.views.terminal import Terminal

    watcher = Terminal() if first_process() else Watcher()
    _check_early(config, path)
    watcher.say("loading torch and lightning")
    from charlm.training.trainer import train

    leave.check()
    return _watched(lambda: train(config, path, watcher), watcher)


def _resume(run: str, named: dict[str, Any], printing: bool, leave: _Leave) -> int:
    from charlm.run import Run, first_process
    from charlm.views.terminal import Terminal

    config = Config.from_dict(merge(Run(run).config.to_dict(), nest(named)))
    if printing:
        return _print_config(config)
    changes = {setting.name: setting.value for setting in settings(config) if setting.name in named}
    watcher = Terminal() if first_process() else Watcher()
    watcher.say("loading torch and lightning")
    from charlm.training.trainer import resume

    leave.check()
    return _watched(lambda: resume(run, changes, watcher), watcher)


def _print_config(config: Config) -> int:
    import yaml

    yaml.safe_dump(config.to_dict(), sys.stdout, sort_keys=False, allow_unicode=True)
    return 0


def _check_early(config: Config, path: str | None) -> None:
    """Find the commonest mistakes before torch is loaded, which takes seconds."""
    from charlm.network.cells import cells
    from charlm.run import Run, first_process
    from charlm.text.sources import find
    from charlm.text.tokenization import tokenizers

    if path is not None and Path(path).exists() and first_process():
        raise CharlmError(f"{path} exists already; choose another --run, or go on with --resume {path}")
    cells[config.model.cell], tokenizers[config.tokenizer.kind]
    if config.init_from:
        Run(config.init_from)
    for place in (*config.data.text, config.data.val, config.data.test):
        if place not in (None, "-") and not Path(place).expanduser().exists():
            find(place, config.data.pattern)  # says what is wrong, unless it is a pattern


def _watched(work: Callable[[], Run], watcher: Watcher) -> int:
    """Train, and say what to do next, however it ends."""
    from charlm.run import first_process

    try:
        run = work()
    except Interrupted as interrupted:
        if not first_process():
            return 0  # the launcher would kill the first process, which is still busy saying goodbye
        watcher.say(f"interrupted and saved; go on with: charlm train --resume {interrupted.run}")
        raise
    finally:
        watcher.close()
    watcher.say(f"done; generate with: charlm generate {run.path}    see it all with: charlm report {run.path}")
    if first_process():
        print(run.path)
    return 0


class _Leave:
    """Ctrl-C and SIGTERM before training has begun: leave at once, with nothing half-done left behind.

    An import of compiled code may swallow the exception; `check` raises it again.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self)

    def __call__(self, number: int, frame: Any) -> None:
        self.asked = number
        self.check()

    def check(self) -> None:
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise SystemExit(128 + self.asked)


def _generate(arguments: list[str]) -> int:
    from charlm.generation.processors import processors

    parser = parser_of("generate", "Write a text with a trained run, on standard output.")
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    add_settings(parser, GenerateConfig)
    for name, processor in processors.items():
        parser.add_argument(
            f"--{name}",
            metavar="X",
            help=f"{processor.help} (default: {processor.default})",
            default=argparse.SUPPRESS,
        )
    named = parse(parser, arguments)
    path = named.pop("run")
    values = {name: processors[name].parse(named.pop(name)) for name in processors if name in named}
    config: GenerateConfig = build(GenerateConfig, named)
    check_ranges(config)
    from charlm.run import Run

    _write(Run(path), config, values)
    return 0


def _write(run: Any, config: GenerateConfig, processors: dict[str, float]) -> None:
    prompt = config.prompt
    if config.prompt_file is not None:
        if prompt:
            raise CharlmError("--prompt and --prompt_file exclude each other; use one")
        prompt = read_text(Path(config.prompt_file)).removesuffix("\n")
    seed = config.seed
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
    pieces = run.write(
        prompt,
        length=config.length,
        seed=seed,
        stop=config.stop,
        samples=config.samples,
        checkpoint=config.checkpoint,
        device=config.device,
        **processors,
    )
    first = next(pieces, [""] * config.samples)  # a prompt that cannot be read fails before anything is shown
    if config.samples == 1 and not config.json:
        from charlm.views.reel import visible

        out = sys.stdout
        live = out.isatty()
        shown = visible if live else str  # a pipe gets the text as it is
        out.write(shown(prompt + first[0]))
        out.flush()
        for piece in pieces:
            out.write(shown(piece[0]))
            if live:
                out.flush()
        out.write("\n")
    else:
        texts = list(first)
        for piece in pieces:
            texts = [text + more for text, more in zip(texts, piece, strict=True)]
        _print_texts(run, prompt, texts, seed, config.json)
    sys.stdout.flush()  # where both end in one place, the text stands first
    if config.seed is None:
        print(f"charlm: --seed {seed} writes this again", file=sys.stderr)


def _print_texts(run: Any, prompt: str, texts: list[str], seed: int, as_json: bool) -> None:
    if as_json:
        import json

        for number, text in enumerate(texts):
            print(json.dumps({"prompt": prompt, "text": text, "seed": seed, "sample": number}, ensure_ascii=False))
    elif run.config.data.unit == "line":
        for text in texts:
            print(prompt + text)
    else:
        for number, text in enumerate(texts, 1):
            print(f"--- {number}\n{prompt}{text}")


def _evaluate(arguments: list[str]) -> int:
    parser = parser_of(
        "evaluate",
        "How well a run predicts a text, or a part of its own text: bits a character, perplexity.",
        "The whole text is read to its last token with the state carried along.",
    )
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="files, folders, globs or -")
    add_settings(parser, EvaluateConfig)
    named = parse(parser, arguments)
    path, texts = named.pop("run"), named.pop("text")
    config: EvaluateConfig = build(EvaluateConfig, named)
    check_ranges(config)
    from charlm.run import Run
    from charlm.views.terminal import Terminal, print_evaluation

    run, terminal = Run(path), Terminal()
    try:
        stream = run.encode(texts, config.encoding) if texts else None
    except CharlmError as error:  # the options of train are the same, in a group
        raise CharlmError(str(error).replace("--data.", "--")) from None
    result = run.evaluate(
        stream,
        split=config.split,
        lanes=config.lanes,
        checkpoint=config.checkpoint,
        device=config.device,
        progress=terminal.progress,
    )
    terminal.close()
    if config.json:
        import json

        print(json.dumps(result.to_dict()))
    else:
        print_evaluation(result)
    return 0


def _samples(arguments: list[str]) -> int:
    parser = parser_of("samples", "The texts a run wrote while it learnt, from initialisation to the last epoch.")
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    add_settings(parser, ReelConfig)
    named = parse(parser, arguments)
    path = named.pop("run")
    config: ReelConfig = build(ReelConfig, named)
    check_ranges(config)
    from charlm.run import Run

    def shown(epoch: float) -> str:  # what headings say, and people type
        return f"{epoch:.4g}"

    everything = Run(path).samples
    samples = [
        sample
        for sample in everything
        if config.prompt in (None, sample.prompt)
        and (config.epoch is None or shown(config.epoch) == shown(sample.epoch))
    ]
    if not samples:
        prompts = ", ".join(sorted({repr(sample.prompt) for sample in everything}))
        epochs = ", ".join(shown(epoch) for epoch in sorted({sample.epoch for sample in everything}))
        have = f"; it has prompts {prompts} at epochs {epochs}" if everything else " yet"
        raise CharlmError(f"{path} has no such samples{have}")
    if config.json:
        import dataclasses
        import json

        for sample in samples:
            print(json.dumps(dataclasses.asdict(sample), ensure_ascii=False))
    else:
        from charlm.views.reel import print_reel, print_side_by_side

        (print_side_by_side if config.side_by_side else print_reel)(samples)
    return 0


def _report(arguments: list[str]) -> int:
    parser = parser_of(
        "report",
        "One page that shows what a run learnt: its samples, curves, scores and settings; of several runs, compared.",
        "The page needs no network and no server. Its path is printed on standard output.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="the directories of trainings")
    add_settings(parser, ReportConfig)
    named = parse(parser, arguments)
    paths = named.pop("run")
    config: ReportConfig = build(ReportConfig, named)
    from charlm.files import atomic
    from charlm.run import Run
    from charlm.views import report

    runs = [Run(path) for path in paths]
    written = report.html(runs) if config.format == "html" else report.markdown(runs)
    if config.output == "-":
        sys.stdout.write(written)
        return 0
    folder = runs[0].path if len(runs) == 1 else Path()
    output = folder / f"report.{config.format}" if config.output is None else Path(config.output)
    if output.is_dir() or not output.parent.is_dir():
        raise CharlmError(f"cannot write {output}: it needs a folder that there is, and the name of a file in it")
    with atomic(output) as file:
        file.write(written)
    print(f"wrote {output.resolve()}; open it in a browser", file=sys.stderr)
    print(output)
    return 0


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "train": ("learn a text, and watch the samples get better", _train),
    "generate": ("write a text with a trained run", _generate),
    "evaluate": ("measure how well a run predicts a text", _evaluate),
    "samples": ("show what a run wrote while it learnt", _samples),
    "report": ("make a page of a run, or of several compared", _report),
}
