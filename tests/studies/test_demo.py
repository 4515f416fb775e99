from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import idemvox.studies.demo as demo
import idemvox.studies.demo_voices as demo_voices
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError
from idemvox.model import build_encoder, load_model, save_model
from idemvox.studies.demo import Size, run_demo

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("jobs_here")]

SYSTEMS = (
    "untrained",
    "simclr-base",
    "simclr",
    "simclr-ssps",
    "simclr-ssps-recordings",
    "simclr-supervised",
)
TINY = Size(
    utterances=4,
    recordings=2,
    base_epochs=1,
    more_epochs=1,
    encoder=(
        "encoder.channels=[4, 8, 8, 8]",
        "encoder.blocks=[1, 1, 1, 1]",
        "encoder.dim=16",
        "augment.simulated_rooms=2",
    ),
    clusters=0.5,
    groups=0.5,
    batch=4,
)


@pytest.fixture(scope="module")
def shown(jobs_here, corpus, tmp_path_factory) -> tuple[Path, str]:
    """The whole demo on the tiny corpus, which has recordings of its own."""
    out = tmp_path_factory.mktemp("demo")
    console = Console(record=True, width=160)
    run_demo(out, corpus.labelled, size=TINY, console=console, progress=False)
    return out, console.export_text()


def test_the_table_shows_every_system(shown):
    out, text = shown
    for system in SYSTEMS:
        assert system in text
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert {(r["system"], r["trials"]) for r in rows} == {
        (s, t) for s in SYSTEMS for t in ("across recordings", "within a recording")
    }
    assert all(0 <= e <= 1 for r in rows for e in r["eer"])


def test_the_other_positives_are_compared_with_the_unchanged_run_on_the_same_draws(shown):
    out, text = shown
    rows = json.loads((out / "results.json").read_text())["rows"]
    eer = {(r["system"], r["trials"]): r["eer"][0] for r in rows}
    for row in rows:
        change = row.get("EER against simclr")
        assert (change is not None) == (row["system"] in SYSTEMS[3:])
        if change is not None:
            difference = row["eer"][0] - eer["simclr", row["trials"]]
            assert change.startswith(f"{100 * difference:+.2f} points (")
    for name in ("SSPS as published", "SSPS with recordings known"):
        assert f"{name} changes the EER across recordings by" in text
    assert "EER against simclr" in (out / "results.md").read_text()


def test_held_out_speakers_are_not_trained_on(shown):
    out, _ = shown
    train, test = ((out / name / "manifest.csv").read_text() for name in ("train", "test"))
    speakers = [{line.split(",")[4] for line in text.splitlines()[1:]} for text in (train, test)]
    assert speakers[0] and speakers[1] and not speakers[0] & speakers[1]


def test_all_systems_start_with_the_same_weights(shown):
    out, _ = shown
    for system in SYSTEMS[2:]:
        recipe = (out / "seed-0" / system / "recipe.yaml").read_text()
        assert f"start_from: {out / 'seed-0' / 'simclr-base'}" in recipe


def test_a_second_call_trains_nothing_and_shows_the_same(shown, corpus):
    out, text = shown
    before = {p: p.stat().st_mtime_ns for p in out.glob("seed-0/*/checkpoints/*")}
    assert before
    console = Console(record=True, width=160)
    run_demo(out, corpus.labelled, size=TINY, console=console, progress=False)
    assert console.export_text() == text
    assert {p: p.stat().st_mtime_ns for p in out.glob("seed-0/*/checkpoints/*")} == before


def test_synthetic_voices_are_announced(monkeypatch, tmp_path, corpus):
    """If no voices can be fetched, the demo warns that it uses synthetic ones."""
    nothing = demo_voices.Fetched(None, ("no apt-get here",))
    monkeypatch.setattr(demo_voices, "fetch_voices", lambda *_: nothing)
    monkeypatch.setattr(demo_voices, "synthetic_voices", lambda *_: corpus.manifest)
    console = Console(record=True, width=160)
    _, what = demo_voices.find_voices(None, False, console, False)
    text = console.export_text()
    assert "no apt-get here" in text and "THESE VOICES ARE SYNTHETIC" in text and "SYNTHETIC" in what


def test_a_corpus_without_labels_is_refused(corpus, tmp_path):
    with pytest.raises(IdemvoxError, match="names 0 speakers; the study needs labels"):
        run_demo(tmp_path, corpus.unlabelled, size=TINY, console=Console(), progress=False)


def test_the_results_of_another_study_are_not_reused(shown, corpus):
    out, _ = shown
    longer = replace(TINY, more_epochs=2)
    with pytest.raises(IdemvoxError, match="holds a study of other data or with other settings"):
        run_demo(out, corpus.labelled, size=longer, console=Console(), progress=False)


def test_the_base_is_small_and_records_its_origin(corpus):
    assert sum(file.stat().st_size for file in demo.BASE.iterdir()) < 3_000_000
    model = load_model(demo.BASE)
    assert model.provenance["known"] == []
    assert model.provenance["epochs"] == demo.SMALL.base_epochs
    assert "licence" in model.provenance
    manifest = load_manifest(corpus.labelled)
    recipe = demo.plan(demo.SMALL, manifest, (0,), None).recipe("simclr-base", 0, corpus.labelled, None)
    build_encoder(recipe.encoder, recipe.frontend).load_state_dict(model.encoder.state_dict())


def test_voices_that_the_base_was_trained_on_are_not_scored(monkeypatch, tmp_path, corpus):
    manifest = load_manifest(corpus.labelled)
    learnt = manifest.speakers[::2]
    recipe = demo.plan(TINY, manifest, (0,), None).recipe("simclr-base", 0, corpus.labelled, None)
    encoder = build_encoder(recipe.encoder, recipe.frontend)
    base = tmp_path / "base"
    save_model(
        base,
        encoder,
        recipe.encoder,
        recipe.frontend,
        {"voices": learnt[:2], "chosen on": learnt[2:]},
        scoring="cosine",
    )
    monkeypatch.setattr(demo, "BASE", base)
    monkeypatch.setattr(demo, "find_voices", lambda *_: (manifest, demo_voices.REAL))
    out = tmp_path / "out"
    run_demo(out, None, size=TINY, console=Console(), progress=False)
    train, test = (load_manifest(out / name / "manifest.csv").speakers for name in ("train", "test"))
    assert {name.split("@")[0] for name in train} == set(learnt)
    assert not {name.split("@")[0] for name in test} & set(learnt)
    assert f"start_from: {base}" in (out / "seed-0" / "simclr-ssps" / "recipe.yaml").read_text()
