"""The cache directory: files that later runs on this machine can use again.

The directory is `$CHARLM_CACHE`, or the usual place of the operating system (on Linux
`$XDG_CACHE_HOME/charlm` or `~/.cache/charlm`). Files are deleted after 30 days without use.
Everything in the directory can be made again, so a user can delete it at any time. Where it cannot
be written, nothing is kept and everything else works.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import platformdirs

UNUSED = 30 * 86400  # seconds without use after which an entry is deleted


def directory() -> Path:
    """Return the path of the cache directory, which may not exist yet."""
    return Path(os.environ.get("CHARLM_CACHE") or platformdirs.user_cache_dir("charlm"))


def touch(entry: Path) -> None:
    """Mark a file or directory of the cache as used now, by setting its time of modification."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def drop_unused() -> None:
    """Delete everything in the cache directory that was not used for 30 days.

    This includes temporary files that killed processes left.
    """
    oldest = time.time() - UNUSED
    with contextlib.suppress(OSError):
        for entry in directory().iterdir():
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
