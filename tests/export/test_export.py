"""Exported models: the embeddings, scores and decisions of the original, without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from idemvox.audio.frontend import FrontEndSettings
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.cli import app
from idemvox.errors import CorpusError, IdemvoxError, ModelError
from idemvox.export import exporting
from idemvox.export.checks import find_samples, measure_parity, simulated_samples
from idemvox.export.exporting import TOLERANCE, export_model
from idemvox.export.graph import quantise, write_graph
from idemvox.model import build_encoder, fingerprint, load_model, save_model
from idemvox.onnx_encoder import OnnxEncoder
from idemvox.recipe import Part
from idemvox.registry import ENCODERS
from idemvox.verification.backend import BackEnd
from idemvox.verification.backend_file import load_backend, save_backend
from idemvox.verification.embed import embed_waves
from idemvox.verification.scoring import Scorer
from idemvox.verifier.verifier import Verifier

FRONT_ENDS = {
    "log_mel": FrontEndSettings(mels=20),
    "emphasised": FrontEndSettings(mels=20, pre_emphasis=0.97, window="hann", normalise="mean"),
    "kaldi": FrontEndSettings(mels=20, kind="kaldi", window="povey", pre_emphasis=0.97, normalise="mean"),
    "resemblyzer": FrontEndSettings(mels=20, kind="resemblyzer", window="hann", normalise="none"),
    "speechbrain": FrontEndSettings(mels=20, kind="speechbrain", floor=1e-10, normalise="mean"),
}
NEEDED = (
    "idemvox.cli",
    "idemvox.cli.calibrate",
    "idemvox.cli.decide",
    "idemvox.cli.speakers",
    "idemvox.cli.embed",
    "idemvox.cli.evaluate",
    "idemvox.model",
    "idemvox.verification.certificate",
    "idemvox.verification.embed",
    "idemvox.verification.evaluation",
    "idemvox.verifier.calibrating",
    "idemvox.verifier.identification",
    "idemvox.verifier.pairs",
    "idemvox.verifier.transfer",
    "idemvox.verifier.verifier",
)
ABSENT = "import sys\nsys.modules |= dict.fromkeys(('torch', 'lightning_fabric', 'tensorboard', 'onnx'))\n"
"""An import of a module that is None in ``sys.modules`` fails as if it was not installed."""


def without_torch(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process that cannot import torch."""
    command = [sys.executable, "-c", ABSENT + code, *map(str, words)]
    return subprocess.run(
        command, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )


def live(encoder):
    """Give batch normalisation statistics as after training."""
    for part in encoder.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return encoder


def write_model(folder: Path, part: Part, front: FrontEndSettings, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    encoder = live(build_encoder(part, asdict(front)))
    save_model(folder, encoder, part, asdict(front), {"recipe": "a test"}, scoring="cosine")
    return folder


TINY = Part(name="ge2e_lstm", **ENCODERS["ge2e_lstm"].tiny)
FRONT = FRONT_ENDS["resemblyzer"]


@pytest.fixture(scope="module")
def audio(corpus) -> Path:
    return corpus.labelled.parent


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A model folder with a back end."""
    folder = write_model(tmp_path_factory.mktemp("original") / "model", TINY, FRONT)
    mean = np.random.default_rng(0).standard_normal(16).astype(np.float32) / 10
    save_backend(folder, BackEnd(mean, None, None, {"of": "a test"}))
    return folder


@pytest.fixture(scope="module")
def exported(original, audio) -> Path:
    """What `idemvox export` writes beside it."""
    done = CliRunner().invoke(app, ["export", str(original), "--onnx", "--check", str(audio / "s0"), "-q"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "on 6 recordings" in done.output and "warning" not in done.output
    return original.with_name("model-onnx")


@pytest.fixture
def graph_there(exported, monkeypatch) -> None:
    """Let exports take the graph that is there, which saves seconds."""
    monkeypatch.setattr(
        exporting, "write_graph", lambda _, path: shutil.copy(exported / "model.onnx", path) and None
    )


@pytest.mark.parametrize("front", FRONT_ENDS.values(), ids=FRONT_ENDS)
@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"ivector"}))
def test_what_is_exported_computes_the_same(name, front, float64):
    """Spectra by products instead of an FFT, windows of all lengths at once; alone and padded."""
    encoder = build_encoder(Part(name=name, **ENCODERS[name].tiny), asdict(front)).eval()
    lengths = torch.tensor([20_000, 12_345, 700])
    wave = 0.1 * torch.randn(3, 20_000)
    with torch.no_grad():
        expected, alone = encoder(wave, lengths), encoder(wave)
        encoder.for_export()
        torch.testing.assert_close(encoder(wave, lengths), expected)
        torch.testing.assert_close(encoder(wave, torch.full((3,), 20_000)), alone)


def test_the_graph_takes_recordings_of_any_length_and_number(original, exported, audio):
    encoder, found = load_model(original).encoder, load_model(exported).encoder
    assert isinstance(found, OnnxEncoder)
    wave = read(audio / "s1/r0/0.wav")
    waves = [wave[:1600], np.tile(wave, 8), wave, wave[:9000], wave[5000:]]
    expected = np.concatenate([embed_waves(encoder, [each]) for each in waves])
    for group in ([0], [1], [2, 3], [0, 1, 2, 3, 4]):
        vectors = embed_waves(found, [waves[i] for i in group])
        apart = vectors - expected[group]
        size = np.linalg.norm(expected[group], axis=1, keepdims=True)
        assert vectors.dtype == np.float32 and np.abs(apart / size).max() <= TOLERANCE


def test_an_exported_folder_is_a_model_folder(original, exported):
    model, given = load_model(exported), load_model(original)
    assert (model.scoring, model.provenance) == (given.scoring, given.provenance)
    assert fingerprint(exported) == fingerprint(original)
    np.testing.assert_array_equal(load_backend(exported).mean, load_backend(original).mean)
    with pytest.raises(ModelError, match="cannot be trained further"):
        _ = model.network
    facts = json.loads((exported / "export.json").read_text())
    assert facts["parity"]["real"] and facts["parity"]["difference"] <= TOLERANCE
    seconds = [each["seconds"] for each in facts["parity"]["recordings"]]
    assert min(seconds) == 1 and max(seconds) == 60 and len(seconds) == 6
    assert facts["precision"] == "fp32" and facts["eer"] == "not measured"


def test_a_verdict_without_torch_is_that_of_the_original(original, exported, audio):
    pair = audio / "s0/r0/0.wav", audio / "s1/r1/1.wav"
    imports = "".join(f"import {name}\n" for name in NEEDED)
    code = imports + "from idemvox.cli import main\nmain()"
    done = without_torch(code, "verify", *pair, "--model", exported, "--json")
    assert done.returncode == 4, done.stderr  # it is not calibrated
    verdict = json.loads(done.stdout)
    assert verdict["score"] == pytest.approx(Verifier.load(original).verify(*pair).score, abs=1e-3)


def test_without_torch_a_trained_model_and_training_say_what_to_install(original, audio):
    code = "from idemvox.cli import main\nmain()"
    for words in (
        ("verify", audio / "s0/r0/0.wav", audio / "s1/r1/1.wav", "--model", original),
        ("train", "small", "data.manifest=calls.csv"),
        ("export", original),
    ):
        done = without_torch(code, *words)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "not installed: pip install 'idemvox[torch]'" in " ".join(done.stderr.split())


def test_other_embeddings_are_not_exported(tmp_path, graph_there, audio):
    other = write_model(tmp_path / "other", TINY, FRONT, seed=1)
    with pytest.raises(ModelError, match="gives other embeddings"):
        export_model(other, tmp_path / "out", check=[audio / "s0"])
    assert not (tmp_path / "out").exists()


def test_8_bits_are_another_model_whose_cost_is_measured(original, exported, graph_there, audio, tmp_path):
    """The front end and how embeddings are compared stay; speakers and calibration are not taken over."""
    pairs = [f"1 s{s}/r0/0.wav s{s}/r1/1.wav\n0 s{s}/r0/0.wav s{(s + 1) % 4}/r1/1.wav\n" for s in range(4)]
    (tmp_path / "trials.txt").write_text("".join(pairs))
    out = tmp_path / "out"
    words = ["export", original, "--int8", "--out", out, "--trials", tmp_path / "trials.txt", "--root", audio]
    done = CliRunner().invoke(app, [*map(str, words), "-q"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "simulated voices only" in done.output and "not calibrated" in done.output
    facts = json.loads((out / "export.json").read_text())
    assert [cost["system"] for cost in facts["eer"]] == ["ONNX fp32", "ONNX int8"]
    assert facts["eer"][0]["difference"] == 0 and not facts["parity"]["real"]
    assert facts["parity int8"]["cosine"] < 1 - 1e-6 < facts["parity"]["cosine"]
    assert fingerprint(out) != fingerprint(original)
    assert str(Scorer.of(load_model(out))) == str(Scorer.of(load_model(original)))
    assert not (out / "calibration.json").exists()
    graph = onnx.load(out / "model.onnx").graph
    assert {"frontend.basis", "frontend.filters"} <= {name for node in graph.node for name in node.input}
    assert any("quantized" in each.name for each in graph.initializer)


def test_a_folder_with_a_model_or_without_audio_is_refused(original, exported, tmp_path):
    with pytest.raises(ModelError, match="holds a model"):
        export_model(original, exported)
    with pytest.raises(CorpusError, match="no audio in"):
        export_model(original, tmp_path / "out", check=[tmp_path])
    with pytest.raises(ModelError, match="cannot be trained further"):
        export_model(exported, tmp_path / "out")
    ivector = build_encoder(Part(name="ivector", **ENCODERS["ivector"].tiny), {"normalise": "none"})
    with pytest.raises(ModelError, match="cannot be exported"):
        write_graph(ivector, tmp_path / "model.onnx")


def test_a_damaged_file_is_named(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy/model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"model\.onnx cannot be run"):
        load_model(tmp_path / "copy")
    with pytest.raises(ModelError, match="has changed since the export"):
        fingerprint(tmp_path / "copy")
    (tmp_path / "copy/model.onnx").unlink()
    with pytest.raises(ModelError, match="is missing"):
        load_model(tmp_path / "copy")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(IdemvoxError, match=r"pip install 'idemvox\[onnx\]'"):
        load_model(exported)


@pytest.mark.slow
def test_an_ecapa_tdnn_is_exported(tmp_path):
    part = Part(name="ecapa_tdnn", **{**ENCODERS["ecapa_tdnn"].tiny, "scale": 2})
    encoder = load_model(write_model(tmp_path / "model", part, FRONT_ENDS["speechbrain"])).network
    write_graph(encoder, tmp_path / "model.onnx")
    found = OnnxEncoder(tmp_path / "model.onnx")
    assert measure_parity(encoder, found, simulated_samples(), real=False).worst <= TOLERANCE
    quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    ours = measure_parity(encoder, OnnxEncoder(tmp_path / "int8.onnx"), simulated_samples(), real=False)
    assert ours.worst > TOLERANCE and ours.cosine > 0.9


def test_samples_to_check_on_are_of_all_lengths(audio):
    samples = find_samples([audio / "s0", audio / "s1/r0/0.wav"])
    assert len(samples) == 5 + 2
    assert len(samples[-1].wave) == 60 * SAMPLE_RATE and len(samples[-2].wave) == SAMPLE_RATE
    assert len({sample.wave.tobytes() for sample in samples}) == 7
