"""What every request passes: keys, the address, limits of size and time, the bounded queue, headers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from idemvox.errors import IdemvoxError
from idemvox.service.audit import AuditLog
from idemvox.service.guard import Guard
from idemvox.service.keys import Keys, load_keys
from idemvox.service.metrics import Metrics
from idemvox.service.problems import Problem
from idemvox.service.run import Address, check_address
from idemvox.service.settings import Settings
from idemvox.service.work import Work
from idemvox.verifier.verifier import Verifier

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def keys(tmp_path) -> Keys:
    (tmp_path / "keys").write_text(f"# clients\n\nshop: {KEY}\nbank:{OTHER}\n")
    return load_keys(tmp_path / "keys", {})


def test_a_key_opens_the_api_and_names_its_holder(serving, keys, audit):
    client = serving(keys=keys)
    for header in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": KEY},
    ):
        answer = client.get("/v1/speakers", headers=header)
        assert answer.status_code == 401 and "Authorization: Bearer KEY" in answer.json()["error"]["message"]
        assert client.get("/metrics", headers=header).status_code == 401
    for key in (KEY, OTHER):
        assert client.get("/v1/speakers", headers={"Authorization": f"bearer {key}"}).status_code == 200
    assert client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert client.get("/health").json()["needs_key"] and client.get("/").status_code == 200
    assert [line["who"] for line in audit()] == [None] * 4 + ["shop", "bank"]


def test_every_key_is_compared_whichever_fits(keys, monkeypatch):
    """Otherwise the time would tell how far down the list a key is."""
    seen = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: seen.append(b) or a == b)
    for given, holder in ((KEY, "shop"), (OTHER, "bank"), ("ä\ud800", None)):
        seen.clear()
        assert keys.holder(given) == holder and seen == list(keys.hashes.values())


def test_keys_from_the_environment_and_mistakes_in_a_file(tmp_path, keys):
    assert load_keys(None, {"IDEMVOX_API_KEY": KEY}).holder(KEY) == "default"
    assert not load_keys(None, {}) and not load_keys(None, {"IDEMVOX_API_KEY": ""})
    for text, told in (
        ("", "has no API key"),
        ("shop", "line 1: write a name, a colon and the key"),
        ("shop: short", "openssl rand -hex 24"),
        (f"a: {KEY}\nb: {KEY}", "line 2: this name or key occurs twice"),
        (f"a: {KEY}\na: {OTHER}", "line 2: this name or key occurs twice"),
    ):
        (tmp_path / "wrong").write_text(text)
        with pytest.raises(IdemvoxError, match=told) as caught:
            load_keys(tmp_path / "wrong", {})
        assert KEY not in str(caught.value) and "short" not in str(caught.value)
    with pytest.raises(IdemvoxError, match="cannot read the API keys"):
        load_keys(tmp_path / "none", {})


def test_without_keys_only_this_machine_is_served(keys):
    check_address(Address("localhost"), Keys({}))
    check_address(Address("0.0.0.0"), keys)
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", ""):
        with pytest.raises(IdemvoxError, match="listens on this machine alone"):
            check_address(Address(host), Keys({}))


def test_other_web_pages_get_nothing(serving, keys, voices):
    """A page elsewhere may neither post to the service, nor reach it under a name of its own."""
    client, files = serving(), {"recordings": voices("s0/r0/0")}
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://localhost:8000.evil"):
        answer = client.post("/v1/enrol", data={"speaker": "x"}, files=files, headers={"Origin": origin})
        assert answer.json()["error"]["code"] == "origin", origin
    for host in ("evil.example", "evil.example:8000", "localhost.evil", "[", ""):
        assert client.get("/v1/speakers", headers={"Host": host}).json()["error"]["code"] == "host", host
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        own = {"Host": host, "Origin": f"http://{host}"}
        answer = client.post("/v1/enrol", data={"speaker": "x"}, files=files, headers=own)
        assert answer.status_code == 200, host
    known = {"Host": "voices.example", "Authorization": f"Bearer {KEY}"}
    assert serving(keys=keys).get("/v1/speakers", headers=known).status_code == 200


def test_a_body_that_is_too_large_is_refused(serving, voices):
    client, voice = serving(Settings(max_bytes=50_000)), voices("s0/r0/0")
    assert len(voice[1]) > 50_000
    told = client.post("/v1/identify", files={"recording": voice})
    stream = client.post(  # without a length
        "/v1/identify",
        content=(bytes(1000) for _ in range(60)),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    lied = client.post("/v1/identify", content=b"x", headers={"Content-Length": "9" * 30})
    for answer in (told, lied):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert stream.status_code in (400, 413)  # the form may be found wrong first


def test_a_recording_that_is_too_long_is_refused(serving, voices):
    client = serving(Settings(max_seconds=1.5))
    answer = client.post("/v1/identify", files={"recording": voices("s0/r0/0")})
    assert answer.status_code == 422 and "at most 1.5 s are accepted" in answer.json()["error"]["message"]


def scope(path: str = "/v1/x", method: str = "POST") -> dict:
    return {"type": "http", "path": path, "method": method, "headers": [(b"host", b"localhost")]}


def guarded(app, settings: Settings) -> tuple[Guard, Work]:
    work = Work(settings.workers, settings.queue, settings.work_seconds)
    return Guard(app, settings, Keys({}), work, Metrics(), AuditLog(None)), work


async def answered(guard: Guard, receive) -> tuple[int, dict[bytes, bytes], bytes]:
    sent = []

    async def send(message):
        sent.append(message)

    await guard(scope(), receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent)


def test_a_slow_upload_ends_with_408():
    async def app(scope, receive, send):
        while True:
            await receive()

    async def never():
        await asyncio.Event().wait()

    guard, work = guarded(app, Settings(upload_seconds=0.05))
    status, _, body = asyncio.run(answered(guard, never))
    assert status == 408 and b"took more than 0.05 s" in body and work.requests == 0


def test_size_is_counted_as_the_body_comes():
    seen = []

    async def app(scope, receive, send):
        while True:
            seen.append(len((await receive())["body"]))

    async def more():
        return {"type": "http.request", "body": bytes(400), "more_body": True}

    guard, _ = guarded(app, Settings(max_bytes=1000))
    status, _, _ = asyncio.run(answered(guard, more))
    assert status == 413 and seen == [400, 400]


def test_beyond_the_queue_requests_are_told_to_come_back():
    """Two are worked on or wait; the third gets 503 at once, and there is room again afterwards."""
    inside, go_on = [], asyncio.Event()

    async def app(scope, receive, send):
        inside.append(1)
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def nothing():
        return {"type": "http.request", "body": b""}

    async def scene():
        guard, work = guarded(app, Settings(workers=1, queue=1))
        waiting = [asyncio.create_task(answered(guard, nothing)) for _ in range(2)]
        while len(inside) < 2:
            await asyncio.sleep(0)
        status, headers, body = await answered(guard, nothing)
        assert status == 503 and headers[b"retry-after"] == b"2" and b'"busy"' in body
        go_on.set()
        assert [(await task)[0] for task in waiting] == [200, 200]
        assert (await answered(guard, nothing))[0] == 200 and work.requests == 0

    asyncio.run(scene())


def test_a_job_that_takes_too_long_is_given_up_but_still_counted():
    """Its thread goes on; as long as it does, it takes a place."""
    begun, end = threading.Event(), threading.Event()

    def long():
        begun.set()
        end.wait()

    async def scene():
        work = Work(1, 0, 0.05)
        with pytest.raises(Problem, match="not done within") as caught:
            await work.run(long)
        assert caught.value.status_code == 504 and begun.is_set() and work.jobs == 1
        with pytest.raises(Problem, match="too many"), work.admitted():
            pass
        end.set()
        while work.jobs:
            await asyncio.sleep(0.001)
        assert await work.run(lambda: 7) == 7
        work.close()

    asyncio.run(scene())


def test_a_job_that_waited_too_long_is_never_begun():
    end, ran = threading.Event(), []

    async def scene():
        work = Work(1, 5, 0.05)
        first = asyncio.create_task(work.run(end.wait))
        while not work.jobs:
            await asyncio.sleep(0)
        with pytest.raises(Problem, match="not done within"):
            await work.run(lambda: ran.append(1))
        with pytest.raises(Problem, match="not done within"):
            await first
        end.set()
        work.close()
        assert work.jobs == 0 and ran == []

    asyncio.run(scene())


def test_running_work_is_finished_before_the_store_is_closed(serving, voices, monkeypatch, tmp_path):
    """As at SIGTERM: the server stops taking requests, then ends the application."""
    client, real, begun, go_on = serving(), Verifier.hear, threading.Event(), threading.Event()

    def slow(self, *recording, **more):
        begun.set()
        go_on.wait()
        return real(self, *recording, **more)

    monkeypatch.setattr(Verifier, "hear", slow)
    parts = client.app.app.state.context
    form = {"data": {"speaker": "Anna"}, "files": {"recordings": voices("s0/r0/0")}}
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client.post("/v1/enrol", **form)))
    asking.start()
    begun.wait()
    closing = threading.Thread(target=parts.work.close)
    closing.start()
    go_on.set()
    closing.join()
    asking.join()
    assert answers[0].json()["added"] == 1 and parts.voices.store.names() == ["Anna"]


def test_every_answer_has_the_headers_that_keep_a_page_safe(serving):
    client = serving()
    for path in ("/", "/page.js", "/health", "/none", "/v1/speakers"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-request-id"]
