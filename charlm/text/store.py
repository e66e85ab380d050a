"""The ids of a corpus on disk: made once for a text and a tokenizer, then shared by the runs on that text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.files import atomic, link
from charlm.text import cache
from charlm.text.corpus import SPLITS, Corpus, Progress, silent
from charlm.text.stream import Encoding, TokenStream, id_type
from charlm.text.tokenization import Tokenizer, learn

FORMAT = 1  # to be raised when the same text would be stored in another way
READ = 1 << 22


def build(
    corpus: Corpus,
    config: TokenizerConfig,
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    progress: Progress = silent,
) -> tuple[Tokenizer, dict[str, TokenStream]]:
    """Turn the splits of a corpus into ids in `folder`, with a vocabulary learned from the training split.

    The work is done in the cache (see `cache`) under a hash of the text and the tokenizer, and the files are linked
    from there, so that the next run on the same text starts at once. An entry whose checksums do not fit is made
    anew. Where there is no cache, the files are made in the folder itself.

    Args:
        corpus: The text.
        config: How to learn the vocabulary.
        folder: Receives `{train,val,test}.npy`, for items `.starts.npy`, and `streams.json`; made if need be.
        tokenizer: A vocabulary that exists already, instead of learning one.
        progress: Told how many characters have been read.

    Returns:
        The tokenizer, and the streams of the splits that hold text.

    Raises:
        CharlmError: the text is unfit for the tokenizer, or nothing can be written.
    """
    recipe = asdict(config) if tokenizer is None else tokenizer.definition()
    key = json.dumps([FORMAT, corpus.fingerprint, corpus.unit, recipe])
    entry = cache.directory() / f"tokens-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _make_entry(entry, corpus, config, tokenizer, progress):
            made = Tokenizer.load(entry / "tokenizer.json")
            for file in sorted(entry.iterdir()):
                if file.name != "tokenizer.json":
                    link(file, folder / file.name)
        else:
            made = _make(corpus, config, tokenizer, folder, progress)
    except OSError as error:
        raise CharlmError(
            f"cannot write the tokens to {folder}: {error.strerror or error}; make room or choose another --run"
        ) from error
    cache.drop_unused()
    return made, {split: TokenStream.load(folder, split) for split in SPLITS if corpus.characters[split]}


def _make_entry(
    entry: Path, corpus: Corpus, config: TokenizerConfig, tokenizer: Tokenizer | None, progress: Progress
) -> bool:
    """See that the cache holds a whole entry; False if it cannot be written."""
    if _is_whole(entry):
        cache.touch(entry)
        return True
    made = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(entry, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{entry.name}-", dir=entry.parent))
        _make(corpus, config, tokenizer, made, progress).save(made / "tokenizer.json")
        made.rename(entry)
        return True
    except OSError:
        return _is_whole(entry)  # another process was quicker
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _make(
    corpus: Corpus, config: TokenizerConfig, tokenizer: Tokenizer | None, folder: Path, progress: Progress
) -> Tokenizer:
    if tokenizer is None:
        total = corpus.characters["train"]
        blocks = _followed(corpus.blocks("train"), "learning the vocabulary", total, progress)
        tokenizer = learn(config, blocks, unit=corpus.unit)
    facts: dict[str, Any] = {"format": FORMAT, "unit": corpus.unit, "splits": {}, "checksums": {}}
    for split in SPLITS:
        total = corpus.characters[split]
        if not total:
            continue
        encoding = Encoding(tokenizer, corpus.unit)
        text = corpus.blocks(split) if corpus.unit == "stream" else corpus.items(split)
        text = _followed(text, f"encoding the {split} text", total, progress)
        with contextlib.ExitStack() as files:
            ids = files.enter_context(_array(folder / f"{split}.npy", id_type(len(tokenizer))))
            starts = None
            if corpus.unit != "stream":
                starts = files.enter_context(_array(folder / f"{split}.starts.npy", np.dtype(np.int64)))
            for part, beginnings in encoding.of(text):
                ids.append(part)
                if starts is not None:
                    starts.append(beginnings)
        arrays = [ids] if starts is None else [ids, starts]
        facts["checksums"] |= {array.path.name: array.checksum for array in arrays}
        facts["splits"][split] = encoding.facts() | {"items": None if starts is None else starts.length}
    with atomic(folder / "streams.json") as file:
        json.dump(facts, file, ensure_ascii=False, indent=1, default=asdict)
    return tokenizer


def _followed(texts: Iterable[str], what: str, total: int, progress: Progress) -> Iterator[str]:
    done = 0
    for text in texts:
        yield text
        done += len(text)
        progress(what, min(done, total), total)
    progress(what, total, total)


class _Array:
    """A one-dimensional `.npy` file that grows."""

    def __init__(self, path: Path, file: IO[bytes], dtype: np.dtype[Any]) -> None:
        self.path = path
        self.file = file
        self.dtype = dtype
        self.length = 0
        self.checksum = 0
        self.write_header()

    def write_header(self) -> None:
        """Write the header; numpy leaves room in it for the length to grow."""
        self.file.seek(0)
        shape = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, shape)

    def append(self, values: np.ndarray) -> None:
        """Add values at the end."""
        data = np.ascontiguousarray(values, self.dtype).data
        self.file.write(data)
        self.checksum = zlib.crc32(data, self.checksum)
        self.length += len(values)


@contextlib.contextmanager
def _array(path: Path, dtype: np.dtype[Any]) -> Iterator[_Array]:
    with atomic(path, "wb") as file:
        array = _Array(path, file, dtype)
        yield array
        array.write_header()


def _is_whole(entry: Path) -> bool:
    """Whether an entry of the cache is complete and undamaged."""
    try:
        facts = json.loads((entry / "streams.json").read_text(encoding="utf-8"))
        Tokenizer.load(entry / "tokenizer.json")
        for split in facts["splits"]:
            TokenStream.load(entry, split)
        return all(_checksum(entry / name) == checksum for name, checksum in facts["checksums"].items())
    except (OSError, EOFError, ValueError, KeyError, TypeError, CharlmError):
        return False


def _checksum(path: Path) -> int:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)
        np.lib.format.read_array_header_1_0(file)
        checksum = 0
        while data := file.read(READ):
            checksum = zlib.crc32(data, checksum)
    return checksum
