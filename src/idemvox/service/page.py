"""The page of the service: one HTML file, its script and its style, without anything from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

__all__ = ["page"]

page = APIRouter(include_in_schema=False)

_STATIC = files("idemvox.service") / "static"


def _add(path: str, name: str, kind: str) -> None:
    content = (_STATIC / name).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=kind)

    page.add_api_route(path, send, methods=["GET"], name=name)


_add("/", "index.html", "text/html")
_add("/page.js", "page.js", "text/javascript")
_add("/recorder.js", "recorder.js", "text/javascript")
_add("/page.css", "page.css", "text/css")
_add("/icon.svg", "icon.svg", "image/svg+xml")
