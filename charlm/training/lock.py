"""A file lock that prevents two trainings of the same run at once.

Two trainings would mix their logged numbers and overwrite each other's weights. The operating
system releases the lock when the process ends, even if it is killed. Commands that only read a run
do not take the lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from charlm.errors import CharlmError
from charlm.files import kind
from charlm.training.processes import is_first_process

try:
    import fcntl
except ImportError:  # Windows: a run is not locked
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""Name of the lock file in the run directory.

While a process trains the run, the file names this process. Afterwards the file is empty, unless
the process was killed.
"""

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Error numbers that mean that a file system has no locks; a run on it is not locked."""


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run within the block.

    If a training has several processes, only the first one takes the lock.

    Args:
        run: The run directory.

    Raises:
        CharlmError: another training holds the lock (the message names its process and machine), or
            the lock file is not a regular file.
    """
    if fcntl is None or not is_first_process():
        yield
        return
    try:
        if (found := kind(run / LOCK)) is not None:
            raise CharlmError(f"{run / LOCK} is {found} and not a file; delete it")
        # Programs that this one starts do not inherit the descriptor, so that none of them keeps the lock.
        descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise CharlmError(f"{run / LOCK} is not a file ({error.strerror}); delete it") from None
    try:
        _acquire(descriptor, run)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {started}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, run: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        raise CharlmError(
            f"{run} is being trained by {holder}; wait until it has ended, or stop it with Ctrl-C or SIGTERM"
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
