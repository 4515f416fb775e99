"""Real voices for the demo: spoken clips from Debian and Ubuntu packages, fetched without root."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idemvox.arrays import Wave
from idemvox.audio.channel import active_rms
from idemvox.audio.decoders import SUFFIXES
from idemvox.audio.read import SAMPLE_RATE, read, write_wav
from idemvox.audio.speech import active
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.draws import stable_seed
from idemvox.errors import AudioError
from idemvox.files import atomic_write, read_json, write_json
from idemvox.progress import progress_bar

__all__ = ["VOICES", "Fetched", "Voice", "fetch_voices", "join_clips", "trim"]

log = logging.getLogger(__name__)


SHORTEST, USUAL, LONGEST = 3.0, 4.5, 6.0  # seconds of an utterance: clips are joined up to 3-4.5 s, cut at 6
GAP = 0.1  # seconds between clips
MOST, LEAST = 60, 10  # utterances of a voice; a voice with fewer than LEAST is left out
LEVEL = 0.05  # RMS, 26 dB below full scale
NO_SPEECH = re.compile(r"/silence/|beep|2tone|monkeys|confbridge-(join|leave)")
FRAME = SAMPLE_RATE // 100
APT = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30", "-o", "APT::Sandbox::User=root")


@dataclass(frozen=True, slots=True)
class Voice:
    """One person's clips: the files of ``package`` whose path under usr/share matches ``pattern``."""

    name: str
    package: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of ``fetch_voices``: a manifest, or None with the reasons in ``notes``."""

    manifest: Manifest | None
    notes: tuple[str, ...] = ()


def _klettres(*languages: str) -> list[Voice]:
    return [
        Voice(f"klettres-{code.replace('/', '-')}", "klettres-data", f"klettres/{code}/")
        for code in languages
    ]


def _ktuberling(name: str, kept: str = "") -> Voice:
    return Voice(f"ktuberling-{name}", "ktuberling-data", f"ktuberling/sounds/{name[:2]}/{kept}")


# The packages name no speakers. A folder counts as one voice if the pitch of its clips is consistent; if
# there are two pitches, only consistent parts are used, as separate voices. Allison Smith speaks both the
# English and the Spanish prompts. Left out: klettres' da, lt, nds, ru and uk, which may be two people or the
# voices of ktuberling, and ktuberling's en, which has loud hum.
VOICES: tuple[Voice, ...] = (
    Voice("allison", "asterisk-core-sounds-en-wav", "asterisk/sounds/en_US_f_Allison/"),
    Voice("allison", "asterisk-core-sounds-es-wav", "asterisk/sounds/es_MX_f_Allison/"),
    Voice("june", "asterisk-core-sounds-fr-wav", "asterisk/sounds/fr_CA_f_June/"),
    Voice("carlo", "asterisk-core-sounds-it-wav", "asterisk/sounds/it_IT_m_Carlo/"),
    Voice("ivrvoice-ru", "asterisk-core-sounds-ru-wav", "asterisk/sounds/ru_RU_f_IvrvoiceRU/"),
    *_klettres("ar", "cs", "de/alpha", "de/syllab", "en", "en_GB", "es", "fr", "he", "hu", "it"),
    *_klettres("ml", "nb", "nl", "pt_BR", "tn"),
    _ktuberling("ca-woman", "(butterflies|egypt|patata|robot|tv)_"),
    _ktuberling("da-man", "(?!tux|xmas)"),
    _ktuberling("da-woman", "(tux|xmas)"),
    _ktuberling("de"),
    _ktuberling("el"),
    _ktuberling("fr", "(egypte|lune|noel|papillons|pizzeria|robot|tv)_"),
    _ktuberling("gl"),
    _ktuberling("lt", "(tux|tv|xmas)"),
    _ktuberling("nn"),
    _ktuberling("ru-man", "(?!tux|tv|xmas)"),
    _ktuberling("ru-woman", "(tux|xmas)"),
    _ktuberling("sl"),
    _ktuberling("uk"),
    _ktuberling("wa"),
)


def fetch_voices(cache: Path, progress: bool = True) -> Fetched:
    """Fetch real voices through apt and write them as utterances of 3-6 s below ``cache / "voices"``.

    This downloads about 185 MB as an ordinary user and installs nothing. If the system has no package lists,
    private ones are fetched into ``cache``. Packages that cannot be fetched are skipped and named in the
    notes. A second call returns the same voices; after a kill, a call resumes. The packages' licences are in
    ``cache / "LICENCES.txt"``. ``recording`` is None, because the recordings are unknown.

    Args:
        cache: a folder used for nothing else; only this folder is written to.
        progress: whether to show a bar.
    """
    cache = Path(cache).absolute()
    folder = cache / "voices"
    if (folder / "manifest.csv").exists():
        return Fetched(load_manifest(folder / "manifest.csv"), tuple(read_json(folder / "notes.json")))
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        return _without([f"no {' and no '.join(missing)} here, so no packages with real voices"])
    with progress_bar(progress, stderr=True) as bar:
        packages = sorted({voice.package for voice in VOICES})
        notes = _fetch_packages(cache, bar.track(packages, description="packages with real voices"))
        if not any(_unpacked(cache, package).is_dir() for package in packages):
            return _without(notes)
        names = sorted({voice.name for voice in VOICES})
        rows = [row for name in bar.track(names, description="voices") for row in _voice(cache, name)]
    if not rows:
        return _without([*notes, "no voice in the packages has enough speech"])
    _write_licences(cache, [package for package in packages if _unpacked(cache, package).is_dir()])
    write_json(folder / "notes.json", notes)
    save_manifest(Manifest(rows, folder), folder / "manifest.csv")
    for name in ("unpacked", "apt"):
        shutil.rmtree(cache / name, ignore_errors=True)
    return Fetched(load_manifest(folder / "manifest.csv"), tuple(notes))


def _without(notes: list[str]) -> Fetched:
    for note in notes:
        log.warning("%s", note)
    return Fetched(None, tuple(notes))


def _unpacked(cache: Path, package: str) -> Path:
    return cache / "unpacked" / package


def _fetch_packages(cache: Path, packages: Iterable[str]) -> list[str]:
    """Download and unpack missing packages; return a note for each one that cannot be fetched.

    The system's package lists are tried first. At the first failure, private lists are fetched once.
    """
    options: tuple[str, ...] = ()
    notes = []
    for package in packages:
        if _unpacked(cache, package).is_dir():
            continue
        reason = _fetch_package(cache, package, options)
        if reason and not options:
            options = _private(cache)
            if offline := _fetch_lists(cache):
                return [f"no {package}, nor the packages after it: {reason}; {offline}"]
            reason = _fetch_package(cache, package, options)
        if reason:
            notes.append(f"no {package}: {reason}")
    return notes


def _private(cache: Path) -> tuple[str, ...]:
    """Return the options that make apt use lists and caches below ``cache``."""
    lists, work = cache / "apt" / "lists", cache / "apt" / "cache"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (work / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={work}")


def _fetch_lists(cache: Path) -> str:
    """Fetch private package lists; return the reason of a failure, or ''."""
    reason = _run(["apt-get", *APT, *_private(cache), "update"], cache)
    if any((cache / "apt" / "lists").glob("*Packages*")):
        return ""  # hooks of the system's apt may fail without root, but the lists are there
    return reason or "no package lists can be fetched either; check the network"


def _fetch_package(cache: Path, package: str, options: tuple[str, ...]) -> str:
    """Download and unpack one package; return the reason of a failure, or ''."""
    target = _unpacked(cache, package)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{package}.") as name:
        folder = Path(name)
        reason = _run(["apt-get", *APT, *options, "download", package], folder)
        files = sorted(folder.glob("*.deb"))
        if reason or not files:
            return reason or "apt-get downloaded nothing"
        reason = _run(["dpkg-deb", "-x", str(files[0]), str(folder / "unpacked")], folder)
        if not reason:
            os.replace(folder / "unpacked", target)
        return reason


def _run(command: list[str], folder: Path) -> str:
    """Run a command in ``folder``; return its first error message, or ''."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=900
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines
    return errors[0] if errors else f"{command[0]} ended with status {done.returncode}"


def _voice(cache: Path, name: str) -> list[Utterance]:
    """Write one voice's utterances and return their manifest rows; none if there are too few."""
    files = [file for voice in VOICES if voice.name == name for file in _clip_files(cache, voice)]
    rng = np.random.default_rng(stable_seed("voice", name))
    clips: list[Wave] = []
    seconds = 0.0
    for index in rng.permutation(len(files)):
        clip = _clip(files[index])
        if clip is not None:
            clips.append(clip)
            seconds += len(clip) / SAMPLE_RATE + GAP
        if seconds > MOST * LONGEST:
            break
    usual = min(USUAL, max(SHORTEST, seconds / (LEAST + 3)))  # little speech: shorter utterances
    utterances = list(join_clips(clips, rng, usual))[:MOST]
    if len(utterances) < LEAST:
        return []
    rows = []
    for number, wave in enumerate(utterances):
        path = f"{name}/{number:03}.wav"
        write_wav(cache / "voices" / path, wave)
        rows.append(Utterance(f"{name}/{number:03}", path, len(wave) / SAMPLE_RATE, SAMPLE_RATE, name))
    return rows


def _clip_files(cache: Path, voice: Voice) -> list[Path]:
    share = _unpacked(cache, voice.package) / "usr" / "share"
    pattern = re.compile(voice.pattern)
    names = sorted(file.relative_to(share).as_posix() for file in share.rglob("*") if file.suffix in SUFFIXES)
    return [share / name for name in names if pattern.match(name) and not NO_SPEECH.search(name)]


def _clip(file: Path) -> Wave | None:
    """Return a clip's speech at a fixed level; None if there is none or it cannot be read."""
    try:
        wave = trim(read(file))
    except AudioError as error:
        log.info("%s", error)
        return None
    if len(wave) < 0.15 * SAMPLE_RATE:
        return None
    gain = min(LEVEL / active_rms(wave), 0.95 / float(np.max(np.abs(wave))))
    return np.asarray(wave * gain, dtype=np.float32)


def trim(wave: Wave) -> Wave:
    """Return ``wave`` without silence at its ends, except 30 ms; empty if all of it is silent."""
    count = len(wave) // FRAME
    power = np.mean(wave[: count * FRAME].reshape(count, FRAME).astype(np.float64) ** 2, axis=1)
    speech = np.flatnonzero(active(power))
    if not len(speech):
        return wave[:0]
    return wave[max(0, speech[0] - 3) * FRAME : (speech[-1] + 4) * FRAME]


def join_clips(clips: Iterable[Wave], rng: np.random.Generator, usual: float = USUAL) -> Iterator[Wave]:
    """Yield utterances of 3-6 s: clips in order, 0.1 s apart, up to a length drawn from 3 s to ``usual``.

    Audio beyond 6 s starts the next utterance; a last utterance shorter than 3 s is dropped.
    """
    gap = np.zeros(round(GAP * SAMPLE_RATE), dtype=np.float32)
    most = round(LONGEST * SAMPLE_RATE)
    joined = np.zeros(0, dtype=np.float32)
    wanted = rng.uniform(SHORTEST, usual)
    for clip in clips:
        joined = np.concatenate([joined, gap, clip]) if len(joined) else clip
        while len(joined) >= wanted * SAMPLE_RATE:
            yield joined[:most]
            joined, wanted = joined[most:], rng.uniform(SHORTEST, usual)


def _write_licences(cache: Path, packages: list[str]) -> None:
    """Write the packages' licence texts, word for word."""
    with atomic_write(cache / "LICENCES.txt") as file:
        file.write(
            "The recordings in this folder were cut, joined, resampled and scaled to one level, from the\n"
            "packages named here. They are not part of idemvox; to distribute them, follow their licences:\n"
            "asterisk-core-sounds CC BY-SA 3.0 (it, ru: CC BY 3.0), klettres and ktuberling GPL 2 or later.\n"
        )
        for package in packages:
            copyright_file = _unpacked(cache, package) / "usr" / "share" / "doc" / package / "copyright"
            text = (
                copyright_file.read_text(errors="replace") if copyright_file.exists() else "see the package"
            )
            file.write(f"\n{'=' * 78}\n{package}\n{'=' * 78}\n{text}\n")
