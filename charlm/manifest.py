"""The manifest of a run: the file `checksums.json`, by which damage to the other files is found.

::

    {"model.safetensors": [3632233996, 1270098104], "tokens/train.ids": [907060870], ...}

The numbers are CRC-32 checksums. The first is that of the newest content of a file; if the file was
replaced, the second is that of its former content. A file is replaced in three steps: its new
content is written under a temporary name, then the manifest is written, then the temporary file is
renamed. If the process is killed before the last step, the file on disk still has the second
checksum. `metrics.csv` and `samples.jsonl` grow line by line and are not in the manifest.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from charlm.errors import CharlmError
from charlm.files import atomic, checksum, kind, link

NAME = "checksums.json"
KEPT = 2  # checksums kept for each file


class Manifest:
    """The checksums of the files of a directory.

    Args:
        folder: The directory. As long as it has no manifest, no checksum is compared.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME

    def exists(self) -> bool:
        """Return whether the directory has a manifest."""
        return self.path.exists()

    def __contains__(self, name: str) -> bool:
        """Return whether the manifest lists a file of this name."""
        return name in self._read()

    def expect(self, checksums: dict[str, int]) -> None:
        """Add the checksum of the new content of each of several files.

        From then on a file may have its new or its former content.

        Args:
            checksums: The checksums, by file name.
        """
        known = self._read()
        for name, value in checksums.items():
            known[name] = list(dict.fromkeys([value, *known.get(name, [])]))[:KEPT]
        with atomic(self.path) as file:
            json.dump(known, file, indent=1)

    @contextlib.contextmanager
    def writing(self, name: str, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
        """Open a file of the directory as `atomic` does, and add its checksum to the manifest.

        The checksum is added when the new content is complete, before it replaces the file.
        """
        with atomic(
            self.folder / name, mode, complete=lambda temporary: self.expect({name: checksum(temporary)})
        ) as file:
            yield file

    def link(self, source: str, target: str) -> None:
        """Make `target` a hard link to `source`, and give it the same checksum in the manifest.

        Both are file names in the directory.
        """
        if known := self._read().get(source):
            self.expect({target: known[0]})
        link(self.folder / source, self.folder / target)

    def verify(self, name: str, remedy: str) -> None:
        """Raise an error if a file has none of the checksums that the manifest lists for it.

        A file that the manifest does not list is accepted if it is a regular file or missing.

        Args:
            name: Name of the file, relative to the directory.
            remedy: What the user can do about damage: the end of the message.

        Raises:
            CharlmError: the file is listed and missing, is no regular file, or has other content
                than was written; or the manifest is damaged.
        """
        path = self.folder / name
        if (found := kind(path)) is not None:
            raise CharlmError(f"{path} is damaged (it is {found}); {remedy}")
        for attempt in range(2):  # a training may replace the file between the two reads
            expected = self._read().get(name)
            if expected is None:
                return
            if not path.exists():
                raise CharlmError(f"{path} is missing; {remedy}")
            if checksum(path) in expected:
                return
            if attempt:
                raise CharlmError(f"{path} is damaged (its checksum is not that in {NAME}); {remedy}")

    def _read(self) -> dict[str, list[int]]:
        if (found := kind(self.path)) is None:
            try:
                return msgspec.json.decode(self.path.read_bytes(), type=dict[str, list[int]])
            except FileNotFoundError:
                return {}
            except ValueError:  # also msgspec's
                found = "no table of checksums"
        raise CharlmError(f"{self.path} is damaged (it is {found}); delete it to accept the files as they are")
