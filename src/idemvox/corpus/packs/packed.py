"""A packed corpus, opened: 16-kHz mono speech as plain samples in a few large files, and an index of them.

A pack is a folder, written by :mod:`idemvox.corpus.packs.pack`; nothing in it depends on when or where:

* ``shard-00000.pcm`` and so on: signed 16-bit little-endian samples, one utterance after the other.
* ``index.npy``: a row (``ROW``) for each utterance: offset and samples, both counted in samples of its shard,
  hash of its bytes (BLAKE2b, 64 bits, little-endian), shard, speaker, recording (line numbers; -1 = unknown).
* ``ids.txt``, ``speakers.txt``, ``recordings.txt``: one name a line; ``\\n``, ``\\r``, ``\\\\`` are escapes.
* ``pack.json``: version of this format, counts, bytes of each shard, SHA-256 of the other files and of the
  manifest. Written last: a folder without it is no finished pack.
* ``problems.csv``: utterances that could not be read and were left out, if there were any.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from idemvox.audio.read import SAMPLE_RATE
from idemvox.errors import CorpusError
from idemvox.files import read_json

__all__ = ["Header", "Lines", "PackedSource", "checksum", "escaped", "load_index", "read_header"]

FORMAT, VERSION = "idemvox pack", 1
HEADER, INDEX = "pack.json", "index.npy"
IDS, SPEAKERS, RECORDINGS = "ids.txt", "speakers.txt", "recordings.txt"
PROBLEMS = "problems.csv"

ROW = np.dtype(
    {
        "names": ["offset", "samples", "hash", "shard", "speaker", "recording"],
        "formats": ["<i8", "<i8", "<u8", "<i8", "<i4", "<i4"],
    }
)  # 40 bytes

ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
UNESCAPES = {escape: letter for letter, escape in ESCAPES.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """What ``pack.json`` says."""

    utterances: int
    left_out: int
    samples: int  # of all utterances
    speakers: int
    recordings: int
    shard_samples: int  # a shard ends before the utterance that would go beyond this
    shards: dict[str, int]  # bytes of each file, in order
    files: dict[str, str]  # SHA-256 of each other file
    manifest: str  # SHA-256 of the manifest it was packed from
    idemvox: str  # the version that wrote it

    def to_json(self) -> dict[str, Any]:
        """Return what is written."""
        return {"format": FORMAT, "version": VERSION, "rate": SAMPLE_RATE, **asdict(self)}


def read_header(folder: Path) -> Header:
    """Read ``pack.json``.

    Raises:
        CorpusError: no pack there, or one of a format that this version does not know.
    """
    if not (folder / HEADER).is_file():
        raise CorpusError(f"{folder} is no finished pack: it has no {HEADER}; run `idemvox pack` (again)")
    have = read_json(folder / HEADER, CorpusError)
    if not isinstance(have, dict) or have.pop("format", None) != FORMAT:
        raise CorpusError(f"{folder / HEADER} is not of a pack; give a folder that `idemvox pack` wrote")
    if (version := have.pop("version", None)) != VERSION:
        raise CorpusError(
            f"{folder} has pack format {version}, written by idemvox {have.get('idemvox')}; this idemvox "
            f"reads format {VERSION}: use that version, or pack again with this one"
        )
    if (rate := have.pop("rate", None)) != SAMPLE_RATE:
        raise CorpusError(f"{folder} is packed at {rate} Hz instead of {SAMPLE_RATE}; pack again")
    try:
        return Header(**have)
    except TypeError as error:
        raise CorpusError(f"{folder / HEADER} is damaged ({error}); pack again") from error


def load_index(folder: Path, header: Header) -> npt.NDArray[np.void]:
    """Map the index into memory: (N,) of ``ROW``, read as it is used."""
    try:
        rows = np.load(folder / INDEX, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CorpusError(f"cannot read {folder / INDEX}: {error}; copy it again, or pack again") from error
    if rows.dtype != ROW or rows.shape != (header.utterances,):
        raise CorpusError(
            f"{folder / INDEX} is not the index of {header.utterances:,} utterances; pack again"
        )
    return np.asarray(rows)


def checksum(pieces: Iterable[bytes | memoryview]) -> int:
    """Return the hash that the index holds of an utterance's bytes, which may come in pieces."""
    hasher = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        hasher.update(piece)
    return int.from_bytes(hasher.digest(), "little")


class PackedSource:
    """Reads crops of a pack, each by one read of just its bytes.

    Any number of threads may read. It is pickled as the name of its folder.

    Attributes:
        folder: of the pack.
        header: what ``pack.json`` says.
        index: (N,) rows of ``ROW``, mapped.
        lengths: (N,) samples of each utterance, a column of the index.

    Raises:
        CorpusError: no finished pack, one of a newer format, or a file that is not as long as it should be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self.header = read_header(self.folder)
        self.index = load_index(self.folder, self.header)
        self.lengths: npt.NDArray[np.int64] = self.index["samples"]
        self._offsets, self._shards = self.index["offset"], self.index["shard"]
        self._files: list[int] = []
        self._closer = weakref.finalize(self, _close, self._files)
        for name, size in self.header.shards.items():
            self._files.append(_open(self.folder / name, size))

    def __len__(self) -> int:
        return self.header.utterances

    def __reduce__(self) -> tuple[type[PackedSource], tuple[Path]]:
        return PackedSource, (self.folder,)

    def read_into(self, index: int, start: int, out: npt.NDArray[np.int16]) -> int:
        """Fill ``out`` from sample ``start`` of an utterance on; return how many samples there were."""
        count = min(len(out), int(self.lengths[index]) - start)
        if count <= 0:
            return 0
        begin = 2 * (int(self._offsets[index]) + start)
        got = os.preadv(self._files[self._shards[index]], (out[:count].data,), begin)
        if got != 2 * count:
            self._rest(index, begin + got, out[:count].data.cast("B")[got:])
        return count

    def _rest(self, index: int, begin: int, out: memoryview) -> None:
        """Read on where the system gave less than was asked for."""
        shard = int(self._shards[index])
        while len(out):
            got = os.preadv(self._files[shard], (out,), begin)
            if not got:
                name = list(self.header.shards)[shard]
                raise CorpusError(
                    f"{self.folder / name} ends inside utterance {index}; "
                    f"see `idemvox pack --check {self.folder}`"
                )
            out, begin = out[got:], begin + got

    def close(self) -> None:
        """Close the shards, which happens by itself when the source is dropped; no read works after it."""
        self._closer()


def _open(file: Path, size: int) -> int:
    """Open a shard for reading and check its length."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror}") from error
    there = os.fstat(descriptor).st_size
    if there != size:
        os.close(descriptor)
        raise CorpusError(
            f"{file} has {there:,} bytes instead of {size:,}; copy it again, or delete the folder and pack "
            f"again (which utterances are hurt: `idemvox pack --check {file.parent}`)"
        )
    return descriptor


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())


class Lines(Sequence[str]):
    """The lines of a file written with :func:`escaped`; nothing is read until one is asked for.

    Args:
        file: UTF-8 text.
        count: how many lines it has.
    """

    def __init__(self, file: Path, count: int) -> None:
        self._file, self._count = file, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        number = range(self._count)[index]
        text, ends = self._mapped
        begin = int(ends[number - 1]) + 1 if number else 0
        return _plain(text[begin : ends[number]].tobytes())

    def __iter__(self) -> Iterator[str]:
        for index in range(self._count):
            yield self[index]

    def __reduce__(self) -> tuple[type[Lines], tuple[Path, int]]:
        return Lines, (self._file, self._count)

    @cached_property
    def _mapped(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The bytes, mapped, and where each line ends: 8 bytes a line."""
        try:
            text = (
                np.asarray(np.memmap(self._file, dtype=np.uint8, mode="r"))
                if self._count
                else np.zeros(0, np.uint8)
            )
        except (OSError, ValueError) as error:
            raise CorpusError(f"cannot read {self._file}: {error}; copy it again, or pack again") from error
        ends = np.flatnonzero(text == ord("\n"))
        if len(ends) != self._count:
            raise CorpusError(f"{self._file} has {len(ends):,} lines instead of {self._count:,}; pack again")
        return text, ends


def escaped(names: Iterable[str]) -> Iterator[str]:
    """Yield each name as a line, with its line break."""
    for name in names:
        yield re.sub(r"[\\\n\r]", lambda letter: ESCAPES[letter[0]], name) + "\n"


def _plain(line: bytes) -> str:
    text = line.decode("utf-8")
    return re.sub(r"\\[\\nr]", lambda escape: UNESCAPES[escape[0]], text)
