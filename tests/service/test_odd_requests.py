"""Requests that nobody should send: refused with a message; no trace, no other speaker's data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def mutated(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import mutated

    return mutated


def test_damaged_requests_are_refused_with_a_message(mutated, tmp_path):
    """The same 200 in every run; benchmarks/mutated.py tries as many as are wanted."""
    app, files = mutated.service(tmp_path), list(mutated.intact(mutated.speech()).values())
    found: Counter[str] = Counter()
    for number in range(200):
        request = mutated.odd_request(files, number, seed=1)
        result = mutated.odd_requests.request_outcome(app, request, str(tmp_path))
        assert result in ("answered", "refused", "left"), (number, request.route, result)
        found[result] += 1
    assert found["answered"] >= 20 and found["refused"] >= 20, found


def test_no_text_in_any_field_does_harm(serving, voices, tmp_path):
    """Any text as a name, a number, a choice, a file's name or a query."""
    client, good = serving(), voices("s0/r0/0")
    assert (
        client.post("/v1/enrol", data={"speaker": "Zenobia"}, files={"recordings": good}).status_code == 200
    )
    texts = st.one_of(
        st.text(max_size=250), st.floats().map(str), st.integers().map(str), st.just("9" * 4999)
    )
    fields = st.dictionaries(
        st.sampled_from(
            ["speaker", "name", "channel", "top", "combining", "false_accept_rate", "limit", "x"]
        ),
        texts,
    )

    @settings(max_examples=120)
    @given(
        st.sampled_from(["enrol", "verify", "identify", "speakers", "speaker"]),
        fields,
        texts,
        st.binary(max_size=300),
    )
    def send(route, values, file, data):
        part = "recordings" if route == "enrol" else "recording"
        if route in ("speaker", "speakers"):
            clean = {k: v.encode("utf-8", "replace").decode() for k, v in values.items()}
            answer = client.get(f"/v1/{route}", params=clean)
        else:
            upload = (file.encode("utf-8", "replace").decode(), data)
            clean = {k: v.encode("utf-8", "replace").decode() for k, v in values.items()}
            answer = client.post(f"/v1/{route}", data=clean, files={part: upload})
        assert answer.status_code < 500, answer.text
        assert "Zenobia" not in answer.text or route == "speakers"
        assert "Traceback" not in answer.text and str(tmp_path) not in answer.text
        if answer.status_code >= 400:
            assert 0 < len(answer.json()["error"]["message"]) < 2000

    send()


def test_what_is_bad_is_found(mutated, tmp_path):
    """The judge of the two tests above can say no."""
    odd = mutated.odd_requests

    def app(status: int, body: bytes):
        async def answer(scope, receive, send):
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body})

        return answer

    async def broken(scope, receive, send):
        raise ZeroDivisionError("by zero")

    request = odd.fine("Anna", b"")
    for given_app, told in (
        (app(200, b"{}"), "answered"),
        (app(422, b'{"error": {"message": "so"}}'), "refused"),
        (app(422, b"no"), "status 422 without a message"),
        (app(500, b'{"error": {"message": "so"}}'), 'status 500: {"error": {"message": "so"}}'),
        (app(200, b"Traceback (most recent"), "tells 'Traceback'"),
        (app(404, f"in {tmp_path}/s".encode()), f"tells {str(tmp_path)!r}"),
        (app(404, odd.SECRET.encode()), "tells of another speaker"),
        (broken, "ZeroDivisionError: by zero"),
    ):
        assert odd.request_outcome(given_app, request, str(tmp_path)) == told
