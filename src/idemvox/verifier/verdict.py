"""A verdict on two recordings: accept, reject, or abstain with the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from idemvox.audio.sound import CLIPPED
from idemvox.errors import CorpusError, IdemvoxError, unknown_name
from idemvox.verification.calibration import Calibration, Threshold
from idemvox.verification.report import Report
from idemvox.verifier.listening import Facts

__all__ = ["Decision", "Limits", "Tolerable", "Verdict", "examine", "judge"]

Decision = Literal["accept", "reject", "abstain"]
Tolerable = Literal["clipping", "channels", "bandwidth", "uncertain"]

SHORT = 0.5  # seconds in which the level of a word may hardly change
NOT_CALIBRATED = "this model is not calibrated: run `idemvox calibrate`"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a verdict is withheld.

    Attributes:
        min_speech: seconds of speech that each recording must have.
        max_clipped: share of the samples in flat tops, relative to the speech, above which a recording is
            heavily clipped. (From 0.0005 on, there is a warning.)
        tolerate: reasons that become warnings: ``clipping``; ``channels`` that cancel each other (the louder
            one is read); ``bandwidth``, telephone audio against audio of full bandwidth; ``uncertain``, too
            close to the threshold.
    """

    min_speech: float = 1.0
    max_clipped: float = 0.05
    tolerate: frozenset[Tolerable] = frozenset()

    def __post_init__(self) -> None:
        if self.min_speech < 0 or not 0 <= self.max_clipped <= 1:
            raise IdemvoxError("min_speech is at least 0 s, and max_clipped is from 0 to 1")
        for name in self.tolerate:
            if name not in get_args(Tolerable):
                raise unknown_name("reason to tolerate", name, get_args(Tolerable), IdemvoxError)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison; ``str(verdict)`` puts it into words.

    Attributes:
        decision: ``accept``: the same speaker; ``reject``: different speakers; ``abstain``: see ``reasons``.
        score: as the model defines, higher for more similar; ``None`` if a recording has no speech.
        llr: natural logarithm of the likelihood ratio; ``None`` without a score or a calibration.
        threshold: for the false-accept rate; ``None`` if the model has none for it.
        band: LLRs between which the threshold for the rate may lie, a 95 % interval; ``None`` without a
            threshold.
        false_accept_rate: the wanted one, a fraction.
        speech: seconds of speech of both recordings.
        reasons: why it abstains; empty otherwise.
        warnings: what makes the decision less sure.
        note: for a model that is not calibrated, the score's side of the threshold in its report.
    """

    decision: Decision
    score: float | None
    llr: float | None
    threshold: Threshold | None
    band: tuple[float, float] | None
    false_accept_rate: float
    speech: tuple[float, float]
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    note: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.decision == "abstain":
            parts.append(f"undecided: {'; '.join(self.reasons)}")
        elif self.llr is not None and self.threshold is not None:
            accepted = self.decision == "accept"
            words = ("same speaker", "at or above") if accepted else ("different speakers", "below")
            parts.append(f"{words[0]}: LLR {self.llr:.2f} is {words[1]} {self.threshold_text()}")
        if self.score is not None:
            parts.append(f"score {self.score:.3f}" + (f", {self.note}" if self.note else ""))
        parts.append(f"{self.speech[0]:.1f} s and {self.speech[1]:.1f} s of speech")
        return "; ".join([*parts, *(f"warning: {text}" for text in self.warnings)])

    def threshold_text(self) -> str:
        """Return the threshold in words; empty without one."""
        if self.threshold is None:
            return ""
        return (
            f"the threshold {self.threshold.llr:.2f} for {100 * self.false_accept_rate:.2g} % false accepts"
            f" (calibrated on the trials {self.threshold.trials!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict for JSON, with ``words``."""
        return {**asdict(self), "words": str(self)}


@dataclass(slots=True)
class _Findings:
    limits: Limits
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def object(self, kind: Tolerable, text: str) -> None:
        """Add a reason to abstain, or a warning if it is tolerated."""
        (self.warnings if kind in self.limits.tolerate else self.reasons).append(text)


def judge(
    first: Facts,
    second: Facts,
    score: float | None,
    calibration: Calibration | None,
    report: Report | None = None,
    *,
    false_accept_rate: float = 0.01,
    limits: Limits | None = None,
) -> Verdict:
    """Decide on two recordings.

    Args:
        first, second: what they are like.
        score: ``None`` if one has no speech.
        calibration: of the model and its scoring; ``None`` abstains.
        report: for the note on a model that is not calibrated.
        false_accept_rate: the wanted share of different speakers that are accepted, a fraction.
        limits: when to abstain.
    """
    if not 0 < false_accept_rate < 1:
        raise IdemvoxError(f"a false-accept rate is between 0 and 1, got {false_accept_rate:g}")
    found = _Findings(limits or Limits())
    for facts, name in zip((first, second), _names(first, second), strict=True):
        _examine(facts, name, found)
    if score is not None:
        _compare(first, second, found)
    llr = threshold = band = None
    note = None
    if calibration is None:
        found.reasons.append(NOT_CALIBRATED)
        note = _note(score, report)
    else:
        if score is not None:
            _warn_unlike(first, second, calibration, found)
            durations = [(first.speech, second.speech)] if calibration.needs_durations else None
            llr = float(calibration.llr([score], durations)[0])
        try:
            threshold = calibration.threshold(false_accept_rate)
        except CorpusError as error:
            found.reasons.append(str(error))
        else:
            band = _band(calibration, threshold, false_accept_rate)
            _place(llr, threshold, band, false_accept_rate, found)
    decision: Decision = "abstain"
    if not found.reasons and llr is not None and threshold is not None:
        decision = "accept" if llr >= threshold.llr else "reject"
    speech = first.speech, second.speech
    told = tuple(found.reasons), tuple(found.warnings)
    return Verdict(decision, score, llr, threshold, band, false_accept_rate, speech, *told, note)


def examine(facts: Facts, limits: Limits) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what makes one recording unusable, and what makes it less sure; both empty for a good one."""
    found = _Findings(limits)
    _examine(facts, facts.name, found)
    return tuple(found.reasons), tuple(found.warnings)


def _names(first: Facts, second: Facts) -> tuple[str, str]:
    """Return the recordings' names, or which of the two each is if the names are the same."""
    if first.name == second.name:
        return "the first recording", "the second recording"
    return first.name, second.name


def _examine(facts: Facts, name: str, found: _Findings) -> None:
    """Find what is wrong with one recording."""
    needed = f"at least {found.limits.min_speech:g} s of speech is needed"
    if 0 < facts.seconds < found.limits.min_speech:
        found.reasons.append(f"{name} is only {facts.seconds:.2f} s long; {needed}")
    elif text := no_speech(facts):
        found.reasons.append(f"{name} {text}")
    elif facts.speech < found.limits.min_speech:
        found.reasons.append(f"{name} has only {facts.speech:.2f} s of speech; {needed}")
    if facts.clipped > found.limits.max_clipped:
        found.object("clipping", f"{name} is heavily clipped: record it again at a lower level")
    elif facts.clipped >= CLIPPED:
        found.warnings.append(f"{name} is clipped in places")
    if facts.cancelling:
        found.object(
            "channels",
            f"the channels of {name} cancel each other (opposite polarity): give one channel of it",
        )


def no_speech(facts: Facts) -> str:
    """Return why a recording has no speech, such as "is silent"; empty if it has some."""
    steady = "has no speech: its level hardly changes, as that of noise, hum or a tone"
    if facts.seconds < SHORT:
        steady = f"is too short to find speech in it ({facts.seconds:.2f} s)"
    return {
        "speech": "",
        "silence": "is silent" if facts.seconds else "is empty",
        "constant": "is a constant signal: check the microphone",
        "steady sound": steady,
    }[facts.content]


def _compare(first: Facts, second: Facts, found: _Findings) -> None:
    """Find what makes two recordings with speech hard to compare."""
    if first.narrow != second.narrow:
        narrow, wide = _names(first, second) if first.narrow else _names(first, second)[::-1]
        found.object(
            "bandwidth",
            f"{narrow} has nothing above 4 kHz, as over a telephone, and {wide} has: compare recordings of"
            " the same bandwidth",
        )
    if first.digest == second.digest:
        found.warnings.append("both recordings are the same audio")


def _warn_unlike(first: Facts, second: Facts, calibration: Calibration, found: _Findings) -> None:
    """Find how the recordings differ from those that the threshold was set on."""
    for facts, name in zip((first, second), _names(first, second), strict=True):
        found.warnings += [f"{name}: {text}" for text in calibration.unlike(facts)]
    if calibration.conditions is not None:
        found.warnings += calibration.conditions.unfit()


def _note(score: float | None, report: Report | None) -> str | None:
    """Return the side of the report's threshold on which a score is."""
    if score is None or report is None:
        return None
    side = "at or above" if score >= report.eer_threshold else "below"
    return (
        f"{side} {report.eer_threshold:.3f}, where the error rates on the trials {report.trials!r} are equal"
        f" ({100 * report.eer:.2f} %)"
    )


def _band(calibration: Calibration, threshold: Threshold, rate: float) -> tuple[float, float]:
    """Return the lowest and highest threshold whose false-accept rate may be the wanted one."""
    may = [
        point.llr
        for point in calibration.points
        if point.low is not None and point.high is not None and point.low <= rate <= point.high
    ]
    return min([threshold.llr, *may]), max([threshold.llr, *may])


def _place(
    llr: float | None, threshold: Threshold, band: tuple[float, float], rate: float, found: _Findings
) -> None:
    """Find whether an LLR is too near the threshold."""
    if threshold.low is None:
        found.warnings.append(
            "how exact the threshold is remains unknown, as the calibration trials had no speakers"
        )
    if llr is not None and band[0] <= llr < band[1]:
        found.object(
            "uncertain",
            f"LLR {llr:.2f} is too near the threshold: that for {100 * rate:.2g} % false accepts lies between"
            f" {band[0]:.2f} and {band[1]:.2f}",
        )
