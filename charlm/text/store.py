"""The ids of a corpus on disk: made once for each text and tokenizer, then shared by all runs.

1. `build` looks for the ids in the cache, under a hash of the text and the tokenizer.
2. If they are not there, `_encode` learns the vocabulary and encodes each split. It writes the ids
   of the training split to `train.ids`, and those of other splits likewise, as bare little-endian
   numbers. If the text consists of items (lines or documents), `train.starts` has the position in
   `train.ids` of the boundary token before each item (int64). `streams.json` has the types, lengths
   and checksums of these files, and the counts of the text. The files have the order of the text for
   every `data.direction`; `TokenStream.in_order` reverses it.
3. The files are linked into the folder of the run, where `TokenStream.load` maps them into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from charlm.config import DataConfig, TokenizerConfig
from charlm.errors import CharlmError
from charlm.files import atomic, checksum, drop_leftovers, link, temporary_path
from charlm.text import cache
from charlm.text.corpus import SPLITS, Corpus, Progress, no_progress, read_corpus
from charlm.text.items import Unit
from charlm.text.stream import Counts, Encoding, TokenStream
from charlm.text.tokenization import Tokenizer, learn

FORMAT = 3  # increase it when the same text is stored in another way
CHECKED = 1 << 22  # ids that are checked at once


def build(
    corpus: Corpus,
    config: TokenizerConfig,
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    progress: Progress = no_progress,
) -> tuple[Tokenizer, dict[str, TokenStream]]:
    """Encode the splits of a corpus into `folder`, with a vocabulary learned from the training split.

    The files are made in the cache (see `cache`) and linked from there, so that the next run on the
    same text starts at once. Cached files with wrong checksums are made again. Without a writable
    cache, the files are made in the folder itself.

    Args:
        corpus: The text.
        config: How to learn the vocabulary.
        folder: The folder that gets the files; it is created if it does not exist.
        tokenizer: An existing tokenizer, which is used instead of learning one.
        progress: A function that is told how many characters have been read, and of how many.

    Returns:
        The tokenizer, and the streams of the splits that are not empty.

    Raises:
        CharlmError: no vocabulary can be learned from the text, or the files cannot be written.
    """
    recipe = asdict(config) if tokenizer is None else tokenizer.definition()
    key = json.dumps([FORMAT, corpus.fingerprint, corpus.unit, recipe])
    entry = cache.directory() / f"tokens-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _ensure_entry(entry, corpus, config, tokenizer, progress):
            used = Tokenizer.load(entry / "tokenizer.json")
            for file in sorted(entry.iterdir()):
                if file.name != "tokenizer.json":
                    link(file, folder / file.name)
        else:
            used = _encode(corpus, config, tokenizer, folder, progress)
    except OSError as error:
        raise CharlmError(
            f"cannot write the tokens to {folder}: {error.strerror or error}; "
            "free some space or choose another run directory"
        ) from error
    cache.drop_unused()
    return used, {split: TokenStream.load(folder, split) for split in SPLITS if corpus.characters[split]}


def encode_files(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    encoding: str = "utf-8",
    newlines: Literal["lf", "keep"] = "lf",
    column: str = "",
    unit: Unit,
) -> TokenStream:
    """Return the ids of texts for evaluation, encoded by an existing tokenizer.

    Args:
        tokenizer: The tokenizer.
        texts: Files, folders, globs or `-` for standard input, joined in this order.
        encoding: The character encoding of the texts.
        newlines: Whether the line ends of Windows become LF (lf) or stay (keep); take the value
            with which the tokenizer was learned.
        column: The column to read if the texts are tables; empty for plain texts.
        unit: What the texts consist of; the tokenizer was learned for the same unit.

    Raises:
        CharlmError: for example, a text is missing, cannot be decoded, or is empty.
    """
    data = DataConfig(
        text=tuple(texts), val_fraction=0.0, encoding=encoding, newlines=newlines, column=column, unit=unit
    )
    place = Path(tempfile.gettempdir()) / "charlm"
    drop_leftovers(place.parent, place.name)
    folder = temporary_path(place)
    folder.mkdir(0o700)
    try:
        _, streams = build(read_corpus(data), TokenizerConfig(), folder, tokenizer=tokenizer)
        return streams["train"]  # a mapped file can still be read after it is deleted
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def token_checksums(folder: Path) -> dict[str, int]:
    """Return the checksums, by file name, of the files in a folder that `build` filled.

    They are read from `streams.json`, except that of `streams.json` itself, which is computed. The
    result is empty if `streams.json` cannot be read.
    """
    try:
        facts = json.loads((folder / "streams.json").read_text(encoding="utf-8"))
        return {**facts["checksums"], "streams.json": checksum(folder / "streams.json")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def token_files(folder: Path, split: str) -> list[str]:
    """Return the names of the files that hold the ids of a split."""
    starts = f"{split}.starts"
    return ["streams.json", f"{split}.ids", *([starts] if (folder / starts).exists() else [])]


def check_ids(stream: TokenStream, vocab_size: int, path: Path) -> None:
    """Raise CharlmError if the ids, starts or counts of a stream cannot come from its tokenizer.

    Args:
        stream: The stream.
        vocab_size: Number of tokens of the tokenizer.
        path: The file that the message names.
    """
    ids, starts = stream.ids, stream.starts
    fits = ids.dtype.kind == "u" and all(
        ids[start : start + CHECKED].max() < vocab_size for start in range(0, len(ids), CHECKED)
    )
    if fits and starts is not None and len(starts):
        fits = bool(starts[0] >= 0 and starts[-1] < len(ids) and (np.diff(starts) > 0).all())
    try:
        counts = msgspec.convert(asdict(stream.counts), Counts)
        for one in (stream.predicted, stream.predicted_reversed or stream.predicted):
            predicted = msgspec.convert(asdict(one), Counts)
            pairs = zip(astuple(predicted), astuple(counts), strict=True)
            fits = fits and all(0 <= part <= whole for part, whole in pairs)
            fits = fits and predicted.tokens == max(0, len(ids) - 1)
            fits = fits and bool(predicted.characters and predicted.bytes or not predicted.tokens)
        msgspec.convert((stream.unknown, stream.unknown_tokens), tuple[dict[str, int], int])
    except ValueError:
        fits = False
    stream.release()
    if not fits:
        raise CharlmError(f"{path} is damaged (it does not fit its vocabulary); train again on the same text")


def _ensure_entry(
    entry: Path, corpus: Corpus, config: TokenizerConfig, tokenizer: Tokenizer | None, progress: Progress
) -> bool:
    """Make a folder of the cache with the files of a corpus, unless it exists and is complete.

    Returns:
        Whether the folder is complete; False if it cannot be written.
    """
    if _is_complete(entry):
        cache.touch(entry)
        return True
    unfinished = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        drop_leftovers(entry.parent)
        shutil.rmtree(entry, ignore_errors=True)
        unfinished = temporary_path(entry)
        unfinished.mkdir(0o700)
        _encode(corpus, config, tokenizer, unfinished, progress).save(unfinished / "tokenizer.json")
        unfinished.rename(entry)
        return True
    except OSError:
        return _is_complete(entry)  # another process may have made it in the meantime
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _encode(
    corpus: Corpus, config: TokenizerConfig, tokenizer: Tokenizer | None, folder: Path, progress: Progress
) -> Tokenizer:
    """Write the ids of all splits and `streams.json` into a folder, and return the tokenizer."""
    if tokenizer is None:
        blocks = _with_progress(corpus.blocks("train"), "learning the vocabulary", corpus, "train", progress)
        tokenizer = learn(config, blocks, unit=corpus.unit)
    facts: dict[str, Any] = {"format": FORMAT, "unit": corpus.unit, "splits": {}, "checksums": {}}
    for split in SPLITS:
        if not corpus.characters[split]:
            continue
        encoding = Encoding(tokenizer, corpus.unit)
        text = corpus.blocks(split) if corpus.unit == "stream" else corpus.items(split)
        paths = [folder / f"{split}.ids"] + ([] if corpus.unit == "stream" else [folder / f"{split}.starts"])
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(atomic(path, "wb")) for path in paths]
            for arrays in encoding.encode(_with_progress(text, f"encoding the {split} text", corpus, split, progress)):
                for file, array in zip(files, arrays, strict=False):  # a stream has no file for its starts
                    file.write(array)
        facts["splits"][split] = encoding.facts() | {"dtype": encoding.dtype.str, "items": encoding.items}
        facts["checksums"] |= {path.name: checksum(path) for path in paths}
    with atomic(folder / "streams.json") as file:
        json.dump(facts, file, ensure_ascii=False, indent=1, default=asdict)
    return tokenizer


def _with_progress(texts: Iterable[str], what: str, corpus: Corpus, split: str, progress: Progress) -> Iterator[str]:
    """Yield the texts of a split, and report the progress.

    A text is reported as done when the next one is requested.
    """
    done, total = 0, corpus.characters[split]
    for text in texts:
        yield text
        done += len(text)
        progress(what, min(done, total), total)
    progress(what, total, total)


def _is_complete(entry: Path) -> bool:
    """Return whether a folder of the cache has all its files, undamaged."""
    try:
        facts = json.loads((entry / "streams.json").read_text(encoding="utf-8"))
        Tokenizer.load(entry / "tokenizer.json")
        for split in facts["splits"]:
            TokenStream.load(entry, split)
        return all(checksum(entry / name) == value for name, value in facts["checksums"].items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError, CharlmError):
        return False
