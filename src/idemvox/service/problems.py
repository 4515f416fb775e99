"""Errors as a client gets them: a status, a code for programs, and a message that says what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from idemvox.errors import AlreadyEnrolled, AudioError, IdemvoxError, NobodyEnrolled, UnknownSpeaker

__all__ = ["Problem", "answer", "internal", "problem_of", "problem_of_http", "problem_of_input"]

_LOG = logging.getLogger(__name__)

_OWN = "the server cannot do this now; its operator finds the reason in the log under this request's id"


class Problem(HTTPException):
    """Why a request is refused. No message has a path of the server, or a name that the client did not send.

    Args:
        status: of HTTP.
        code: for programs; it does not change between versions.
        message: for people.
        retry: seconds after which the client may try again.
    """

    def __init__(self, status: int, code: str, message: str, retry: int | None = None) -> None:
        super().__init__(status, message, None if retry is None else {"Retry-After": str(retry)})
        self.code = code


def answer(problem: Problem, request: str) -> JSONResponse:
    """Return the response for a problem; ``request`` is the id of the request."""
    body = {"error": {"code": problem.code, "message": problem.detail, "request": request}}
    return JSONResponse(body, problem.status_code, problem.headers)


def internal() -> Problem:
    """Return the problem for an exception that nobody foresaw."""
    text = "this is a mistake of the server, not yours; its operator finds it in the log by this id"
    return Problem(500, "internal", text)


def problem_of(error: IdemvoxError, request: str) -> Problem:
    """Return the message about an error for a client; the details go to the log."""
    match error:
        case AudioError():
            return Problem(422, "recording", str(error))
        case UnknownSpeaker():
            return Problem(
                404, "unknown_speaker", "nobody of this name is enrolled: GET /v1/speakers lists who is"
            )
        case AlreadyEnrolled():
            text = (
                "this recording is enrolled under another name already, so nothing was stored: send another"
            )
            return Problem(409, "already_enrolled", text)
        case NobodyEnrolled():
            text = "nobody is enrolled (in this channel): enrol somebody first with POST /v1/enrol"
            return Problem(409, "nobody_enrolled", text)
    _LOG.error("request %s: %s", request, error)
    return Problem(503, "unavailable", _OWN, retry=5)


def problem_of_http(error: HTTPException) -> Problem:
    """Return the problem for an error that FastAPI raised."""
    if isinstance(error, Problem):
        return error
    code, message = {
        404: ("not_found", "there is nothing at this address: GET /openapi.json lists the addresses"),
        405: ("method", "this address has other methods: GET /openapi.json lists them"),
    }.get(error.status_code, ("request", "the body cannot be read: send it as multipart/form-data"))
    problem = Problem(error.status_code, code, message)
    problem.headers = error.headers
    return problem


def problem_of_input(errors: Sequence[Any]) -> Problem:
    """Return the problem for fields that are missing or wrong; their values are not repeated."""
    told = [f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}" for e in errors]
    return Problem(422, "fields", "; ".join(told[:5]))
