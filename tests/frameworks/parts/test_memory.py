"""The queue of negatives, compared with a list."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idemvox.batch import Groups, Swap
from idemvox.frameworks.parts.memory import NegativeQueue


def batch(ids: list[int]) -> tuple[Tensor, Tensor]:
    return torch.tensor(ids), torch.randn(len(ids), 3)


@pytest.mark.parametrize("size", [2, 5, 7, 12])
def test_it_keeps_the_latest_keys(size):
    queue, everything = NegativeQueue(size, 3), []
    for ids in ([4, 1, 7], [1, 2, 9], [4, 5, 6]):
        numbers, vectors = batch(ids)
        queue.push(numbers, vectors)
        everything += list(zip(ids, vectors.tolist(), strict=True))
        there = [(i, v) for i, v in zip(queue.ids.tolist(), queue.vectors.tolist(), strict=True) if i >= 0]
        assert sorted(there) == sorted(everything[-size:])
    assert int(queue.position) >= min(size, 9)


def test_a_restored_queue_continues_in_the_same_slots():
    queue, other = NegativeQueue(4, 3), NegativeQueue(4, 3)
    queue.push(*batch([1, 2, 3]))
    other.load_state_dict(queue.state_dict())
    more = batch([5, 6, 7])
    for q in (queue, other):
        q.push(*more)
    assert torch.equal(queue.ids, other.ids) and torch.equal(queue.vectors, other.vectors)
    assert queue.ids.tolist() == [6, 7, 3, 5]


def test_an_utterance_is_no_negative_of_itself_or_of_its_replacement():
    queue = NegativeQueue(6, 3)
    queue.push(*batch([3, 0, 3, 1, 2]))
    ids, chosen = torch.tensor([3, 5, 1]), torch.tensor([2, -1, 0])
    plain = queue.excluded(ids, Swap(torch.zeros(3, 3))).tolist()
    swapped = queue.excluded(ids, Swap(torch.zeros(3, 3), chosen >= 0, chosen)).tolist()
    for i, anchor in enumerate(ids.tolist()):
        for j, held in enumerate([3, 0, 3, 1, 2, -1]):
            assert plain[i][j] == (held in (anchor, -1))
            assert swapped[i][j] == (held in (anchor, -1, int(chosen[i])))


def test_pairs_that_the_sampler_excludes_are_no_negatives():
    queue = NegativeQueue(4, 3)
    queue.push(*batch([0, 1, 2, 3]))
    groups = Groups(torch.tensor([0, 0, 1, 1]), torch.tensor([2]), none=2)
    assert queue.excluded(torch.tensor([1]), Swap(torch.zeros(1, 3), groups=groups)).tolist() == [
        [True, True, False, False]
    ]
