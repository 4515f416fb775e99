"""The voices of the demo: fetched, synthesised or the user's, some held out, dealt into recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from rich.console import Console

from idemvox.audio.channel import ChannelSpec
from idemvox.corpus.manifest import Manifest, load_manifest, save_manifest
from idemvox.corpus.simulated.recordings import simulate_recordings
from idemvox.corpus.simulated.voices import synthetic_voices
from idemvox.errors import CorpusError
from idemvox.studies.debian import Fetched, fetch_voices

__all__ = ["REAL", "cache_folder", "find_voices", "hold_out", "shuffled", "split_voices"]

REAL = "real voices from Debian packages, in simulated recordings"
SPEEDS = (0.84, 1.0, 1.19)  # speed-perturbed copies count as other voices, as in Kaldi's recipes
STRENGTH = "mild"


def cache_folder() -> Path:
    """Return the folder that keeps downloaded voices between demos: ``$XDG_CACHE_HOME/idemvox``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "idemvox"


def find_voices(
    corpus: Path | None, synthetic: bool, console: Console, progress: bool
) -> tuple[Manifest, str]:
    """Return labelled utterances and a description of them; arguments as for the demo.

    Raises:
        CorpusError: the corpus has too few speakers.
    """
    if corpus is not None:
        manifest = load_manifest(corpus)
        if len(manifest.speakers) < 4:
            raise CorpusError(
                f"{corpus} names {len(manifest.speakers)} speakers; the study needs labels of at least 4 "
                "(for scoring, diagnostics and the supervised row)"
            )
        return manifest, f"the corpus {corpus.name}"
    if not synthetic:
        fetched: Fetched = fetch_voices(cache_folder(), progress)
        for note in fetched.notes:
            console.print(f"note: {note}")
        if fetched.manifest is not None:
            return fetched.manifest, REAL
    console.print(
        "[bold yellow]THESE VOICES ARE SYNTHETIC[/]: no package client provided real ones, so a "
        "source-filter synthesiser made some. The numbers below show that the software works; they say "
        "nothing about speech."
    )
    voices = synthetic_voices(cache_folder() / "synthetic", 40, 28, 0, os.cpu_count() or 1)
    return voices, "SYNTHETIC voices (source-filter synthesiser), in simulated recordings"


def shuffled(source: Manifest) -> list[str]:
    """Return the speakers in a random order, always the same."""
    return [str(name) for name in np.random.default_rng(0).permutation(source.speakers)]


def hold_out(source: Manifest) -> set[str]:
    """Return a fifth of the speakers, which are scored and not trained on."""
    names = shuffled(source)
    return set(names[: max(2, len(names) // 5)])


def split_voices(
    source: Manifest,
    held: set[str],
    out: Path,
    *,
    simulate: bool,
    utterances: int,
    recordings: int,
    progress: bool,
) -> tuple[Manifest, Manifest, bool]:
    """Return training part, test part with the speakers held out, and whether recordings are real.

    Args:
        source: all utterances.
        held: the speakers of the test part.
        out: folder for both parts.
        simulate: cut each voice's utterances to ``utterances`` and add copies at other speeds.
        utterances: most of each voice, at each speed.
        recordings: simulated recordings of each training voice, where most speakers have only one real one.
        progress: show progress bars.
    """
    names = source.speakers
    several = [len({u.recording for u in source if u.speaker == s and u.recording}) > 1 for s in names]
    parts = (
        ("train", source.select(lambda u: u.speaker is not None and u.speaker not in held)),
        ("test", source.select(lambda u: u.speaker in held)),
    )
    if sum(several) * 2 > len(names):
        for name, part in parts:
            save_manifest(part, out / name / "manifest.csv")
        return (
            load_manifest(out / "train" / "manifest.csv"),
            load_manifest(out / "test" / "manifest.csv"),
            True,
        )
    simulated = [
        simulate_recordings(
            _cap(part, utterances) if simulate else part,
            out / name,
            recordings if name == "train" else 4,
            ChannelSpec.preset(STRENGTH),
            seed,
            seconds=(1.5, 6.0),
            fewest=3,
            speeds=SPEEDS if simulate else (1.0,),
            workers=os.cpu_count() or 1,
            progress=progress,
        )
        for seed, (name, part) in enumerate(parts)
    ]
    return simulated[0], simulated[1], False


def _cap(manifest: Manifest, most: int) -> Manifest:
    """Keep the first utterances of each speaker."""
    seen: dict[str | None, int] = {}

    def keep(speaker: str | None) -> bool:
        seen[speaker] = seen.get(speaker, 0) + 1
        return seen[speaker] <= most

    return manifest.select(lambda u: keep(u.speaker))
