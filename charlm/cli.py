"""The commands. Each imports what it needs when it runs, so that `charlm --help` is there at once."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from charlm.config import (
    Config,
    EvaluateConfig,
    GenerateConfig,
    ReelConfig,
    Setting,
    build,
    check_ranges,
    merge,
    nest,
    settings,
)
from charlm.errors import CharlmError, Interrupted, nearest

ENVIRONMENT = "CHARLM_"

FAMILIAR = {
    "rnn_size": "model.hidden", "hidden_size": "model.hidden", "nhid": "model.hidden", "n_embd": "model.embedding",
    "emsize": "model.embedding", "wordvec_size": "model.embedding", "num_layers": "model.layers",
    "nlayers": "model.layers", "n_layer": "model.layers", "model_type": "model.cell", "rnn_type": "model.cell",
    "tied": "model.tie", "bptt": "data.seq_length", "block_size": "data.seq_length", "chunk_len": "data.seq_length",
    "epochs": "trainer.max_epochs", "num_epochs": "trainer.max_epochs", "n_epochs": "trainer.max_epochs",
    "max_iters": "trainer.max_steps", "learning_rate": "optimizer.lr", "grad_clip": "trainer.gradient_clip_val",
    "clip": "trainer.gradient_clip_val", "val_frac": "data.val_fraction", "test_frac": "data.test_fraction",
    "out_dir": "run", "checkpoint_dir": "run", "input_txt": "data.text", "data_dir": "data.text", "input": "data.text",
    "primetext": "prompt", "start_text": "prompt", "start": "prompt", "prefix": "prompt", "max_new_tokens": "length",
    "num_samples": "samples", "words": "length", "level": "tokenizer.kind", "vocab_size": "tokenizer.size",
    "gpu": "trainer.accelerator", "gpuid": "trainer.accelerator", "cuda": "trainer.accelerator",
}  # fmt: skip
"""What other programs call an option, so that the error message can name ours."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 when it went well, 2 with one line when a user can fix it, 130 after Ctrl-C."""
    # Two busy threads beside another busy program slow each other down unless they sleep while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except CharlmError as error:
        status = _fail(str(error))
    except Interrupted as interrupted:
        status = 128 + interrupted.signal
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # Whoever read our output has gone; what is left in the buffer must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        status = _fail("the disk is full; free some space and go on with charlm train --resume, nothing is lost")
    sys.exit(status)


def _fail(message: str) -> int:
    print(f"charlm: {' '.join(message.split())}", file=sys.stderr)
    return 2


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
    parser = _parser(
        "train",
        "Learn a text: files, folders, globs or - for standard input; without any, the built-in corpus.",
        "Settings come from defaults, then --config files, then environment variables (CHARLM_MODEL__HIDDEN=256), "
        "then options. A setting whose default is 'chosen' depends on the size of the text. The run's path is "
        "printed on standard output.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="the text to learn")
    parser.add_argument(
        "--config", metavar="FILE", action="append", default=[], help="settings in YAML; may be repeated"
    )
    parser.add_argument("--run", metavar="DIR", help="where to put the run (default: a free name under runs/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run")
    parser.add_argument("--print_config", action="store_true", help="print the settings as YAML and exit")
    _add_settings(parser, Config, skip=("data.text",))
    named = _parse(parser, arguments)
    texts, files = named.pop("text"), named.pop("config")
    path, resumed, printing = named.pop("run", None), named.pop("resume", None), named.pop("print_config")
    if texts:
        named["data.text"] = texts
    if resumed is not None:
        return _resume(resumed, named, files, path)
    values: dict[str, Any] = {}
    for file in files:
        values = merge(values, _read_yaml(Path(file)))
    config = Config.from_dict(merge(merge(values, nest(_environment())), nest(named)))
    if printing:
        import yaml

        yaml.safe_dump(config.to_dict(), sys.stdout, sort_keys=False, allow_unicode=True)
        return 0
    from charlm.views.terminal import Terminal

    terminal = Terminal()
    _check_early(config, path)
    terminal.say("loading torch and lightning")
    from charlm.training.trainer import train

    return _watched(lambda: train(config, path, terminal), terminal)


def _resume(run: str, named: dict[str, Any], files: list[str], path: str | None) -> int:
    if path is not None or files:
        raise CharlmError(
            "--resume goes on in the run's own directory with its own settings; leave --run and --config out"
        )
    from charlm.run import Run
    from charlm.views.terminal import Terminal

    config = Config.from_dict(merge(Run(run).config.to_dict(), nest(named)))
    changes = {setting.name: setting.value for setting in settings(config) if setting.name in named}
    terminal = Terminal()
    terminal.say("loading torch and lightning")
    from charlm.training.trainer import resume

    return _watched(lambda: resume(run, changes, terminal), terminal)


def _check_early(config: Config, path: str | None) -> None:
    """Find the commonest mistakes before torch is loaded, which takes seconds."""
    from charlm.network.cells import cells
    from charlm.text.tokenization import tokenizers

    if path is not None and Path(path).exists() and "LOCAL_RANK" not in os.environ:
        raise CharlmError(f"{path} exists already; choose another --run, or go on with --resume {path}")
    cells[config.model.cell], tokenizers[config.tokenizer.kind]


def _watched(work: Callable[[], Any], terminal: Any) -> int:
    """Train, and say what to do next, however it ends."""
    try:
        run = work()
    except Interrupted as interrupted:
        terminal.say(f"interrupted and saved; go on with: charlm train --resume {interrupted.run}")
        raise
    finally:
        terminal.close()
    terminal.say(f"done; generate with: charlm generate {run.path}    watch with: tensorboard --logdir {run.path}")
    print(run.path)
    return 0


def _generate(arguments: list[str]) -> int:
    from charlm.generation.processors import processors

    parser = _parser("generate", "Write a text with a trained run, on standard output.")
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    _add_settings(parser, GenerateConfig)
    for name, processor in processors.items():
        parser.add_argument(
            f"--{name}",
            metavar="X",
            help=f"{processor.help} (default: {processor.default})",
            default=argparse.SUPPRESS,
        )
    named = _parse(parser, arguments)
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
        prompt = _read_text(Path(config.prompt_file))
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
        out = sys.stdout
        out.write(prompt + first[0])
        out.flush()
        for piece in pieces:
            out.write(piece[0])
            if out.isatty():
                out.flush()
        out.write("\n")
    else:
        texts = list(first)
        for piece in pieces:
            texts = [text + more for text, more in zip(texts, piece, strict=True)]
        _print_texts(run, prompt, texts, seed, config.json)
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
    parser = _parser(
        "evaluate",
        "How well a run predicts a text, or a part of its own text: bits a character, perplexity.",
        "The whole text is read to its last token with the state carried along.",
    )
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="files, folders, globs or -")
    _add_settings(parser, EvaluateConfig)
    named = _parse(parser, arguments)
    path, texts = named.pop("run"), named.pop("text")
    config: EvaluateConfig = build(EvaluateConfig, named)
    check_ranges(config)
    from charlm.run import Run

    run = Run(path)
    result = run.evaluate(
        run.encode(texts, config.encoding) if texts else None,
        split=config.split,
        lanes=config.lanes,
        checkpoint=config.checkpoint,
        device=config.device,
    )
    if config.json:
        import json

        print(json.dumps(result.to_dict()))
    else:
        from charlm.views.terminal import print_evaluation

        print_evaluation(result)
    return 0


def _samples(arguments: list[str]) -> int:
    parser = _parser("samples", "The texts a run wrote while it learnt, from initialisation to the last epoch.")
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    _add_settings(parser, ReelConfig)
    named = _parse(parser, arguments)
    path = named.pop("run")
    config: ReelConfig = build(ReelConfig, named)
    check_ranges(config)
    from charlm.run import Run

    everything = Run(path).samples
    samples = [
        sample
        for sample in everything
        if config.prompt in (None, sample.prompt) and config.epoch in (None, sample.epoch)
    ]
    if not samples:
        prompts = ", ".join(sorted({repr(sample.prompt) for sample in everything}))
        epochs = ", ".join(f"{epoch:g}" for epoch in sorted({sample.epoch for sample in everything}))
        have = f"; it has prompts {prompts} at epochs {epochs}" if everything else " yet"
        raise CharlmError(f"{path} has no such samples{have}")
    if config.json:
        import dataclasses
        import json

        for sample in samples:
            print(json.dumps(dataclasses.asdict(sample), ensure_ascii=False))
    else:
        from charlm.views.terminal import print_reel

        print_reel(samples)
    return 0


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "train": ("learn a text, and watch the samples get better", _train),
    "generate": ("write a text with a trained run", _generate),
    "evaluate": ("measure how well a run predicts a text", _evaluate),
    "samples": ("show what a run wrote while it learnt", _samples),
}


# -- options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CharlmError(f"{message}; see charlm {self.prog.split()[-1]} --help")


def _parser(command: str, about: str, more: str = "") -> argparse.ArgumentParser:
    return _Parser(prog=f"charlm {command}", description=about, epilog=more, allow_abbrev=False)


def _add_settings(parser: argparse.ArgumentParser, cls: type, skip: Sequence[str] = ()) -> None:
    """An option for each setting of a class; values stay text, for `build` to read and check."""
    groups: dict[str, Any] = {"": parser}
    for definition in fields(cls):
        if dataclasses.is_dataclass(definition.default_factory):
            about = definition.default_factory.__doc__
            groups[definition.name] = parser.add_argument_group(definition.name, about)
    for setting in settings(cls):
        if setting.name not in skip:
            group = groups[setting.name.rpartition(".")[0]]
            group.add_argument(f"--{setting.name}", default=argparse.SUPPRESS, **_option(setting))


def _option(setting: Setting) -> dict[str, Any]:
    """What argparse wants to know of a setting."""
    words = setting.help
    if "{cells}" in words:
        from charlm.network.cells import cells

        words = words.format(cells=", ".join(cells))
    if "{tokenizers}" in words:
        from charlm.text.tokenization import tokenizers

        words = words.format(tokenizers=", ".join(tokenizers))
    if isinstance(setting.value, int | float | str) and setting.value not in (False, ""):
        words += f" (default: {setting.value})"
    words = words.replace("%", "%%")
    if setting.type is bool or setting.type == (bool | None):
        return {"help": words, "nargs": "?", "const": "true", "metavar": "true|false"}
    if typing.get_origin(setting.type) is list:
        return {"help": words, "nargs": "+", "metavar": "TEXT"}
    if typing.get_origin(setting.type) is typing.Literal:
        return {"help": words, "metavar": "|".join(typing.get_args(setting.type))}
    kinds = typing.get_args(setting.type) or (setting.type,)
    name = setting.name.rpartition(".")[2].upper()
    return {"help": words, "metavar": "N" if int in kinds else "X" if float in kinds else name}


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    known, unknown = parser.parse_known_intermixed_args(arguments)
    options = [flag[2:] for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    if unknown:
        first = unknown[0].split("=")[0]
        name = first.lstrip("-").replace("-", "_")
        hint = _other_name(name, options) or nearest(f"--{name}", [f"--{option}" for option in options])
        raise CharlmError(f"there is no option {first}{hint}; see {parser.prog} --help")
    return vars(known)


def _other_name(name: str, options: list[str]) -> str:
    """A hint for a name that other programs use, or one whose group was left out."""
    tails = [option for option in options if option.rpartition(".")[2] == name]
    if FAMILIAR.get(name) in options:
        tails = [FAMILIAR[name]]
    return f"; did you mean --{tails[0]}?" if tails else ""


def _environment() -> dict[str, str]:
    """Settings from variables such as CHARLM_MODEL__HIDDEN and CHARLM_SEED."""
    names = [setting.name for setting in settings(Config)]
    known = {name: f"{ENVIRONMENT}{name.upper().replace('.', '__')}" for name in names}
    strangers = {
        name for name in os.environ if name.startswith(ENVIRONMENT) and "__" in name and name not in known.values()
    }
    if strangers:
        first = sorted(strangers)[0]
        raise CharlmError(f"the environment variable {first} is no setting{nearest(first, known.values())}")
    return {name: os.environ[variable] for name, variable in known.items() if variable in os.environ}


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(_read_text(path)) or {}
    except yaml.YAMLError as error:
        raise CharlmError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise CharlmError(f"{path} must hold settings such as `model: {{hidden: 256}}`")
    try:
        build(Config, values)
    except CharlmError as error:
        raise CharlmError(f"{path}: {error}") from None
    return values


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise CharlmError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise CharlmError(f"cannot read {path}: {error.strerror}") from None
