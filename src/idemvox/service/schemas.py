"""What the service answers, for OpenAPI."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from idemvox.verifier.enrolment import Enrolment
from idemvox.verifier.identification import Candidate, Identification
from idemvox.verifier.verdict import Verdict

__all__ = [
    "CandidateOut",
    "Deleted",
    "Enrolled",
    "EnrolmentOut",
    "Failure",
    "Health",
    "IdentificationOut",
    "SpeakerList",
    "SpeakerOut",
    "SpeakerRow",
    "VerdictOut",
]


class FailureDetail(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="For programs.")
    message: str = Field(description="For people: what is wrong, and what to do.")
    request: str = Field(description="Id of the request, as in the audit log and in X-Request-ID.")


class Failure(BaseModel):
    """Every answer with a status of 400 or more."""

    error: FailureDetail


class Enrolled(BaseModel):
    """What an enrolment did."""

    speaker: str
    added: int = Field(description="Recordings that were stored, as embeddings; the audio is not kept.")
    known: list[str] = Field(description="Recordings that had been stored before; none is stored twice.")
    enrolments: int = Field(description="Of this speaker, now.")


class VerdictOut(BaseModel):
    """Whether two voices are the same."""

    decision: Literal["accept", "reject", "abstain"]
    words: str = Field(description="The verdict in words.")
    llr: float | None = Field(
        description="Log-likelihood ratio, natural; null if the model is not calibrated."
    )
    score: float | None = Field(description="As the model defines it; null if there is no speech.")
    threshold: float | None = Field(description="LLR from which on the decision is accept.")
    band: tuple[float, float] | None = Field(description="LLRs in which the threshold may lie; no decision.")
    false_accept_rate: float
    calibrated: bool
    speech: tuple[float | None, float | None] = Field(description="Seconds of speech on both sides.")
    reasons: list[str] = Field(description="Why there is no decision; empty if there is one.")
    warnings: list[str]
    note: str | None

    @classmethod
    def of(cls, verdict: Verdict, *, calibrated: bool) -> VerdictOut:
        """Return a verdict as the service answers it."""
        return cls(
            decision=verdict.decision,
            words=str(verdict),
            llr=verdict.llr,
            score=verdict.score,
            threshold=None if verdict.threshold is None else verdict.threshold.llr,
            band=verdict.band,
            false_accept_rate=verdict.false_accept_rate,
            calibrated=calibrated,
            speech=verdict.speech,
            reasons=list(verdict.reasons),
            warnings=list(verdict.warnings),
            note=verdict.note,
        )


class CandidateOut(BaseModel):
    """A speaker who may be it."""

    speaker: str
    score: float
    llr: float | None
    channel: str

    @classmethod
    def of(cls, candidate: Candidate) -> CandidateOut:
        """Return a candidate as the service answers it."""
        return cls(
            speaker=candidate.speaker, score=candidate.score, llr=candidate.llr, channel=candidate.channel
        )


class IdentificationOut(BaseModel):
    """Whose voice it is."""

    decision: Literal["speaker", "nobody", "undecided"]
    speaker: str | None = Field(description="Null for nobody, and without a decision.")
    words: str = Field(description="The decision, reason and warnings in words.")
    reason: str
    threshold: float | None = Field(
        description="For the log-likelihood ratio, given the number of comparisons."
    )
    comparisons: int
    candidates: list[CandidateOut] = Field(description="The best matches, best first.")
    warnings: list[str]

    @classmethod
    def of(cls, found: Identification) -> IdentificationOut:
        """Return an identification as the service answers it."""
        return cls(
            decision=found.decision,
            speaker=found.speaker,
            words=str(found),
            reason=found.reason,
            threshold=found.threshold,
            comparisons=found.comparisons,
            candidates=[CandidateOut.of(candidate) for candidate in found.candidates],
            warnings=list(found.warnings),
        )


class SpeakerRow(BaseModel):
    """A speaker in the list."""

    speaker: str
    enrolments: int


class SpeakerList(BaseModel):
    """The speakers in alphabetical order, a page at a time."""

    total: int
    speakers: list[SpeakerRow]


class EnrolmentOut(BaseModel):
    """One stored embedding, without its numbers."""

    channel: str
    source: str = Field(description="Name of the recording's file.")
    seconds: float | None = Field(description="Of speech.")
    narrow: bool | None = Field(description="Whether it has nothing above 4 kHz, as over a telephone.")
    added: str = Field(description="UTC, ISO 8601.")

    @classmethod
    def of(cls, enrolment: Enrolment) -> EnrolmentOut:
        """Return an enrolment as the service answers it."""
        return cls(
            channel=enrolment.channel,
            source=enrolment.source,
            seconds=enrolment.seconds,
            narrow=enrolment.narrow,
            added=enrolment.added,
        )


class SpeakerOut(BaseModel):
    """A speaker's enrolments."""

    speaker: str
    enrolments: list[EnrolmentOut]


class Deleted(BaseModel):
    """What a deletion did."""

    speaker: str
    deleted: int = Field(description="Enrolments.")
    overwritten: bool = Field(
        description="Whether the bytes are gone from the disk too; false while another process reads it."
    )


class Health(BaseModel):
    """Whether the service works, and what the page must know."""

    status: Literal["ok"]
    version: str
    calibrated: bool = Field(description="Whether the model decides; otherwise it gives scores alone.")
    needs_key: bool
    max_bytes: int
    max_seconds: float
