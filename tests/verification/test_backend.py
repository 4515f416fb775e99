"""The back end of a model is fitted, stored with it, and applied wherever its embeddings are compared."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from idemvox.audio.frontend import FrontEndSettings, LogMel
from idemvox.audio.read import read
from idemvox.errors import CorpusError, IdemvoxError, ModelError
from idemvox.model import build_encoder, fingerprint, load_model, save_model
from idemvox.recipe import Part
from idemvox.registry import ENCODERS
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.backend_file import FORMAT, load_backend, remove_backend, save_backend
from idemvox.verification.drawing import make_trials
from idemvox.verification.embed import embed_files
from idemvox.verification.evaluation import evaluate
from idemvox.verification.fitting import BackEndOptions, fit_backend, fit_model_backend
from idemvox.verification.metrics import eer
from idemvox.verification.plda import fit_plda
from idemvox.verification.scoring import Scorer
from idemvox.verifier.verifier import Verifier

PART = Part(name="fast_resnet34", **ENCODERS["fast_resnet34"].tiny)


def saved(folder, seed=0):
    torch.manual_seed(seed)
    encoder = build_encoder(PART, {})
    encoder(torch.randn(4, 8000))
    save_model(folder, encoder, PART, {}, {"recipe": "r", "known": []}, scoring="cosine")
    return load_model(folder)


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "model")


def numbers(rows, dim=16, seed=0):
    return (np.random.default_rng(seed).normal(size=(rows, dim)) + 0.5).astype(np.float32)


def some_backends():
    rows, labels = numbers(40), np.arange(40) // 4
    mean = rows.mean(axis=0)
    return {
        "mean": BackEnd(mean),
        "s-norm": BackEnd(None, Cohort(rows)),
        "as-norm": BackEnd(mean, Cohort(rows, 7, "speakers")),
        "plda": BackEnd(mean, plda=fit_plda(rows - mean, labels, of="10 speakers")),
        "plda with lda": BackEnd(mean, plda=fit_plda(rows - mean, labels, lda=5, unit_length=False)),
        "all": BackEnd(mean, Cohort(rows, 7), fit_plda(rows - mean, labels), {"known": ["speakers"]}),
    }


@pytest.mark.parametrize("name", some_backends())
def test_a_stored_back_end_gives_the_same_scores(model, name):
    backend = some_backends()[name]
    assert Scorer.of(model).backend is None
    assert save_backend(model.folder, backend) == model.folder / "backend.safetensors"
    scorer, before = Scorer.of(model), Scorer("cosine", backend)
    assert str(scorer) == str(before) and scorer.backend.provenance == backend.provenance
    rows = numbers(6, seed=1)
    for a in rows:
        assert [scorer.score(a, b) for b in rows] == [before.score(a, b) for b in rows]
    assert sorted(p.name for p in model.folder.iterdir()) == [
        "README.md",
        "backend.safetensors",
        "model.json",
        "model.safetensors",
    ]


def test_a_new_back_end_removes_report_and_calibration(model):
    for change in (
        lambda: save_backend(model.folder, BackEnd(numbers(1)[0])),
        lambda: remove_backend(model.folder),
    ):
        for name in ("report.json", "calibration.json"):
            (model.folder / name).write_text("{}")
        change()
        assert [path.name for path in model.folder.glob("*.json")] == ["model.json"]
    assert Scorer.of(model).backend is None and not remove_backend(model.folder)


def test_new_weights_remove_it_and_foreign_weights_are_detected(model, tmp_path):
    save_backend(model.folder, BackEnd(numbers(1)[0]))
    other = saved(tmp_path / "other", seed=1)
    (model.folder / "backend.safetensors").rename(other.folder / "backend.safetensors")
    with pytest.raises(ModelError, match=r"fitted to embeddings of another model.*idemvox backend"):
        Scorer.of(other)
    saved(tmp_path / "other", seed=1)
    assert load_backend(other.folder) is None


def test_scoring_options_do_not_change_the_fingerprint_of_embeddings(model):
    before = fingerprint(model.folder)
    save_backend(model.folder, BackEnd(numbers(1)[0]))
    assert fingerprint(model.folder) == before


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "no description": lambda path: save_file({"mean": numbers(1)[0]}, path),
    "not a description": lambda path: save_file({"mean": numbers(1)[0]}, path, {"backend": "[]"}),
    "a tensor missing": lambda path: save_file(
        {"mean": numbers(1)[0]}, path, {"backend": '{"format": 1, "cohort": {"top": 3, "of": "utterances"}}'}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_reported(model, damage):
    DAMAGE[damage](save_backend(model.folder, BackEnd(numbers(1)[0])))
    with pytest.raises(ModelError, match=r"damaged.*run `idemvox backend` again"):
        Scorer.of(model)


def test_a_newer_format_is_refused(model):
    path = save_backend(model.folder, BackEnd(numbers(1)[0]))
    save_file(load_file(path), path, {"backend": json.dumps({"format": FORMAT + 1})})
    with pytest.raises(ModelError, match=f"format {FORMAT + 1}.* up to {FORMAT}: upgrade"):
        Scorer.of(model)


def test_a_failed_write_keeps_the_old_one(model, monkeypatch):
    path = save_backend(model.folder, BackEnd(numbers(1)[0]))
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        save_backend(model.folder, BackEnd(numbers(1, seed=1)[0]))
    assert path.read_bytes() == before and not list(model.folder.glob("*.part"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BackEndOptions("mean"), "mean-subtracted cosine"),
        (BackEndOptions("s-norm", cohort=9), "S-norm (9 utterances) of the mean-subtracted cosine"),
        (BackEndOptions(top=5), "AS-norm (top 5 of 16 utterances) of the mean-subtracted cosine"),
        (BackEndOptions(labels=True, top=3), "AS-norm (top 3 of 4 speakers) of the mean-subtracted cosine"),
        (BackEndOptions("plda", labels=True), "PLDA log-likelihood ratio (4 speakers)"),
        (BackEndOptions("plda", clusters=5), "PLDA log-likelihood ratio (5 pseudo-speakers)"),
    ],
    ids=str,
)
def test_evaluation_and_verifier_apply_the_stored_back_end(model, corpus, options, words):
    trials = make_trials(corpus, "any")
    plain = evaluate(model, trials, corpus, draws=0)
    save_backend(model.folder, fit_model_backend(model, [corpus], options, command="idemvox backend x"))
    report = evaluate(model, trials, corpus, draws=0)
    assert report.scoring == f"{words} of whole utterances" and report.eer_threshold != plain.eer_threshold
    assert report.model["known"] == (["speakers"] if options.labels else [])
    assert report.model["backend"]["command"] == "idemvox backend x" and report.model["recipe"] == "r"
    scorer = Verifier.load(model.folder).scorer
    embeddings = embed_files(model.encoder, corpus)
    scores = scorer.scores(embeddings, trials)
    assert report.eer == eer(scores, trials.labels).value
    for score, (_, a, b) in list(zip(scores, trials, strict=True))[:10]:
        assert score == pytest.approx(scorer.score(embeddings[a], embeddings[b]), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("options", [BackEndOptions("as-norm"), BackEndOptions("plda", clusters=5)], ids=str)
def test_labels_are_not_read_unless_asked_for(model, corpus, options):
    bare, labelled = (fit_model_backend(model, [m], options) for m in (corpus.without_labels(), corpus))
    rows = numbers(2)
    assert Scorer("cosine", bare).score(*rows) == Scorer("cosine", labelled).score(*rows)
    assert labelled.provenance["known"] == []
    with pytest.raises(CorpusError, match=r"no speakers.*without --labels"):
        fit_model_backend(model, [corpus.without_labels()], BackEndOptions("plda", labels=True))


def test_utterances_without_a_speaker_are_left_out_where_speakers_are_used():
    rows, speakers = numbers(30), np.arange(30) // 3
    speakers[20:] = -1
    mean, *_ = rows.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
    found = fit_backend(rows, BackEndOptions(labels=True), speakers)
    expected = [rows[3 * n : 3 * n + 3].mean(axis=0) for n in range(6)] + [rows[18:20].mean(axis=0)]
    np.testing.assert_allclose(found.cohort.vectors, expected, atol=1e-6)
    np.testing.assert_allclose(found.mean, mean)


def test_speakers_of_two_manifests_are_different(model, corpus):
    found = fit_model_backend(model, [corpus, corpus], BackEndOptions(labels=True))
    assert len(found.cohort.vectors) == 8 and found.provenance["utterances"] == 32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "lda"}, "unknown back end 'lda'; have: mean, s-norm, as-norm, plda"),
        ({"kind": "plda"}, "--labels.*--clusters"),
        ({"kind": "plda", "labels": True, "clusters": 3}, "--labels.*--clusters"),
        ({"kind": "plda", "clusters": 3, "clustering": "dbscan"}, "unknown clustering 'dbscan'"),
        ({"clusters": 3}, "clusters are for PLDA"),
        ({"kind": "mean", "labels": True}, "needs no labels"),
        ({"top": 1}, "2 or more"),
    ],
)
def test_impossible_options_are_refused(wrong, message):
    with pytest.raises(IdemvoxError, match=message):
        BackEndOptions(**wrong)


@pytest.mark.slow
def test_plda_on_pseudo_speakers_of_real_speech():
    """Embeddings are means and deviations of log-mel features. PLDA tells new speakers apart better."""
    root = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[3] / "shared/corpora"))
    if not (root / "manifest.csv").is_file():
        pytest.skip("no real speech: set IDEMVOX_CORPORA to the folder that holds manifest.csv")
    with (root / "manifest.csv").open(encoding="utf-8") as file:
        listed = [row for row in csv.DictReader(file) if row["source"] == "speechocean762"]
    names = sorted({row["speaker"] for row in listed if row["split"] == "train"})[:60]
    mels = LogMel(replace(FrontEndSettings(), normalise="none"))
    rows, speakers = [], []
    for number, name in enumerate(names):
        for row in [row for row in listed if row["speaker"] == name][:6]:
            features = mels(torch.from_numpy(read(root / row["path"]))[None])[0][0]
            rows.append(torch.cat([features.mean(dim=1), features.std(dim=1)]).numpy())
            speakers.append(number)
    matrix, labels = np.stack(rows).astype(np.float32), np.array(speakers)
    fitted, tested = labels < 40, labels >= 40
    same = (labels[tested][:, None] == labels[tested])[np.triu_indices(tested.sum(), 1)]

    def error(backend):
        scorer = Scorer("cosine", backend)
        scores = scorer.against(matrix[tested], scorer.gallery(matrix[tested]))
        return eer(scores[np.triu_indices(tested.sum(), 1)], same).value

    pseudo = fit_backend(matrix[fitted], BackEndOptions("plda", clusters=40, lda=20))
    by_label = fit_backend(matrix[fitted], BackEndOptions("plda", labels=True, lda=20), labels[fitted])
    assert error(by_label) < error(pseudo) < error(None)
