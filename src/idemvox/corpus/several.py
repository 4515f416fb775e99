"""Using several corpora as one: names that keep them apart, and checks for audio in two of them."""

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
from idemvox.corpus.packs.packed import Lines, read_header
from idemvox.errors import CorpusError
from idemvox.files import file_hash

__all__ = [
    "JoinedNames",
    "JoinedSource",
    "corpus_names",
    "prefixed",
    "refuse_parts",
    "refuse_repeats",
    "refuse_shared",
]

UNNAMED = "manifest"  # the file that `idemvox prepare` writes if no name is given
SLACK = 0.01  # seconds that two parts of a file may overlap, because their ends are rounded


def prefixed(corpus: str, name: str) -> str:
    """Return the name of an id, speaker or recording among several corpora: ``vox1/id10001``."""
    return f"{corpus}/{name}"


def corpus_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each corpus, after its file or folder; names are distinct and have no ``/``.

    ``lists/vox1.csv`` is ``vox1``, and so is the pack ``packs/vox1/``. A ``manifest.csv`` has its folder's
    name. If names are equal, the folder above is put in front.

    >>> corpus_names([Path("a/train.csv"), Path("b/train.csv"), Path("vox1/manifest.csv")])
    ['a-train', 'b-train', 'vox1']

    Raises:
        CorpusError: two corpora differ only in their suffix, such as ``vox1.csv`` and ``vox1/``.
    """
    parts = [_parts(path) for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["-".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        equal = [number for number, name in enumerate(names) if counts[name] > 1]
        if not equal:
            return names
        if all(depths[number] >= len(parts[number]) for number in equal):
            both = " and ".join(str(paths[number]) for number in equal[:2])
            raise CorpusError(f"{both} would have the same name; rename one of them")
        for number in equal:
            depths[number] += 1


def _parts(path: Path) -> tuple[str, ...]:
    """Return the folders down to a corpus and its own name, without suffix."""
    full = Path(os.path.abspath(path))
    if not full.is_dir():
        full = full.parent if full.stem == UNNAMED else full.with_suffix("")
    return full.parts[1:] or (UNNAMED,)


def refuse_repeats(paths: Sequence[Path]) -> None:
    """Check that no corpus is given twice: one path, a pack and its manifest, or two packs of a manifest.

    Raises:
        CorpusError: one is; the message names the two paths.
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


def refuse_parts(ids: Mapping[str, Sequence[str]]) -> None:
    """Check that no corpus is also a part of another one, such as the pack of a joined manifest.

    A pack has no paths, so this compares ids: in a joined manifest they begin with the name of their corpus.

    Args:
        ids: the ids of each corpus, by its name.

    Raises:
        CorpusError: one is; the message names both and an utterance.
    """
    for whole, names in ids.items():
        for part, others in ids.items():
            prefix = prefixed(part, "")
            if part == whole or not _any_starts_with(names, prefix):
                continue
            expected = {prefixed(part, name) for name in others}
            if found := next((name for name in names if name in expected), None):
                raise CorpusError(
                    f"{found} is in two corpora: {whole} contains {part}; leave one of them out"
                )


def _any_starts_with(names: Sequence[str], prefix: str) -> bool:
    if isinstance(names, Lines):
        return names.any_starts_with(prefix)
    return any(name.startswith(prefix) for name in names)


def refuse_shared(manifests: Mapping[str, Manifest]) -> None:
    """Check that no audio is in two manifests; different parts of one file may be.

    Links to folders are resolved; links to single files are not.

    Raises:
        CorpusError: some is; the message says how much and gives an example.
    """
    spans: dict[str, list[tuple[float, float, str, str]]] = {file: [] for file in _shared_files(manifests)}
    for name, manifest in manifests.items() if spans else ():
        root = str(manifest.root)
        for u in manifest:
            if (file := _real(root, u.path)) in spans:
                start = u.start or 0.0
                spans[file].append((start, start + u.seconds, name, u.id))
    shared = [(file, pair) for file, parts in spans.items() if (pair := _overlap(parts))]
    if shared:
        file, (one, other) = shared[0]
        more = f", like {counted(len(shared) - 1, 'other file')}" if len(shared) > 1 else ""
        raise CorpusError(
            f"{file} is in two corpora, as {prefixed(*one)} and as {prefixed(*other)}{more}; "
            "leave it out of one of them"
        )


def _shared_files(manifests: Mapping[str, Manifest]) -> list[str]:
    """Return the files that are in more than one manifest, possibly repeated."""
    first: dict[str, str] = {}
    return [
        file
        for name, manifest in manifests.items()
        for root in [str(manifest.root)]
        for u in manifest
        if first.setdefault(file := _real(root, u.path), name) != name
    ]


def _overlap(spans: list[tuple[float, float, str, str]]) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return the first two parts of a file that overlap and are in different corpora, as (corpus, id)."""
    furthest: dict[str, tuple[float, str]] = {}  # corpus -> end and id of the part that ends last
    for start, end, name, part in sorted(spans):
        for other, (reached, before) in furthest.items():
            if other != name and reached > start + SLACK:
                return (other, before), (name, part)
        furthest[name] = max(furthest.get(name, (0.0, "")), (end, part))
    return None


def _real(root: str, path: str) -> str:
    """Return the path of a file with links to folders resolved."""
    folder, slash, file = path.rpartition("/")
    return f"{_real_folder(root, folder + slash)}/{file}"


@lru_cache(maxsize=4096)
def _real_folder(root: str, folder: str) -> str:
    return os.path.realpath(os.path.join(root, folder))


class JoinedNames(Sequence[str]):
    """Names of several corpora, one corpus after the other, prefixed with the corpus's name.

    Args:
        names: (corpus, its names); the names are read when they are used.
    """

    def __init__(self, names: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._names = tuple(names)
        self._begins = [0, *accumulate(len(part) for _, part in names)]

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
    """Reads crops of several sources as if they were one, in the order of the sources.

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
        """Fill ``out`` from sample ``start`` of an utterance; return the number of samples read."""
        which = bisect_right(self._begins, index) - 1
        return self._sources[which].read_into(index - self._begins[which], start, out)
