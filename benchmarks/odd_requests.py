"""Requests that nobody should send, for `mutated.py` and the tests: damaged, absurd or cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

__all__ = ["SECRET", "Request", "ask", "fine", "odd_request", "request_outcome"]

SECRET = "Zenobia of Palmyra"
"""A speaker who is enrolled and of whom no request knows."""
TOLD = ("GET /v1/speakers", "POST /v1/identify")
"""What may name other speakers than the request does."""
ROUTES = (
    ("POST", "/v1/enrol", ("recordings", "recordings"), ("speaker", "channel")),
    ("POST", "/v1/verify", ("recording",), ("speaker", "channel", "false_accept_rate")),
    ("POST", "/v1/verify", ("recording", "second"), ("false_accept_rate",)),
    ("POST", "/v1/identify", ("recording",), ("top", "channel", "combining", "false_accept_rate")),
    ("GET", "/v1/speakers", (), ("limit", "offset")),
    ("GET", "/v1/speaker", (), ("name",)),
    ("DELETE", "/v1/speaker", (), ("name",)),
)
GOOD = {
    "speaker": "Anna",
    "name": "Anna",
    "channel": "",
    "combining": "best",
    "false_accept_rate": "0.01",
    "top": "3",
}
ODD = (
    *(
        "",
        " ",
        ".",
        "..",
        "../../etc/passwd",
        "/",
        "%2e%2e%2f",
        "C:\\",
        "a" * 201,
        "a" * 100_000,
        "\x00",
        "a\nb",
    ),
    *(
        "Anna",
        "anna",
        "ANNA ",
        "Zoe\u0308",
        "\u202eannA",
        "\U0001f600",
        "\ud83d",
        "李小龙",
        "'; DROP TABLE x; --",
    ),
    *("<script>alert(1)</script>", "{{7*7}}", "%s%n", "null", "true", "[]", '{"a": 1}', "-1", "0", "1e-400"),
    *(
        "1e999",
        "nan",
        "-inf",
        "9" * 5000,
        "0x10",
        "1_0",
        "\u0661",
        "0.5",
        "1",
        "1.0",
        "2" * 30,
        "best",
        "mean",
    ),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as the server sees it.

    Attributes:
        chunks: the body, as it arrives.
        cut: whether the client leaves before the end of the body.
    """

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    chunks: tuple[bytes, ...]
    cut: bool = False

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


def odd_request(
    files: Sequence[bytes], rng: np.random.Generator, harm: Callable[[bytearray, np.random.Generator], None]
) -> Request:
    """Return a request with something wrong, or with nothing.

    Args:
        files: recordings to send, damaged or not.
        rng: decides everything.
        harm: damages bytes in place.
    """
    method, path, uploads, names = ROUTES[int(rng.integers(len(ROUTES)))]
    fields = [(name, _value(name, rng)) for name in names if rng.random() < 0.8]
    if rng.random() < 0.1:
        fields.append((_value("", rng)[:50], _value("", rng)))
    if method != "POST":
        query = "&".join(f"{quote(k, errors='replace')}={quote(v, errors='replace')}" for k, v in fields)
        return Request(method, path, _harmed(query.encode(), rng, harm, 0.2), HOST, (b"",))
    sent = [
        (name, _value("", rng), files[int(rng.integers(len(files)))])
        for name in uploads
        if rng.random() < 0.9
    ]
    body = _form(fields, sent)
    kind = b"multipart/form-data; boundary=odd"
    if rng.random() < 0.1:
        kind = _harmed(kind, rng, harm, 1.0).translate(None, b"\r\n\x00")
    elif rng.random() < 0.3:
        body = _harmed(body, rng, harm, 1.0)
    cut = rng.random() < 0.1
    if cut:
        body = body[: int(rng.integers(len(body) + 1))]
    size = len(body) if rng.random() < 0.9 else int(rng.integers(1 << 40))
    headers = (*HOST, (b"content-type", kind), (b"content-length", str(size).encode()))
    step = max(1, len(body) // int(rng.integers(1, 5)))
    return Request(
        method, path, b"", headers, tuple(body[i : i + step] for i in range(0, len(body), step)), cut
    )


HOST = ((b"host", b"localhost"),)


def _value(name: str, rng: np.random.Generator) -> str:
    if name in GOOD and rng.random() < 0.5:
        return GOOD[name]
    return ODD[int(rng.integers(len(ODD)))]


def _harmed(data: bytes, rng: np.random.Generator, harm: Any, share: float) -> bytes:
    mutable = bytearray(data)
    if rng.random() < share:
        harm(mutable, rng)
    return bytes(mutable)


def _form(fields: Sequence[tuple[str, str]], uploads: Sequence[tuple[str, str, bytes]]) -> bytes:
    """Return a body of multipart/form-data."""
    parts = []
    for name, value in fields:
        head = f'--odd\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        parts.append(head.encode("utf-8", "replace"))
    for name, file, data in uploads:
        head = f'--odd\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'
        parts.append(head.encode("utf-8", "replace") + data + b"\r\n")
    return b"".join(parts) + b"--odd--\r\n"


def fine(speaker: str, recording: bytes) -> Request:
    """Return an enrolment with nothing wrong."""
    body = _form([("speaker", speaker)], [("recordings", "a.wav", recording)])
    kind = (b"content-type", b"multipart/form-data; boundary=odd")
    return Request("POST", "/v1/enrol", b"", (*HOST, kind), (body,))


def ask(app: Any, request: Request) -> tuple[int, bytes]:
    """Send a request to an ASGI application; return the status and the body; 0 if there is no answer."""
    return asyncio.run(_ask(app, request))


async def _ask(app: Any, request: Request) -> tuple[int, bytes]:
    path = request.path.encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": path,
        "root_path": "",
        "query_string": request.query,
        "headers": list(request.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    last = len(request.chunks) - 1
    messages = [
        {"type": "http.request", "body": chunk, "more_body": request.cut or i < last}
        for i, chunk in enumerate(request.chunks)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return (sent[0]["status"] if sent else 0), b"".join(message.get("body", b"") for message in sent)


def request_outcome(app: Any, request: Request, folder: str) -> str:
    """Return what comes of a request: "answered", "refused", "left" (by the client), or what is bad.

    Bad are: a status of 500 or more, a refusal without a message, and an answer with a trace, a path of the
    server or the name of a speaker that the request does not know.
    """
    try:
        status, body = ask(app, request)
    except Exception as error:  # noqa: BLE001 - what this benchmark looks for
        return f"{type(error).__name__}: {error}"
    text = body.decode("utf-8", "replace")
    if status == 0:
        return "left" if request.cut else "no answer"
    if status >= 500:
        return f"status {status}: {text[:200]}"
    for wrong in ("Traceback", 'File "', folder, "site-packages"):
        if wrong in text:
            return f"tells {wrong!r}"
    if SECRET in text and not (status == 200 and request.route in TOLD):
        return "tells of another speaker"
    if status < 400:
        return "answered"
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without a message"
    return "refused" if message and len(message) < 2000 else "a message of a strange length"
