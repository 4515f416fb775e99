"""Simulated recordings: each speaker's utterances are split into several, each with its own channel."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from idemvox.audio.channel import ChannelSpec, draw_channel
from idemvox.audio.read import SAMPLE_RATE, probe, read, write_wav
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.draws import stable_seed
from idemvox.errors import CorpusError
from idemvox.files import read_json, write_json
from idemvox.processes import process_pool
from idemvox.progress import task_bar

__all__ = ["finished", "simulate_recordings"]

VERSION = 1  # raise it when the same settings give different audio
PRECISION = 1e-9  # seconds


@dataclass(frozen=True, slots=True)
class _Piece:
    """The source of one simulated utterance: part of a file, read at a speed.

    Attributes:
        source: audio file.
        start: position in the source, in 16-kHz samples.
        samples: samples of the source; None for all to its end.
        owner: owner of the channels: the speaker, or the utterance if the speaker is unknown.
        path: path below the output folder.
    """

    id: str
    source: str
    start: int
    samples: int | None
    speed: float
    speaker: str | None
    owner: str
    recording: str = ""
    path: str = ""


def simulate_recordings(
    manifest: Manifest,
    out: Path,
    recordings: int,
    spec: ChannelSpec,
    seed: int,
    seconds: tuple[float, float] | None = None,
    fewest: int = 1,
    speeds: tuple[float, ...] = (1.0,),
    workers: int = 2,
    progress: bool = True,
) -> Manifest:
    """Split each speaker's utterances into simulated recordings, and write them as 16-kHz 16-bit WAV.

    A simulated recording is a channel (room, device, codec, noise floor) that all its utterances pass
    through. Its seed is a hash of (seed, speaker, number), so it depends on nothing else; in the manifest its
    name is ``SPEAKER/simN``. An utterance without a speaker has its own recording. The folder also gets
    ``manifest.csv`` and ``simulation.json``. An interrupted run resumes; a complete folder is returned
    unchanged.

    Args:
        manifest: the utterances; some must have speakers.
        out: folder to write to.
        recordings: simulated recordings of each speaker; their numbers of utterances differ by at most 1.
        spec: how much the channels may differ.
        seed: seed of the channels, the split and the noise.
        seconds: (shortest, longest) utterance. Longer ones are first cut into equal pieces, ``ID#0``,
            ``ID#1`` and so on; shorter ones are dropped.
        fewest: fewest utterances of a recording; a speaker with few utterances gets fewer recordings.
        speeds: each speed other than 1 makes new speakers, ``SPEAKER@0.9``, by resampling (the pitch changes
            too).
        workers: number of processes; 1 for no additional process.
        progress: whether to show a progress bar.

    Raises:
        CorpusError: there are no speakers or no utterances of sufficient length, settings are invalid, a file
            is unreadable, or the folder holds a simulation with other settings.
    """
    out = Path(out)
    if min(recordings, workers, fewest) < 1:
        raise CorpusError(
            f"recordings, workers and fewest must be 1 or more, not {recordings}, {workers}, {fewest}"
        )
    if not manifest.speakers:
        raise CorpusError(
            f"no utterance of the manifest in {manifest.root} has a speaker, and simulated recordings "
            "need speakers; fill in its `speaker` column"
        )
    pieces = _split(list(_pieces(manifest, seconds, speeds)), recordings, fewest, seed)
    if not pieces:
        raise CorpusError(f"no utterance is long enough for seconds={seconds}; lower the first number")
    settings = {
        "version": VERSION,
        "source": _fingerprint(manifest),
        "recordings": recordings,
        "fewest": fewest,
        "seed": seed,
        "seconds": list(seconds) if seconds else None,
        "speeds": list(speeds),
        "spec": json.loads(json.dumps(asdict(spec))),
    }
    existing = finished(out, "simulation.json", settings)
    if existing is not None:
        return existing
    write_json(out / "simulation.json", settings)
    lengths = _run(pieces, out, spec, seed, workers, progress)
    rows = [Utterance(p.id, p.path, lengths[p.id], SAMPLE_RATE, p.speaker, p.recording) for p in pieces]
    result = Manifest(rows, out)
    save_manifest(result, out / "manifest.csv")
    return load_manifest(out / "manifest.csv")


def _pieces(
    manifest: Manifest, seconds: tuple[float, float] | None, speeds: tuple[float, ...]
) -> Iterator[_Piece]:
    """Yield all pieces of all utterances at all speeds, without ``recording`` and ``path``."""
    if seconds is not None and not 0 <= seconds[0] <= seconds[1]:
        raise CorpusError(f"seconds must be (shortest, longest), not {seconds}")
    if not speeds or len(set(speeds)) < len(speeds) or not all(0.25 <= speed <= 4 for speed in speeds):
        raise CorpusError(f"speeds must be different numbers from 0.25 to 4, not {speeds}")
    for speed in speeds:
        mark = "" if speed == 1 else f"@{speed:g}"
        for utterance in manifest:
            speaker = None if utterance.speaker is None else utterance.speaker + mark
            whole = _Piece(
                id=utterance.id + mark,
                source=str(manifest.path(utterance)),
                start=round((utterance.start or 0) * SAMPLE_RATE),
                samples=None if utterance.start is None else round(utterance.seconds * SAMPLE_RATE),
                speed=speed,
                speaker=speaker,
                owner=utterance.id + mark if speaker is None else speaker,
            )
            yield from _cut(whole, utterance.seconds / speed, seconds)


def _cut(whole: _Piece, length: float, seconds: tuple[float, float] | None) -> Iterator[_Piece]:
    """Yield ``whole`` in equal pieces of at most ``seconds[1]``; nothing if they would be too short."""
    if seconds is None or seconds[0] <= length <= seconds[1]:
        yield whole
        return
    shortest, longest = seconds
    if length < shortest or longest <= 0:
        return
    count = math.ceil(length / longest - PRECISION)
    if length / count < shortest:  # equal pieces would be too short: make one fewer, and drop the end
        count -= 1
        length = count * longest
    step = length / count * whole.speed * SAMPLE_RATE
    for index in range(count):
        start, end = round(index * step), round((index + 1) * step)
        yield replace(whole, id=f"{whole.id}#{index}", start=whole.start + start, samples=end - start)


def _split(pieces: list[_Piece], recordings: int, fewest: int, seed: int) -> list[_Piece]:
    """Return the pieces with recordings and paths; each owner's are shuffled, then assigned in turn."""
    if len({piece.id for piece in pieces}) < len(pieces):
        raise CorpusError("two pieces have the same id; rename utterances whose ids end in #N or @SPEED")
    owned: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        owned[piece.speaker is not None, piece.owner].append(index)
    assigned = list(pieces)
    for (known, owner), indices in owned.items():
        order = np.random.default_rng(stable_seed("deal", seed, owner)).permutation(len(indices))
        count = max(1, min(recordings, len(indices) // fewest)) if known else 1
        for turn, which in enumerate(order):
            piece = pieces[indices[which]]
            number = turn % count
            home = _safe(owner) if known else f"unknown/{_safe(owner)}"
            path = f"wav/{home}/sim{number}/{_safe(piece.id)}.wav"
            assigned[indices[which]] = replace(piece, recording=f"{owner}/sim{number}", path=path)
    return assigned


def _safe(name: str) -> str:
    """Return ``name`` as a part of a path; if characters were replaced, a hash keeps names distinct."""
    plain = re.sub(r"[^A-Za-z0-9_.@#-]", "_", name)[:80]
    if plain == name and not name.startswith(".") and name != "unknown":
        return name
    return f"{plain.lstrip('.')}-{stable_seed(name):016x}"


def _fingerprint(manifest: Manifest) -> str:
    """Return a hash of the manifest except recordings, independent of its folder's location."""
    rows = [[u.id, u.path, round(u.seconds, 3), u.speaker] for u in manifest]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def finished(out: Path, record: str, settings: dict[str, Any]) -> Manifest | None:
    """Return the manifest in ``out`` if it was made with ``settings`` and is complete, else None.

    Args:
        out: folder of a manifest, its audio and ``record``.
        record: name of the JSON file with the settings; it is written before the audio, the manifest last.
        settings: the settings that define the content, as loaded from JSON.

    Raises:
        CorpusError: the folder holds a manifest made with other settings.
    """
    if not (out / record).exists():
        if (out / "manifest.csv").exists():
            raise CorpusError(f"{out} holds a manifest of other audio; choose another folder")
        return None
    have = read_json(out / record)
    if have != settings:
        known = have if isinstance(have, dict) else {}
        differ = [key for key in settings if known.get(key) != settings[key]]
        raise CorpusError(
            f"{out} holds audio made with another {', '.join(differ) or 'format'}; "
            "delete that folder or choose another"
        )
    if not (out / "manifest.csv").exists():
        return None
    manifest = load_manifest(out / "manifest.csv")
    return manifest if all(manifest.path(utterance).exists() for utterance in manifest) else None


def _run(
    pieces: list[_Piece], out: Path, spec: ChannelSpec, seed: int, workers: int, progress: bool
) -> dict[str, float]:
    """Write all pieces, one task per recording; return seconds by id."""
    tasks: dict[str, list[_Piece]] = defaultdict(list)
    for piece in pieces:
        tasks[f"{piece.speaker is not None}:{piece.recording}"].append(piece)
    lengths: dict[str, float] = {}
    with task_bar("simulated recordings", len(pieces), progress) as bar:

        def take(seconds: dict[str, float]) -> None:
            lengths.update(seconds)
            bar.advance(bar.task_ids[0], len(seconds))

        if workers == 1:
            for task in tasks.values():
                take(_record(task, out, spec, seed))
        else:
            _spread(list(tasks.values()), out, spec, seed, workers, take)
    return lengths


def _spread(
    tasks: list[list[_Piece]],
    out: Path,
    spec: ChannelSpec,
    seed: int,
    workers: int,
    take: Callable[[dict[str, float]], None],
) -> None:
    """Run the tasks in ``workers`` processes; the first error stops the rest."""
    with process_pool(min(workers, len(tasks))) as pool:
        futures = [pool.submit(_record, task, out, spec, seed) for task in tasks]
        for future in as_completed(futures):
            take(future.result())


def _record(pieces: list[_Piece], out: Path, spec: ChannelSpec, seed: int) -> dict[str, float]:
    """Write the missing utterances of one simulated recording; return seconds by id."""
    lengths: dict[str, float] = {}
    missing: list[_Piece] = []
    for piece in pieces:
        if (out / piece.path).exists():
            lengths[piece.id] = probe(out / piece.path).seconds
        else:
            missing.append(piece)
    if not missing:
        return lengths
    owner, number = missing[0].owner, missing[0].recording.rpartition("/sim")[2]
    channel = draw_channel(stable_seed("channel", seed, owner, int(number)), spec)
    for piece in missing:
        wave = _spoken(piece)
        write_wav(out / piece.path, channel.apply(wave, stable_seed("noise", seed, piece.id)))
        lengths[piece.id] = len(wave) / SAMPLE_RATE
    return lengths


def _spoken(piece: _Piece) -> NDArray[np.float32]:
    """Return the piece's speech before any channel, resampled to its speed."""
    wave = np.asarray(read(Path(piece.source), piece.start, piece.samples), dtype=np.float32)
    if piece.speed != 1 and len(wave):
        wave = np.asarray(soxr.resample(wave, SAMPLE_RATE * piece.speed, SAMPLE_RATE), dtype=np.float32)
    if not len(wave):
        raise CorpusError(f"{piece.source} ends before {piece.id} begins; correct `seconds` in the manifest")
    return wave
