"""Run the service: addresses, keys, start and graceful end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from idemvox.errors import IdemvoxError
from idemvox.service.guard import LOOPBACK, Guard
from idemvox.service.keys import ENVIRONMENT, Keys

__all__ = ["Address", "check_address", "run"]

_GRACE = 30  # seconds that running requests get when the service ends


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service listens.

    Attributes:
        host: a name or a number.
        port: 0: any that is free.
        certificate, key: PEM files for HTTPS; ``None``: HTTP.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None


def check_address(address: Address, keys: Keys) -> None:
    """Refuse to listen beyond this machine without API keys.

    Raises:
        IdemvoxError: there are none, or half of what HTTPS needs.
    """
    if address.host not in LOOPBACK and not keys:
        raise IdemvoxError(
            f"without API keys the service listens on this machine alone, not on {address.host}: give"
            f" --api-key-file or set {ENVIRONMENT}, or leave --host out"
        )
    if (address.certificate is None) != (address.key is None):
        raise IdemvoxError("HTTPS needs both --tls-certificate and --tls-key")


def run(app: Guard, address: Address, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; then refuse new requests, and answer those that run.

    Args:
        app: the service.
        address: where to listen.
        ready: called with the URL once the service listens.

    Raises:
        IdemvoxError: the address cannot be used.
    """
    sockets = [_listening(address)]
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # it would hold the names of speakers; the audit log does not
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    scheme = "http" if address.certificate is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    ready(f"{scheme}://{host}:{sockets[0].getsockname()[1]}/")
    uvicorn.Server(config).run(sockets)


def _listening(address: Address) -> socket.socket:
    """Return a socket that listens."""
    try:
        family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(where[:2], family=family)
    except OSError as error:
        raise IdemvoxError(
            f"cannot listen on {address.host}, port {address.port}: {error.strerror}: give another --port"
        ) from error
