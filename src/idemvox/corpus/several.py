"""What keeps several corpora apart when they are used as one: a name for each, and nothing in two of them."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import overload

import numpy as np

from idemvox.arrays import Numbers, Pcm
from idemvox.corpus.checks.problems import counted
from idemvox.corpus.crops import AudioSource
from idemvox.corpus.manifest import Manifest
from idemvox.corpus.packs.pack import file_hash
from idemvox.corpus.packs.packed import read_header
from idemvox.errors import CorpusError

__all__ = ["JoinedNames", "JoinedSource", "corpus_names", "prefixed", "refuse_repeats", "refuse_shared"]

UNNAMED = "manifest"  # the file that `idemvox prepare` writes where no name is given
SLACK = 0.01  # seconds that two parts of a file may share, as their ends are rounded


def prefixed(corpus: str, name: str) -> str:
    """Return an id, a speaker or a recording as it is called among several corpora: ``vox1/id10001``."""
    return f"{corpus}/{name}"


def corpus_names(paths: Sequence[Path]) -> list[str]:
    """Name each corpus after its file or folder; the names differ and have no ``/`` in them.

    ``lists/vox1.csv`` is ``vox1``, the pack ``packs/vox1/`` too.  A ``manifest.csv`` has its folder's name.
    Names that are alike get the folder above put in front.

    >>> corpus_names([Path("a/train.csv"), Path("b/train.csv"), Path("vox1/manifest.csv")])
    ['a-train', 'b-train', 'vox1']

    Raises:
        CorpusError: two corpora that only the ending tells apart, such as ``vox1.csv`` and ``vox1/``.
    """
    parts = [_parts(path) for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["-".join(each[-depth:]) for each, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        alike = [number for number, name in enumerate(names) if counts[name] > 1]
        if not alike:
            return names
        if all(depths[number] >= len(parts[number]) for number in alike):
            both = " and ".join(str(paths[number]) for number in alike[:2])
            raise CorpusError(f"{both} would be called the same; rename one of them")
        for number in alike:
            depths[number] += 1


def _parts(path: Path) -> tuple[str, ...]:
    """The folders down to a corpus and its own name, without the ending."""
    full = Path(os.path.abspath(path))
    if not full.is_dir():
        full = full.parent if full.stem == UNNAMED else full.with_suffix("")
    return full.parts[1:] or (UNNAMED,)


def refuse_repeats(paths: Sequence[Path]) -> None:
    """Check that no corpus is there twice: one path, a pack and its manifest, or two packs of one manifest.

    Raises:
        CorpusError: one is; says which two paths.
    """
    packs = [path.is_dir() for path in paths]
    seen: dict[str, Path] = {}
    for path, packed in zip(paths, packs, strict=True):
        keys = [os.path.realpath(path)]
        if any(packs):
            keys.append(read_header(path).manifest if packed else file_hash(path))
        for key in keys:
            if key in seen:
                raise CorpusError(
                    f"{seen[key]} and {path} are the same corpus; give each once, as a manifest or as a pack"
                )
        seen.update(dict.fromkeys(keys, path))


def refuse_shared(manifests: Mapping[str, Manifest]) -> None:
    """Check that no audio is listed in two manifests; different parts of one file may be.

    Folders are followed to where links lead; links to single files are not.

    Raises:
        CorpusError: some is; says how much and gives an example.
    """
    spans: dict[str, list[tuple[float, float, str, str]]] = {file: [] for file in _shared_files(manifests)}
    for name, manifest in manifests.items() if spans else ():
        root = str(manifest.root)
        for u in manifest:
            if (file := _real(root, u.path)) in spans:
                start = u.start or 0.0
                spans[file].append((start, start + u.seconds, name, u.id))
    twice = [(file, pair) for file, each in spans.items() if (pair := _overlap(each))]
    if twice:
        file, (one, other) = twice[0]
        more = f", and so with {counted(len(twice) - 1, 'other file')}" if len(twice) > 1 else ""
        raise CorpusError(
            f"{file} is in two corpora, as {prefixed(*one)} and as {prefixed(*other)}{more}; "
            "leave it out of one of them"
        )


def _shared_files(manifests: Mapping[str, Manifest]) -> list[str]:
    """The files that are in more than one manifest; one may be listed again."""
    first: dict[str, str] = {}
    return [
        file
        for name, manifest in manifests.items()
        for root in [str(manifest.root)]
        for u in manifest
        if first.setdefault(file := _real(root, u.path), name) != name
    ]


def _overlap(spans: list[tuple[float, float, str, str]]) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """The first two parts of a file that overlap and are in different corpora, as (corpus, id)."""
    furthest: dict[str, tuple[float, str]] = {}  # corpus: where the part that ends last does, and its id
    for start, end, name, part in sorted(spans):
        for other, (reached, before) in furthest.items():
            if other != name and reached > start + SLACK:
                return (other, before), (name, part)
        furthest[name] = max(furthest.get(name, (0.0, "")), (end, part))
    return None


def _real(root: str, path: str) -> str:
    """A file by the folder that it is really in."""
    folder, slash, file = path.rpartition("/")
    return f"{_real_folder(root, folder + slash)}/{file}"


@lru_cache(maxsize=4096)
def _real_folder(root: str, folder: str) -> str:
    return os.path.realpath(os.path.join(root, folder))


class JoinedNames(Sequence[str]):
    """Names of several corpora, one corpus after the other, each name with its corpus's before it.

    Args:
        names: (corpus, its names), read when one is asked for.
    """

    def __init__(self, names: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._names = tuple(names)
        self._begins = [0, *accumulate(len(each) for _, each in names)]

    def __len__(self) -> int:
        return self._begins[-1]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        which = bisect_right(self._begins, number) - 1
        corpus, names = self._names[which]
        return prefixed(corpus, names[number - self._begins[which]])

    def __iter__(self) -> Iterator[str]:
        for corpus, names in self._names:
            for name in names:
                yield prefixed(corpus, name)


class JoinedSource:
    """Reads crops of several sources as if they were one, the first source's utterances first.

    Attributes:
        lengths: (N,) samples of each utterance.
    """

    def __init__(self, sources: Sequence[AudioSource]) -> None:
        self._sources = tuple(sources)
        self._begins = [0, *accumulate(map(len, sources))]
        self.lengths: Numbers = np.concatenate([source.lengths for source in sources])

    def __len__(self) -> int:
        return self._begins[-1]

    def read_into(self, index: int, start: int, out: Pcm) -> int:
        """Fill ``out`` from sample ``start`` of an utterance on; return how many samples there were."""
        which = bisect_right(self._begins, index) - 1
        return self._sources[which].read_into(index - self._begins[which], start, out)
