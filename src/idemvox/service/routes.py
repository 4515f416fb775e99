"""The routes of the service."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer

from idemvox.errors import StoreError
from idemvox.service.audit import Note, pseudonym
from idemvox.service.context import Context
from idemvox.service.problems import Problem
from idemvox.service.schemas import (
    Deleted,
    Enrolled,
    EnrolmentOut,
    Failure,
    Health,
    IdentificationOut,
    SpeakerList,
    SpeakerOut,
    VerdictOut,
)
from idemvox.verifier.names import checked_name
from idemvox.verifier.roster import Combining

__all__ = ["api", "public"]

_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": text}
    for status, text in {
        401: "No valid API key.",
        404: "Nobody of this name.",
        408: "The upload was too slow.",
        409: "The store does not allow it.",
        413: "The body is too large.",
        422: "A field is wrong, or a recording cannot be used.",
        503: "Too many requests at once; Retry-After says when to come back.",
        504: "It took too long.",
    }.items()
}
_LONGEST = 200  # characters of a name

public = APIRouter()
api = APIRouter(
    prefix="/v1",
    responses=_FAILURES,
    dependencies=[Depends(HTTPBearer(auto_error=False, description="API key"))],
)

Name = Annotated[str, Form(max_length=_LONGEST, description="Name of the speaker: any text of one line.")]
Asked = Annotated[str, Query(max_length=_LONGEST, description="Name of the speaker.")]
Audio = Annotated[UploadFile, File(description="An audio file: WAV, FLAC, Ogg, MP3, MP4, WebM and others.")]
Channel = Annotated[
    str | None, Form(max_length=_LONGEST, description="Compare only with enrolments of this channel.")
]
Rate = Annotated[
    float,
    Form(
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of other speakers that may be accepted, 0.01: 1 %.",
    ),
]


def context(request: Request) -> Context:
    """Return the parts of the service."""
    found: Context = request.app.state.context
    return found


def note(request: Request) -> Note:
    """Return what the audit log will say of this request."""
    found: Note = request.state.note
    return found


Parts = Annotated[Context, Depends(context)]
Log = Annotated[Note, Depends(note)]


@api.post("/enrol")
async def enrol(
    parts: Parts,
    log: Log,
    speaker: Name,
    recordings: Annotated[list[UploadFile], File(max_length=20, description="Recordings of the speaker.")],
    channel: Annotated[
        str, Form(max_length=_LONGEST, description="How they were recorded, such as phone; kept apart.")
    ] = "",
) -> Enrolled:
    """Store what identifies a voice, not the audio: all recordings, or after an error none.

    A request that was not answered may be sent again: no recording is stored twice.
    """
    name, channel = _named(speaker, log), _checked(channel, "channel", empty=True)
    added, total = await parts.work.run(lambda: parts.voices.enrol(name, recordings, channel))
    log.decision = "enrolled"
    return Enrolled(speaker=name, added=added.count, known=list(added.known), enrolments=total)


@api.post("/verify")
async def verify(
    parts: Parts,
    log: Log,
    recording: Audio,
    speaker: Annotated[
        str | None,
        Form(max_length=_LONGEST, description="Whose voice it is claimed to be."),
    ] = None,
    second: Annotated[UploadFile | None, File(description="Instead: another recording.")] = None,
    channel: Channel = None,
    false_accept_rate: Rate = 0.01,
) -> VerdictOut:
    """Decide whether a recording is of an enrolled speaker, or whether two recordings are of the same."""
    if (speaker is None) == (second is None):
        raise Problem(422, "fields", "give either speaker, a name, or second, another recording")
    if speaker is not None:
        name = _named(speaker, log)
        job = lambda: parts.voices.claim(recording, name, channel, false_accept_rate)  # noqa: E731
    else:
        other = second
        assert other is not None
        job = lambda: parts.voices.compare(recording, other, false_accept_rate)  # noqa: E731
    verdict = await parts.work.run(job)
    log.decision, log.llr = verdict.decision, verdict.llr
    return VerdictOut.of(verdict, calibrated=parts.voices.calibrated)


@api.post("/identify")
async def identify(
    parts: Parts,
    log: Log,
    recording: Audio,
    top: Annotated[int, Form(ge=1, le=100, description="Most candidates to return.")] = 5,
    channel: Channel = None,
    combining: Annotated[
        Combining, Form(description="Compare with the mean of a speaker's enrolments, or with the best.")
    ] = "mean",
    false_accept_rate: Rate = 0.01,
) -> IdentificationOut:
    """Say whose voice a recording is, among the enrolled speakers, or that it is nobody's."""
    found = await parts.work.run(
        lambda: parts.voices.identify(recording, top, channel, combining, false_accept_rate)
    )
    log.decision = found.decision
    log.llr = found.candidates[0].llr if found.candidates else None
    log.speaker = None if found.speaker is None else pseudonym(found.speaker)
    return IdentificationOut.of(found)


@api.get("/speakers")
async def speakers(
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> SpeakerList:
    """List the enrolled speakers."""
    rows = await parts.work.run(parts.voices.speakers)
    return SpeakerList(total=len(rows), speakers=rows[offset : offset + limit])


@api.get("/speaker")
async def show(parts: Parts, log: Log, name: Asked) -> SpeakerOut:
    """Show the enrolments of a speaker."""
    speaker = _named(name, log)
    found = await parts.work.run(lambda: parts.voices.show(speaker))
    return SpeakerOut(speaker=speaker, enrolments=[EnrolmentOut.of(enrolment) for enrolment in found])


@api.delete("/speaker")
async def delete(parts: Parts, log: Log, name: Asked) -> Deleted:
    """Delete a speaker, and overwrite the embeddings in the store."""
    speaker = _named(name, log)
    count, overwritten = await parts.work.run(lambda: parts.voices.delete(speaker))
    log.decision = "deleted"
    return Deleted(speaker=speaker, deleted=count, overwritten=overwritten)


@public.get("/health", responses={503: {"model": Failure}})
async def health(parts: Parts) -> Health:
    """Say whether the service can answer."""
    await asyncio.to_thread(parts.voices.store.version)
    return Health(
        status="ok",
        version=version("idemvox"),
        calibrated=parts.voices.calibrated,
        needs_key=bool(parts.keys),
        max_bytes=parts.settings.max_bytes,
        max_seconds=parts.settings.max_seconds,
    )


@public.get("/metrics", response_class=PlainTextResponse)
async def metrics(parts: Parts) -> PlainTextResponse:
    """Counters and latencies, for Prometheus."""
    gauges = {
        "idemvox_requests_admitted": ("Requests being answered, or waiting.", float(parts.work.requests)),
        "idemvox_jobs": ("Jobs running or waiting for a worker.", float(parts.work.jobs)),
    }
    return PlainTextResponse(parts.metrics.render(gauges), media_type="text/plain; version=0.0.4")


def _named(text: str, log: Note) -> str:
    """Return a speaker's name as it is stored, and note who it is."""
    name = _checked(text, "speaker")
    log.speaker = pseudonym(name)
    return name


def _checked(text: str, what: str, *, empty: bool = False) -> str:
    try:
        return checked_name(text, what, empty=empty)
    except StoreError as error:
        raise Problem(422, "fields", str(error)) from error
