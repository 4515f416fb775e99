"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from idemvox.errors import IdemvoxError
from idemvox.service.audit import AuditLog, Note
from idemvox.service.context import Context
from idemvox.service.guard import Guard
from idemvox.service.keys import Keys
from idemvox.service.metrics import Metrics
from idemvox.service.page import page
from idemvox.service.problems import Problem, answer, internal, problem_of, problem_of_http, problem_of_input
from idemvox.service.routes import api, public
from idemvox.service.settings import Settings
from idemvox.service.voices import Voices
from idemvox.service.work import Work
from idemvox.verifier.store import SpeakerStore
from idemvox.verifier.verifier import Verifier

__all__ = ["make_app"]


def make_app(
    verifier: Verifier,
    store: SpeakerStore,
    settings: Settings | None = None,
    keys: Keys | None = None,
    audit: AuditLog | None = None,
) -> Guard:
    """Return the service; it closes the store and the audit log when it ends.

    Args:
        verifier: with its model.
        store: open, of that model.
        settings: the limits.
        keys: without any, only requests to a loopback address are answered.
        audit: where requests are written down; ``None``: nowhere.
    """
    settings = settings or Settings()
    parts = Context(
        settings,
        keys or Keys({}),
        Voices(verifier, store, settings.max_seconds),
        Work(settings.workers, settings.queue, settings.work_seconds),
        Metrics(),
        audit or AuditLog(None),
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        parts.close()

    app = FastAPI(
        title="idemvox",
        version=version("idemvox"),
        summary="Are two recordings of the same person?",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    app.state.context = parts
    app.include_router(public)
    app.include_router(api)
    app.include_router(page)
    _explain_errors(app)
    return Guard(app, settings, parts.keys, parts.work, parts.metrics, parts.audit)


def _explain_errors(app: FastAPI) -> None:
    """Answer every error with JSON that says what to do."""

    def reply(request: Request, problem: Problem) -> Response:
        note: Note = request.state.note
        note.error = problem.code
        return answer(problem, note.request)

    @app.exception_handler(IdemvoxError)
    async def known(request: Request, error: IdemvoxError) -> Response:
        return reply(request, problem_of(error, request.state.note.request))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return reply(request, problem_of_http(error))

    @app.exception_handler(RequestValidationError)
    async def fields(request: Request, error: RequestValidationError) -> Response:
        return reply(request, problem_of_input(error.errors()))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        return reply(request, internal())
