"""Choosing the speakers and utterances of a picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.reports.picture import MOST_RECORDINGS
from idemvox.verification.trials import Trials

__all__ = ["Voices", "choose_voices", "voices_in_manifest", "voices_in_trials"]

Voices = Mapping[str, tuple[str, str]]
"""(speaker, recording) of utterances, by id."""


def voices_in_manifest(manifest: Manifest) -> Voices:
    """Return the utterances whose speaker the manifest names."""
    return {u.id: (u.speaker, u.recording or "") for u in manifest if u.speaker is not None}


def voices_in_trials(trials: Trials) -> Voices:
    """Return speakers found from target trials alone: connected utterances have the same speaker.

    Ids are read as ``speaker/recording/file``, as in VoxCeleb. A speaker is named after its folder if all its
    utterances and no other speaker's are in it, and has a number otherwise. The recording is the folder of
    the file. Utterances without a target trial are left out.
    """
    first, second = trials.enrol_index[trials.labels], trials.test_index[trials.labels]
    size = (len(trials.ids), len(trials.ids))
    _, speaker = connected_components(coo_array((np.ones(len(first)), (first, second)), size), directed=False)
    members: dict[int, list[PurePath]] = defaultdict(list)
    for i in np.unique(np.concatenate([first, second])).tolist():
        members[int(speaker[i])].append(PurePath(trials.ids[i]))
    folders = {s: {path.parent.parent.name for path in paths} for s, paths in members.items()}
    called = {s: next(iter(names)) if len(names) == 1 else "" for s, names in folders.items()}
    shared = Counter(called.values())
    return {
        str(path): (
            called[s] if called[s] and shared[called[s]] == 1 else f"speaker {number}",
            path.parent.name,
        )
        for number, (s, paths) in enumerate(members.items(), 1)
        for path in paths
    }


def choose_voices(voices: Voices, speakers: int = 10, utterances: int = 50, seed: int = 0) -> list[str]:
    """Choose the speakers with the most utterances, and draw some of each from its largest recordings.

    Args:
        voices: all utterances to choose from.
        speakers: most speakers.
        utterances: most utterances of each speaker, from at most as many recordings as a picture can mark.
        seed: the same seed and voices give the same choice.

    Returns:
        Ids, speaker by speaker.

    Raises:
        IdemvoxError: there are fewer than two speakers or four utterances.
    """
    by_speaker: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, (speaker, recording) in sorted(voices.items()):
        by_speaker[speaker][recording].append(name)
    if len(by_speaker) < 2:
        raise IdemvoxError(f"a picture needs at least two speakers to compare, got {len(by_speaker)}")
    counts = Counter(speaker for speaker, _ in voices.values())
    generator = np.random.default_rng(seed)
    chosen: list[str] = []
    for speaker in sorted(sorted(by_speaker), key=lambda s: -counts[s])[:speakers]:
        largest = sorted(by_speaker[speaker].values(), key=len, reverse=True)[:MOST_RECORDINGS]
        names = [name for recording in largest for name in recording]
        drawn = generator.choice(len(names), min(utterances, len(names)), replace=False)
        chosen += [names[i] for i in sorted(drawn)]
    if len(chosen) < 4:
        raise IdemvoxError(f"a picture needs at least four utterances, got {len(chosen)}")
    return chosen
