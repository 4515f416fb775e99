"""Reports: the numbers, the names of utterances, storing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.verification.bootstrap import eer_interval
from idemvox.verification.embed import embed_files
from idemvox.verification.metrics import eer, min_dcf
from idemvox.verification.report import (
    Report,
    evaluate,
    load_report,
    reports_table,
    store_report,
    trial_utterances,
)
from idemvox.verification.scoring import cosine_scores, euclidean_scores
from idemvox.verification.trials import load_trials, make_trials


def test_report_holds_the_metrics_of_the_scores(encoder, corpus):
    trials = make_trials(corpus, "any")
    report = evaluate(
        encoder, trials, corpus, draws=20, model={"recipe": "tiny"}, command="idemvox evaluate x"
    )
    scores = cosine_scores(embed_files(encoder, corpus), trials)
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


def test_embeddings_made_once_serve_several_lists(encoder, corpus):
    lists = [make_trials(corpus, kind) for kind in ("across", "within")]
    embeddings = embed_files(encoder, trial_utterances(lists, corpus))
    encoder.batches.clear()
    for trials in lists:
        report = evaluate(encoder, trials, embeddings=embeddings)
        assert report.eer_low is None and not encoder.batches
        assert evaluate(encoder, trials, corpus, embeddings=embeddings, draws=5).eer_low is not None
        assert not encoder.batches
        direct = evaluate(encoder, trials, corpus, draws=0)
        assert report.eer == pytest.approx(direct.eer)
        encoder.batches.clear()
    with pytest.raises(IdemvoxError, match="give the manifest"):
        evaluate(encoder, lists[0])


def names(corpus, tmp_path, kind):
    pairs = [(a, b) for a in corpus[:8] for b in corpus if a != b]
    lines = [f"{int(a.speaker == b.speaker)} {getattr(a, kind)} {getattr(b, kind)}\n" for a, b in pairs]
    (tmp_path / "t.txt").write_text("".join(lines))
    return load_trials(tmp_path / "t.txt")


def test_names_may_be_ids_or_paths_or_path_ends_or_lie_under_a_folder(encoder, corpus, tmp_path):
    by_id = evaluate(encoder, names(corpus, tmp_path, "id"), corpus, draws=5)
    by_path = evaluate(encoder, names(corpus, tmp_path, "path"), corpus, draws=5)
    assert replace(by_path, date=by_id.date) == by_id
    folder = evaluate(encoder, names(corpus, tmp_path, "path"), str(corpus.root), draws=5)
    assert folder.eer_low is None and folder.eer == pytest.approx(by_id.eer)
    deeper = Manifest([replace(u, path=f"{corpus.root.name}/{u.path}") for u in corpus], corpus.root.parent)
    found = trial_utterances(names(corpus, tmp_path, "path"), deeper)
    assert all(found.path(u).is_file() and u.id != u.path for u in found)


def test_names_that_are_not_there_or_not_unique(corpus, tmp_path):
    (tmp_path / "t.txt").write_text("1 s0/r0/0.wav s0/r0/9.wav\n0 0.wav s1/r0/0.wav\n")
    trials = load_trials(tmp_path / "t.txt")
    for source in (corpus, corpus.root):
        with pytest.raises(IdemvoxError, match=r"2 of the 4 .*'t' are unknown: s0/r0/9.wav, 0.wav;"):
            trial_utterances(trials, source)


def test_scoring_says_what_was_done(encoder, corpus):
    trials = make_trials(corpus, "any")
    report = evaluate(encoder, trials, corpus, draws=0, max_seconds=0.5, precision="bf16")
    assert report.scoring == "cosine of the first 0.5 s, bf16"


def test_an_encoder_is_evaluated_as_it_was_trained(encoder, corpus):
    encoder.scoring = "euclidean"
    trials = make_trials(corpus, "any")
    report = evaluate(encoder, trials, corpus, draws=0)
    assert report.scoring == "minus squared Euclidean distance of whole utterances"
    found = eer(euclidean_scores(embed_files(encoder, corpus), trials), trials.labels)
    assert (report.eer, report.eer_threshold) == (found.value, found.threshold) and found.threshold < 0


def test_store_and_load(tmp_path, encoder, corpus):
    assert load_report(tmp_path) is None
    report = evaluate(encoder, make_trials(corpus, "any"), corpus, draws=0, store=tmp_path)
    assert load_report(tmp_path) == report
    better = replace(report, eer=0.0)
    assert store_report(tmp_path, better) == Path(tmp_path) / "report.json"
    assert load_report(tmp_path) == better
    for text in ("{", "[]", "{}"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(IdemvoxError, match=r"report\.json: .*evaluate the model again"):
            load_report(tmp_path)


def test_table_states_unit_and_prior():
    a = Report("calls", 1234, 56789, 0.0512, 0.4, 0.4567, 0.3456)
    b = replace(a, trials="own", eer_low=0.0391, eer_high=0.0684)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(reports_table([a, b]))
    text = console.export_text()
    for part in (
        "EER %",
        "minDCF p=0.01",
        "minDCF p=0.05",
        "1,234",
        "5.12 (3.9 to 6.8)",
        "0.4567",
        "resampled",
    ):
        assert part in text
    console.print(a.table())
    assert "resampled" not in console.export_text()
