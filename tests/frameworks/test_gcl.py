"""GCL: affinities of utterances, and of labels where known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idemvox.batch import Batch
from idemvox.errors import IdemvoxError
from idemvox.frameworks.gcl import GCL, SupervisedGCL
from idemvox.losses.affinity import affinities, generalised_contrastive
from idemvox.losses.pairwise import nt_xent
from idemvox.training.loop import train

LABELS = torch.tensor([2, -1, 2, 0, -1])


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = {n: torch.randn(5, 1, 10, generator=generator) for n in ("anchor", "positive")}
    return Batch(torch.tensor([3, 1, 4, 8, 5]), views)


def embeddings(framework: GCL, batch: Batch) -> tuple[Tensor, Tensor]:
    return tuple(framework.encoder(batch.views[n][:, 0]).detach() for n in ("anchor", "positive"))


def test_without_labels_it_equals_simclrs_loss(batch, encoder, sampler):
    framework = GCL(encoder, GCL.Options(temperature=0.3))
    query, target = embeddings(framework, batch)
    assert float(framework(batch, sampler()).loss.detach()) == pytest.approx(
        float(nt_xent(query, target, 0.3))
    )
    related = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    found = framework(batch, sampler(related=related.fill_diagonal_(False))).loss.detach()
    assert float(found) == pytest.approx(float(nt_xent(query, target, 0.3, related)))


def test_the_targets_of_the_sampler_are_used(batch, encoder, sampler):
    framework, other = GCL(encoder), torch.randn(5, 4)
    query, _ = embeddings(framework, batch)
    found = framework(batch, sampler(lambda ids, targets: other)).loss.detach()
    assert float(found) == pytest.approx(float(nt_xent(query, other, 0.1)))


def test_labels_define_affinities(batch, encoder, sampler):
    framework = SupervisedGCL(encoder, classes=3)
    both = torch.cat(embeddings(framework, batch))
    found = float(framework(batch._replace(classes=LABELS), sampler()).loss.detach())
    assert found == pytest.approx(float(generalised_contrastive(both, affinities(batch.ids, LABELS))))
    unknown = float(framework(batch._replace(classes=torch.full((5,), -1)), sampler()).loss.detach())
    assert unknown == pytest.approx(float(nt_xent(*both.chunk(2), 0.1))) and abs(unknown - found) > 1e-3


def test_only_the_supervised_framework_reads_labels(encoder):
    assert SupervisedGCL.supervised and SupervisedGCL.partly and not (GCL.supervised or GCL.partly)
    for classes in (0, 1):
        with pytest.raises(IdemvoxError, match=r"needs at least 2 classes.*speaker column.*train gcl,"):
            SupervisedGCL(encoder, classes=classes)


@pytest.mark.parametrize("positives", ["same", "supervised"])
def test_partial_labels_are_enough(tiny_recipe, corpus, tmp_path, monkeypatch, positives):
    seen, forward = [], SupervisedGCL.forward
    monkeypatch.setattr(
        SupervisedGCL, "forward", lambda self, batch, swap: seen.append(batch) or forward(self, batch, swap)
    )
    lines = corpus.labelled.read_text().splitlines()
    for row in (1, 6, 11):
        lines[row] = lines[row].replace(f",s{(row - 1) // 4},", ",,")
    partly = corpus.labelled.parent / "some.csv"
    partly.write_text("\n".join(lines) + "\n")
    recipe = tiny_recipe(
        f"data.manifest={partly}",
        "augment.speeds=[0.9, 1.0]",
        framework="supervised_gcl",
        positives=positives,
    )
    train(recipe, tmp_path / "run", progress=False)
    for batch in seen:
        known = batch.classes >= 0
        assert torch.equal(batch.classes[known] % 6, batch.ids[known] // 4) and batch.classes.max() > 5
        assert set(batch.ids[~known].tolist()) <= {0, 5, 10}
    assert sum(int((b.classes < 0).sum()) for b in seen) >= 3
