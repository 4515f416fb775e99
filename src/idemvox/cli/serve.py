"""idemvox serve: verify, enrol and identify over HTTP, with a page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Device, Model, console, fetch_device
from idemvox.errors import IdemvoxError

__all__ = ["serve"]


def serve(
    model: Model,
    store: Annotated[
        str,
        typer.Option(
            help="The speaker store, made if there is none: an SQLite file, or postgresql://user@host/database.",
            show_default="speakers.sqlite in this folder",
        ),
    ] = "speakers.sqlite",
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's own needs API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with a line `name: key` for each client; or set IDEMVOX_API_KEY to one key."),
    ] = None,
    audit_log: Annotated[
        str, typer.Option(help="File for a line of JSON per request, without audio; - for standard output.")
    ] = "idemvox-audit.jsonl",
    max_mib: Annotated[float, typer.Option(min=0.01, help="Most MiB that one request may upload.")] = 25.0,
    max_seconds: Annotated[float, typer.Option(min=1, help="Most seconds of audio in a recording.")] = 600.0,
    upload_seconds: Annotated[float, typer.Option(min=0.1, help="Time for an upload.")] = 30.0,
    work_seconds: Annotated[
        float, typer.Option(min=0.1, help="Time from the end of an upload to its answer.")
    ] = 60.0,
    workers: Annotated[int, typer.Option(min=1, help="Requests that are worked on at once.")] = 2,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; further ones are told to try again later.")
    ] = 64,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file with the certificate, for HTTPS; with --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its private key.")] = None,
    device: Device = None,
) -> None:
    """Run a service: enrol, verify and identify over HTTP, with a page to try it with a microphone.

    The page is at /, the description for programs at /openapi.json, counters for Prometheus at /metrics, and
    whether it works at /health. It listens on this machine alone; for others give --host and --api-key-file.
    Keys and voices then travel in the clear unless you use HTTPS, which browsers ask for before they lend
    the microphone. Anyone with a key can use and delete all speakers of the store.

    Audio is never kept: the store holds embeddings, and the audit log times, routes, names of keys, decisions
    and LLRs. Speakers appear in it by the SHA-256 of their names. SIGTERM and Ctrl-C let running requests
    end.

    Examples:

      idemvox serve runs/ssps

      curl -F speaker=Anna -F recording=@call.wav http://127.0.0.1:8000/v1/verify

      idemvox serve runs/ssps --api-key-file keys.txt \\
      --host 0.0.0.0 --tls-certificate c.pem --tls-key k.pem
    """
    try:
        from idemvox.service.app import make_app
        from idemvox.service.run import Address, check_address, run
    except ImportError as error:
        raise IdemvoxError("the service needs an extra: pip install 'idemvox[serve]'") from error
    from idemvox.service.audit import AuditLog
    from idemvox.service.keys import load_keys
    from idemvox.service.settings import Settings
    from idemvox.verifier.opening import open_store
    from idemvox.verifier.verifier import Verifier

    settings = Settings(
        max_bytes=round(max_mib * 2**20),
        max_seconds=max_seconds,
        upload_seconds=upload_seconds,
        work_seconds=work_seconds,
        workers=workers,
        queue=queue,
    )
    keys = load_keys(api_key_file, os.environ)
    address = Address(host, port, tls_certificate, tls_key)
    check_address(address, keys)
    verifier = Verifier.load(model, device=fetch_device(device))
    audit = AuditLog(audit_log)
    app = make_app(verifier, open_store(store, verifier.fingerprint, create=True), settings, keys, audit)

    def ready(url: str) -> None:
        if verifier.calibration is None:
            _say("this model is not calibrated: there will be scores, no decisions; see `idemvox calibrate`")
        who = f"{len(keys.hashes)} API key(s)" if keys else "no API key: this machine alone"
        _say(f"listening on {url} ({who}; Ctrl-C ends it)")

    run(app, address, ready)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
