"""The service under load, killed in the middle: latencies, and whether an enrolment is lost.

    python benchmarks/serve.py [--model src/idemvox/studies/base] [--clients 50] [--seconds 60] [--quick]

Clients on the same machine each send one request after another to `idemvox serve`: half of them verify a
recording of 3 s against an enrolled voice, a quarter identify one, a fifth enrol a new name, the rest list a
speaker's enrolments. In the middle the server is killed by SIGKILL and started again; clients go on as soon
as it answers. At the end it is killed once more, and the store is opened: every enrolment that was answered
with success must be in it, with as many recordings as were confirmed. The recordings are real speech.

Latencies are those that the clients see, from sending to the whole answer, without the requests that the kill
cut off. With more clients than workers they are mostly waiting: the line "alone" is one client by itself.

Writes docs/results/serve.{md,json}.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import soundfile
from rich.console import Console

from common import corpora, measuring, publish
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.verifier.sqlite import SqliteStore

SPEECH = 3.0  # seconds of a recording
SHARES = {"/v1/verify": 0.5, "/v1/identify": 0.25, "/v1/enrol": 0.2, "/v1/speaker": 0.05}
CROPS = 1600  # samples between the starts of two recordings from one file


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        latencies: route -> seconds of answered requests.
        others: how often something else came of a request.
        confirmed: name -> recordings whose enrolment was answered with success.
    """

    latencies: dict[str, list[float]] = field(default_factory=lambda: {route: [] for route in SHARES})
    others: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)


class Voices:
    """Recordings of real speech, none of them given out twice for an enrolment."""

    def __init__(self, count: int) -> None:
        files = sorted((corpora() / "speech/librispeech").rglob("*.opus"))
        waves = [read(path) for path in files[:: max(1, len(files) // count)][:count]]
        self.waves = [wave for wave in waves if len(wave) > (SPEECH + 1) * SAMPLE_RATE]
        self._given = 0

    def fresh(self) -> bytes:
        """Return a recording that was not returned before."""
        size, number = round(SPEECH * SAMPLE_RATE), self._given
        self._given += 1
        wave = self.waves[number % len(self.waves)]
        lap = number // len(self.waves)
        return _wav(wave[(lap * CROPS) % (len(wave) - size) :][:size] * (1 - 0.001 * (lap % 400)))

    def some(self, rng: np.random.Generator) -> bytes:
        """Return any recording."""
        size = round(SPEECH * SAMPLE_RATE)
        wave = self.waves[int(rng.integers(len(self.waves)))]
        return _wav(wave[int(rng.integers(len(wave) - size)) :][:size])


def _wav(wave: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


class Server:
    """`idemvox serve` as a process that can be killed and started again at the same address."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.folder, self._model, self._port = folder, model.absolute(), 0
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        words = [sys.executable, "-m", "idemvox.cli", "serve", str(self._model), "--port", str(self._port)]
        self.process = subprocess.Popen(words, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.split()[2]
                self._port = int(self.url.rstrip("/").rsplit(":", 1)[1])
                return
        sys.exit("the server does not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Start the server; kill it at the end."""
    server.start()
    try:
        yield
    finally:
        server.kill()


async def client(
    number: int, server: Server, voices: Voices, names: list[str], seen: Seen, until: float
) -> None:
    """Send one request after another."""
    rng = np.random.default_rng(number)
    routes, shares = list(SHARES), list(SHARES.values())
    count = 0
    async with httpx2.AsyncClient(base_url=server.url, timeout=90) as http:
        while time.monotonic() < until:
            route = routes[int(rng.choice(len(routes), p=shares))]
            name = names[int(rng.integers(len(names)))]
            if route == "/v1/enrol":
                name, count = f"client {number}, voice {count}", count + 1
            began = time.perf_counter()
            try:
                answer = await _send(http, route, name, voices, rng)
            except httpx2.TransportError:
                seen.others["cut off or refused by the kill"] += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 200:
                seen.latencies[route].append(time.perf_counter() - began)
            else:
                seen.others[f"status {answer.status_code}"] += 1
                await asyncio.sleep(float(answer.headers.get("retry-after", 0)))
            if route == "/v1/enrol" and answer.status_code == 200:
                seen.confirmed[name] += answer.json()["added"]


async def _send(
    http: httpx2.AsyncClient, route: str, name: str, voices: Voices, rng: np.random.Generator
) -> httpx2.Response:
    if route == "/v1/speaker":
        return await http.get(route, params={"name": name})
    if route == "/v1/enrol":
        return await http.post(route, data={"speaker": name}, files={"recordings": ("a.wav", voices.fresh())})
    data = {"speaker": name} if route == "/v1/verify" else {}
    return await http.post(route, data=data, files={"recording": ("a.wav", voices.some(rng))})


async def load(
    clients: int, seconds: float, server: Server, voices: Voices, names: list[str], seen: Seen, kill: bool
) -> float:
    """Let the clients work; return the seconds from the kill until the server listens again."""
    until = time.monotonic() + seconds
    tasks = [
        asyncio.create_task(client(number, server, voices, names, seen, until)) for number in range(clients)
    ]
    down = 0.0
    if kill:
        await asyncio.sleep(seconds / 2)
        began = time.monotonic()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        down = time.monotonic() - began
    await asyncio.gather(*tasks)
    return down


def rows_of(system: str, seen: Seen, seconds: float) -> list[dict[str, Any]]:
    """Return a row per route."""
    rows = []
    for route, values in seen.latencies.items():
        if not values:
            continue
        p50, p90, p99 = np.percentile(values, (50, 90, 99))
        told = {"p50 ms": p50, "p90 ms": p90, "p99 ms": p99, "slowest ms": max(values)}
        rows.append(
            {
                "system": f"{system}: {route}",
                "requests": len(values),
                "per second": round(len(values) / seconds, 2),
                **{key: round(1000 * value) for key, value in told.items()},
            }
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__)
    parser.add_argument("--model", type=Path, default=Path("src/idemvox/studies/base"))
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    clients, seconds = (8, 6.0) if given.quick else (given.clients, given.seconds)
    voices, alone, crowd = Voices(40), Seen(), Seen()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(given.model, Path(folder))
        with running(server):
            names = [f"voice {number}" for number in range(20)]
            with httpx2.Client(base_url=server.url, timeout=60) as http:
                for name in names:
                    files = {"recordings": ("a.wav", voices.fresh())}
                    answer = http.post("/v1/enrol", data={"speaker": name}, files=files)
                    crowd.confirmed[name] += answer.raise_for_status().json()["added"]
            asyncio.run(load(1, seconds / 6, server, voices, names, alone, kill=False))
            down = asyncio.run(load(clients, seconds, server, voices, names, crowd, kill=True))
        with SqliteStore(Path(folder, "speakers.sqlite")) as store:
            held = Counter(enrolment.speaker for enrolment in store.enrolments())
    confirmed = crowd.confirmed + alone.confirmed
    lost = sum((confirmed - held).values())
    rows = [*rows_of("alone", alone, seconds / 6), *rows_of(f"{clients} clients", crowd, seconds)]
    others = ", ".join(f"{count:,} {what}" for what, count in crowd.others.items()) or "nothing else"
    notes = (
        f"\n\nConfirmed enrolments: {sum(confirmed.values()):,}, of which {lost} were lost. The store held"
        f" {held.total() - sum(confirmed.values()):,} more, whose confirmation the kill cut off. The server"
        f" listened again {down:.1f} s after the kill. Of {clients} clients' requests came besides answers:"
        f" {others}."
    )
    console = Console()
    for row in rows:
        console.print(row)
    console.print(notes.strip())
    if not given.quick:
        publish(given.out, "serve", "The service under load", __doc__ or "", rows, notes)
    sys.exit(bool(lost) or any("status 5" in what for what in crowd.others))


if __name__ == "__main__":
    main()
