"""Evaluation: metrics, names of utterances, and embeddings that are computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.model import Model
from idemvox.verification.bootstrap import eer_interval
from idemvox.verification.drawing import make_trials
from idemvox.verification.embed import embed_files, load_embeddings, save_embeddings
from idemvox.verification.evaluation import evaluate, evaluate_embeddings, evaluate_lists, trial_utterances
from idemvox.verification.metrics import eer, min_dcf
from idemvox.verification.report import Report
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import load_trials


def model_of(encoder, scoring="cosine", **provenance):
    return Model(encoder, scoring, provenance, Path())


def test_the_report_has_the_metrics_of_the_scores(encoder, corpus):
    trials = make_trials(corpus, "any")
    model = model_of(encoder, recipe="tiny")
    report = evaluate(model, trials, corpus, draws=20, command="idemvox evaluate x")
    scores = Scorer().scores(embed_files(encoder, corpus), trials)
    assert (report.trials, report.targets, report.impostors) == ("any", 24, 96)
    assert report.eer == eer(scores, trials.labels).value
    assert np.mean(scores[~trials.labels] >= report.eer_threshold) <= report.eer + 1e-12
    assert report.mindcf_001 == min_dcf(scores, trials.labels, 0.01)
    assert report.mindcf_005 == min_dcf(scores, trials.labels, 0.05)
    who = [[name[0] for name in side] for side in (trials.enrol, trials.test)]
    interval = eer_interval(scores, trials.labels, *who, draws=20)
    assert (report.eer_low, report.eer_high) == (interval.low, interval.high)
    assert report.model == {"recipe": "tiny"} and report.command == "idemvox evaluate x"
    assert set(report.versions) == {"python", "idemvox", "torch", "numpy"} and report.date.endswith("+00:00")
    assert report.scoring == "cosine of whole utterances"
    assert Report.from_json(report.to_json()) == report


def test_several_lists_share_embeddings(encoder, corpus):
    lists = [make_trials(corpus, kind) for kind in ("across", "within")]
    model = model_of(encoder)
    reports = evaluate_lists(model, lists, corpus, draws=5, batch_seconds=1e-9)
    assert len(encoder.batches) == len(corpus) and all(shape[0] == 1 for shape in encoder.batches)
    for report, trials in zip(reports, lists, strict=True):
        alone = evaluate(model, trials, corpus, draws=5)
        assert report.trials == trials.name and report.eer == pytest.approx(alone.eer)
        assert (report.eer_low, report.eer_high) == pytest.approx((alone.eer_low, alone.eer_high))


def test_existing_embeddings_are_used(encoder, corpus, tmp_path):
    trials, model = make_trials(corpus, "any"), model_of(encoder)
    embeddings = embed_files(encoder, corpus, max_seconds=0.5)
    save_embeddings(embeddings, tmp_path / "e.npz")
    encoder.batches.clear()
    found = evaluate_embeddings(model, load_embeddings(tmp_path / "e.npz"), trials, corpus, draws=5)
    assert not encoder.batches and found.eer_low is not None
    assert found.scoring == "cosine of the first 0.5 s"
    assert evaluate_embeddings(model, embeddings, trials).eer_low is None


def test_embeddings_of_an_older_file_are_of_whole_utterances(encoder, corpus, tmp_path):
    found = embed_files(encoder, corpus)
    np.savez(tmp_path / "old.npz", ids=np.array(found.ids), matrix=found.matrix)
    assert load_embeddings(tmp_path / "old.npz").of == found.of == "whole utterances"


@pytest.mark.parametrize("function", [evaluate, evaluate_lists])
def test_a_misspelt_argument_is_an_error(function, encoder, corpus):
    trials = make_trials(corpus, "any")
    with pytest.raises(TypeError, match="max_second"):
        function(model_of(encoder), trials if function is evaluate else [trials], corpus, max_second=0.5)


def names(corpus, tmp_path, kind):
    pairs = [(a, b) for a in corpus[:8] for b in corpus if a != b]
    lines = [f"{int(a.speaker == b.speaker)} {getattr(a, kind)} {getattr(b, kind)}\n" for a, b in pairs]
    (tmp_path / "t.txt").write_text("".join(lines))
    return load_trials(tmp_path / "t.txt")


def test_names_may_be_ids_or_paths_or_path_ends_or_lie_under_a_folder(encoder, corpus, tmp_path):
    by_id = evaluate(model_of(encoder), names(corpus, tmp_path, "id"), corpus, draws=5)
    by_path = evaluate(model_of(encoder), names(corpus, tmp_path, "path"), corpus, draws=5)
    assert replace(by_path, date=by_id.date) == by_id
    folder = evaluate(model_of(encoder), names(corpus, tmp_path, "path"), str(corpus.root), draws=5)
    assert folder.eer_low is None and folder.eer == pytest.approx(by_id.eer)
    deeper = Manifest([replace(u, path=f"{corpus.root.name}/{u.path}") for u in corpus], corpus.root.parent)
    found = trial_utterances(names(corpus, tmp_path, "path"), deeper)
    assert all(found.path(u).is_file() and u.id != u.path for u in found)


def test_unknown_or_ambiguous_names_are_refused(corpus, tmp_path):
    (tmp_path / "t.txt").write_text("1 s0/r0/0.wav s0/r0/9.wav\n0 0.wav s1/r0/0.wav\n")
    trials = load_trials(tmp_path / "t.txt")
    for source in (corpus, corpus.root):
        with pytest.raises(IdemvoxError, match=r"2 of the 4 .*'t' are unknown: s0/r0/9.wav, 0.wav;"):
            trial_utterances(trials, source)


def test_the_report_describes_the_scoring(encoder, corpus):
    trials = make_trials(corpus, "any")
    report = evaluate(model_of(encoder), trials, corpus, draws=0, max_seconds=0.5, precision="bf16")
    assert report.scoring == "cosine of the first 0.5 s, bf16"


def test_a_model_is_evaluated_as_it_was_trained(encoder, corpus):
    trials = make_trials(corpus, "any")
    report = evaluate(model_of(encoder, "euclidean"), trials, corpus, draws=0)
    assert report.scoring == "minus squared Euclidean distance of whole utterances"
    found = eer(Scorer("euclidean").scores(embed_files(encoder, corpus), trials), trials.labels)
    assert (report.eer, report.eer_threshold) == (found.value, found.threshold) and found.threshold < 0
