"""What was worked out once and can be used again: kept by content, dropped when unused for a month.

The directory is `$CHARLM_CACHE`, else `$XDG_CACHE_HOME/charlm`, else `~/.cache/charlm`. Nothing in it is
needed: to clear it, delete it. Where it cannot be written, everything works and is worked out anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

KEPT = 30 * 86400  # seconds that an entry stays without being used


def directory() -> Path:
    """The cache directory; it need not exist."""
    if named := os.environ.get("CHARLM_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "charlm"
    return Path("~/.cache/charlm").expanduser()


def touch(entry: Path) -> None:
    """Note that an entry was used now."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def drop_unused(now: float | None = None) -> None:
    """Delete the entries that nothing has used for a month, and what broken runs left behind."""
    oldest = (time.time() if now is None else now) - KEPT
    with contextlib.suppress(OSError):
        for entry in directory().iterdir():
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
