"""A store goes through a file unchanged; a damaged file changes nothing."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from idemvox.errors import StoreError
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.transfer import export_speakers, exported_model, import_speakers


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "s.sqlite", "m" * 64) as opened:
        rng = np.random.default_rng(0)
        for number, name in enumerate(("Zoë", "李小龍", "[b]\"quoted\"[/b] 'name'")):
            for channel in ("", "phone"):
                vectors = rng.standard_normal((number + 1, 16)) * 10.0 ** (number * 10 - 10)
                prints = [Voiceprint(v, f"{name}.wav", 1.5, None, channel == "phone") for v in vectors]
                opened.enrol(name, prints, channel=channel)
        yield opened


def content(store):
    return [
        (e.speaker, e.channel, e.source, e.seconds, e.quality, e.narrow, e.added, tuple(v.tolist()))
        for e, v in zip(store.enrolments(), store.embeddings([e.id for e in store.enrolments()]), strict=True)
    ]


def test_what_is_exported_and_imported_is_the_same(store, tmp_path):
    assert export_speakers(store, tmp_path / "all.jsonl") == 12
    assert exported_model(tmp_path / "all.jsonl") == store.model
    with SqliteStore(tmp_path / "other.sqlite", store.model) as other:
        assert import_speakers(other, tmp_path / "all.jsonl").count == 12
        assert content(other) == content(store)
        again = import_speakers(other, tmp_path / "all.jsonl")
        assert (again.count, len(again.known)) == (0, 12) and content(other) == content(store)


def test_one_enrolment_a_line_in_plain_json(store, tmp_path):
    export_speakers(store, tmp_path / "all.jsonl")
    header, *lines = map(json.loads, (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines())
    assert header == {"format": "idemvox speakers", "version": 1, "model": "m" * 64, "enrolments": 12}
    assert [line["speaker"] for line in lines[:2]] == ["Zoë", "Zoë"] and lines[1]["narrow"] is True


def test_what_is_no_export_or_damaged_is_refused_as_a_whole(store, tmp_path):
    export_speakers(store, tmp_path / "all.jsonl")
    good = (tmp_path / "all.jsonl").read_bytes()
    lines = good.split(b"\n")
    newer = lines[0].replace(b'"version":1', b'"version":9')
    broken = json.loads(lines[3])
    for data, message in (
        (b"", "not written by"),
        (pickle.dumps({"format": "idemvox speakers"}), "not written by"),
        (b"{}\n", "not written by"),
        (good.replace(newer, b"").replace(lines[0], newer), "version 9.*upgrade"),
        (good[: len(good) // 2], "line 8 is damaged: nothing was imported"),
        (b"\n".join(lines[:5]) + b"\n", "has 4 enrolments, but its first line says 12"),
        (good.replace(lines[3], json.dumps({**broken, "embedding": "?"}).encode()), "line 4 is damaged"),
        (good.replace(lines[3], json.dumps({**broken, "embedding": "AAA="}).encode()), "line 4 is damaged"),
        (good.replace(lines[3], json.dumps({**broken, "embedding": "AAAAAA=="}).encode()), "16 numbers"),
        (good.replace(lines[3], json.dumps({**broken, "speaker": 7}).encode()), "line 4 is damaged"),
        (good.replace(lines[3], json.dumps({**broken, "more": 7}).encode()), "line 4 is damaged"),
        (good.replace(lines[3], json.dumps({**broken, "seconds": float("nan")}).encode()), "line 4 is dam"),
        (good.replace(lines[3], json.dumps({**broken, "speaker": " "}).encode()), "is empty"),
        (good.replace("李".encode(), "李".encode()[:1]), "leave that out|line . is damaged"),
    ):
        (tmp_path / "damaged.jsonl").write_bytes(data)
        with SqliteStore(tmp_path / "other.sqlite", store.model) as other:
            with pytest.raises(StoreError, match=message):
                import_speakers(other, tmp_path / "damaged.jsonl")
            assert other.names() == [] and other.version() == 0
    with pytest.raises(StoreError, match="No such file"):
        exported_model(tmp_path / "none.jsonl")
    with (
        SqliteStore(tmp_path / "of another.sqlite", "n" * 64) as other,
        pytest.raises(StoreError, match="another model"),
    ):
        import_speakers(other, tmp_path / "all.jsonl")
