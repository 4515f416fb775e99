"""The service: what its routes answer, write down and count."""

from __future__ import annotations

import json
import math

import pytest

from idemvox.service.audit import pseudonym
from idemvox.service.keys import Keys, load_keys
from idemvox.service.metrics import BUCKETS, Metrics
from idemvox.verifier.verifier import Verifier


def enrol(client, voice, name="Anna", **fields):
    return client.post("/v1/enrol", data={"speaker": name, **fields}, files={"recordings": voice})


def test_enrol_verify_identify_show_delete(serving, voices, verifier):
    client = serving()
    first, again, other = voices("s0/r0/0"), voices("s0/r0/1"), voices("s5/r0/0")
    assert enrol(client, first, " Anna ").json() == {
        "speaker": "Anna",
        "added": 1,
        "known": [],
        "enrolments": 1,
    }
    known = enrol(client, ("b.wav", first[1])).json()
    assert (known["added"], known["known"], known["enrolments"]) == (0, ["b.wav"], 1)
    assert enrol(client, other, "李/..").json()["enrolments"] == 1

    verdict = client.post("/v1/verify", data={"speaker": "Anna"}, files={"recording": again}).json()
    wanted = verifier.verify(first[1], again[1])
    assert verdict["llr"] == pytest.approx(wanted.llr, abs=1e-5) and verdict["calibrated"]
    assert (verdict["decision"], verdict["threshold"]) == (wanted.decision, 0.9)
    assert verdict["words"].startswith("same speaker: LLR")
    pair = client.post("/v1/verify", files={"recording": again, "second": other}).json()
    assert pair["score"] == pytest.approx(verifier.verify(again[1], other[1]).score, abs=1e-5)

    found = client.post("/v1/identify", data={"top": 1}, files={"recording": other}).json()
    assert (found["decision"], found["speaker"], found["comparisons"]) == ("speaker", "李/..", 2)
    assert [c["speaker"] for c in found["candidates"]] == ["李/.."]

    listed = client.get("/v1/speakers").json()
    assert listed == {
        "total": 2,
        "speakers": [{"speaker": name, "enrolments": 1} for name in ("Anna", "李/..")],
    }
    assert client.get("/v1/speakers", params={"offset": 1}).json()["speakers"][0]["speaker"] == "李/.."
    (shown,) = client.get("/v1/speaker", params={"name": "李/.."}).json()["enrolments"]
    assert (shown["source"], shown["channel"]) == (other[0], "")
    gone = client.delete("/v1/speaker", params={"name": "李/.."})
    assert gone.json() == {"speaker": "李/..", "deleted": 1, "overwritten": True}
    assert client.get("/v1/speakers").json()["total"] == 1


def test_a_recording_that_cannot_be_used_is_refused_with_its_name_and_the_reason(serving, voices, corpus):
    client = serving()
    silence = ("../etc/silence.wav", _silence(voices("s0/r0/0")[1]))
    answer = enrol(client, silence)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("not enrolled: silence.wav is silent")
    for name, told in (("a.wav", "a.wav"), ("x" * 300, "x" * 80 + "..."), ("/", "this recording")):
        error = enrol(client, (name, b"no audio")).json()["error"]
        assert error["code"] == "recording" and f"cannot read {told}: not audio" in error["message"]
    assert client.get("/v1/speakers").json()["total"] == 0
    enrol(client, voices("s0/r0/0"))
    verdict = client.post("/v1/verify", data={"speaker": "Anna"}, files={"recording": silence}).json()
    assert verdict["decision"] == "abstain" and verdict["llr"] is None
    assert verdict["reasons"] == ["silence.wav is silent"]


def _silence(wav: bytes) -> bytes:
    return wav[:44] + bytes(len(wav) - 44)


def test_what_the_store_refuses_names_neither_the_store_nor_others(serving, voices, tmp_path):
    client, voice = serving(), voices("s0/r0/0")
    empty = client.post("/v1/identify", files={"recording": voice})
    assert (empty.status_code, empty.json()["error"]["code"]) == (409, "nobody_enrolled")
    enrol(client, voice, "Anna Secret")
    answers = [
        enrol(client, voice, "Eve"),
        client.get("/v1/speaker", params={"name": "Anna"}),
        client.delete("/v1/speaker", params={"name": "Anna"}),
        client.post("/v1/verify", data={"speaker": "Anna"}, files={"recording": voice}),
        client.post("/v1/identify", data={"channel": "phone"}, files={"recording": voice}),
        client.post(
            "/v1/verify",
            data={"speaker": "Anna Secret", "channel": "x"},
            files={"recording": voices("s0/r0/1")},
        ),
    ]
    codes = [(a.status_code, a.json()["error"]["code"]) for a in answers]
    assert codes == [
        (409, "already_enrolled"),
        *[(404, "unknown_speaker")] * 3,
        *[(409, "nobody_enrolled")] * 2,
    ]
    for answer in answers:
        assert "Secret" not in answer.text and str(tmp_path) not in answer.text


def test_a_store_that_fails_is_told_to_the_operator_alone(serving, voices, tmp_path, caplog):
    client = serving()
    client.app.app.state.context.voices.store.close()
    for answer in (client.get("/health"), client.get("/v1/speakers"), enrol(client, voices("s0/r0/0"))):
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "unavailable" and str(tmp_path) not in answer.text
        assert answer.json()["error"]["request"] == answer.headers["x-request-id"]
        assert f"request {answer.headers['x-request-id']}: {tmp_path}" in caplog.text


def test_an_exception_that_nobody_foresaw_shows_no_trace(serving, voices, monkeypatch, caplog, audit):
    client = serving()

    def broken(*_, **__):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Verifier, "hear", broken)
    answer = enrol(client, voices("s0/r0/0"))
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text and "ZeroDivisionError: secret" in caplog.text
    assert [(line["status"], line["error"]) for line in audit()] == [(500, "internal")]


def test_fields_are_checked_and_not_repeated(serving, voices):
    client, voice = serving(), voices("s0/r0/0")
    for path, fields, told in (
        ("identify", {"top": "0"}, "top: Input should be greater than or equal to 1"),
        ("identify", {"top": "9" * 5000}, "top:"),
        ("identify", {"false_accept_rate": "nan"}, "false_accept_rate:"),
        ("identify", {"false_accept_rate": "1e999"}, "false_accept_rate:"),
        ("identify", {"combining": "<b>"}, "combining: Input should be 'mean' or 'best'"),
        ("verify", {}, "give either speaker, a name, or second, another recording"),
        ("verify", {"speaker": "a\nb"}, "is one line of text"),
        ("verify", {"speaker": "x" * 201}, "speaker: String should have at most 200 characters"),
        ("enrol", {"speaker": "Anna"}, "recordings: Field required"),
    ):
        answer = client.post(f"/v1/{path}", data=fields, files={"recording": voice})
        error = answer.json()["error"]
        assert answer.status_code == 422 and error["code"] == "fields", path
        assert told in error["message"] and len(error["message"]) < 400
    assert enrol(client, voice, " ").json()["error"]["message"] == "the name of a speaker is empty: give one"


def test_without_a_calibration_there_are_scores_and_no_decision(serving, voices, verifier):
    client = serving(other=Verifier(verifier.encoder, verifier.scorer))
    assert client.get("/health").json()["calibrated"] is False
    enrol(client, voices("s0/r0/0"))
    probe = {"recording": voices("s0/r0/1")}
    verdict = client.post("/v1/verify", data={"speaker": "Anna"}, files=probe).json()
    assert (verdict["decision"], verdict["llr"], verdict["threshold"]) == ("abstain", None, None)
    assert verdict["score"] > 0 and not verdict["calibrated"]
    found = client.post("/v1/identify", files=probe).json()
    assert found["decision"] == "undecided" and found["candidates"][0]["llr"] is None


def test_the_audit_log_holds_who_what_and_the_outcome_and_no_name_audio_or_embedding(serving, voices, audit):
    client = serving(keys=Keys(load_keys(None, {"IDEMVOX_API_KEY": "k" * 16}).hashes))
    client.headers["Authorization"] = "Bearer " + "k" * 16
    enrol(client, voices("s0/r0/0"))
    llr = client.post("/v1/verify", data={"speaker": "Anna"}, files={"recording": voices("s0/r0/1")}).json()[
        "llr"
    ]
    client.post("/v1/identify", files={"recording": ("a.wav", b"")})
    client.get("/health")
    last = client.delete("/v1/speaker", params={"name": "Anna"}).headers["x-request-id"]
    lines = audit()
    keys = ["time", "request", "route", "status", "who", "speaker", "decision", "llr", "error", "ms"]
    assert all(list(line) == keys and line["who"] == "default" for line in lines)
    who = pseudonym("Anna")
    assert [[line[key] for key in keys[2:4] + keys[5:9]] for line in lines] == [
        ["POST /v1/enrol", 200, who, "enrolled", None, None],
        ["POST /v1/verify", 200, who, "accept", round(llr, 4), None],
        ["POST /v1/identify", 422, None, None, None, "recording"],
        ["DELETE /v1/speaker", 200, who, "deleted", None, None],
    ]
    assert lines[-1]["request"] == last and "Anna" not in json.dumps(lines)


def test_metrics_count_requests_decisions_and_latencies(serving, voices):
    client = serving()
    enrol(client, voices("s0/r0/0"))
    client.get("/no/such/address")
    client.get("/health/../../etc/passwd")
    text = client.get("/metrics").text
    assert 'idemvox_requests_total{route="/v1/enrol",status="200"} 1\n' in text
    assert 'idemvox_requests_total{route="other",status="404"} 2\n' in text
    assert 'idemvox_decisions_total{route="/v1/enrol",decision="enrolled"} 1\n' in text
    assert 'idemvox_request_seconds_count{route="/v1/enrol"} 1\n' in text
    assert "idemvox_requests_admitted 0\n" in text


def test_the_histogram_is_cumulative_and_counts_its_upper_ends():
    metrics = Metrics()
    seconds = [0.001, BUCKETS[0], 0.3, 0.5, 1000.0]
    for value in seconds:
        metrics.observe("/x", 200, value, None)
    text = metrics.render({"g": ("A gauge.", 2.5)})
    for end in (*BUCKETS, math.inf):
        label = "+Inf" if end == math.inf else str(end)
        count = sum(value <= end for value in seconds)
        assert f'idemvox_request_seconds_bucket{{route="/x",le="{label}"}} {count}\n' in text
    assert f'idemvox_request_seconds_sum{{route="/x"}} {sum(seconds):.6f}\n' in text
    assert "# TYPE g gauge\ng 2.5\n" in text


def test_openapi_describes_the_routes_and_the_key(serving):
    described = serving().get("/openapi.json").json()
    routes = {"/v1/enrol", "/v1/verify", "/v1/identify", "/v1/speakers", "/v1/speaker", "/health", "/metrics"}
    assert set(described["paths"]) == routes
    verify = described["paths"]["/v1/verify"]["post"]
    assert verify["security"] == [{"HTTPBearer": []}] and "503" in verify["responses"]
    assert "docs" not in described["paths"] and serving().get("/docs").status_code == 404
