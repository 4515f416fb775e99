"""What runs and recordings add to the page: curves, players, and a picture of voices."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html import unescape

import numpy as np
import pytest
import soundfile

from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError, RunError
from idemvox.model import load_model
from idemvox.reports.charts import Line, line_chart
from idemvox.reports.page import clips as clips_module
from idemvox.reports.page import report_page
from idemvox.reports.page.clips import Clips
from idemvox.reports.page.places import read_places
from idemvox.verification.embed import embed_files

from .conftest import EPOCHS
from .parsing import Page

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


def heard(uri):
    """Decode the audio of a data URI."""
    kind, data = re.fullmatch(r"data:audio/(\w+);base64,(.+)", uri).groups()
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    return kind, wave, rate


def players(html):
    """Return the label and the address of each player."""
    found = re.findall(r'<audio controls preload="none" aria-label="([^"]+)" src="([^"]+)">', html)
    return [(unescape(label), uri) for label, uri in found]


def test_the_page_of_a_run(run, corpus, tmp_path):
    manifest = corpus.manifest
    html = report_page([run], tmp_path / "r.html", manifest=manifest).read_text()
    page = Page(html)
    assert len(page.ids) == len(set(page.ids)) and "<1>" not in html and "run <1>" in page.text
    inside = [r for r in page.references if not r.startswith("data:audio/")]
    assert all(r.startswith("#") and r[1:] in page.ids for r in inside)
    assert "Training" in page.text and "Voices" in page.text and "DET curves" in page.text
    assert html.count('class="dot ') == 24 + 6  # utterances, and speakers of the key
    by_id = manifest.by_id
    for label, uri in players(html):
        name = label.removeprefix("first recording: ").removeprefix("second recording: ")
        kind, wave, rate = heard(uri)
        real = read(manifest.path(by_id[name]))
        assert rate == SAMPLE_RATE and kind in ("mpeg", "flac")
        length = min(len(real), (8 if name != label else 3) * SAMPLE_RATE)
        assert abs(len(wave) - length) < SAMPLE_RATE / 5
        spectra = [np.abs(np.fft.rfft(w[:length], 1 << 16))[:12_000] for w in (wave, real)]
        assert np.corrcoef(*spectra)[0, 1] > 0.9  # an MP3 may begin some milliseconds later
    assert len(players(html)) >= 24


def test_the_picture_says_how_often_the_nearest_voice_is_right(run, corpus, tmp_path):
    manifest = corpus.manifest
    text = Page(report_page([run / "model"], tmp_path / "r.html", manifest=manifest).read_text()).text
    vectors = embed_files(load_model(run).encoder, manifest).matrix.astype(np.float64)
    right = near = 0
    for a, u in zip(vectors, manifest, strict=True):
        cosines = [
            -2 if v.id == u.id else a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for b, v in zip(vectors, manifest, strict=True)
        ]
        other = manifest[int(np.argmax(cosines))]
        right += other.speaker == u.speaker
        near += (other.speaker, other.recording) == (u.speaker, u.recording)
        assert f"{u.id} {u.speaker} {u.recording} {other.id} (" in text
    same, here = (f"{100 * count / 24:.0f} %" for count in (right, near))
    share = f"of the same speaker for {same} of them, and of the same recording for {here}."
    assert share in text and "24 utterances of 6 speakers" in text


def test_audio_is_as_asked(run, corpus, tmp_path):
    def page(**options):
        return report_page([run], tmp_path / "r.html", **options).read_text()

    known = {"manifest": corpus.manifest}
    worst, none = page(audio="worst", **known), page(audio="none", **known)
    assert players(worst) and all("recording: " in label for label, _ in players(worst))
    assert not players(none) and "Recordings were left out (--audio none)" in none
    assert "data-clip" not in none and "A click or Enter plays it" not in none
    unknown = page()
    assert not players(unknown) and "nothing says where the recordings are (--manifest or --root)" in unknown
    assert "There is no picture of voices, because no manifest" in unknown


def test_recordings_that_are_elsewhere_are_named(run, corpus, tmp_path):
    away = Manifest(list(corpus.manifest), tmp_path / "away")
    text = Page(report_page([run], tmp_path / "r.html", manifest=away).read_text()).text
    assert "recordings have no player, because: cannot read" in text and "no audio" in text
    assert "There is no picture of voices: cannot embed" in text


def test_trials_that_name_paths_find_their_audio_below_a_folder(run, corpus, tmp_path):
    for utterance in corpus.manifest:
        (tmp_path / "calls").mkdir(exist_ok=True)
        shutil.copy(corpus.manifest.path(utterance), tmp_path / "calls" / utterance.id)
    folders, out = [run / "certificate"], tmp_path / "r.html"
    html = report_page(folders, out, root=tmp_path / "calls").read_text()
    assert players(html) == players(report_page(folders, out, manifest=corpus.manifest).read_text())
    with pytest.raises(IdemvoxError, match="check the folder"):
        report_page(folders, out, root=tmp_path)


def test_no_more_audio_than_there_is_room_for(corpus):
    some = corpus.manifest[:3]
    size = len(Clips().cut(some, 1.0)[some[0].id].uri)
    clips = Clips(left=size + size // 2)
    assert list(clips.cut(some, 1.0)) == [some[0].id] and clips.left_out == 2 and clips.left >= 0
    assert "2 more would have made it larger than 20 MB" in clips.words
    assert all(clip.cut for clip in Clips().cut(some, 1.0).values())
    assert not any(clip.cut for clip in Clips().cut(some, 4.0).values())


def test_without_an_mp3_encoder_clips_are_flac(corpus, monkeypatch):
    monkeypatch.setattr(clips_module, "_has_mp3", lambda: False)
    one = corpus.manifest[:1]
    kind, wave, _ = heard(Clips().cut(one, 1.0)[one[0].id].uri)
    assert kind == "flac" and np.allclose(wave, read(one.path(one[0]), 0, SAMPLE_RATE), atol=1e-4)


def test_curves_are_those_of_the_log(run, tmp_path):
    html = report_page([run], tmp_path / "r.html", audio="none").read_text()
    text = Page(html).text
    assert "run <1> loss 3.5 2.5 2.25 3.5" in text and "run <1> pseudo EER 0.25 0.0625 0.0625 0.25" in text
    assert "run <1> coverage 0.5 0.75 0.5 0.75" in text and "run <1> lr 0.001 0.001 0.001 0.001" in text
    assert "run <1>: 0.5 in epoch 2, 0.75 in epoch 3." in text  # there was none in the first
    charts = re.findall(r'id="curve-(\w+)-t"', html)
    assert charts == ["loss", "gauge_pseudo_eer", "coverage"]  # lr never changes
    (run / "curves.csv").write_text("epoch,loss\n1,three\n")
    with pytest.raises(RunError, match=r"curves\.csv is damaged"):
        report_page([run], tmp_path / "r.html")


def test_a_line_goes_through_its_points():
    epochs = np.arange(1.0, 4.0)
    loss = np.array([numbers["loss"] for numbers in EPOCHS])
    svg = line_chart("x", "loss", [Line("a", 0, epochs, loss), Line("b", 1, epochs[:1], np.array([2.25]))])
    path, point = re.findall(r'class="curve" d="M([^"]+)"', svg)
    x, y = np.array([[float(n) for n in pair.split()] for pair in path.split("L")]).T
    assert np.allclose((x - x[0]) / (x[2] - x[0]), [0, 0.5, 1], atol=0.01)
    assert np.allclose((y[0] - y) / (y[0] - y[1]), (loss[0] - loss) / (loss[0] - loss[1]), atol=0.01)
    assert y[1] > y[0]  # lower on the page
    assert [float(n) for n in point.split()] == pytest.approx([x[0], y[1]])


def test_what_a_folder_can_be(run, tmp_path):
    systems, runs = read_places([run])
    assert [s.name for s in systems] == ["run <1>"] and [r.name for r in runs] == ["run <1>"]
    assert runs[0].model == run / "model" and list(runs[0].curves["epoch"]) == [1, 2, 3]
    systems, runs = read_places([run / "certificate", run / "model"])
    assert len(systems) == 1 and [(r.name, dict(r.curves)) for r in runs] == [("run <1>", {})]
    with pytest.raises(IdemvoxError, match="given twice"):
        read_places([run, run / "certificate"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(IdemvoxError, match=r"empty is no run and holds no certificate\.json"):
        read_places([run, tmp_path / "empty"])
