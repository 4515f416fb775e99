"""Packing: decode every utterance of a corpus once, so that each crop is then one small read.

:mod:`idemvox.corpus.packs.packed` describes the format.
"""

from __future__ import annotations

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
from idemvox.corpus.packs.shards import (
    JOURNAL,
    PackWriter,
    locked_journal,
    refuse_others,
    remove_temporary,
    sync_folder,
)
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.files import atomic_write, file_hash, write_json
from idemvox.processes import read_ahead
from idemvox.progress import task_bar

__all__ = ["PackSummary", "advance", "pack"]

AHEAD = 1 << 25  # most samples decoded ahead of the writer: 35 min, 64 MiB


@dataclass(frozen=True, slots=True)
class PackSummary:
    """The result of packing.

    Attributes:
        folder: folder of the pack.
        utterances: number of utterances in it.
        hours: their total length.
        gib: size of the shards in GiB.
        shards: number of shards.
        left_out: number of utterances left out.
        problems: the CSV of all utterances left out; None if there are none.
        new: False if it was packed before and nothing was done.
    """

    folder: Path
    utterances: int
    hours: float
    gib: float
    shards: int
    left_out: int
    problems: Path | None
    new: bool

    def table(self) -> Table:
        """Return the summary as a table for rich."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        size = f"{self.gib:,.2f} GiB" if self.gib >= 1 else f"{self.gib * 1024:,.1f} MiB"
        table.add_row("packed", f"{counted(self.utterances, 'utterance')}, {duration(self.hours)}")
        table.add_row("on disk", f"{size} in {counted(self.shards, 'shard')}")
        where = f", listed in {self.problems}" if self.problems else ""
        table.add_row("left out", Text(f"{self.left_out:,}{where}" if self.left_out else "none"))
        table.add_row("pack", Text(str(self.folder)))
        if not self.new:
            table.add_row("note", "already finished: nothing to do")
        return table


def pack(
    manifest_file: str | Path,
    out: str | Path,
    *,
    shard_gib: float = 2.0,
    workers: int | None = None,
    progress: bool = True,
) -> PackSummary:
    """Write a manifest's audio as 16-bit 16-kHz mono samples into a few large files with an index.

    The samples of an utterance are those read from its file. (A crop of an Opus or a resampled file may
    differ in the last bit, because reading starts elsewhere. ``seconds`` in the manifest are rounded, so a
    file may be a few samples shorter; it is packed at its actual length.)

    An utterance that cannot be read is left out and listed in ``problems.csv``. A run interrupted at any
    moment resumes with the same command and gives the same bytes as an uninterrupted one.

    Args:
        manifest_file: the CSV file.
        out: folder to write to; new, empty, or started by the same command.
        shard_gib: largest size of a shard, in GiB; only a single longer utterance makes a larger one.
        workers: number of threads that decode; None for one per core.
        progress: show a progress bar.

    Raises:
        CorpusError: the manifest is malformed, the folder has other files, another process is packing into
            it, the disk is full, or no utterance can be read.
    """
    manifest_file, out = Path(manifest_file), Path(out)
    if not shard_gib > 0:
        raise CorpusError(f"the size of a shard must be above 0, not {shard_gib} GiB")
    if not manifest_file.is_file():
        load_manifest(manifest_file)  # raises the error that fits
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
            remove_temporary(out)
            if not (out / HEADER).exists():
                with PackWriter(out, journal, job, len(manifest)) as shards:
                    _fill(shards, manifest, workers or os.cpu_count() or 1, progress)
                    _finish(shards, manifest, job)
            summary = _finished(out, job)
            (out / JOURNAL).unlink()
            return replace(summary, new=True)
    except OSError as error:
        raise CorpusError(
            f"cannot write {error.filename or out}: {error.strerror or error}; what was packed is kept: "
            "fix the cause and run the same command again"
        ) from error


def _finished(out: Path, job: Mapping[str, Any]) -> PackSummary:
    """Return the summary of an existing pack; raise an error if it is from another job."""
    header = read_header(out)
    if header.manifest != job["manifest"]:
        raise CorpusError(f"{out} holds the pack of another manifest; delete it, or choose another folder")
    if header.shard_samples != job["shard_samples"]:
        raise CorpusError(
            f"{out} is already packed, in shards of {header.shard_samples / 2**29:g} GiB; "
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


def _fill(shards: PackWriter, manifest: Manifest, workers: int, progress: bool) -> None:
    """Decode the utterances not packed yet, several at a time, and write them in the manifest's order."""
    source = FileSource(manifest)

    def decode(index: int) -> tuple[Pcm, int] | str:
        try:
            pcm = np.empty(int(source.lengths[index]), np.int16)
            pcm = pcm[: source.read_into(index, 0, pcm)]
        except IdemvoxError as error:
            return str(error).removeprefix(f"cannot read {manifest.path(manifest[index])}: ")
        except MemoryError:
            return f"{manifest[index].seconds:,.0f} s of audio do not fit into memory"
        return (pcm, checksum([pcm.data])) if len(pcm) else "no audio at its start"

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
        for result in decoded:
            if isinstance(result, str):
                shards.leave_out(result)
            else:
                shards.add(*result)
                written += 2 * len(result[0])
            advance(bar, 1, written, began)
    shards.commit()


def _finish(shards: PackWriter, manifest: Manifest, job: Mapping[str, Any]) -> None:
    """Write the index, the names and, when these are on disk, the header."""
    out = shards.folder
    kept = [index for index in range(len(manifest)) if index not in shards.problems]
    problems = write_problems(
        out / PROBLEMS,
        [_problem(manifest[index], reason) for index, reason in sorted(shards.problems.items())],
    )
    if not kept:
        os.unlink(out / JOURNAL)  # so that the next run reads all files again
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
    for name, lines in names.items():
        with atomic_write(out / name) as file:
            file.writelines(escaped(lines))
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
    prefix = "" if utterance.id == utterance.path else f"{utterance.id}: "
    return Problem(printable(utterance.path), "cannot be read", prefix + reason)


def advance(bar: Progress, utterances: int, size: int, began: float) -> None:
    """Advance the bar; ``size`` bytes were processed since ``began``."""
    rate = size / 1e6 / max(time.monotonic() - began, 1e-9)
    bar.update(bar.task_ids[0], advance=utterances, note=f"{rate:,.0f} MB/s")
