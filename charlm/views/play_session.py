"""What a person does in `charlm play` apart from the keys: commands, and files."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.config.fields import PositiveInteger
from charlm.config.plain import checked
from charlm.errors import CharlmError, count, nearest
from charlm.files import atomic, describe_os_error
from charlm.generation.composition import Composition
from charlm.generation.processors import Parameter, generation_settings
from charlm.views.text import visible

RESCUED = "charlm-play.txt"
"""File in the working directory that gets a text that was not saved when the terminal was closed."""


@dataclass(frozen=True)
class Command:
    """A command that is typed on the command line of the screen.

    Args:
        arguments: What follows its name, for the help.
        help: What it does.
        run: A function (session, words) -> message.
        least, most: How many words may follow the name.
    """

    arguments: str
    help: str
    run: Callable[[Session, Sequence[str]], str]
    least: int
    most: int


class Session:
    """A composition, the commands that change it, and the file that it is saved to.

    Args:
        composition: The text and its model.
        length: How many tokens the model writes when it is asked to continue.
        prompt: What the text starts with.

    Attributes:
        lacking: A message about what was typed last that the vocabulary lacks, or nothing.
        path: The file that the text was saved to last; None before.
    """

    def __init__(self, composition: Composition, length: int, prompt: str = "") -> None:
        self.composition, self.length = composition, length
        self.lacking = ""
        self.path: Path | None = None
        self.type(prompt)
        self._saved = composition.text

    @property
    def unsaved(self) -> str:
        """The text if it has changed since it was saved or since the beginning, else nothing."""
        text = self.composition.text
        return "" if text == self._saved else text

    def type(self, text: str) -> None:
        """Add typed text at the cursor."""
        if lacking := self.composition.type(text):
            named = ", ".join(map(repr, dict.fromkeys(lacking)))
            self.lacking = f"not in the vocabulary: {named}; the model reads its unknown token instead"

    def execute(self, line: str) -> str:
        """Run a command and return a message that says what was done.

        A command is one of `COMMANDS`, or the name of a logits processor or of one of their
        parameters: alone it tells its value, followed by values it changes it.

        Raises:
            CharlmError: there is no such command, or what follows it is wrong; nothing changes.
        """
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            raise CharlmError(f"a quotation mark has no counterpart: {line}") from error
        settings = generation_settings()
        if name in COMMANDS:
            command = COMMANDS[name]
            if not command.least <= len(words) <= command.most:
                raise CharlmError(f"write: {name} {command.arguments}")
            return command.run(self, words)
        if name not in settings:
            raise CharlmError(f"there is no command {name!r}{nearest(name, [*COMMANDS, *settings])}; F1 lists them")
        return self._setting(settings[name], words)

    def save(self, name: str, *, replace: bool = False) -> str:
        """Write the text to a file, as UTF-8, and return a message.

        The file is written atomically. One that exists is replaced only if it was written by this
        session, or if `replace` is true.

        Raises:
            CharlmError: the file exists, or cannot be written.
        """
        path, text = Path(name).expanduser(), self.composition.text
        try:
            if path.exists() and path != self.path and not replace:
                raise CharlmError(f"{path} exists; to replace it, write: save! {name}")
            with atomic(path) as file:
                file.write(text)
        except OSError as error:
            reason = describe_os_error(error) or f"cannot write {path}: {error.strerror}; name another file"
            raise CharlmError(reason) from error
        self.path, self._saved = path, text
        return f"saved {count(len(text), 'character')} to {path}"

    def rescue(self) -> None:
        """Save the text, if it has changed, under a new name in the working directory."""
        if self.unsaved:
            name, number = Path(RESCUED), 1
            while name.exists():
                number += 1
                name = Path(RESCUED).with_stem(f"{Path(RESCUED).stem}-{number}")
            self.save(str(name))

    def _setting(self, setting: Parameter, words: Sequence[str]) -> str:
        if words:
            self.composition.change(**{setting.name: words[0] if len(words) == 1 else words})
        return f"{setting.name} {self.value(setting.name)}" + ("" if words else f": {setting.help}")

    def value(self, name: str) -> str:
        """Return the value of a logits processor or parameter as it is typed."""
        return in_words(self.composition.values.get(name, generation_settings()[name].default))

    def _bookmark(self, words: Sequence[str]) -> str:
        self.composition.bookmark(words[0])
        return f"bookmark {words[0]} is set; `mix` and `go_to` use it"

    def _go_to(self, words: Sequence[str]) -> str:
        self.composition.go_to(words[0])
        return f"the text of {words[0]}"

    def _mix(self, words: Sequence[str]) -> str:
        first, second, weight = [*words, "0.5"][:3]
        share = float(checked("weight", float, weight))
        self.composition.mix(first, second, share)
        return f"the state is now {1 - share:.3g} of {first} and {share:.3g} of {second}"

    def _length(self, words: Sequence[str]) -> str:
        self.length = checked("length", PositiveInteger, words[0])
        return f"the model writes {count(self.length, 'token')} at a time"

    def _reset(self, words: Sequence[str]) -> str:
        settings, initial = generation_settings(), self.composition.initial
        for name in words:
            if name not in settings:
                raise CharlmError(f"there is no logits processor {name!r}{nearest(name, settings)}; F1 lists them")
        names = words or list(settings)
        self.composition.change(**{name: initial.get(name, settings[name].default) for name in names})
        return ", ".join(f"{name} {self.value(name)}" for name in words) or "all values are those of the beginning"


COMMANDS = {
    "save": Command("FILE", "write the text to a new file", lambda one, words: one.save(words[0]), 1, 1),
    "save!": Command(
        "FILE", "write it to a file that may exist", lambda one, words: one.save(words[0], replace=True), 1, 1
    ),
    "length": Command("N", "tokens that Tab lets the model write", Session._length, 1, 1),
    "bookmark": Command("NAME", "give a name to the text up to here", Session._bookmark, 1, 1),
    "go_to": Command("NAME", "return to the text of a bookmark", Session._go_to, 1, 1),
    "mix": Command(
        "A B [SHARE]", "go on from the mean of the states at two bookmarks; SHARE is that of B", Session._mix, 2, 3
    ),
    "reset": Command(
        "[NAME ...]", "give a logits processor, or all, the values of the beginning", Session._reset, 0, 99
    ),
}
"""The commands besides the names of the logits processors."""


def in_words(value: Any) -> str:
    """Return a value of a setting as it is typed on the command line."""
    if isinstance(value, tuple):
        texts = [":".join(map(in_words, one)) if isinstance(one, tuple) else in_words(one) for one in value]
        return " ".join(map(shlex.quote, texts)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return visible(str(value))
