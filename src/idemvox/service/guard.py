"""What every request passes before and after its route: keys, limits, audit log, metrics, headers."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from idemvox.service.audit import AuditLog, Note
from idemvox.service.keys import Keys
from idemvox.service.metrics import Metrics
from idemvox.service.problems import Problem, answer, internal
from idemvox.service.settings import Settings
from idemvox.service.work import Work

__all__ = ["LOOPBACK", "Guard"]

_LOG = logging.getLogger(__name__)

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_READING = ("GET", "HEAD")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """The outermost layer of the service: no request gets past it unchecked, and no answer unrecorded.

    Args:
        app: what is guarded.
        settings: the limits.
        keys: without any, only requests to a loopback address are answered, so that no web page can reach the
            service under a name of its own (DNS rebinding).
        work: whose queue is bounded.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, keys: Keys, work: Work, metrics: Metrics, audit: AuditLog
    ) -> None:
        self.app = app
        self.settings = settings
        self.keys = keys
        self.work = work
        self.metrics = metrics
        self.audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        note = Note(secrets.token_hex(8))
        scope.setdefault("state", {})["note"] = note

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({**_HEADERS, "X-Request-ID": note.request})
            await send(message)

        try:
            await self._answer(scope, receive, reply, note)
        except Problem as problem:
            note.error = problem.code
            if not status:
                await answer(problem, note.request)(scope, receive, reply)
        except Exception:  # noqa: BLE001 - it is logged, and the client must not see it
            _LOG.exception("request %s", note.request)
            note.error = "internal"
            if not status:
                await answer(internal(), note.request)(scope, receive, reply)
        finally:
            self._record(scope, note, status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, reply: Send, note: Note) -> None:
        headers = Headers(scope=scope)
        self._check_origin(scope, headers)
        private = scope["path"].startswith(("/v1/", "/metrics"))
        if private:
            note.who = self._holder(headers)
        with self.work.admitted() if scope["path"].startswith("/v1/") else nullcontext():
            await self.app(scope, self._limited(receive, headers), reply)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what another web page sends from a visitor's browser."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.keys and _hostname(host) not in LOOPBACK:
            raise Problem(403, "host", "without an API key, use the address 127.0.0.1 or localhost")
        if origin is not None and origin.partition("://")[2] != host and scope["method"] not in _READING:
            raise Problem(403, "origin", "another web page may not use this service: open its own page")

    def _holder(self, headers: Headers) -> str:
        """Return the name of the key that a request carries."""
        if not self.keys:
            return "local"
        kind, _, key = headers.get("authorization", "").partition(" ")
        holder = self.keys.holder(key.strip()) if kind.lower() == "bearer" else None
        if holder is None:
            raise Problem(401, "key", "send a valid API key in the header 'Authorization: Bearer KEY'")
        return holder

    def _limited(self, receive: Receive, headers: Headers) -> Receive:
        """Return ``receive`` for a body that is neither too large nor too slow."""
        most, until = self.settings.max_bytes, time.monotonic() + self.settings.upload_seconds
        told, size, more = headers.get("content-length", ""), 0, True
        if told.isdecimal() and (len(told) > 18 or int(told) > most):
            raise _too_large(most)

        async def limited() -> Message:
            nonlocal size, more
            if not more:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError as error:
                text = f"the upload took more than {self.settings.upload_seconds:g} s: send less, or faster"
                raise Problem(408, "slow_upload", text) from error
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > most:
                raise _too_large(most)
            return message

        return limited

    def _record(self, scope: Scope, note: Note, status: int, seconds: float) -> None:
        """Count a request; write down those of the API. The status 0: the client left."""
        route = _route(scope)
        self.metrics.observe(route, status, seconds, note.decision)
        if scope["path"].startswith("/v1/"):
            try:
                self.audit.write(note, f"{scope['method']} {route}", status, seconds)
            except OSError as error:
                _LOG.error("request %s is not in the audit log: %s", note.request, error)


def _too_large(most: int) -> Problem:
    return Problem(413, "too_large", f"the body is larger than {most / 2**20:g} MiB: send shorter recordings")


def _hostname(host: str) -> str | None:
    """Return the name in a Host header, without the port; ``None`` if it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _route(scope: Scope) -> str:
    """Return the route of a request; "other" for addresses that do not exist."""
    found: Any = scope.get("route")
    return str(getattr(found, "path", "other"))
