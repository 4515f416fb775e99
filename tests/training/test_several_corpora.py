"""Training from a list of corpora equals training from their joined manifest; resuming needs that list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idemvox.corpus.join import join_manifests
from idemvox.corpus.manifest import Manifest, load_manifest, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.errors import IdemvoxError
from idemvox.model import load_model
from idemvox.recipe import Recipe, load_recipe
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint


@pytest.fixture(scope="module")
def halves(corpus, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny corpus in two parts with equal names of ids, speakers and recordings; the second is packed."""
    root = tmp_path_factory.mktemp("halves")
    rows = list(corpus.manifest)
    other = [replace(u, id=v.id, speaker=v.speaker) for u, v in zip(rows[12:], rows[:12], strict=True)]
    for name, some in (("one", rows[:12]), ("two", other)):
        save_manifest(Manifest(some, corpus.manifest.root), root / f"{name}.csv")
    pack(root / "two.csv", root / "packs" / "two", progress=False)
    return [root / "one.csv", root / "packs" / "two"]


def listing(paths: list[Path]) -> str:
    return f"data.manifest=[{','.join(map(str, paths))}]"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(last_checkpoint(run / "checkpoints"))["framework"]


@pytest.mark.parametrize("framework", ["simclr", "supervised_aam"])
def test_a_list_trains_like_its_joined_manifest(
    framework: str, halves: list[Path], tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    joined = join_manifests([halves[0], halves[0].parent / "two.csv"], tmp_path / "all.csv", progress=False)
    several = tiny_recipe(listing(halves), "training.epochs=1", framework=framework)
    single = tiny_recipe(f"data.manifest={joined.manifest}", "training.epochs=1", framework=framework)
    train(several, tmp_path / "several", progress=False)
    train(single, tmp_path / "single", progress=False)
    found, expected = weights(tmp_path / "several"), weights(tmp_path / "single")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    if framework == "supervised_aam":  # three speakers in each part, with the same names, are six classes
        assert any(value.shape == (6, 16) for value in found.values())


def test_a_run_records_its_list_and_the_contents(
    halves: list[Path],
    tiny_recipe: Callable[..., Recipe],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = tiny_recipe(listing(halves), "training.epochs=1", "positives.name=ssps", "positives.clusters=4")
    run = tmp_path / "run"
    train(recipe, run, progress=True)
    assert "corpora: one (12 utterances), two (12 utterances)" in capsys.readouterr().out
    assert load_recipe(run / "recipe.yaml").data.corpora == tuple(halves)
    provenance = load_model(run).provenance
    assert provenance["corpora"] == {"one": 12, "two": 12} and provenance["utterances"] == 24

    longer = recipe.override(["training.epochs=2"])
    for other in (halves[::-1], halves[:1], [*halves, tmp_path / "third.csv"]):
        with pytest.raises(IdemvoxError, match=r"the recipe differs in data\.manifest"):
            train(longer.override([listing(other)]), run, resume=True, progress=False)
    state = load_checkpoint(last_checkpoint(run / "checkpoints"))
    torch.save(state | {"corpora": {"one": 11, "two": 13}}, last_checkpoint(run / "checkpoints"))
    with pytest.raises(IdemvoxError, match="none of the 1 checkpoints"):
        train(longer, run, resume=True, progress=False)
    assert "is of corpora of [11, 13] utterances, those of data.manifest have [12, 12]" in caplog.text
    torch.save(state, last_checkpoint(run / "checkpoints"))
    assert train(longer, run, resume=True, progress=False).epochs == 2


def test_i_vectors_train_from_a_list_too(
    halves: list[Path], tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    encoder = "encoder={name: ivector, components: 4, dim: 3, mixture_iterations: 1, cepstra: 12}"
    options = ["frontend={mels: 20, normalise: none}", "training.epochs=1", "training.device=cpu"]
    train(Recipe().override([listing(halves), encoder, *options]), tmp_path, progress=False)
    assert load_model(tmp_path).provenance["corpora"] == {"one": 12, "two": 12}


def test_a_table_of_labels_names_utterances_with_their_corpus(
    halves: list[Path], tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    rows = [f"{name}/{u.id},{name}\n" for name in ("one", "two") for u in load_manifest(halves[0])]
    (tmp_path / "labels.csv").write_text("id,class\n" + "".join(rows))
    recipe = tiny_recipe(
        listing(halves),
        f"data.labels={tmp_path / 'labels.csv'}",
        "training.epochs=1",
        framework="supervised_aam",
    )
    train(recipe, tmp_path / "run", progress=False)
    assert any(
        value.shape == (2, 16) for value in weights(tmp_path / "run").values()
    )  # a class for each corpus
