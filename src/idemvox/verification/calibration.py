"""Calibration: from scores to log-likelihood ratios, and to a threshold for a wanted false-accept rate.

A calibrated score is the natural logarithm of a likelihood ratio: at 2.3, such a score is ten times as likely
if the two recordings are of the same person as if they are not.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError

from idemvox.card import write_card
from idemvox.errors import CorpusError, IdemvoxError, ModelError
from idemvox.files import read_json, write_json
from idemvox.verification.conditions import Conditions, Facts
from idemvox.verification.operating import ERRORS_NEEDED, Point

__all__ = [
    "CALIBRATION_FILE",
    "Calibration",
    "Side",
    "Term",
    "Threshold",
    "load_calibration",
    "save_calibration",
    "side_values",
]

CALIBRATION_FILE = "calibration.json"

Floats = NDArray[np.float64]
Side = Literal["shorter", "longer", "quality"]
_NEEDS: dict[Side, str] = {"shorter": "durations", "longer": "durations", "quality": "quality"}


@dataclass(frozen=True, slots=True)
class Term:
    """What one kind of side information adds to a log-likelihood ratio: ``weight`` times its value.

    Values outside the range of the calibration trials count as the nearest value in it.

    Attributes:
        side: ``shorter`` and ``longer`` are logarithms of the seconds of speech of the two sides;
            ``quality`` is the lower quality of the two.
        mean: mean over the calibration trials.
        low, high: their range.
    """

    side: Side
    weight: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold for a false-accept rate; rates are fractions, 0.01 for 1 %.

    Attributes:
        llr: accept a trial whose log-likelihood ratio is this or more.
        score: the same as a score; with side information, for trials whose side information is the mean of
            the calibration trials.
        far: share of the calibration's impostor trials that are accepted.
        low, high: its 95 % interval, by resampling speakers; ``None`` if the speakers were unknown.
        missed: share of the calibration's target trials that are rejected.
        trials: name of the calibration trials.
        targets, impostors: their numbers.
    """

    llr: float
    score: float
    far: float
    low: float | None
    high: float | None
    missed: float
    trials: str
    targets: int
    impostors: int

    def __str__(self) -> str:
        interval = ""
        if self.low is not None and self.high is not None:
            interval = f" (95 % interval {100 * self.low:.2g} to {100 * self.high:.2g} %)"
        return (
            f"accept from a log-likelihood ratio of {self.llr:.2f} (score {self.score:.4g}); it accepts "
            f"{100 * self.far:.2g} % of the impostors{interval} and rejects {100 * self.missed:.2g} % of the "
            "targets"
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression from scores to natural-log likelihood ratios.

    llr = offset + slope * score + the terms of side information. Side information is added, as in "Quality
    measure functions for calibration of speaker recognition systems in various duration conditions"
    (Mandasari et al., 2013, section III).

    Attributes:
        slope: above 0, so the order of trials with equal side information does not change.
        terms: empty without side information.
        prior: probability of a target trial for which the regression was weighted.
        scoring: description of the scorer whose scores it is for.
        trials: name of the calibration trials.
        targets, impostors: their numbers.
        speakers: number of speakers; ``None`` if unknown.
        points: thresholds by false-accept rate, rates rising; only rates that the trials support.
        conditions: what the calibration's recordings were like; ``None`` if that was not measured.
    """

    offset: float
    slope: float
    terms: tuple[Term, ...]
    prior: float
    scoring: str
    trials: str
    targets: int
    impostors: int
    speakers: int | None
    points: tuple[Point, ...]
    conditions: Conditions | None = None

    def __str__(self) -> str:
        who = "" if self.speakers is None else f", {self.speakers:,} speakers"
        text = f"{self.trials}: {self.targets:,} targets, {self.impostors:,} impostors{who}"
        return text if self.conditions is None else f"{text}; {self.conditions}"

    @property
    def needs_durations(self) -> bool:
        """Whether :meth:`llr` needs the durations of speech."""
        return any(_NEEDS[term.side] == "durations" for term in self.terms)

    @property
    def needs_quality(self) -> bool:
        """Whether :meth:`llr` needs the quality of the recordings."""
        return any(_NEEDS[term.side] == "quality" for term in self.terms)

    @property
    def lowest_rate(self) -> float:
        """The lowest false-accept rate that the calibration trials support.

        At this rate they have 30 false accepts. (Doddington's "rule of 30": with 30 independent errors, the
        true rate is within 30 % of the measured one, with 90 % confidence.)
        """
        return ERRORS_NEEDED / self.impostors

    def llr(
        self, scores: ArrayLike, durations: ArrayLike | None = None, quality: ArrayLike | None = None
    ) -> Floats:
        """Return (N,) the natural-log likelihood ratios of scores.

        Args:
            scores: (N,) scores by the scorer that was calibrated.
            durations: (N, 2) seconds of speech of both sides, in any order; needed if
                :attr:`needs_durations`, else ignored.
            quality: (N, 2) quality of both sides; needed if :attr:`needs_quality`, else ignored.

        Raises:
            IdemvoxError: side information is missing or does not fit the scores.
        """
        score = np.asarray(scores, np.float64)
        llr: Floats = self.offset + self.slope * score
        given = {"durations": durations, "quality": quality}
        for term in self.terms:
            values = given[_NEEDS[term.side]]
            if values is None:
                raise IdemvoxError(
                    f"this calibration uses {_NEEDS[term.side]}: give llr(scores, {_NEEDS[term.side]}=...),"
                    " or calibrate without"
                )
            llr = llr + term.weight * np.clip(side_values(term.side, values, len(score)), term.low, term.high)
        return llr

    def score(self, llr: float) -> float:
        """Return the score that has this log-likelihood ratio, with mean side information."""
        return (llr - self.offset - sum(term.weight * term.mean for term in self.terms)) / self.slope

    def threshold(self, false_accept_rate: float) -> Threshold:
        """Return the threshold for a false-accept rate, with the interval of that rate.

        The share of the calibration's impostor trials that it accepts is at most ``false_accept_rate``,
        rounded down to two significant digits.

        Raises:
            CorpusError: the calibration has too few impostor trials for this rate; the message gives the
                lowest rate it supports.
        """
        if not 0 < false_accept_rate < 1:
            raise IdemvoxError(f"a false-accept rate is between 0 and 1, got {false_accept_rate:g}")
        fitting = [point for point in self.points if point.rate <= false_accept_rate * (1 + 1e-9)]
        if not fitting:
            raise CorpusError(self._too_few(false_accept_rate))
        point = fitting[-1]
        return Threshold(
            point.llr,
            self.score(point.llr),
            point.far,
            point.low,
            point.high,
            point.missed,
            self.trials,
            self.targets,
            self.impostors,
        )

    def unlike(self, facts: Facts) -> list[str]:
        """Return warnings for a recording unlike those of the calibration; empty if it is like them.

        A threshold only holds for recordings like those it was set on: set on clean studio recordings, it may
        reject most calls of the same speaker.
        """
        return [] if self.conditions is None else self.conditions.unlike(facts)

    def _too_few(self, rate: float) -> str:
        text = (
            f"a threshold for a false-accept rate of {rate:.2g} needs {ERRORS_NEEDED / rate:,.0f} impostor"
            f" trials, so that {ERRORS_NEEDED} are accepted; the calibration had {self.impostors:,}"
        )
        if not self.points:
            return f"{text}, too few for any rate: calibrate on more trials"
        return f"{text}: calibrate on more trials, or use a rate of {self.points[0].rate:.2g} or more"


def side_values(side: Side, values: ArrayLike, trials: int) -> Floats:
    """Return (N,) the value of one kind of side information, from that of both sides (N, 2)."""
    both = np.asarray(values, np.float64)
    if both.shape != (trials, 2) or not np.isfinite(both).all():
        raise IdemvoxError(
            f"need two finite {_NEEDS[side]} per trial, ({trials}, 2), got {both.shape}; recordings without"
            " speech cannot be used"
        )
    if side == "quality":
        return np.asarray(both.min(axis=1), np.float64)
    if (both <= 0).any():
        raise IdemvoxError("durations of speech must be above 0: leave out recordings without speech")
    return np.asarray(np.log(both.min(axis=1) if side == "shorter" else both.max(axis=1)), np.float64)


def save_calibration(folder: str | Path, calibration: Calibration) -> Path:
    """Write ``calibration.json`` into a model folder, replacing an older one; it holds the weights' hash."""
    folder = Path(folder)
    path = folder / CALIBRATION_FILE
    write_json(path, {"weights": _weights_hash(folder), "calibration": asdict(calibration)})
    write_card(folder)
    return path


def load_calibration(folder: str | Path, scoring: str | None = None) -> Calibration | None:
    """Read the calibration stored with a model; ``None`` if the model has not been calibrated.

    Args:
        folder: the model folder.
        scoring: description of the scorer in use, ``str(scorer)``; ``None`` accepts any.

    Raises:
        ModelError: it was fitted to other weights or to another scorer, is damaged, or was written by a newer
            idemvox.
    """
    folder = Path(folder)
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    values = read_json(path, ModelError)
    again = "run `idemvox calibrate` again, or delete it"
    try:
        calibration = TypeAdapter(Calibration).validate_python(values["calibration"])
        weights = values["weights"]
    except (ValidationError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged, or of another idemvox ({error}): {again}") from error
    if weights != _weights_hash(folder):
        raise ModelError(f"{path} was fitted to other weights than those in {folder}: {again}")
    if scoring is not None and calibration.scoring != scoring:
        raise ModelError(
            f"{path} was fitted to scores by {calibration.scoring}, but this model is scored by {scoring}:"
            f" {again}"
        )
    return calibration


def _weights_hash(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all weights in a model folder."""
    whole = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.onnx")]):
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
