"""idemvox serve, as a process: it starts, answers, ends gracefully, and loses nothing to kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import torch
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.errors import IdemvoxError
from idemvox.model import build_encoder, save_model
from idemvox.recipe import Part
from idemvox.registry import ENCODERS


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    part = Part(name="fast_resnet34", **ENCODERS["fast_resnet34"].tiny)
    save_model(folder, build_encoder(part, {}), part, {}, {"recipe": "tiny"}, scoring="cosine")
    return folder


@contextmanager
def serving(folder: Path, model: Path, *options: str) -> Iterator[tuple[subprocess.Popen, httpx2.Client]]:
    """Run the command until the block ends; yield its process and a client."""
    command = [sys.executable, "-m", "idemvox.cli", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("listening on "):
                break
        assert said and said[0].startswith("this model is not calibrated"), said
        with httpx2.Client(base_url=said[-1].split()[2], timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_sigterm_lets_a_request_end_and_kill_loses_no_enrolment(tmp_path, model, voices):
    files = {"recordings": voices("s0/r0/0")}
    with serving(tmp_path, model) as (process, client):
        assert client.get("/health").json()["status"] == "ok"
        assert client.post("/v1/enrol", data={"speaker": "Anna"}, files=files).json()["added"] == 1
        process.kill()
        process.wait()
    answers = []
    with serving(tmp_path, model) as (process, client):
        assert client.get("/v1/speakers").json()["total"] == 1
        head = client.build_request(
            "POST", "/v1/enrol", data={"speaker": "Ben"}, files={"recordings": voices("s5/r0/0")}
        )
        halfway = threading.Event()

        def slowly():
            body = head.read()
            yield body[: len(body) // 2]
            halfway.set()
            process.send_signal(signal.SIGTERM)
            yield body[len(body) // 2 :]

        answers.append(
            client.post("/v1/enrol", content=slowly(), headers={"Content-Type": head.headers["Content-Type"]})
        )
        assert halfway.is_set() and process.wait(60) in (0, -signal.SIGTERM)
        assert answers[0].json()["added"] == 1
    lines = (tmp_path / "idemvox-audit.jsonl").read_text().splitlines()
    assert [line.count('"enrolled"') for line in lines] == [1, 0, 1]
    assert (tmp_path / "idemvox-audit.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "listens on this machine alone, not on 0.0.0.0: give --api-key-file"),
        (["--api-key-file", "none"], "cannot read the API keys in none"),
        (["--tls-key", "key.pem"], "HTTPS needs both"),
        (["--store", "model.json"], "cannot be used as a speaker store"),
        (["--audit-log", "/dev/null/x"], "cannot write the audit log"),
    ],
)
def test_what_is_wrong_is_said_before_it_listens(tmp_path, model, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.json").write_text("no database " * 100)
    result = CliRunner().invoke(app, ["serve", str(model), *options])
    assert isinstance(result.exception, IdemvoxError) and told in str(result.exception)


def test_a_port_that_is_taken(tmp_path, model, monkeypatch):
    import socket

    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", str(model), "--port", port])
    assert isinstance(result.exception, IdemvoxError) and f"port {port}" in str(result.exception)
