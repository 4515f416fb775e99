"""The report page: whole HTML that needs no network, with the numbers of certificates and runs in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import IdemvoxError
from idemvox.files import write_json
from idemvox.model import Model
from idemvox.reports.charts import det_chart, histogram_chart
from idemvox.reports.conditions import conditions_of
from idemvox.reports.page import report_page
from idemvox.verification.certificate import write_certificate
from idemvox.verification.comparison import compare
from idemvox.verification.drawing import make_trials
from idemvox.verification.evaluation import Scored
from idemvox.verification.metrics import det_curve, eer
from idemvox.verification.score_files import Rows

from .parsing import Page

pytest.importorskip("pyarrow")


@pytest.fixture
def manifest(tmp_path):
    return Manifest(
        [
            Utterance(f"{s}-{r}-{u}", f"{s}/{r}/{u}.wav", 1.0 + 3 * u, speaker=f"s{s}", recording=f"{s}{r}")
            for s in range(6)
            for r in range(2)
            for u in range(2)
        ],
        tmp_path,
    )


@pytest.fixture
def folders(manifest, tmp_path):
    """Certificates of two systems on one list, whose names need escaping, and of one on another list."""
    lists = [make_trials(manifest, "any", name="calls <b>&"), make_trials(manifest, "within")]
    found = []
    for seed, (name, trials) in enumerate([("one", lists[0]), ("<i>two", lists[0]), ("one", lists[1])]):
        model = tmp_path / name / "model"
        model.mkdir(parents=True, exist_ok=True)
        write_json(model / "model.json", {"format": 2})
        (model / "model.safetensors").write_bytes(b"weights")
        scores = np.random.default_rng(seed).normal(size=len(trials)).astype(np.float32) + trials.labels
        speakers = {u.id: u.speaker for u in manifest}
        scored = Scored(Model(nn.Identity(), "cosine", {}, model), trials, scores, speakers, "cosine")
        folder = tmp_path / name / "certificate" / trials.name
        write_certificate(folder, scored, draws=10)
        found.append((folder, scored))
    return found


def test_the_page_is_whole_and_needs_nothing_else(folders, manifest, tmp_path):
    written = report_page([f for f, _ in folders], tmp_path / "report.html", manifest=manifest, title="A & B")
    html = written.read_text()
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert page.references and all(r.startswith("#") and r[1:] in page.ids for r in page.references)
    assert (
        not page.tags & {"link", "img", "iframe"}
        and html.count("<script") == 1
        and "url(http" not in html
        and "@import" not in html
    )
    assert "<b>&" not in html and "<i>two" not in html and "<title>A &amp; B</title>" in html
    assert "calls <b>&" in page.text and "<i>two" in page.text and "within" in page.text


def test_the_page_has_the_numbers_of_the_certificates(folders, manifest, tmp_path):
    text = Page(report_page([f for f, _ in folders], tmp_path / "r.html", manifest=manifest).read_text()).text
    for folder, _ in folders:
        values = json.loads((folder / "certificate.json").read_text())
        equal = values["metrics"]["EER"]
        shown = f"{100 * equal['value']:.2f} ({100 * equal['low']:.2f} to {100 * equal['high']:.2f})"
        assert shown in text and f"{values['metrics']['minCllr']['value']:.4f}" in text
        assert values["trials"]["sha256"] in text and values["model"]["sha256"]["model.json"][:16] in text
        assert f"threshold {values['metrics']['EER threshold']['value']:.4g}" in text
    (_, one), (_, two), _ = folders
    found = compare(one.scores, two.scores, one.trials.labels, *one.sides)
    for difference in found.differences:
        assert difference.absolute_text in text
    assert "Differences to one" in text and text.count("Differences to") == 1
    worst = np.argmin(np.where(one.trials.labels, one.scores, np.inf))
    at = json.loads((folders[0][0] / "certificate.json").read_text())["metrics"]["EER threshold"]["value"]
    below = f"{one.scores[worst]:.4f} , {at - one.scores[worst]:.4f} below the threshold"
    assert f"Missed: the same speaker, below the threshold {below} {one.trials.enrol[worst]}" in text


def test_conditions_are_those_of_the_trials_in_them(folders, manifest):
    (_, scored), *_ = folders
    trials, at = scored.trials, 0.7
    rows = Rows(trials.labels, scored.scores, trials.enrol, trials.test, None)
    found = {condition.name: condition for condition in conditions_of(rows, at, manifest, "calls")}
    by_id = {u.id: u for u in manifest}
    for name, low, high in (("shorter side below 2 s", 0, 2), ("shorter side 4 to 8 s", 4, 8)):
        kept = [
            (score, label)
            for score, label, a, b in zip(
                scored.scores, trials.labels, trials.enrol, trials.test, strict=True
            )
            if low <= min(by_id[a].seconds, by_id[b].seconds) < high
        ]
        targets, impostors = ([s for s, x in kept if x == kind] for kind in (True, False))
        condition = found[name]
        assert (condition.targets, condition.impostors) == (len(targets), len(impostors)) and targets
        assert condition.missed == pytest.approx(sum(s < at for s in targets) / len(targets))
        assert condition.accepted == pytest.approx(sum(s >= at for s in impostors) / len(impostors))
        assert condition.eer == eer([s for s, _ in kept], [x for _, x in kept]).value
    within = found["targets within a recording, all impostors"]
    across = found["targets across recordings, all impostors"]
    assert within.targets + across.targets == trials.targets and within.impostors == trials.impostors
    assert "shorter side 8 s or more" not in found  # no utterance is that long


def test_conditions_of_rate_and_gender_where_they_are_known(folders, manifest):
    (_, scored), *_ = folders
    trials, women, narrow = scored.trials, {"s0", "s1", "s2"}, {"s0", "s3"}
    known = Manifest(
        [
            replace(
                u,
                gender=None if u.speaker == "s5" else "f" if u.speaker in women else "m",
                rate=8000 if u.speaker in narrow else 16_000,
            )
            for u in manifest
        ],
        manifest.root,
    )
    rows = Rows(trials.labels, scored.scores, trials.enrol, trials.test, None)
    found = {c.name: (c.targets, c.impostors) for c in conditions_of(rows, 0.7, known, "calls")}
    by_id = {u.id: u for u in known}
    sides = [
        (label, by_id[a], by_id[b])
        for label, a, b in zip(trials.labels, trials.enrol, trials.test, strict=True)
    ]

    def counts(keep):
        kept = [label for label, a, b in sides if keep(a, b)]
        return sum(kept), len(kept) - sum(kept)

    assert found["gender f, both"] == counts(lambda a, b: a.gender == b.gender == "f")
    assert found["gender m, both"] == counts(lambda a, b: a.gender == b.gender == "m")
    assert found["different genders"] == counts(lambda a, b: {a.gender, b.gender} == {"f", "m"})
    assert found["both at 16000 Hz or more"] == counts(lambda a, b: a.rate == b.rate == 16_000)
    assert found["one or both at a lower rate"] == counts(lambda a, b: 8000 in (a.rate, b.rate))
    without = {c.name for c in conditions_of(rows, 0.7, manifest, "calls")}
    assert not any("gender" in name or "rate" in name for name in without)


def test_a_certificate_that_is_not_in_order_makes_no_page(folders, tmp_path):
    folder = folders[0][0]
    values = json.loads((folder / "certificate.json").read_text())
    values["metrics"]["EER"]["value"] = 0.001
    write_json(folder / "certificate.json", values)
    with pytest.raises(IdemvoxError, match="is not in order"):
        report_page([folder], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(IdemvoxError, match="given twice"):
        report_page([folders[1][0], folders[1][0]], tmp_path / "r.html")


def points(path):
    return np.array([[float(n) for n in pair.split()] for pair in re.split("[ML]", path)[1:]])


def test_det_chart_draws_better_systems_lower_and_marks_the_eer_on_the_curve():
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.5
    noise = rng.normal(size=len(labels))
    curves = [(f"d={d}", det_curve(s, labels), eer(s, labels)) for d in (1, 3) for s in [noise + d * labels]]
    svg = det_chart("x", curves)
    paths = [points(p) for p in re.findall(r'class="curve" d="([^"]+)"', svg)]
    dots = [(float(a), float(b)) for a, b in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', svg)]
    for path, dot in zip(paths, dots, strict=True):
        assert np.min(np.hypot(*(path - dot).T)) < 6
    assert dots[1][0] < dots[0][0] and dots[1][1] > dots[0][1]  # to the left and down
    assert f"EER {100 * curves[0][2].value:.2f} %" in svg


@pytest.mark.parametrize("case", ["spread", "constant", "separated"])
def test_histograms_of_any_scores_stay_in_the_chart(case):
    labels = np.arange(200) % 2 == 0
    scores = np.random.default_rng(0).normal(size=200) + labels
    scores = {"spread": scores, "constant": np.zeros(200), "separated": labels * 2.0}[case]
    svg = histogram_chart("x", scores, labels, eer(scores, labels).threshold)
    numbers = [
        float(n) for path in re.findall(r'<path d="([^"]+)"', svg) for n in re.findall(r"-?[\d.]+", path)
    ]
    assert len(numbers) > 200 and min(numbers) >= 0 and max(numbers) <= 480 and "nan" not in svg
