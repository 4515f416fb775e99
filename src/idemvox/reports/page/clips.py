"""Recordings inside the page: short clips as data URIs, so that players need no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path

import numpy as np
import soundfile

from idemvox.arrays import Wave
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import AudioError
from idemvox.reports.page.html import Html

__all__ = ["BUDGET", "Clip", "Clips", "encoded", "player"]

BUDGET = 20_000_000
"""Most bytes of audio in a page, as written in it."""
_QUALITY = 0.5  # of libsndfile's variable-rate MP3, 0 best to 1 smallest: 40 kbit/s of mono speech at 16 kHz


@dataclass(frozen=True, slots=True)
class Clip:
    """The start of an utterance.

    Attributes:
        uri: data URI of its audio.
        cut: whether the utterance goes on after it.
    """

    uri: str
    cut: bool


@dataclass(slots=True)
class Clips:
    """Makes clips until the budget is spent, and counts those that it could not make.

    Attributes:
        left: bytes that may still be written.
        unread: utterances whose audio could not be read, each with the reason.
        left_out: utterances for which nothing was left.
        made: clips made so far.
    """

    left: int = BUDGET
    made: int = 0
    left_out: int = 0
    unread: dict[str, str] = field(default_factory=dict)

    def cut(self, utterances: Manifest, seconds: float) -> dict[str, Clip]:
        """Return clips of the first seconds of utterances, by id; some may have no audio or no room."""
        found = {}
        for utterance in utterances:
            try:
                wave = _start(utterances.path(utterance), utterance, seconds)
            except AudioError as error:
                self.unread[utterance.id] = str(error)
                continue
            uri = encoded(wave)
            if len(uri) > self.left:
                self.left_out += 1
                continue
            self.left -= len(uri)
            self.made += 1
            found[utterance.id] = Clip(uri, utterance.seconds > seconds)
        return found

    @property
    def words(self) -> str:
        """Return what a reader should know about the audio in the page."""
        parts = []
        if self.made:
            size = (BUDGET - self.left) / 1e6
            parts.append(f"This page contains {self.made} clips of recordings ({size:.1f} MB).")
        if self.left_out:
            parts.append(f"{self.left_out} more would have made it larger than {BUDGET / 1e6:g} MB.")
        if self.unread:
            first = next(iter(self.unread.values()))
            parts.append(f"{len(self.unread)} recordings have no player, because: {first}")
        return " ".join(parts)


def player(clip: Clip | None, label: str) -> Html:
    """Return a player, or words that say there is no audio."""
    if clip is None:
        return Html('<span class="silent">no audio</span>')
    return Html(f'<audio controls preload="none" aria-label="{escape(label)}" src="{clip.uri}"></audio>')


def encoded(wave: Wave) -> str:
    """Return the data URI of a wave (T,) at 16 kHz: MP3, or FLAC if libsndfile cannot write MP3.

    Every browser plays both.
    """
    file = io.BytesIO()
    pcm = np.clip(wave, -1, 1)
    if _has_mp3():
        kind = "audio/mpeg"
        options = {"bitrate_mode": "VARIABLE", "compression_level": _QUALITY}
        soundfile.write(file, pcm, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", **options)
    else:
        kind = "audio/flac"
        soundfile.write(file, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


@cache
def _has_mp3() -> bool:
    """Return whether libsndfile was built with an MP3 encoder."""
    return bool(soundfile.check_format("MP3", "MPEG_LAYER_III"))


def _start(path: Path, utterance: Utterance, seconds: float) -> Wave:
    """Read the first seconds of an utterance."""
    samples = round(min(seconds, utterance.seconds) * SAMPLE_RATE)
    wave = read(path, round((utterance.start or 0) * SAMPLE_RATE), samples)
    if not len(wave):
        raise AudioError(f"cannot read {path}: it ends before the utterance {utterance.id!r} starts")
    return wave
