"""Units: recordings or utterances, and drawing from another one."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import normalize

from idemvox.positives.units import OtherRecordings, draw_near, number_units, unit_means


def test_recordings_are_numbered_by_first_utterance_and_unknown_ones_stay_separate():
    found = number_units(np.array([7, -1, 3, 7, -1, 3, 0]))
    assert found.tolist() == [0, 1, 2, 0, 3, 2, 4] and found.dtype == torch.int64
    assert number_units(np.array([-1, -1])).tolist() == [0, 1]


def test_a_recording_has_the_mean_direction_of_its_utterances():
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 8)[:, None]
    unit = torch.tensor([4, 4, 0, 9, 0, 4, 9])
    means, units = unit_means(x, unit)
    assert units.tolist() == [0, 4, 9]
    for row, u in enumerate((0, 4, 9)):
        torch.testing.assert_close(means[row], normalize(x[unit == u], dim=1).mean(0))


UNIT = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3, 4, 4])
CLUSTER = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 2, 2])  # 2 is none


def draws(others: OtherRecordings, anchor: int, cluster: int, times: int = 4000) -> dict[int, int]:
    uniform = torch.rand(2, times, generator=torch.Generator().manual_seed(anchor))
    found = others.draw(torch.full((times,), anchor), torch.full((times,), cluster), uniform)
    values, number = found.unique(return_counts=True)
    return dict(zip(values.tolist(), number.tolist(), strict=True))


def near(count: int, expected: float) -> bool:
    """A bound that chance exceeds once in a million."""
    return abs(count - expected) < 5 * expected**0.5


def test_a_recording_is_drawn_first_and_then_one_of_its_utterances():
    others = OtherRecordings(UNIT, CLUSTER, clusters=2)
    found = draws(others, 0, 0)
    assert set(found) == {4, 5, 6} and near(found[4], 2000) and near(found[5], 1000)
    found = draws(others, 4, 0)
    assert set(found) == {0, 1, 2, 3, 5, 6} and near(found[2], 500) and near(found[6], 1000)
    assert draws(others, 7, 1) == {-1: 4000}  # alone in its cluster
    assert draws(others, 8, 0).keys() == {0, 1, 2, 3, 4, 5, 6}  # from a cluster that it is not in
    assert draws(others, 8, -1) == {-1: 4000}


def test_only_the_closest_recordings_are_drawn():
    closest = torch.tensor([[2, -1], [0, 2], [-1, -1], [-1, -1], [-1, -1]])
    others = OtherRecordings(UNIT, CLUSTER, clusters=2, closest=closest)
    assert set(draws(others, 1, 0)) == {5, 6}
    found = draws(others, 4, 0)
    assert set(found) == {0, 1, 2, 3, 5, 6} and near(found[0], 500)
    assert draws(others, 5, 0) == {-1: 4000}


def test_nearby_clusters_are_drawn_by_weight():
    table = torch.tensor([[3, 5, 8], [4, -1, -1], [-1, -1, -1]]).repeat_interleave(3000, 0)
    found = draw_near(table, 0.7, torch.rand(9000, generator=torch.Generator().manual_seed(2)))
    assert (found[3000:6000] == 4).all() and (found[6000:] == -1).all()
    weights = torch.exp(-0.7 * torch.arange(3.0))
    for cluster, weight in zip((3, 5, 8), weights / weights.sum(), strict=True):
        assert near(int((found[:3000] == cluster).sum()), 3000 * float(weight))
