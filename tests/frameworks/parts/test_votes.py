"""What most of an utterance's last labels say."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from idemvox.frameworks.parts.votes import LabelQueue, vote


@pytest.mark.parametrize("seed", range(3))
def test_the_most_frequent_label_wins_and_of_several_the_newest(seed):
    rows = torch.randint(-1, 4, (60, 5), generator=torch.Generator().manual_seed(seed))
    for row, found in zip(rows.tolist(), vote(rows).tolist(), strict=True):
        counts = Counter(label for label in row if label >= 0)
        most = max(counts.values(), default=0)
        assert found == next((label for label in row if label >= 0 and counts[label] == most), -1)


def test_old_labels_are_forgotten():
    queue = LabelQueue(4, 3)
    ids = torch.tensor([2, 0])
    assert queue.vote(ids).tolist() == [-1, -1]
    for label in (1, 1, 7, 7):
        queue.push(ids, torch.tensor([label, label + 1]))
    assert queue.labels.tolist() == [[8, 8, 2], [-1, -1, -1], [7, 7, 1], [-1, -1, -1]]
    assert queue.vote(ids).tolist() == [7, 8]
