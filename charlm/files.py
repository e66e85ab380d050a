"""Write files atomically, link and checksum them, and delete what killed processes left.

The module also puts errors of the operating system into words, and opens standard input.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

from charlm.errors import CharlmError

REFUSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO,
)  # fmt: skip
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ABANDONED = 86400
"""Seconds after which a temporary file of another machine, whose processes cannot be seen, is deleted."""

KINDS = {
    stat.S_IFDIR: "a directory", stat.S_IFBLK: "a block device", stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
}  # fmt: skip
"""What a path can be besides a regular file, in words."""

READ = 1 << 20  # bytes read at once


def describe_os_error(error: OSError) -> str | None:
    """Return in one sentence what a user can do about an `OSError`, or None.

    A user can do something about a full disk, a full memory, and a path that cannot be used. For
    any other error the result is None.
    """
    if error.errno in FULL:
        return "the disk is full; free some space"
    if error.errno == errno.ENOMEM:
        return "the memory is full; close other programs or raise the limit (ulimit -v)"
    if error.errno in REFUSED:
        return f"cannot use {error.filename}: {error.strerror}; choose another place or change its permissions"
    return None


def kind(path: str | os.PathLike[str]) -> str | None:
    """Return in words what a path leads to if it is no regular file, such as "a directory".

    Return None for a regular file or a path that does not exist. Symbolic links are followed.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


@contextlib.contextmanager
def atomic(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w", complete: Callable[[Path], None] | None = None
) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; rename it to `path` when the `with` block ends.

    A reader sees the old file or the new one, never a part of it, even if the process is killed at
    any moment. If the block raises an error, the temporary file is removed and `path` is unchanged.
    Text is written as UTF-8 and its newlines are kept. If `path` is a symbolic link, the file that
    it leads to is replaced, and the link stays.

    Args:
        path: The file to write.
        mode: "w" for text or "wb" for bytes.
        complete: A function that is called with the path of the temporary file when all is written,
            before the file is renamed.

    Raises:
        CharlmError: `path` is a directory, a device, a FIFO or a socket.
    """
    path = _replaceable(path)
    temporary = temporary_path(path)
    try:
        with _open(temporary, mode.replace("w", "x")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if complete is not None:
            complete(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def output(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Open for writing a text file that the user named.

    A FIFO or a character device is written directly; any other file is written as by `atomic`.

    Raises:
        CharlmError: `path` is a directory, a block device or a socket.
    """
    if kind(path) in (KINDS[stat.S_IFIFO], KINDS[stat.S_IFCHR]):
        with _open(Path(path), "w") as file:
            yield file
    else:
        with atomic(path) as file:
            yield file


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where links are not possible.

    An existing file `target` is replaced.
    """
    target = _replaceable(target)
    temporary = temporary_path(target)
    try:
        os.link(source, temporary)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        with source.open("rb") as original, atomic(target, "wb") as copy:
            shutil.copyfileobj(original, copy)


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file.

    It reveals a file that is cut or damaged by chance, but not one that is forged.
    """
    value = 0
    with path.open("rb") as file:
        while data := file.read(READ):
            value = zlib.crc32(data, value)
    return value


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Make a directory under a temporary name; rename it to `target` when the `with` block ends.

    If the block raises an error, the directory is deleted. Before the start, leftovers of killed
    processes beside `target` are deleted.
    """
    drop_leftovers(target.parent)
    partial = temporary_path(target)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def temporary_path(path: Path) -> Path:
    """Return a new hidden path beside `path`; the new name has the machine and the process.

    Both paths are in one directory, so a file can be renamed from one to the other within one file
    system.
    """
    return path.with_name(f".{path.name[:150]}.{_machine()}-{os.getpid()}-{os.urandom(6).hex()}.tmp")


def drop_leftovers(folder: Path, name: str = "*") -> None:
    """Delete temporary files and directories that killed processes left in a folder.

    What belongs to a process that still runs on this machine is kept. What belongs to another
    machine is deleted when it is older than a day.

    Args:
        folder: The folder; its subfolders are not searched.
        name: A glob pattern for the final name, the one that was given to `temporary_path`. Only
            temporary files and directories that were made for a matching name are deleted.
    """
    with contextlib.suppress(OSError):
        for leftover in folder.glob(f".{name}.*-*-*.tmp"):
            machine, _, rest = leftover.name.rsplit(".", 2)[1].partition("-")
            process = rest.partition("-")[0]
            with contextlib.suppress(OSError):
                if machine == _machine() and process.isdigit():
                    dead = not _runs(int(process))
                else:
                    dead = time.time() - leftover.lstat().st_mtime > ABANDONED
                if dead:
                    shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()


def standard_input() -> BinaryIO:
    """Return standard input as a stream of bytes.

    Raises:
        CharlmError: standard input is closed.
    """
    if sys.stdin is None:
        raise CharlmError("standard input is closed; name a file instead of -")
    return sys.stdin.buffer


def _replaceable(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file to replace: `path`, or its target if it is a symbolic link.

    The file need not exist.

    Raises:
        CharlmError: something other than a regular file is there.
    """
    if (found := kind(path)) is not None:
        raise CharlmError(f"cannot write {path}: it is {found}; name a file")
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _open(path: Path, mode: str) -> IO[Any]:
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    return path.open(mode, **text)


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _runs(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 is CTRL_C_EVENT and would interrupt the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
