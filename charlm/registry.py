"""Names to implementations: how a cell, a tokenizer or a logits processor is added in one file.

A registry that is given a package imports every module of it the first time somebody asks, so a new file in
that package is found by the command line, by the error messages and by the tests without being listed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from charlm.errors import CharlmError, nearest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping from names to implementations; an unknown name lists the choices and the nearest.

    Args:
        kind: What the names stand for, in the words of the error message ("cell").
        package: Package whose modules register entries, imported on first use; None if they already have.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters what follows under `name`; a name can be taken only once."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return enter

    def _load(self) -> dict[str, T]:
        if self._package is not None:
            package, self._package = importlib.import_module(self._package), None
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")
        return self._entries

    def __getitem__(self, name: str) -> T:
        entries = self._load()
        if name not in entries:
            choices = sorted(entries)
            raise CharlmError(
                f"there is no {self.kind} {name!r}; choose from {', '.join(choices)}{nearest(name, choices)}"
            )
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())
