"""The cache directory: files that can be used again on this machine, deleted after 30 days without use.

It is `$CHARLM_CACHE`, or the usual place of the operating system (on Linux `$XDG_CACHE_HOME/charlm` or
`~/.cache/charlm`). Everything in it can be made again, so it can be deleted at any time. Where it cannot be written,
nothing is kept and everything else works.
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
    """The cache directory; it may not exist yet."""
    return Path(os.environ.get("CHARLM_CACHE") or platformdirs.user_cache_dir("charlm"))


def touch(entry: Path) -> None:
    """Record that an entry is used now."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def drop_unused() -> None:
    """Delete entries unused for 30 days, and temporary files of killed processes of that age."""
    oldest = time.time() - UNUSED
    with contextlib.suppress(OSError):
        for entry in directory().iterdir():
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
