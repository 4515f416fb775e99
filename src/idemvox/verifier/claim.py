"""Whether a recording is the voice of an enrolled speaker who it is said to be."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import NobodyEnrolled, StoreError
from idemvox.verifier.listening import Facts
from idemvox.verifier.roster import Row
from idemvox.verifier.store import SpeakerStore
from idemvox.verifier.verdict import Verdict, judge
from idemvox.verifier.verifier import Verifier, Voice

__all__ = ["verify_claim"]

Floats = NDArray[np.float32]


def verify_claim(
    verifier: Verifier,
    voice: Voice,
    name: str,
    *,
    store: SpeakerStore,
    channel: str | None = None,
    false_accept_rate: float = 0.01,
) -> Verdict:
    """Decide whether a recording is of an enrolled speaker; see :class:`~idemvox.verifier.verdict.Verdict`.

    It is compared with the mean of the speaker's enrolments, as in identification. Of several channels, those
    of the recording's bandwidth come first, and of these the one that matches best.

    Args:
        verifier: with the model of the store.
        voice: the recording, from :meth:`~idemvox.verifier.verifier.Verifier.hear`.
        name: who it is said to be.
        store: where that speaker is enrolled.
        channel: compare only with enrolments of this channel; ``None``: with all.
        false_accept_rate: the share of other speakers that may be accepted, a fraction.

    Raises:
        UnknownSpeaker: nobody of this name is enrolled.
        NobodyEnrolled: the speaker is, but not in this channel.
        StoreError: the calibration uses durations, and those of the enrolments are unknown.
    """
    with store.reading():
        mine = sorted(store.enrolments(name), key=lambda e: e.channel)
        mine = [e for e in mine if channel is None or e.channel == channel.strip()]
        if not mine:
            raise NobodyEnrolled(
                f"{name.strip()!r} is not enrolled in channel {channel!r}: name another, or none"
            )
        groups = [list(some) for _, some in groupby(mine, key=lambda e: e.channel)]
        embeddings = [store.embeddings([e.id for e in some]) for some in groups]
    rows = [Row.of(some) for some in groups]
    best, score = 0, None
    if voice.vector is not None:
        scores = [verifier.scorer.score(voice.vector, some.mean(axis=0)) for some in embeddings]
        fits = [row.narrow in (None, voice.facts.narrow) for row in rows]
        best = max(range(len(rows)), key=lambda i: (fits[i], scores[i]))
        score = scores[best]
    calibration = verifier.calibration
    if calibration is not None and calibration.needs_durations and math.isnan(rows[best].seconds):
        raise StoreError(
            f"the durations of the enrolments of {name.strip()!r} are unknown: enrol the speaker again"
        )
    facts = _facts(rows[best], voice.facts)
    if voice.vector is not None and any((some == voice.vector).all(axis=1).any() for some in embeddings):
        facts = replace(facts, digest=voice.facts.digest)  # one of the enrolled recordings itself
    return judge(
        voice.facts,
        facts,
        score,
        calibration,
        verifier.report,
        false_accept_rate=false_accept_rate,
        limits=verifier.limits,
    )


def _facts(row: Row, probe: Facts) -> Facts:
    """Return what is known of enrolments; what is not known, bandwidth apart, is taken for good."""
    return Facts(
        name=f"the enrolment of {row.speaker}",
        content="speech",
        seconds=row.seconds,
        speech=row.seconds,
        level=math.nan,
        clipped=0.0,
        narrow=probe.narrow if row.narrow is None else row.narrow,
        cancelling=False,
        digest=~probe.digest,
    )
