"""The embedding queue, compared with a plain-Python model of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.positives.queue import EmbeddingQueue


class Model:
    """A ring of (utterance, value) or None."""

    def __init__(self, size: int, utterances: int) -> None:
        self.ring: list[tuple[int, float] | None] = [None] * min(size, utterances)
        self.table = size >= utterances
        self.next = 0

    def push(self, ids: list[int], values: list[float]) -> None:
        if not self.table:
            ids, values = ids[-len(self.ring) :], values[-len(self.ring) :]
            self.ring = [None if held and held[0] in ids else held for held in self.ring]
        for utterance, value in zip(ids, values, strict=True):
            self.ring[utterance if self.table else self.next] = (utterance, value)
            self.next = (self.next + 1) % len(self.ring)


@st.composite
def pushes(draw: st.DrawFn) -> tuple[int, int, list[list[int]]]:
    utterances = draw(st.integers(1, 12))
    size = draw(st.integers(1, 14))
    batch = st.lists(st.integers(0, utterances - 1), unique=True, min_size=1, max_size=utterances)
    return size, utterances, draw(st.lists(batch, max_size=8))


@settings(max_examples=120)
@given(pushes())
def test_behaves_like_the_plain_python_model(case: tuple[int, int, list[list[int]]]) -> None:
    size, utterances, batches = case
    queue, model = EmbeddingQueue(size, 2, utterances), Model(size, utterances)
    value = 0.0
    for ids in batches:
        values = [value := value + 1 for _ in ids]
        stored, slots = queue.push(torch.tensor(ids), torch.tensor(values)[:, None].expand(-1, 2))
        model.push(ids, values)
        assert queue.ids[slots].tolist() == stored.tolist() == ids[-len(slots) :]

        held = [
            (int(u), float(v[0])) if there else None
            for u, v, there in zip(queue.ids, queue.vectors, queue.held, strict=True)
        ]
        assert held == model.ring
        slot_of = {entry[0]: slot for slot, entry in enumerate(model.ring) if entry is not None}
        assert queue.find(torch.arange(utterances)).tolist() == [
            slot_of.get(u, -1) for u in range(utterances)
        ]
        assert queue.filled == pytest.approx(len(slot_of) / len(model.ring))


def push(queue: EmbeddingQueue, *ids: int, value: float = 0.0) -> None:
    queue.push(torch.tensor(ids), torch.full((len(ids), 1), value))


def test_the_oldest_is_overwritten_first():
    queue = EmbeddingQueue(4, 1, 20)
    push(queue, 5, 6, 7)
    push(queue, 8, 9)  # 9 overwrites 5
    assert set(queue.ids.tolist()) == {6, 7, 8, 9}
    push(queue, 10, 11)
    assert set(queue.ids.tolist()) == {8, 9, 10, 11}


def test_a_newer_embedding_replaces_the_one_of_the_same_utterance():
    queue = EmbeddingQueue(4, 1, 20)
    push(queue, 1, 2, 3, value=1.0)
    push(queue, 2, value=2.0)
    assert sorted(queue.ids[queue.held].tolist()) == [1, 2, 3]
    assert queue.vectors[queue.find(torch.tensor([2])), 0] == 2.0
    assert queue.filled == 0.75


def test_a_queue_with_room_for_all_is_a_table():
    queue = EmbeddingQueue(50, 1, 3)
    assert queue.is_table and queue.vectors.shape == (3, 1)
    push(queue, 2, 0, value=1.0)
    assert queue.held.tolist() == [True, False, True] and queue.find(torch.arange(3)).tolist() == [0, -1, 2]
    push(queue, 1, 2, value=2.0)
    assert queue.vectors.flatten().tolist() == [1.0, 2.0, 2.0] and queue.filled == 1.0


def test_keeps_no_graph_and_stores_single_precision():
    queue = EmbeddingQueue(3, 2, 9)
    vectors = torch.randn(2, 2, requires_grad=True)
    queue.push(torch.tensor([1, 2]), vectors)
    queue.push(torch.tensor([3]), vectors[:1].bfloat16())
    assert not queue.vectors.requires_grad and queue.vectors.dtype == torch.float32


def test_is_restored_with_its_position():
    queue, other = EmbeddingQueue(4, 1, 20), EmbeddingQueue(4, 1, 20)
    push(queue, 1, 2, 3, 4, 5, value=1.0)
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        push(each, 6, 7, value=2.0)
    assert torch.equal(queue.ids, other.ids) and torch.equal(queue.vectors, other.vectors)
