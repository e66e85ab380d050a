"""Where text comes from: files, folders, globs and standard input, compressed or not.

1. `find` turns a place that a person names into `Source`s: files that can be read more than once.
2. `decoded` reads a source in pieces of text. A byte-order mark decides the encoding of the source.
   A file that was certainly saved in another encoding is refused. For a file that was probably
   saved in another encoding, a callback gets a sentence that says so.
"""

from __future__ import annotations

import codecs
import encodings.aliases
import fnmatch
import glob
import gzip
import itertools
import os
import shutil
import tempfile
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from charlm.errors import CharlmError, nearest
from charlm.files import standard_input
from charlm.text.encodings import Doubts, encoding_of_mark, likely_encoding

READ = 1 << 20  # bytes read at once
ENDINGS = 6  # most file name endings of a folder that a message lists


class WrongEncodingError(CharlmError):
    """A file is not in the encoding in which it is read.

    Attributes:
        likely: The encoding that the file probably has; None if no encoding fits.
    """

    def __init__(self, message: str, likely: str | None) -> None:
        super().__init__(message)
        self.likely = likely


Note = Callable[[str], object]
"""A function that is called with a sentence that tells the user how a file is read."""


@dataclass(frozen=True)
class Source:
    """One file to read: its path, and the name by which messages call it."""

    path: Path
    name: str

    @property
    def size(self) -> int:
        """The size of the file on disk in bytes (for a `.gz` file, compressed)."""
        return self.path.stat().st_size


def find(place: str, pattern: str) -> list[Source]:
    """Return the files of a path, folder, glob or `-` (standard input), in the order of reading.

    Args:
        place: A path, or a glob, in which `**` matches any number of folders.
        pattern: Which files of a folder are read, at any depth, with or without `.gz` at the end.
            Several patterns are separated by commas. Hidden files and folders are left out.

    Raises:
        CharlmError: there is no such file, or no file of the folder matches the pattern.
    """
    if place == "-":
        return [spooled(standard_input(), "standard input")]
    path = Path(place).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and _matches(file, path, pattern))
        if not found:
            raise CharlmError(f"the folder {place} has no file {pattern}; {_endings(path)}")
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
        raise CharlmError(f"no file matches {place!r}; check the folder and the pattern")
    neighbours = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    raise CharlmError(f"there is no file {place}{nearest(path.name, neighbours) or '; check the path'}")


def _matches(file: Path, folder: Path, pattern: str) -> bool:
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return False
    patterns = [one.strip() for one in pattern.split(",")]
    return any(fnmatch.fnmatch(name, one) for name in (file.name, file.name.removesuffix(".gz")) for one in patterns)


def _endings(folder: Path) -> str:
    """Return a part of a message: the endings of the file names in a folder, with their counts.

    It also proposes a setting with which some of these files would be read.
    """
    files = [file for file in folder.rglob("*") if file.is_file() and _matches(file, folder, "*")]
    endings = Counter(Path(file.name.removesuffix(".gz")).suffix.lower() for file in files)
    if not endings:
        return "it has no files; name another folder"
    frequent = sorted(endings, key=lambda ending: (-endings[ending], ending == "", ending))
    counts = ", ".join(f"{endings[ending]:,} {ending or 'without an ending'}" for ending in frequent[:ENDINGS])
    more = ", ..." if len(endings) > ENDINGS else ""
    first = next(filter(None, frequent), "")
    return f"it has {counts}{more}; set `data.pattern` to '*{first}', for example"


def spooled(stream: IO[bytes], name: str) -> Source:
    """Copy a stream into a temporary file, which is deleted together with the returned `Source`.

    Args:
        stream: The bytes, such as those of standard input.
        name: The name by which messages call the file.

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
        raise CharlmError(f"cannot copy {name} to {path}: {error.strerror}; free some space or set TMPDIR") from error
    return source


def check_encoding(name: str) -> str:
    """Return the canonical name of a text encoding.

    Raises:
        CharlmError: there is no such encoding.
    """
    try:
        "".encode(name)
        codecs.getincrementaldecoder(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        known = {*encodings.aliases.aliases.values(), "utf-8", "latin-1", "utf-16"}
        raise CharlmError(
            f"`data.encoding`: there is no encoding {name!r}{nearest(name, known) or '; try utf-8 or latin-1'}"
        ) from error


def ignore(_: object) -> None:
    """Do nothing: the default of the callbacks `on_bytes` and `note`."""


def decoded(
    source: Source,
    encoding: str,
    on_bytes: Callable[[bytes], object] = ignore,
    note: Note = ignore,
    *,
    guess: bool = False,
) -> Iterator[str]:
    """Yield the text of a file in pieces.

    The byte-order mark is left out, and newlines stay as they are.

    Args:
        source: The file.
        encoding: The encoding of the file, as `check_encoding` gives it, unless the file starts
            with a byte-order mark.
        on_bytes: A function that is called with all bytes that are read, in order.
        note: A function that is called with a sentence if a byte-order mark overrides `encoding`,
            or if the file was probably saved in another encoding.
        guess: Whether to check if another encoding is probable, which takes up to 0.1 seconds.

    Raises:
        CharlmError: the file cannot be read.
        WrongEncodingError: the file cannot be decoded, or was certainly saved in another encoding.
            The message has the offset of the first wrong byte, or the proof. It also has a likely
            encoding if there is one.
    """
    pieces = _read(source)
    beginning = next(pieces)
    mark = encoding_of_mark(beginning)
    if mark is not None and codecs.lookup(mark).name != codecs.lookup(encoding).name:
        if codecs.lookup(mark).name not in (f"{encoding}-le", f"{encoding}-be"):
            note(f"read as {mark}, because it starts with a byte-order mark")
        encoding = mark
    doubts = Doubts(encoding, certain=mark is not None)
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    at_start = True
    for data in itertools.chain([beginning], pieces):
        if (proof := doubts.look(data)) is not None:
            reason, own = proof
            raise WrongEncodingError(f"{source.name} is not {encoding}: {reason}; set `data.encoding` to {own}", own)
        waiting = len(decoder.getstate()[0])  # bytes of a character that is incomplete so far
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeError as error:
            place = offset - waiting + getattr(error, "start", 0)
            likely = likely_encoding(data[max(0, place - offset) :]) if not mark else None
            advice = (
                f"it is probably {likely}: set `data.encoding` to {likely}"
                if likely
                else ("set `data.encoding` to its encoding (latin-1, cp1252, utf-16, ...)")
            )
            raise WrongEncodingError(
                f"{source.name} is not {encoding}: the byte at offset {place:,} cannot be decoded; {advice}", likely
            ) from error
        offset += len(data)
        on_bytes(data)
        if text and at_start:
            text, at_start = text.removeprefix("\ufeff"), False
        if text:
            yield text
    if guess and (likely := doubts.likely()) is not None:
        note(f"read as {encoding}, but it is probably {likely} (data.encoding)")


def _read(source: Source) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces, decompressed, and at the end an empty piece."""
    compressed = source.path.suffix.lower() == ".gz" or source.name.lower().endswith(".gz")
    try:
        with gzip.open(source.path, "rb") if compressed else source.path.open("rb") as file:
            while data := file.read(READ):
                yield data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CharlmError(f"{source.name} is not a complete gzip file ({error}); compress it again") from error
    except OSError as error:
        raise CharlmError(f"cannot read {source.name}: {error.strerror or error}; check the file") from error
    yield b""
