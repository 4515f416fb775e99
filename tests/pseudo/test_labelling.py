"""Pseudo-speakers: a manifest of clusters, and what is said of every model that was trained on them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.corpus.classes import find_classes
from idemvox.corpus.corpus import open_corpus
from idemvox.corpus.manifest import Manifest, load_manifest, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.pseudo import is_pseudo, known_as, pseudo_names, source_name
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.model import Model, build_encoder, fingerprint, load_model, save_model
from idemvox.pseudo.labelling import LabelOptions, label, save_labelled, sidecar
from idemvox.training.loop import train
from idemvox.training.state.averaging import average
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint
from idemvox.verification.drawing import make_trials
from idemvox.verification.fitting import BackEndOptions, fit_model_backend


@pytest.fixture(scope="module")
def model(tiny_recipe, tmp_path_factory) -> Model:
    """An encoder with random weights, whose recipe is called `first`."""
    recipe, folder = tiny_recipe(), tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    encoder = build_encoder(recipe.encoder, recipe.frontend)
    save_model(folder, encoder, recipe.encoder, recipe.frontend, {"recipe": "first"}, scoring="cosine")
    return load_model(folder)


@pytest.fixture(scope="module")
def pseudo(model, corpus, tmp_path_factory) -> Path:
    """The tiny corpus with five pseudo-speakers."""
    file = tmp_path_factory.mktemp("labelled") / "pseudo.csv"
    save_labelled(label(model, corpus.manifest, LabelOptions(clusters=5)), file)
    return file


def test_names_tell_where_they_are_from():
    source = source_name("simclr: 3", ["speakers", "classes: a.csv, sha256 12", "pseudo-speakers of x@1"], [])
    assert re.fullmatch(r"simclr-3@[0-9a-f]{8}\+classes\+speakers", source)
    names = pseudo_names(source, 2)
    assert all(is_pseudo(name) and is_pseudo(f"vox1/{name}") for name in names)
    assert not any(is_pseudo(name) for name in ("id10001", "pseudo", "pseudo:2", "pseudo:x@1:two"))
    plain = source.partition("+")[0]
    assert known_as(names) == ["classes", "speakers", f"pseudo-speakers of {plain}"]
    assert known_as([]) == [] and known_as(["id10001"]) == ["speakers"]


def test_another_labelling_has_another_source():
    sources = {source_name("m", [], rows) for rows in ([("a", 0), ("b", 1)], [("a", 0), ("b", 0)])}
    assert len(sources) == 2


def test_a_labelled_manifest_has_the_same_utterances_and_no_true_speaker(pseudo, corpus, model):
    found, given = load_manifest(pseudo), corpus.manifest
    assert [u.id for u in found] == [u.id for u in given]
    assert all(found.path(u).samefile(given.path(given.by_id[u.id])) for u in found)
    assert len(found.speakers) == 5 and all(is_pseudo(name) for name in found.speakers)
    about = json.loads(sidecar(pseudo).read_text())
    assert about["clusters"] == 5 and about["utterances"] == 24 and about["left out"] == 0
    assert about["fingerprint"] == fingerprint(model.folder) and about["options"]["clusters"] == 5
    assert 0 < about["purity"] <= 1 and 0 <= about["nmi"] <= 1
    sizes = [sum(u.speaker == name for u in found) for name in found.speakers]
    assert sizes == sorted(sizes, reverse=True)


def test_labels_of_the_manifest_play_no_part(model, corpus):
    blind = label(model, load_manifest(corpus.unlabelled), LabelOptions(clusters=5))
    seeing = label(model, corpus.manifest, LabelOptions(clusters=5))
    assert [u.speaker for u in blind.manifest] == [u.speaker for u in seeing.manifest]
    assert not {"purity", "nmi"} & blind.about.keys()


@pytest.mark.parametrize("clustering", ["agglomerative", "kmeans"])
def test_their_number_need_not_be_known(model, corpus, clustering):
    found = label(model, corpus.manifest, LabelOptions(clustering=clustering, whiten=0.5))
    assert 2 <= found.about["clusters"] <= 12


def test_small_clusters_are_left_out(model, corpus):
    everyone = label(model, corpus.manifest, LabelOptions(clusters=10)).manifest
    sizes = [sum(u.speaker == name for u in everyone) for name in everyone.speakers]
    found = label(model, corpus.manifest, LabelOptions(clusters=10, min_utterances=3))
    assert found.about["clusters"] == sum(size >= 3 for size in sizes) < 10
    assert len(found.manifest) == sum(size for size in sizes if size >= 3)
    assert found.about["left out"] == 24 - len(found.manifest)
    with pytest.raises(CorpusError, match="lower --min-utterances"):
        label(model, corpus.manifest, LabelOptions(clusters=24, min_utterances=3))


@pytest.mark.parametrize(
    "wrong",
    [{"clusters": 1}, {"clustering": "ward"}, {"whiten": 2}, {"min_utterances": 0}, {"exact_up_to": 1}],
)
def test_options_that_cannot_be(wrong):
    with pytest.raises(IdemvoxError):
        LabelOptions(**wrong)


@pytest.mark.parametrize(
    ("framework", "positives"), [("supervised_aam", "same"), ("finetune", "same"), ("simclr", "supervised")]
)
def test_every_model_that_is_trained_on_them_says_so(pseudo, tiny_recipe, tmp_path, framework, positives):
    recipe = tiny_recipe(f"data.manifest={pseudo}", framework=framework, positives=positives)
    trained = train(recipe, tmp_path / "run", progress=False)
    source = json.loads(sidecar(pseudo).read_text())["pseudo-speakers of"]
    assert load_model(trained.folder).provenance["known"] == [f"pseudo-speakers of {source}"]
    known = average(trained.folder, 1, tmp_path / "mean").provenance["known"]
    assert known == [f"pseudo-speakers of {source}"]
    assert "speaker_accuracy" not in trained.numbers  # it would compare clusters with themselves


def test_labels_that_the_first_model_knew_are_not_forgotten(pseudo, corpus, tiny_recipe, tmp_path):
    """Of a model trained on clusters of a supervised model."""
    supervised = train(tiny_recipe(labelled=True, framework="supervised_aam"), tmp_path / "a", progress=False)
    save_labelled(
        label(load_model(supervised.folder), corpus.manifest, LabelOptions(clusters=4)), tmp_path / "b.csv"
    )
    recipe = tiny_recipe(f"data.manifest={tmp_path / 'b.csv'}", framework="supervised_aam")
    known = load_model(train(recipe, tmp_path / "c", progress=False).folder).provenance["known"]
    assert known[0] == "speakers" and known[1].startswith("pseudo-speakers of tiny@")


def test_self_supervised_training_does_not_see_them(pseudo, corpus, tiny_recipe, tmp_path):
    with_them = train(
        tiny_recipe(f"data.manifest={pseudo}", positives="ssps"), tmp_path / "a", progress=False
    )
    without = train(tiny_recipe(positives="ssps"), tmp_path / "b", progress=False)
    one, other = (
        load_checkpoint(last_checkpoint(run.folder / "checkpoints"))["framework"]
        for run in (with_them, without)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert load_model(with_them.folder).provenance["known"] == []
    assert "speaker_accuracy" not in with_them.numbers


def test_a_pack_takes_them_along_or_gets_them_as_a_table(pseudo, corpus, tmp_path):
    pack(pseudo, tmp_path / "pack", progress=False)
    pack(corpus.unlabelled, tmp_path / "blind", progress=False)
    listed = find_classes(open_corpus(pseudo), None)
    for found in (
        find_classes(open_corpus(tmp_path / "pack"), None),
        find_classes(open_corpus(tmp_path / "blind"), pseudo),
    ):
        assert found.numbers.tolist() == listed.numbers.tolist()
        assert found.known == listed.known and found.named == listed.named


def test_speakers_are_told_from_pseudo_speakers_in_one_corpus(pseudo, corpus, tmp_path):
    rows = load_manifest(pseudo)
    save_manifest(
        Manifest([replace(u, speaker="id1") if n < 3 else u for n, u in enumerate(rows)], rows.root),
        tmp_path / "mixed.csv",
    )
    mixed = open_corpus(tmp_path / "mixed.csv")
    assert (mixed.true_speakers() >= 0).tolist() == [n < 3 for n in range(24)]
    assert (open_corpus(pseudo).true_speakers() == -1).all()
    assert open_corpus(corpus.labelled).true_speakers().tolist() == [n // 4 for n in range(24)]
    assert find_classes(mixed, None).known[0] == "speakers"


def test_other_pseudo_speakers_start_a_new_classifier_even_if_there_are_as_many(
    pseudo, model, corpus, tiny_recipe, tmp_path, caplog
):
    """Trap 36: cluster 3 of one clustering is not cluster 3 of the next."""
    first = train(
        tiny_recipe(f"data.manifest={pseudo}", framework="supervised_aam"), tmp_path / "a", progress=False
    )
    again = tmp_path / "again.csv"
    save_labelled(label(model, corpus.manifest, LabelOptions(clusters=5, whiten=1)), again)
    start = [f"start_from={first.folder}", "training.epochs=1", "training.lr=1e-30"]
    old = load_checkpoint(last_checkpoint(first.folder / "checkpoints"))["framework"]
    for manifest, same in ((pseudo, True), (again, False)):
        recipe = tiny_recipe(f"data.manifest={manifest}", *start, framework="supervised_aam")
        run = train(recipe, tmp_path / manifest.stem, progress=False)
        new = load_checkpoint(last_checkpoint(run.folder / "checkpoints"))["framework"]
        assert torch.equal(new["classes"], old["classes"]) == same
        assert torch.equal(new["encoder.fc.weight"], old["encoder.fc.weight"])
        assert (f"{first.folder}: it has other classes" in caplog.text) != same


def test_a_run_does_not_resume_with_other_pseudo_speakers(pseudo, model, corpus, tiny_recipe, tmp_path):
    file = tmp_path / "pseudo.csv"
    options = LabelOptions(clusters=5)
    save_labelled(label(model, corpus.manifest, options), file)
    recipe = tiny_recipe(f"data.manifest={file}", "training.epochs=1", framework="supervised_aam")
    train(recipe, tmp_path / "run", progress=False)
    save_labelled(label(model, corpus.manifest, replace(options, whiten=1)), file)
    with pytest.raises(IdemvoxError, match=r"the speakers of data\.manifest are not those"):
        train(recipe.override(["training.epochs=2"]), tmp_path / "run", resume=True, progress=False)


def test_trials_and_back_ends_do_not_take_them_for_speakers(pseudo, model):
    with pytest.raises(CorpusError, match="trials of pseudo-speakers"):
        make_trials(load_manifest(pseudo), "any")
    found = fit_model_backend(model, [load_manifest(pseudo)], BackEndOptions(labels=True))
    assert len(found.provenance["known"]) == 1 and "pseudo-speakers of" in found.provenance["known"][0]


def test_the_command_prints_what_it_found(model, corpus, tmp_path):
    out = tmp_path / "pseudo.csv"
    call = ["label", str(model.folder), str(corpus.labelled), "--out", str(out), "--clusters", "6", "-q"]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0 and "purity, by the manifest's speakers" in shown.output
    assert "pseudo.csv.json" in shown.output.replace("\n", "") and len(load_manifest(out).speakers) == 6
