"""Where text comes from: files, folders, globs, standard input, packed or not, as decoded pieces."""

from __future__ import annotations

import codecs
import encodings.aliases
import fnmatch
import glob
import gzip
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from charlm.errors import CharlmError, nearest
from charlm.files import standard_input

READ = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Source:
    """One file to read: its path, and the name by which messages call it."""

    path: Path
    name: str

    @property
    def size(self) -> int:
        """Bytes on the disk (of a `.gz`: packed)."""
        return self.path.stat().st_size


def find(place: str, pattern: str) -> list[Source]:
    """The files that a path, folder, glob or `-` stands for, in the order in which they are read.

    Args:
        place: A path; a folder is searched at any depth, `**` in a glob stands for folders.
        pattern: Which files of a folder are meant; a `.gz` behind the name may be added. Hidden ones are not.

    Raises:
        CharlmError: there is no such file, or nothing in the folder fits.
    """
    if place == "-":
        return [spooled(standard_input(), "standard input")]
    path = Path(place).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and _fits(file, path, pattern))
        if not found:
            raise CharlmError(f"the folder {place} has no file {pattern}; name the files with --data.pattern")
        return [Source(file, str(file)) for file in found]
    if path.is_file():
        return [Source(path, place)]
    if path.exists():  # a pipe can be read only once
        with path.open("rb") as pipe:
            return [spooled(pipe, place)]
    if glob.has_magic(place):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
        if found := [match for match in matches if match.is_file()]:
            return [Source(match, str(match)) for match in found]
        raise CharlmError(f"no file fits {place!r}; look at the folder and the pattern")
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    raise CharlmError(f"there is no file {place}{nearest(path.name, beside)}; check the path")


def _fits(file: Path, folder: Path, pattern: str) -> bool:
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return False
    return fnmatch.fnmatch(file.name, pattern) or fnmatch.fnmatch(file.name.removesuffix(".gz"), pattern)


def spooled(stream: IO[bytes], name: str) -> Source:
    """What can be read only once, in a temporary file that goes when nobody holds the source any more.

    Raises:
        CharlmError: the temporary file cannot be written.
    """
    descriptor, path = tempfile.mkstemp(prefix="charlm-")
    source = Source(Path(path), name)
    weakref.finalize(source, source.path.unlink, missing_ok=True)
    try:
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(stream, file, READ)
    except OSError as error:
        raise CharlmError(f"cannot keep {name} in {path}: {error.strerror}; make room or set TMPDIR") from error
    return source


def check_encoding(name: str) -> str:
    """The canonical name of a text encoding.

    Raises:
        CharlmError: there is none of this name.
    """
    try:
        "".encode(name)
        codecs.getincrementaldecoder(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        known = {*encodings.aliases.aliases.values(), "utf-8", "latin-1", "utf-16"}
        raise CharlmError(
            f"--data.encoding: there is no encoding {name!r}{nearest(name, known) or '; try utf-8 or latin-1'}"
        ) from error


def decoded(source: Source, encoding: str, seen: Callable[[bytes], object] | None = None) -> Iterator[str]:
    """The text of a file in pieces, without its byte-order mark, newlines kept as they are.

    Args:
        source: The file.
        encoding: Its encoding, as `check_encoding` gives it.
        seen: Called with all bytes in turn.

    Raises:
        CharlmError: the file cannot be read, or not decoded: then the offset of the first wrong byte is named.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    opening = True
    for data in _read(source):
        waiting = len(decoder.getstate()[0])  # bytes of an incomplete character
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeError as error:
            place = offset - waiting + getattr(error, "start", 0)
            raise CharlmError(
                f"{source.name} is not {encoding}: the byte at offset {place:,} cannot be decoded; "
                "name its encoding with --data.encoding (latin-1, cp1252, utf-16, ...)"
            ) from error
        offset += len(data)
        if seen is not None:
            seen(data)
        if text and opening:
            text, opening = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _read(source: Source) -> Iterator[bytes]:
    """The bytes of a file, unpacked, and at the end an empty piece."""
    packed = source.path.suffix.lower() == ".gz" or source.name.lower().endswith(".gz")
    try:
        with gzip.open(source.path, "rb") if packed else source.path.open("rb") as file:
            while data := file.read(READ):
                yield data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CharlmError(f"{source.name} is not a whole gzip file ({error}); pack it anew") from error
    except OSError as error:
        raise CharlmError(f"cannot read {source.name}: {error.strerror or error}; check the file") from error
    yield b""
