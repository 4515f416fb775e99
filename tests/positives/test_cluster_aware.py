"""CA-DINO's positives: several utterances of the anchor's cluster, and crops that take turns over them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from idemvox.clustering.kmeans import Clusters
from idemvox.corpus.crops import Crop, Cropper
from idemvox.errors import RecipeError
from idemvox.positives import partition
from idemvox.positives.base import Setting
from idemvox.positives.cluster_aware import ClusterAware
from idemvox.training.watch.gauges import PositiveGauge

GROUPS = torch.tensor([0, 1, 1, 2, 2, 2, 2, 3, 1, 2])  # 0 and 3 have one member


@pytest.fixture
def sampler(monkeypatch):
    def build(**options: Any) -> ClusterAware:
        found = Clusters(torch.eye(4), GROUPS, torch.ones(10))
        monkeypatch.setattr(partition, "spherical_kmeans", lambda *args, **more: found)
        made = ClusterAware(ClusterAware.Options(clusters=4, **options), Setting(10, 4, 2, seed=0))
        made.observe(torch.arange(10), torch.ones(10, 4))
        made.start_epoch(0)
        return made

    return build


def test_partners_are_drawn_evenly_from_the_other_members_of_the_cluster(sampler):
    made, drawn = sampler(utterances=3), Counter()
    for epoch in range(300):
        partners = made.partners(epoch)
        assert partners.shape == (10, 3)
        for i, row in enumerate(partners.tolist()):
            alone = i in (0, 7)
            assert all(p == i if alone else p != i and GROUPS[p] == GROUPS[i] for p in row)
        drawn.update(partners[3].tolist())
    assert sorted(drawn) == [4, 5, 6, 9] and all(abs(n / 900 - 0.25) < 0.06 for n in drawn.values())
    assert np.array_equal(made.partners(7), sampler(utterances=3).partners(7))
    assert not made.stores and made.refresh


class Source:
    """A source in which every sample of an utterance is the utterance's number."""

    lengths = np.array([40_000] * 10)

    def __len__(self) -> int:
        return 10

    def read_into(self, index: int, start: int, out: np.ndarray) -> int:
        out[:] = index
        return len(out)


def test_crops_take_turns_over_the_partners():
    views = {"global": Crop(2, 0.5), "local": Crop(3, 0.5), "same": Crop(3, 0.5, cut_as="local")}
    cropper = Cropper(Source(), views, seed=0, partnered={"local", "same"})
    partners, ids = np.arange(20).reshape(10, 2) % 10, np.array([4, 7])
    out = {name: np.zeros((2, crop.count, crop.samples), np.int16) for name, crop in views.items()}
    cropper.read(ids, 0, out, partners)
    for row, i in enumerate(ids):
        assert out["global"][row, :, 0].tolist() == [i, i]
        turns = [partners[i, 0], partners[i, 1], partners[i, 0]]
        assert out["local"][row, :, 0].tolist() == out["same"][row, :, 0].tolist() == turns
    several = cropper.starts(ids, 0, partners)["local"][1]
    for column in (0, 1):  # each crop starts where it would with that utterance as the only partner
        one = cropper.starts(ids, 0, partners[:, column])["local"][1]
        assert np.array_equal(several[:, column::2], one[:, column::2])


def test_all_partners_count_towards_coverage_and_accuracy():
    gauge = PositiveGauge(np.array([0, 0, 1, 1]), np.full(4, -1))
    partners = np.array([[1, 2], [0, 1], [3, 3], [0, 3]])
    assert gauge.partners(partners) == {"coverage": 6 / 8, "speaker_accuracy": 4 / 6}


@pytest.mark.parametrize("wrong", [{"neighbours": 1}, {"utterances": 0}, {"level": "embedding"}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(RecipeError, match="cluster_aware draws"):
        ClusterAware.Options(**wrong)
