"""Name -> class, for the frameworks, encoders and positive samplers that a recipe can name, and for toolkits
whose weights can be imported.

A new one is one new file with one decorator: the registry imports every module of its package, so there is no
list to extend. (Importers of public corpora have a registry of their own.)

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

__all__ = [
    "ENCODERS",
    "FITTERS",
    "FRAMEWORKS",
    "MEMORY",
    "PEERS",
    "POSITIVES",
    "Memory",
    "Registry",
    "load_modules",
]

V = TypeVar("V")
MEMORY = "strongly affects memory"
Memory = Annotated[V, MEMORY]
"""An option that strongly affects memory; the out-of-memory message names it."""

T = TypeVar("T", bound=type[Any])


@cache
def load_modules(package: str) -> None:
    """Import every module of a package, so that its classes register themselves."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


class Registry:
    """Classes of one kind, by the name that recipes use.

    Args:
        kind: singular noun for messages, such as ``"framework"``.
        package: package whose modules register themselves when imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[Any]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a class decorator; it refuses a name that another class already has."""

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
FITTERS = Registry("fitter", "idemvox.training.fitters")
FRAMEWORKS = Registry("framework", "idemvox.frameworks")
PEERS = Registry("toolkit", "idemvox.encoders.weights")
POSITIVES = Registry("positive sampler", "idemvox.positives")
