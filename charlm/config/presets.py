"""The presets: settings that come with the package and are used by their names, such as `char`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import charlm
from charlm.errors import CharlmError, nearest


class Preset(NamedTuple):
    """A preset, with what the comment at the head of its file says.

    Attributes:
        name: The name of the file, without the ending.
        path: The file.
        about: The entries of the comment, such as "Trains", "Takes" and "Reached", with their
            texts.
    """

    name: str
    path: Path
    about: dict[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the preset as nested dictionaries."""
        values: dict[str, Any] = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        return values


def presets() -> dict[str, Preset]:
    """Return all presets by name."""
    package = Path(charlm.__file__).parent
    folders = (package / "configs", package.parent / "configs")  # of an installed wheel, and of a clone
    folder = next(folder for folder in folders if folder.is_dir())
    return {path.stem: Preset(path.stem, path, _about(path)) for path in sorted(folder.glob("*.yaml"))}


def find_preset(name: str) -> Path:
    """Return the path that `name` stands for: that of a settings file, or of a preset.

    A name with a folder or a file ending is always taken for a path, even if no such file exists.

    Raises:
        CharlmError: the name is a single word, and there is neither a file nor a preset of that
            name.
    """
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path  # reading it reports what is wrong with it
    known = presets()
    if name not in known:
        hint = nearest(name, known)
        raise CharlmError(f"there is no preset {name!r} and no such file; choose from {', '.join(known)}{hint}")
    return known[name].path


def _about(path: Path) -> dict[str, str]:
    """Return the entries of the comment at the head of a preset; the comment is YAML."""
    comment = "".join(re.findall(r"^# ?(.*\n)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return {str(key): " ".join(str(value).split()) for key, value in yaml.safe_load(comment).items()}
