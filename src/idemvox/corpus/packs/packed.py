"""Reading a pack: 16-kHz mono speech as plain samples in a few large files, with an index.

A pack is a folder written by :mod:`idemvox.corpus.packs.pack`; nothing in it depends on time or place:

* ``shard-00000.pcm`` and so on: signed 16-bit little-endian samples, utterance after utterance. *
``index.npy``: a row (``ROW``) for each utterance: offset in its shard and length, both in samples, hash of
its
  bytes (BLAKE2b, 64 bits, little-endian), shard, speaker and recording (line numbers; -1 if unknown).
* ``ids.txt``, ``speakers.txt``, ``recordings.txt``: one name per line; ``\\n``, ``\\r``, ``\\\\`` are
escapes. * ``pack.json``: version of this format, counts, bytes of each shard, SHA-256 of the other files and
of the
  manifest. It is written last: a pack without it is not finished.
* ``problems.csv``: utterances that were left out because they could not be read, if any.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from mmap import ACCESS_READ, mmap
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
    """The contents of ``pack.json``.

    Attributes:
        utterances: number of utterances.
        left_out: number of utterances left out.
        samples: samples of all utterances.
        speakers: number of known speakers.
        recordings: number of known recordings.
        shard_samples: most samples in a shard, except for a single longer utterance.
        shards: size of each shard in bytes, in order.
        files: SHA-256 of each other file.
        manifest: SHA-256 of the manifest that was packed.
        idemvox: version that wrote it.
    """

    utterances: int
    left_out: int
    samples: int
    speakers: int
    recordings: int
    shard_samples: int
    shards: dict[str, int]
    files: dict[str, str]
    manifest: str
    idemvox: str

    def to_json(self) -> dict[str, Any]:
        """Return the values to write as JSON."""
        return {"format": FORMAT, "version": VERSION, "rate": SAMPLE_RATE, **asdict(self)}


def read_header(folder: Path) -> Header:
    """Read ``pack.json``.

    Raises:
        CorpusError: there is no pack, or its format is unknown to this version.
    """
    if not (folder / HEADER).is_file():
        raise CorpusError(f"{folder} is not a finished pack: it has no {HEADER}; run `idemvox pack` (again)")
    have = read_json(folder / HEADER, CorpusError)
    if not isinstance(have, dict) or have.pop("format", None) != FORMAT:
        raise CorpusError(f"{folder / HEADER} is not from a pack; give a folder written by `idemvox pack`")
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
    """Return (N,) the index rows, memory-mapped."""
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
    """Return the index's hash of an utterance's bytes, which may come in pieces."""
    hasher = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        hasher.update(piece)
    return int.from_bytes(hasher.digest(), "little")


class PackedSource:
    """Reads crops of a pack, each with a single read of its bytes.

    Several threads may read at once. It pickles as the path of its folder.

    Attributes:
        folder: folder of the pack.
        header: contents of ``pack.json``.
        index: (N,) rows of ``ROW``, memory-mapped.
        lengths: (N,) samples of each utterance, a column of the index.

    Raises:
        CorpusError: the pack is not finished, its format is newer, or a file has the wrong size.
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
        """Fill ``out`` from sample ``start`` of an utterance; return the number of samples read."""
        count = min(len(out), int(self.lengths[index]) - start)
        if count <= 0:
            return 0
        begin = 2 * (int(self._offsets[index]) + start)
        got = os.preadv(self._files[self._shards[index]], (out[:count].data,), begin)
        if got != 2 * count:
            self._rest(index, begin + got, out[:count].data.cast("B")[got:])
        return count

    def _rest(self, index: int, begin: int, out: memoryview) -> None:
        """Read the rest after the system returned fewer bytes than requested."""
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
        """Close the shards; no reading after that. It happens automatically when the source is deleted."""
        self._closer()


def _open(file: Path, size: int) -> int:
    """Open a shard for reading and check its length."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror}") from error
    actual = os.fstat(descriptor).st_size
    if actual != size:
        os.close(descriptor)
        raise CorpusError(
            f"{file} has {actual:,} bytes instead of {size:,}; copy it again, or delete the folder and pack "
            f"again (`idemvox pack --check {file.parent}` lists the damaged utterances)"
        )
    return descriptor


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())


class Lines(Sequence[str]):
    """The lines of a file written with :func:`escaped`, read when they are used.

    Args:
        file: UTF-8 text.
        count: number of lines.
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

    def any_starts_with(self, prefix: str) -> bool:
        """Return whether a line starts with a prefix, by a search that does not index the lines."""
        start = next(escaped([prefix])).removesuffix("\n").encode()
        try:
            with open(self._file, "rb") as file:
                if not self._count:
                    return False
                with mmap(file.fileno(), 0, access=ACCESS_READ) as text:
                    return text[: len(start)] == start or text.find(b"\n" + start) >= 0
        except (OSError, ValueError) as error:
            raise CorpusError(f"cannot read {self._file}: {error}; copy it again, or pack again") from error

    def __reduce__(self) -> tuple[type[Lines], tuple[Path, int]]:
        return Lines, (self._file, self._count)

    @cached_property
    def _mapped(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The memory-mapped bytes, and the position of each line's end: 8 bytes per line."""
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
    """Yield each name as an escaped line, with its line break."""
    for name in names:
        yield re.sub(r"[\\\n\r]", lambda letter: ESCAPES[letter[0]], name) + "\n"


def _plain(line: bytes) -> str:
    text = line.decode("utf-8")
    return re.sub(r"\\[\\nr]", lambda escape: UNESCAPES[escape[0]], text)
