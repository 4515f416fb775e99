"""Name -> importer, for every public corpus with its own command.

A new importer is one new file with one decorator. ``idemvox prepare NAME``, its help, and the counts that
``idemvox doctor`` compares are generated from it.

    @IMPORTERS.register("voxceleb1", help="Prepare VoxCeleb1: ...", official=(Official(...),))
    def prepare_voxceleb1(folder, out, *, min_seconds=2.0, workers=None, progress=True) -> Summary: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from idemvox.errors import CorpusError, unknown_name
from idemvox.registry import load_modules

if TYPE_CHECKING:
    from idemvox.corpus.checks.official import Official
    from idemvox.corpus.checks.problems import Summary

__all__ = ["IMPORTERS", "Importer", "Importers", "Setting"]

F = TypeVar("F", bound="Callable[..., Summary | list[Summary]]")


@dataclass(frozen=True, slots=True)
class Setting:
    """Help and smallest value of a keyword that not all importers have.

    It is part of the signature: ``piece: Annotated[float, Setting("Length of a piece.", least=0.1)] = 5.0``.
    """

    help: str
    least: float | None = None


@dataclass(frozen=True, slots=True)
class Importer:
    """An importer of a corpus.

    Attributes:
        name: name of the command.
        prepare: takes the folder, the manifest to write, ``min_seconds``, ``workers`` and ``progress``, whose
            defaults are those of the command, and its own keywords, each with a :class:`Setting`.
        help: help of the command; the first line is shown in the list of commands, the last is an example.
        official: official counts of the corpus and of its parts.
    """

    name: str
    prepare: Callable[..., Summary | list[Summary]]
    help: str
    official: tuple[Official, ...]

    def run(self, folder: Path, out: Path, **options: Any) -> list[Summary]:
        """Prepare the corpus; return a summary for each manifest written."""
        summaries = self.prepare(folder, out, **options)
        return summaries if isinstance(summaries, list) else [summaries]


class Importers:
    """The importers by name, sorted; their modules are imported on first use."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._importers: dict[str, Importer] = {}

    def register(self, name: str, *, help: str, official: tuple[Official, ...] = ()) -> Callable[[F], F]:
        """Return a decorator that registers a function; it refuses a name that another function has."""

        def add(prepare: F) -> F:
            taken = self._importers.get(name)
            if taken is not None and taken.prepare.__qualname__ != prepare.__qualname__:
                raise ValueError(f"importer {name!r} is already {taken.prepare.__qualname__}")
            self._importers[name] = Importer(name, prepare, help, official)
            return prepare

        return add

    def __getitem__(self, name: str) -> Importer:
        load_modules(self._package)
        if name not in self._importers:
            raise unknown_name("importer", name, self._importers, CorpusError)
        return self._importers[name]

    def __iter__(self) -> Iterator[str]:
        load_modules(self._package)
        return iter(sorted(self._importers))


IMPORTERS = Importers("idemvox.corpus.importers")
