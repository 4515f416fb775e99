"""The bank of prototypes: made once an epoch, restored, and its loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.clustering.kmeans import spherical_kmeans
from idemvox.draws import draw_seed
from idemvox.frameworks.parts.prototypes import PrototypeBank
from idemvox.losses.prototypes import concentration, nearest_prototype, proto_nce


def vectors(n: int, seed: int) -> Tensor:
    return normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_its_loss_is_the_mean_over_clusterings():
    bank, x = PrototypeBank((3, 5), 4, iterations=4), vectors(30, 0)
    assert bank.fit(x, 2, 0.1)
    query, key, expected = vectors(6, 1), vectors(6, 2), []
    for number, k in enumerate((3, 5)):
        found = spherical_kmeans(x, k, 4, draw_seed(2, number))
        phi = concentration(x, found.centroids, found.assignment, 0.1)
        right = nearest_prototype(key, found.centroids, phi)
        expected.append(float(proto_nce(query, found.centroids, phi, right)))
    assert float(bank.loss(query, key)) == pytest.approx(sum(expected) / 2)


def test_prototypes_stay_the_same_within_an_epoch_also_after_restoring():
    bank, other = (PrototypeBank((3,), 4) for _ in range(2))
    bank.fit(vectors(30, 0), 4, 0.1)
    other.load_state_dict(bank.state_dict())
    assert other.fit(vectors(30, 1), 4, 0.1)
    assert torch.equal(other.centroids0, bank.centroids0) and torch.equal(other.phi0, bank.phi0)
    assert other.fit(vectors(30, 1), 5, 0.1)
    assert not torch.equal(other.centroids0, bank.centroids0)


def test_there_may_be_fewer_embeddings_than_clusters():
    bank = PrototypeBank((8,), 4)
    assert not bank.fit(vectors(1, 0), 0, 0.1)
    assert bank.fit(vectors(5, 0), 1, 0.1)
    assert int((bank.phi0 > 0).sum()) <= 5
    assert bank.loss(vectors(6, 1), vectors(6, 2)).isfinite()
    assert bank.fit(vectors(1, 0), 2, 0.1)  # the old ones
