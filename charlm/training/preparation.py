"""The preparation of a run: read the text, choose the missing settings, write the first files."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from pathlib import Path

from charlm.config import Config, ModelConfig
from charlm.config.resolve import Facts, resolve
from charlm.config.shell import command
from charlm.errors import CharlmError, Interrupted
from charlm.files import drop_leftovers, temporary_path
from charlm.network.cells import cells
from charlm.network.summary import check_model, parameter_count
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.text.corpus import Corpus, read_corpus
from charlm.text.store import build
from charlm.text.stream import TokenStream
from charlm.text.tokenization import Tokenizer, tokenizer_kinds
from charlm.training.machine import has_gpu, physical_memory
from charlm.training.pretrained import check_fits
from charlm.training.sample_schedule import check_prompts


def prepare(config: Config, path: Path | None, reporter: Reporter, processes: int = 1) -> RunDirectory:
    """Read the text and write the first files of a run; after an error no run directory is left.

    Args:
        config: The settings; those that are None are chosen now.
        path: The run directory to create; None: a free name under `runs/`.
        reporter: Receives messages about what is read and chosen.
        processes: Number of processes that share the rows of a batch.

    Raises:
        CharlmError: the run directory exists already, or the text, the settings or the machine have
            a fault that a user can fix.
        Interrupted: Ctrl-C was pressed when the run directory was just complete; the run can be
            resumed.
    """
    if path is not None and path.exists():
        raise _taken(path)
    # Find errors in the settings before the long work begins.
    tokenizer_kinds[config.tokenizer.kind]
    check_model(config.model)
    source = RunDirectory(config.init_from) if config.init_from else None
    if source is not None:
        source.read_weights("best")
        check_fits(config, source)
    corpus = read_text(config, reporter)
    target = path or free_path(config.data.text)
    drop_leftovers(target.parent)
    partial = temporary_path(target)  # renamed to `target` when complete
    try:
        partial.mkdir(parents=True)
        tokenizer, streams = encode(corpus, config, partial / "tokens", reporter)
        resolved, choices = resolve(config, facts(config, tokenizer, streams["train"], processes))
        for name, value, reason in choices:
            reporter.say(f"chosen: {name} {value} ({reason})")
        check_memory(resolved.model, len(tokenizer), has_gpu(config.trainer))
        RunDirectory.create(partial, resolved, tokenizer)
        if source is not None:
            known = len(set(tokenizer.tokens) & set(source.tokenizer.tokens))
            reporter.say(
                f"starting from the weights of {source.path}: it knows {known:,} of the {len(tokenizer):,} tokens "
                f"(new: {len(tokenizer) - known:,})"
            )
        while True:
            try:
                partial.rename(target)
                return RunDirectory(target)
            except OSError:  # another training took the name first
                if not target.exists():
                    raise
                if path is not None:
                    raise _taken(path) from None
                target = free_path(config.data.text)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and target.exists() and not partial.exists():  # it was renamed already
            raise Interrupted(signal.SIGINT, target) from None
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_text(config: Config, reporter: Reporter) -> Corpus:
    """Find the text of a run and read it once, to check, count and hash it."""
    corpus = read_corpus(config.data, reporter.progress)
    reporter.say(f"text: {corpus.description}")
    for note in corpus.notes:
        reporter.say(note)
    return corpus


def encode(
    corpus: Corpus, config: Config, folder: Path, reporter: Reporter
) -> tuple[Tokenizer, dict[str, TokenStream]]:
    """Learn the vocabulary, and encode the splits into token files in a folder.

    Raises:
        CharlmError: no vocabulary can be learned from the text, the files cannot be written, a
            prompt of the samples has text that is not in the vocabulary, or the validation or test
            split is too short.
    """
    tokenizer, streams = build(corpus, config.tokenizer, folder, progress=reporter.progress)
    _describe(tokenizer, streams, reporter)
    check_prompts(config.samples, tokenizer)
    _check_lengths(streams)
    return tokenizer, streams


def free_path(texts: tuple[str, ...], folder: str = "runs") -> Path:
    """Return an unused path in `folder`, named after the first of `texts`.

    The name is "text" for standard input, and "python-documentation" for the built-in corpus. If
    the name is taken, a number is appended.
    """
    name = Path(texts[0].rstrip("/*")).name if texts and texts[0] != "-" else ""
    name = re.sub(r"\.(txt|gz|abc|md)\b", "", name)
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or ("text" if texts else "python-documentation")
    path, number = Path(folder) / name, 2
    while path.exists():
        path, number = Path(folder) / f"{name}-{number}", number + 1
    return path


def _taken(path: Path) -> CharlmError:
    return CharlmError(
        f"{path} exists already and is never overwritten; choose another `run`, "
        f"or go on with {command('train', resume=path)}"
    )


def _check_lengths(streams: dict[str, TokenStream]) -> None:
    for split, what in (("val", "validation"), ("test", "test")):
        if split in streams and len(streams[split]) < 2:
            raise CharlmError(
                f"the {what} text has {len(streams[split])} tokens, too few to predict anything; "
                f"raise `data.{split}_fraction` (0: no {what}) or give a longer text"
            )


def check_memory(model: ModelConfig, vocab_size: int, gpu: bool) -> None:
    """Raise CharlmError if a network with these settings does not fit into the machine's memory.

    Args:
        model: Settings of the network.
        vocab_size: Number of tokens of the vocabulary.
        gpu: Whether the network is trained on a GPU: then main memory must hold only the weights,
            and the memory of the GPU is not checked.
    """
    parameters = parameter_count(model, vocab_size)
    # Built in fp32 on the CPU; trained there it needs a gradient and, with Adam, two averages for each parameter.
    needed = 4 * parameters * (1 if gpu else 4)
    memory = physical_memory()
    if needed > memory:
        raise CharlmError(
            f"a network of {parameters:,} parameters needs {needed / 1e9:,.0f} GB of memory and this machine has "
            f"{memory / 1e9:,.0f}; lower `model.hidden`, `model.layers` or `tokenizer.size`"
        )


def facts(config: Config, tokenizer: Tokenizer, train: TokenStream, processes: int = 1) -> Facts:
    """Collect the properties of text, machine and cell from which missing settings are chosen."""
    cell = cells[config.model.cell]
    return Facts(
        tokens=len(train),
        vocab_size=len(tokenizer),
        items=None if train.starts is None else len(train.starts),
        gpu=has_gpu(config.trainer),
        processes=processes,
        raw_input=cell.raw_input,
        gated=cell.gated,
        context=cell.context,
    )


def _describe(tokenizer: Tokenizer, streams: dict[str, TokenStream], reporter: Reporter) -> None:
    """Report the sizes of text and vocabulary, and warn once about tokens not in the vocabulary."""
    for split, stream in streams.items():
        reporter.say(f"{split}: {stream.counts.tokens:,} tokens, {stream.counts.characters:,} characters")
    reporter.say(f"vocabulary: {len(tokenizer):,} tokens ({tokenizer.kind})")
    total = sum(stream.unknown_tokens for stream in streams.values())
    if total:
        seen: Counter[str] = Counter()
        for stream in streams.values():
            seen.update(stream.unknown)
        names = ", ".join(f"{piece!r} ({count:,})" for piece, count in seen.most_common(5))
        reporter.say(
            f"warning: {total:,} {'token is' if total == 1 else 'tokens are'} not in the vocabulary and "
            f"{'becomes' if total == 1 else 'become'} the unknown token, most often {names}"
        )
