"""Pack a corpus: decode every utterance once, so that from then on a crop costs one small read.

The folder that comes out is described in :mod:`idemvox.corpus.packs.packed`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from idemvox.arrays import Pcm
from idemvox.audio.read import SAMPLE_RATE
from idemvox.corpus.checks.problems import Problem, counted, duration, printable, write_problems
from idemvox.corpus.crops import FileSource
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest
from idemvox.corpus.packs.packed import (
    HEADER,
    IDS,
    INDEX,
    PROBLEMS,
    RECORDINGS,
    SPEAKERS,
    VERSION,
    Header,
    checksum,
    escaped,
    read_header,
)
from idemvox.corpus.packs.shards import JOURNAL, Shards, locked_journal, refuse_others, sweep, sync_folder
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.files import atomic_write, write_json
from idemvox.processes import read_ahead
from idemvox.progress import task_bar

__all__ = ["PackSummary", "advance", "file_hash", "pack"]

AHEAD = 1 << 25  # samples decoded ahead of the writer at most: 35 min, 64 MiB


@dataclass(frozen=True, slots=True)
class PackSummary:
    """What became of a manifest."""

    folder: Path
    utterances: int
    hours: float
    gib: float
    shards: int
    left_out: int
    problems: Path | None  # the CSV with every utterance left out; None where there is none
    new: bool  # False: it was packed before, and nothing was done

    def table(self) -> Table:
        """To be printed by rich."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        size = f"{self.gib:,.2f} GiB" if self.gib >= 1 else f"{self.gib * 1024:,.1f} MiB"
        table.add_row("packed", f"{counted(self.utterances, 'utterance')}, {duration(self.hours)}")
        table.add_row("on disk", f"{size} in {counted(self.shards, 'shard')}")
        where = f", listed in {self.problems}" if self.problems else ""
        table.add_row("left out", Text(f"{self.left_out:,}{where}" if self.left_out else "none"))
        table.add_row("pack", Text(str(self.folder)))
        if not self.new:
            table.add_row("note", "it was finished already: nothing to do")
        return table


def pack(
    manifest_file: str | Path,
    out: str | Path,
    *,
    shard_gib: float = 2.0,
    workers: int | None = None,
    progress: bool = True,
) -> PackSummary:
    """Write the audio of a manifest as 16-bit 16-kHz mono samples into a few large files with an index.

    The samples of an utterance are those that reading it from its file gives. (A crop of an Opus or a
    resampled file, where reading begins elsewhere, may differ in the last bit; a file that ends a few samples
    before the ``seconds`` of the manifest, which are rounded, is packed as long as it is.)

    An utterance that cannot be read is left out and listed in ``problems.csv``. A run that was cut off, at
    whatever moment, goes on with the same command and leaves the same bytes as one that was not.

    Args:
        manifest_file: the CSV file.
        out: folder to write to; new, empty or one that the same command began.
        shard_gib: size of a shard at most, in GiB; only an utterance longer than that makes a larger one.
        workers: threads that decode; None takes one per core.
        progress: draw a progress bar.

    Raises:
        CorpusError: a bad manifest, a folder with other things in it, another process that packs into it, a
            full disk, or no utterance that can be read.
    """
    manifest_file, out = Path(manifest_file), Path(out)
    if not shard_gib > 0:
        raise CorpusError(f"a shard must have some size, not {shard_gib} GiB")
    if not manifest_file.is_file():
        load_manifest(manifest_file)  # says what is wrong
    job = {
        "version": VERSION,
        "manifest": file_hash(manifest_file),
        "shard_samples": max(1, int(shard_gib * 2**29)),
    }
    refuse_others(out)
    if (out / HEADER).exists() and not (out / JOURNAL).exists():
        return _finished(out, job)
    manifest = load_manifest(manifest_file)
    if not len(manifest):
        raise CorpusError(f"{manifest_file} has no utterances to pack")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked_journal(out) as journal:
            sweep(out)
            if not (out / HEADER).exists():
                with Shards(out, journal, job, len(manifest)) as shards:
                    _fill(shards, manifest, workers or os.cpu_count() or 1, progress)
                    _finish(shards, manifest, job)
            summary = _finished(out, job)
            (out / JOURNAL).unlink()
            return replace(summary, new=True)
    except OSError as error:
        raise CorpusError(
            f"cannot write {error.filename or out}: {error.strerror or error}; what is packed so far stays: "
            "put that right and run the same command again"
        ) from error


def _finished(out: Path, job: Mapping[str, Any]) -> PackSummary:
    """The summary of a pack that is there; refuses one of another job."""
    header = read_header(out)
    if header.manifest != job["manifest"]:
        raise CorpusError(f"{out} holds the pack of another manifest; delete it, or choose another folder")
    if header.shard_samples != job["shard_samples"]:
        raise CorpusError(
            f"{out} is packed already, in shards of {header.shard_samples / 2**29:g} GiB; "
            "give that --shard-gib, delete the folder, or choose another"
        )
    return PackSummary(
        folder=out,
        utterances=header.utterances,
        hours=header.samples / SAMPLE_RATE / 3600,
        gib=sum(header.shards.values()) / 2**30,
        shards=len(header.shards),
        left_out=header.left_out,
        problems=out / PROBLEMS if header.left_out else None,
        new=False,
    )


def _fill(shards: Shards, manifest: Manifest, workers: int, progress: bool) -> None:
    """Decode what is not packed yet, several at a time, and write it in the manifest's order."""
    source = FileSource(manifest)

    def decode(index: int) -> tuple[Pcm, int] | str:
        try:
            pcm = np.empty(int(source.lengths[index]), np.int16)
            pcm = pcm[: source.read_into(index, 0, pcm)]
        except IdemvoxError as error:
            return str(error).removeprefix(f"cannot read {manifest.path(manifest[index])}: ")
        except MemoryError:
            return f"{manifest[index].seconds:,.0f} s of audio do not fit into memory"
        return (pcm, checksum([pcm.data])) if len(pcm) else "no audio where it should begin"

    left = range(shards.next, len(manifest))
    began, written = time.monotonic(), 0
    with (
        task_bar("packing", len(manifest), progress, done=shards.next) as bar,
        closing(
            read_ahead(
                decode, left, workers, 4 * workers, weigh=lambda index: int(source.lengths[index]), most=AHEAD
            )
        ) as decoded,
    ):
        for found in decoded:
            if isinstance(found, str):
                shards.leave_out(found)
            else:
                shards.add(*found)
                written += 2 * len(found[0])
            advance(bar, 1, written, began)
    shards.commit()


def _finish(shards: Shards, manifest: Manifest, job: Mapping[str, Any]) -> None:
    """Write the index, the names and, when all that is safe, the header."""
    out = shards.folder
    kept = [index for index in range(len(manifest)) if index not in shards.problems]
    problems = write_problems(
        out / PROBLEMS,
        [_problem(manifest[index], reason) for index, reason in sorted(shards.problems.items())],
    )
    if not kept:
        os.unlink(out / JOURNAL)  # so that the next run looks again
        first = shards.problems[0]
        raise CorpusError(
            f"none of {len(manifest):,} utterances can be read, e.g. {manifest[0].path}: {first}; "
            f"all are in {problems}"
        )
    taken = [manifest[index] for index in kept]
    labels = number_labels(taken)
    rows = shards.rows[kept]
    rows["speaker"], rows["recording"] = labels.speakers, labels.recordings
    with atomic_write(out / INDEX, "wb") as file:
        np.lib.format.write_array(file, rows, version=(1, 0), allow_pickle=False)
    names: dict[str, Iterable[str]] = {
        IDS: (u.id for u in taken),
        SPEAKERS: labels.speaker_names,
        RECORDINGS: labels.recording_names,
    }
    for name, each in names.items():
        with atomic_write(out / name) as file:
            file.writelines(escaped(each))
    sync_folder(out)
    header = Header(
        utterances=len(taken),
        left_out=len(shards.problems),
        samples=int(rows["samples"].sum()),
        speakers=len(labels.speaker_names),
        recordings=len(labels.recording_names),
        shard_samples=job["shard_samples"],
        shards={name: 2 * samples for name, samples in zip(shards.names(), shards.sizes, strict=True)},
        files={name: file_hash(out / name) for name in (INDEX, *names)},
        manifest=job["manifest"],
        idemvox=version("idemvox"),
    )
    write_json(out / HEADER, header.to_json())
    sync_folder(out)


def _problem(utterance: Utterance, reason: str) -> Problem:
    named = "" if utterance.id == utterance.path else f"{utterance.id}: "
    return Problem(printable(utterance.path), "cannot be read", named + reason)


def file_hash(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def advance(bar: Progress, utterances: int, size: int, began: float) -> None:
    """Move the bar on; ``size`` bytes have gone through since ``began``."""
    rate = size / 1e6 / max(time.monotonic() - began, 1e-9)
    bar.update(bar.task_ids[0], advance=utterances, note=f"{rate:,.0f} MB/s")
