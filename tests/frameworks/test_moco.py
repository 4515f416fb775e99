"""MoCo: its keys, its queue, and its loss compared with a plain loop."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.batch import Batch, Swap
from idemvox.errors import RecipeError
from idemvox.frameworks.moco import MoCo, MoCoProtoNCE
from idemvox.frameworks.parts.prototypes import PrototypeBank


def batch(ids: list[int], seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = {n: torch.randn(len(ids), 1, 10, generator=generator) for n in ("anchor", "positive")}
    return Batch(torch.tensor(ids), views)


BATCHES = [batch([3, 1, 4], 0), batch([0, 5, 2], 1), batch([4, 3, 0], 2), batch([1, 2, 3], 3)]


def slow(
    query: Tensor, key: Tensor, held: list[tuple[int, Tensor]], mine: set[int], t: float, margin: float = 0.0
) -> float:
    """The negative log share of the right key among all keys of other utterances."""
    right = math.exp((float(normalize(query, dim=0) @ key) - margin) / t)
    wrong = [math.exp(float(normalize(query, dim=0) @ v) / t) for i, v in held if i not in mine]
    return -math.log(right / (right + sum(wrong)))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", [5, 100])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_loss_equals_that_of_a_plain_list(encoder, sampler, symmetric, size, margin):
    framework = MoCo(encoder, MoCo.Options(0.2, 0.5, size, symmetric, margin=margin))
    held: dict[str, list[tuple[int, Tensor]]] = {"anchor": [], "positive": []}
    for step, b in enumerate(BATCHES):
        b = Batch(b.ids, {name: view.double() for name, view in b.views.items()})
        with torch.no_grad():
            framework.encoder.linear.weight += 0.1 * step
        keys = {n: normalize(framework.teacher(b.views[n][:, 0]), dim=1) for n in held}
        queries = {n: framework.encoder(b.views[n][:, 0]).detach() for n in held}
        pairs = [("anchor", "positive"), ("positive", "anchor")][: 1 + symmetric]
        expected = [
            slow(queries[q][i], keys[k][i], held[k][-size:], {int(b.ids[i])}, 0.2, margin)
            for q, k in pairs
            for i in range(3)
        ]
        found = float(framework(b, sampler()).loss.detach())
        assert found == pytest.approx(sum(expected) / len(expected), rel=1e-6, abs=1e-6)
        for name in held:
            held[name] += zip(b.ids.tolist(), keys[name], strict=True)
        framework.after_step(0.1)
    assert found > 0.1


def test_a_replacement_is_no_negative_but_the_queue_gets_the_own_key(encoder):
    framework = MoCo(encoder, MoCo.Options(temperature=0.2, queue=6))
    plain = framework(BATCHES[1], lambda ids, targets: Swap(targets))  # utterances 0, 5, 2 in the queue
    assert float(plain.loss.detach()) == 0  # which was empty
    held = framework.queue.vectors[:3].clone()
    asked: list[Any] = []

    def swap(ids: Tensor, targets: Tensor) -> Swap:
        asked.append(targets)
        chosen = torch.tensor([5, -1, -1])
        return Swap(torch.cat([held[1:2], targets[1:]]), chosen >= 0, chosen)

    step = framework(BATCHES[0], swap)  # utterances 3, 1, 4
    keys = {0: held[1].chunk(2), 1: asked[0][1].chunk(2), 2: asked[0][2].chunk(2)}
    queries = [framework.encoder(BATCHES[0].views[n][:, 0]).detach() for n in ("positive", "anchor")]
    expected = [
        slow(
            queries[side][i],
            keys[i][side],
            [(u, v.chunk(2)[side]) for u, v in zip((0, 5, 2), held, strict=True)],
            {5} if i == 0 else set(),
            0.2,
        )
        for side in (0, 1)
        for i in range(3)
    ]
    assert float(step.loss.detach()) == pytest.approx(sum(expected) / 6, abs=1e-5)
    assert torch.equal(framework.queue.vectors[3:], asked[0])
    assert framework.queue.ids.tolist() == [0, 5, 2, 3, 1, 4]


def test_the_momentum_encoder_follows_and_has_no_gradient(encoder, sampler):
    framework = MoCo(encoder, MoCo.Options(momentum=0.75))
    for b in BATCHES[:2]:
        framework(b, sampler()).loss.backward()
    assert framework.encoder.linear.weight.grad.any()
    assert all(p.grad is None and not p.requires_grad for p in framework.teacher.parameters())
    before = framework.teacher.linear.weight.clone()
    with torch.no_grad():
        framework.encoder.linear.weight += 1
    framework.after_step(0.5)
    torch.testing.assert_close(framework.teacher.linear.weight, before + 0.25)


def test_in_eval_mode_nothing_is_stored(encoder, sampler):
    framework = MoCo(encoder).eval()
    framework(BATCHES[0], sampler())
    assert (framework.queue.ids == -1).all()
    assert framework.embedder is encoder and framework.embedding_dim == 8
    assert MoCo(encoder, MoCo.Options(symmetric=False)).embedding_dim == 4


def test_another_encoder_is_copied_to_both_sides(encoder):
    framework = MoCo(encoder)
    weights = {k: torch.full_like(v, 0.5) for k, v in encoder.state_dict().items()}
    framework.begin_with(weights)
    for side in (framework.encoder, framework.teacher):
        assert all((p == 0.5).all() for p in side.parameters())


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"momentum": 1.1}, {"temperature": 0.0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(RecipeError, match="moco needs"):
        MoCo.Options(**wrong)


def test_a_projector_has_its_own_teacher(encoder, sampler):
    framework = MoCo(encoder, MoCo.Options(momentum=0.5, hidden=6, outputs=3, symmetric=False))
    assert framework.embedding_dim == 3
    with torch.no_grad():
        framework.projector[0].weight += 1
    key = framework.teacher_projector(framework.teacher(BATCHES[0].views["positive"][:, 0]))
    torch.testing.assert_close(framework.target(BATCHES[0]), normalize(key, dim=1))
    before = framework.teacher_projector[0].weight.clone()
    framework.after_step(0.1)
    torch.testing.assert_close(framework.teacher_projector[0].weight, before + 0.5)


def test_prototypes_are_used_from_their_epoch_on(encoder, sampler):
    options = MoCoProtoNCE.Options(
        0.2, hidden=6, outputs=3, queue=9, clusters=(2, 3), weight=0.7, prototypes_from=1
    )
    framework = MoCoProtoNCE(encoder, options)
    framework.start_epoch(0)
    for b in BATCHES[:3]:
        step = framework(b, sampler())
        assert float(step.metrics["prototypes"]) == 0
        torch.testing.assert_close(step.loss.detach(), step.metrics["contrast"])
    framework.start_epoch(1)
    expected = PrototypeBank((2, 3), 3)
    expected.fit(framework.queue.vectors, 1, 0.2)
    query = framework.projector(encoder(BATCHES[3].views["anchor"][:, 0])).detach()
    other = normalize(torch.randn(3, 3), dim=1)  # the replacements of the positives decide
    step = framework(BATCHES[3], sampler(lambda ids, targets: other))
    assert float(step.metrics["prototypes"]) == pytest.approx(
        0.7 * float(expected.loss(query, other)), rel=1e-5
    )
    torch.testing.assert_close(step.loss.detach(), step.metrics["contrast"] + step.metrics["prototypes"])


def test_resumed_within_an_epoch_it_has_the_same_prototypes(encoder, sampler):
    options = MoCoProtoNCE.Options(queue=9, hidden=6, outputs=3, clusters=(3,), prototypes_from=0)
    framework, resumed = (MoCoProtoNCE(copy.deepcopy(encoder), options) for _ in range(2))
    for b in BATCHES[:2]:
        framework(b, sampler())
    framework.start_epoch(1)
    framework(BATCHES[2], sampler())
    resumed.load_state_dict(framework.state_dict())
    resumed.start_epoch(1)
    assert torch.equal(resumed.bank.centroids0, framework.bank.centroids0)
    assert torch.equal(framework(BATCHES[3], sampler()).loss, resumed(BATCHES[3], sampler()).loss)


@pytest.mark.parametrize("wrong", [{"clusters": ()}, {"clusters": (1,)}, {"weight": -1.0}])
def test_impossible_options_of_prototypes_are_refused(wrong):
    with pytest.raises(RecipeError, match="moco_protonce needs"):
        MoCoProtoNCE.Options(**wrong)
