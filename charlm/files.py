"""Files that are written whole or not at all, and the one that has no name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from charlm.errors import CharlmError

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def trouble(error: OSError) -> str | None:
    """What a user can do about a file that could not be written, in words; None if the error is another one."""
    if error.errno in FULL:
        return "the disk is full; free some space"
    if error.errno in REFUSED:
        return f"cannot use {error.filename}: {error.strerror}; choose another place or its permissions"
    return None


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` for writing and put it in its place when the block ends well.

    A reader sees the old file or the new one, never half of one, whatever moment the process is killed at.
    When the block raises, the temporary file is removed and `path` is as it was. Text is UTF-8 with its
    newlines kept.
    """
    path = Path(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def link(source: Path, target: Path) -> None:
    """Put a file in its place as a second name of another, or as a copy where that is not possible."""
    name = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.link(source, name)
        name.replace(target)
    except OSError:
        name.unlink(missing_ok=True)
        with source.open("rb") as original, atomic(target, "wb") as copy:
            shutil.copyfileobj(original, copy)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def standard_input() -> BinaryIO:
    """The bytes that come in through standard input.

    Raises:
        CharlmError: it is closed.
    """
    if sys.stdin is None:
        raise CharlmError("standard input is closed; name a file instead of -")
    return sys.stdin.buffer
