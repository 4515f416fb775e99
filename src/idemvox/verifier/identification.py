"""Identification: whose voice is this, among the speakers of a store?"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import CorpusError, IdemvoxError
from idemvox.verification.calibration import Calibration
from idemvox.verification.scoring import Scorer
from idemvox.verifier.index import Shortlist
from idemvox.verifier.roster import Combining, Roster, load_roster
from idemvox.verifier.store import SpeakerStore

__all__ = ["Candidate", "Identification", "Identifier", "open_set_threshold"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A speaker and how well the recording matches.

    Attributes:
        score: by the model's scorer; the best of the speaker's channels or enrolments.
        llr: natural-log likelihood ratio; ``None`` if it is not known.
        channel: of the enrolments that matched best.
        narrow: whether these have nothing above 4 kHz; ``None`` if unknown or mixed.
    """

    speaker: str
    score: float
    llr: float | None
    channel: str
    narrow: bool | None


@dataclass(frozen=True, slots=True)
class Identification:
    """Whose voice it is; ``str(identification)`` puts it into words.

    Attributes:
        candidates: the best matches, best first.
        decision: ``speaker`` (the first candidate), ``nobody`` of the store, or ``undecided``, because
            likelihood ratios are not known.
        threshold: of the log-likelihood ratio, for as many comparisons; ``None`` if undecided.
        reason: why, in words.
        comparisons: embeddings that the recording was compared with.
        warnings: what makes the decision less sure.
    """

    candidates: tuple[Candidate, ...]
    decision: Literal["speaker", "nobody", "undecided"]
    threshold: float | None
    reason: str
    comparisons: int
    warnings: tuple[str, ...] = ()

    @property
    def speaker(self) -> str | None:
        """Name of the speaker; ``None`` for nobody, and if undecided."""
        return self.candidates[0].speaker if self.decision == "speaker" else None

    def __str__(self) -> str:
        words = {"nobody": "nobody", "undecided": "no decision"}
        first = f"{self.speaker or words[self.decision]}: {self.reason}"
        return "; ".join([first, *(f"warning: {text}" for text in self.warnings)])


class Identifier:
    """Compares recordings with the speakers of a store; several threads may use one.

    Args:
        store: it may change meanwhile, also by other processes.
        scorer: of the model.
        calibration: of the model, for the same scorer; without it there are scores and no decision.
        combining: how several enrolments of a speaker count.
        channel: compare only with enrolments of this channel; ``None``: with all.
        shortlist: compare only with about so many rows, which an approximate index finds (extra ``index``);
            for millions of speakers. ``None``: with all.
    """

    def __init__(
        self,
        store: SpeakerStore,
        scorer: Scorer,
        calibration: Calibration | None = None,
        *,
        combining: Combining = "mean",
        channel: str | None = None,
        shortlist: int | None = None,
    ) -> None:
        self.store = store
        self.scorer = scorer
        self.calibration = calibration
        self.combining = combining
        self.channel = channel
        self._count = shortlist or 0
        self._shortlist = Shortlist(scorer) if shortlist else None
        self._lock = threading.Lock()
        self._roster: Roster | None = None

    def identify(
        self,
        embedding: ArrayLike,
        top: int = 5,
        *,
        seconds: float | None = None,
        quality: float | None = None,
        narrow: bool | None = None,
        false_accept_rate: float = 0.01,
    ) -> Identification:
        """Return whose voice it is, and the best matches.

        Args:
            embedding: (D,) of the recording.
            top: most candidates to return.
            seconds: of speech in it; needed if the calibration uses durations.
            quality: of the recording; needed if the calibration uses it.
            narrow: whether it has nothing above 4 kHz; then enrolments that have are warned of, and the other
                way round.
            false_accept_rate: of all recordings of strangers, the share that may be given a name. See
                :func:`open_set_threshold`.

        Raises:
            StoreError: the store is empty, or has no enrolment in the channel.
        """
        roster = self.roster()
        scores = roster.scores(self.scorer, embedding, self._rows(roster, embedding))  # (N,)
        llrs, missing = self._llrs(scores, roster, seconds, quality)
        ranked = scores if llrs is None else llrs
        best = np.maximum.reduceat(ranked[roster.order], roster.starts)  # (S,)
        candidates = tuple(
            _candidate(speaker, roster, scores, llrs)
            for speaker in _highest(best, max(1, top))
            if best[speaker] > -np.inf
        )
        warnings = _bandwidths(candidates[0], narrow)
        comparisons = len(roster.order)
        if llrs is None or self.calibration is None:
            return Identification(candidates, "undecided", None, missing, comparisons, warnings)
        threshold, basis = open_set_threshold(self.calibration, false_accept_rate, comparisons)
        first = float(best.max())
        known = first >= threshold
        reason = (
            f"log-likelihood ratio {first:.2f} is {'at or above' if known else 'below'} the threshold "
            f"{threshold:.2f} {basis}"
        )
        return Identification(
            candidates, "speaker" if known else "nobody", threshold, reason, comparisons, warnings
        )

    def _llrs(
        self, scores: Floats, roster: Roster, seconds: float | None, quality: float | None
    ) -> tuple[NDArray[np.float64] | None, str]:
        """Return (N,) log-likelihood ratios, or ``None`` and why there are none."""
        if self.calibration is None:
            return None, "the model is not calibrated, so scores say who is nearest, not whether it is them"
        sides = {}
        for what, needed, mine, theirs in (
            ("durations", self.calibration.needs_durations, seconds, roster.seconds),
            ("quality", self.calibration.needs_quality, quality, roster.quality),
        ):
            if not needed:
                continue
            theirs = np.where(roster.used, theirs, 1.0)
            lacking = int(np.isnan(theirs).sum())
            if mine is None or lacking:
                whose = "the recording" if mine is None else f"{lacking:,} of the enrolments"
                return None, f"the calibration uses {what}, unknown for {whose}: enrol or calibrate again"
            sides[what] = np.stack([np.full(len(theirs), mine), theirs], axis=1)
        return self.calibration.llr(scores, **sides), ""

    def _rows(self, roster: Roster, embedding: ArrayLike) -> NDArray[np.intp] | None:
        """Return the rows of the shortlist; ``None`` for all."""
        if self._shortlist is None:
            return None
        with self._lock:
            return self._shortlist.rows(roster, embedding, self._count)

    def roster(self) -> Roster:
        """Return the store's present state, of which only what is new is read."""
        with self._lock:
            if self._roster is None or self.store.version() != self._roster.version:
                self._roster = load_roster(
                    self.store, self.scorer, self._roster, combining=self.combining, channel=self.channel
                )
            return self._roster


def open_set_threshold(
    calibration: Calibration, false_accept_rate: float, comparisons: int
) -> tuple[float, str]:
    """Return the threshold of log-likelihood ratios when a recording is compared many times, and its basis.

    A stranger compared with N enrolled voices has N chances to be accepted. Each comparison therefore gets
    the false-accept rate a = ``false_accept_rate`` / N (the union bound). If the calibration trials are too
    few for so low a rate, the threshold is ln(1 / a): of calibrated ratios, at most that share of impostor
    trials reaches it, by Markov's inequality; it is never below the threshold of the lowest supported rate.

    Raises:
        IdemvoxError: the rate is not between 0 and 1.
    """
    if not 0 < false_accept_rate < 1:
        raise IdemvoxError(f"a false-accept rate is between 0 and 1, got {false_accept_rate:g}")
    rate = false_accept_rate / comparisons
    words = f"for {comparisons:,} comparisons and {100 * false_accept_rate:g} % of strangers accepted"
    try:
        return calibration.threshold(rate).llr, words
    except CorpusError:
        lowest = calibration.points[0].llr if calibration.points else -math.inf
        return max(-math.log(rate), lowest), f"{words} (by the ratio itself: too few calibration trials)"


def _highest(values: NDArray[np.floating[Any]], count: int) -> list[int]:
    """Return the places of the highest values, highest first; equal ones in their order."""
    count = min(count, len(values))
    found = np.argpartition(-values, count - 1)[:count]
    return sorted(found.tolist(), key=lambda place: (-values[place], place))


def _candidate(speaker: int, roster: Roster, scores: Floats, llrs: NDArray[np.float64] | None) -> Candidate:
    """Return a speaker with the scores of the row that matches best."""
    end = roster.starts[speaker + 1] if speaker + 1 < len(roster.starts) else len(roster.order)
    rows = roster.order[roster.starts[speaker] : end]
    row = rows[np.argmax((scores if llrs is None else llrs)[rows])]
    llr = None if llrs is None else float(llrs[row])
    matched = roster.rows[row]
    return Candidate(matched.speaker, float(scores[row]), llr, matched.channel, matched.narrow)


def _bandwidths(candidate: Candidate, narrow: bool | None) -> tuple[str, ...]:
    """Return a warning if a recording and the enrolments that match best are of different bandwidth."""
    if narrow is None or candidate.narrow is None or narrow == candidate.narrow:
        return ()
    whose = f"{candidate.speaker}'s enrolments"
    one, other = ("the recording has", f"{whose} have") if narrow else (f"{whose} have", "the recording has")
    return (f"{one} nothing above 4 kHz, as over a telephone, and {other}: enrol from such recordings too",)
