"""Name -> class, for everything a recipe can name.

A new framework, encoder or positive sampler is one new file with one decorator; the packages import
their own modules, so nothing has to be listed anywhere else.

    @FRAMEWORKS.register("simclr")
    class SimCLR(Framework): ...
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, TypeVar

from idemvox.errors import unknown_name

__all__ = ["ENCODERS", "FRAMEWORKS", "MEMORY", "POSITIVES", "Memory", "Registry", "load_modules"]

V = TypeVar("V")
MEMORY = "memory depends on it"
Memory = Annotated[V, MEMORY]
"""An option that memory depends on; where memory is full, a message names it."""

T = TypeVar("T", bound=type[Any])


@cache
def load_modules(package: str) -> None:
    """Import every module of a package, so that what is in it registers itself."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


class Registry:
    """Classes of one kind by the name that recipes use.

    Args:
        kind: singular noun for messages, such as ``"framework"``.
        package: package whose modules register themselves when imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[Any]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator; refuses a name that another class has taken."""

        def add(cls: T) -> T:
            taken = self._classes.get(name)
            if taken is not None and taken.__qualname__ != cls.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is already {taken.__qualname__}")
            self._classes[name] = cls
            return cls

        return add

    def __getitem__(self, name: str) -> type[Any]:
        load_modules(self.package)
        if name not in self._classes:
            raise unknown_name(self.kind, name, self._classes)
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        load_modules(self.package)
        return iter(sorted(self._classes))


ENCODERS = Registry("encoder", "idemvox.encoders")
FRAMEWORKS = Registry("framework", "idemvox.frameworks")
POSITIVES = Registry("positive sampler", "idemvox.positives")
