"""A table of classes, ``data.labels``: what uses it, what never does, and what is recorded about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from idemvox.batch import Swap
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError
from idemvox.model import load_model
from idemvox.recipe import Recipe
from idemvox.studies.jobs import Job, TestSet, results_row, run_jobs
from idemvox.training.assembly import assemble
from idemvox.training.fitters.base import Trained
from idemvox.training.loop import train
from idemvox.training.state.averaging import average
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint
from idemvox.verification.drawing import make_trials


@pytest.fixture
def table(corpus, tmp_path) -> Path:
    """The speakers of the tiny corpus, as a table of classes."""
    return write(tmp_path / "classes.csv", {u.id: f"class {u.speaker}" for u in corpus.manifest})


def write(file: Path, classes: dict[str, str]) -> Path:
    file.write_text("id,class\n" + "".join(f"{name},{value}\n" for name, value in classes.items()))
    return file


def label_record(file: Path) -> str:
    """What provenance and results record about a table."""
    return f"classes: {file.name}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def learnt(trained: Trained) -> dict[str, Any]:
    state = load_checkpoint(last_checkpoint(trained.folder / "checkpoints"))
    return {**state["framework"], **state["positives"]}


def same(one: Trained, other: Trained) -> bool:
    ours, theirs = learnt(one), learnt(other)
    assert ours.keys() == theirs.keys()
    return all(torch.equal(v, theirs[k]) for k, v in ours.items() if isinstance(v, torch.Tensor))


SUPERVISED = [("supervised_aam", "same"), ("finetune", "same"), ("simclr", "supervised")]


@pytest.mark.parametrize(("framework", "positives"), SUPERVISED)
def test_a_table_of_the_speakers_trains_the_same_model_as_the_speakers(
    tiny_recipe, corpus, table, tmp_path, framework, positives
):
    """The manifest's column of speakers is empty."""
    assert not load_manifest(corpus.unlabelled).speakers
    parts = {"framework": framework, "positives": positives}
    by_table = train(tiny_recipe(f"data.labels={table}", **parts), tmp_path / "table", progress=False)
    by_speaker = train(tiny_recipe(labelled=True, **parts), tmp_path / "speaker", progress=False)
    assert same(by_table, by_speaker)
    found = load_model(by_table.folder).provenance
    assert found["known"] == [label_record(table)]
    assert found["labels"] == {
        "file": str(table),
        "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    found = load_model(by_speaker.folder).provenance
    assert found["known"] == ["speakers"] and "labels" not in found


def test_a_study_trains_from_a_table_and_records_it(tiny_recipe, corpus, table, tmp_path):
    recipe = tiny_recipe(f"data.labels={table}", framework="supervised_aam")
    trials = make_trials(corpus.manifest, "any", targets=20, seed=0)
    test = TestSet.make(trials, corpus.labelled, tmp_path)
    job = Job(tmp_path / "job", recipe, (test,))
    run_jobs([job], 1, progress=False)
    row = results_row("aam", test, [job])
    assert row["known"] == label_record(table) and 0 <= row["eer"][0] <= 1


def test_classes_are_for_training_and_speakers_for_diagnostics(tiny_recipe, corpus, table, tmp_path):
    """With wrong classes, training uses them, and pseudo-positives are still judged by the speakers."""
    names = [u.id for u in corpus.manifest]
    write(table, {name: str(n % 2) for n, name in enumerate(names)})  # each speaker has both

    def go(folder: str, *more: str, labelled: bool) -> Trained:
        recipe = tiny_recipe(*more, labelled=labelled, framework="supervised_gcl", positives="ssps")
        return train(recipe, tmp_path / folder, progress=False)

    labels = f"data.labels={table}"
    with_speakers, without = go("with", labels, labelled=True), go("without", labels, labelled=False)
    assert same(with_speakers, without)
    truth = {"speaker_accuracy", "cluster_purity", "cluster_speaker_pairs"}
    assert truth <= with_speakers.numbers.keys() and not truth & without.numbers.keys()
    assert not same(with_speakers, go("speakers", labelled=True))
    parts = assemble(tiny_recipe(labels, labelled=True, framework="supervised_gcl"))
    ids = torch.arange(24)
    first = ids // 4 * 4  # an utterance of the right speaker
    parts.gauge.update(ids, Swap(torch.zeros(24, 1), first >= 0, first))
    assert parts.gauge.result() == {"coverage": 1, "speaker_accuracy": 1, "recording_accuracy": 0.5}


def test_utterances_may_have_no_class(tiny_recipe, corpus, table):
    some = {u.id: u.speaker or "" for u in corpus.manifest if not u.id.endswith("u1")}
    write(table, some)

    def parts(**names: str) -> Any:
        return assemble(tiny_recipe(f"data.labels={table}", **names))

    with pytest.raises(IdemvoxError, match=r"supervised_aam needs a class.*none for 12 \(s0r0u1, .*of 24"):
        parts(framework="supervised_aam")
    found = parts(framework="supervised_gcl").batches.classes
    assert found.tolist() == [n // 4 if n % 2 == 0 else -1 for n in range(24)]
    partners = parts(positives="supervised").positives.partners(0)
    assert all(
        (partners[n] == n) == (n % 2 == 1) for n in range(24)
    )  # an utterance without a class keeps its positive
    write(table, dict.fromkeys(some, "one"))
    with pytest.raises(IdemvoxError, match=r"needs at least 2 classes, but there are 1.*data\.labels"):
        parts(framework="supervised_gcl")


def test_a_table_for_several_corpora_has_ids_with_corpus_names(tiny_recipe, corpus, table, tmp_path):
    lines = corpus.unlabelled.read_text().splitlines(keepends=True)
    paths = [corpus.unlabelled.parent / f"{name}.csv" for name in ("left", "right")]
    for path, rows in zip(paths, (lines[1:13], lines[13:]), strict=True):
        path.write_text("".join([lines[0], *rows]))
    names = [f"{'left' if n < 12 else 'right'}/{u.id}" for n, u in enumerate(corpus.manifest)]
    speakers = [u.speaker for u in corpus.manifest]
    write(table, dict(zip(names, speakers, strict=True)))
    both = f"data.manifest=[{paths[0]},{paths[1]}]"
    recipe = tiny_recipe(both, f"data.labels={table}", framework="supervised_aam")
    assert assemble(recipe).batches.classes.tolist() == [n // 4 for n in range(24)]
    trained = train(recipe, tmp_path / "run", progress=False)
    provenance = load_model(trained.folder).provenance
    assert provenance["corpora"] == {"left": 12, "right": 12} and provenance["known"] == [label_record(table)]
    write(table, dict(zip((u.id for u in corpus.manifest), speakers, strict=True)))  # without the names
    with pytest.raises(IdemvoxError, match=r"are not among the 24 utterances .*CORPUS/id"):
        assemble(recipe)


def test_a_table_that_would_not_be_used_is_refused(tiny_recipe, table, tmp_path):
    with pytest.raises(IdemvoxError, match=r"neither framework simclr nor positives ssps uses classes"):
        assemble(tiny_recipe(f"data.labels={table}", positives="ssps"))
    with pytest.raises(IdemvoxError, match=r"are not used, leave them out: data\.labels"):
        ivector = Recipe().override([f"data.labels={table}", "encoder.name=ivector"])
        train(ivector, tmp_path / "run", progress=False)


@pytest.fixture
def interrupted(tiny_recipe, table, tmp_path) -> Callable[[int], Trained]:
    """Return ``go(epochs)``, which resumes one run up to so many epochs."""

    def go(epochs: int) -> Trained:
        more = (f"data.labels={table}", f"training.epochs={epochs}")
        return train(
            tiny_recipe(*more, framework="supervised_aam"), tmp_path / "run", resume=True, progress=False
        )

    return go


def test_a_run_resumes_only_with_the_same_table(interrupted, corpus, table, tmp_path):
    interrupted(1)
    table.write_bytes(table.read_bytes())  # touched, not changed
    assert interrupted(2).epochs == 2
    assert average(tmp_path / "run", 1, tmp_path / "mean").provenance["known"] == [label_record(table)]
    write(table, {u.id: f"class {u.recording}" for u in corpus.manifest})
    with pytest.raises(IdemvoxError, match=r"cannot resume: data\.labels=.* has changed.*restore the file"):
        interrupted(3)
