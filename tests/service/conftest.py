"""A service with a tiny encoder, a calibration made up for it, and voices of the tiny corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from idemvox.encoders.fast_resnet34 import FastResNet34
from idemvox.service.app import make_app
from idemvox.service.audit import AuditLog
from idemvox.service.keys import Keys
from idemvox.service.settings import Settings
from idemvox.verification.calibration import Calibration
from idemvox.verification.operating import Point
from idemvox.verification.scoring import Scorer
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.verifier import Verifier


def calibration(threshold: float) -> Calibration:
    """Ratios are scores; the threshold for any rate is this, exactly."""
    points = tuple(Point(rate, threshold, rate, rate * 0.99, rate * 1.01, 0.1) for rate in (0.005, 0.01))
    return Calibration(0.0, 1.0, (), 0.5, "cosine", "calls", 9000, 90_000, 40, points, None)


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    torch.manual_seed(0)
    encoder = FastResNet34(FastResNet34.Options(**FastResNet34.tiny))
    return Verifier(encoder, Scorer(), calibration=calibration(0.9))


@pytest.fixture
def audit(tmp_path: Path) -> Callable[[], list[dict]]:
    """The lines of the audit log so far."""
    return lambda: [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


@pytest.fixture
def serving(tmp_path: Path, verifier: Verifier) -> Iterator[Callable[..., TestClient]]:
    """Return ``start(settings, keys, verifier)``, which gives a client of a running service."""
    open_ = []

    def start(settings: Settings | None = None, keys: Keys | None = None, other: Verifier | None = None):
        log = AuditLog(str(tmp_path / "audit.jsonl"))
        app = make_app(other or verifier, SqliteStore(tmp_path / "s.sqlite", "m"), settings, keys, log)
        client = TestClient(app, "http://localhost:8000", raise_server_exceptions=False)
        open_.append(client.__enter__())
        return client

    yield start
    for client in open_:
        client.__exit__(None, None, None)


@pytest.fixture
def voices(corpus) -> Callable[[str], tuple[str, bytes]]:
    """Return ``voice("s0/r0/0")``: a file to upload, its name and its bytes."""

    def voice(name: str) -> tuple[str, bytes]:
        path = corpus.labelled.parent / f"{name}.wav"
        return f"{name.replace('/', '-')}.wav", path.read_bytes()

    return voice
