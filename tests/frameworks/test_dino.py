"""DINO: crops, loss, teacher, and what SSPS stores."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from idemvox.batch import Batch, Swap
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.frameworks.dino import DINO
from idemvox.losses.distillation import self_distillation
from idemvox.positives.base import Setting
from idemvox.positives.ssps import SSPS

SMALL = {"hidden": 8, "bottleneck": 5, "outputs": 11}


def same(ids: Tensor, targets: Tensor) -> Swap:
    return Swap(targets)


class Normalised(nn.Module):
    """A linear encoder from 10 samples to 4 numbers, with batch normalisation."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(10, 4), nn.BatchNorm1d(4)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.norm(self.linear(wave[..., :10]))


@pytest.fixture
def make():
    def made(**options: object) -> DINO:
        torch.manual_seed(0)
        return DINO(Normalised(), DINO.Options(**{**SMALL, **options}))

    return made


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = {
        "global": torch.randn(6, 2, 20, generator=generator),
        "local": torch.randn(6, 4, 10, generator=generator),
    }
    return Batch(torch.arange(6), views)


def student(framework: DINO, batch: Batch) -> Tensor:
    """(6, 6, 11) logits; the encoder gets crops of one length at a time, the head all of them."""
    seen = [framework.encoder(batch.views[name].flatten(0, 1)).view(6, -1, 4) for name in ("global", "local")]
    return framework.prototypes(framework.head(torch.cat(seen, 1).view(36, 4))).view(6, 6, 11)


def teacher(framework: DINO, batch: Batch) -> Tensor:
    """(6, 2, 11) logits."""
    seen = framework.teacher(batch.views["global"].flatten(0, 1))
    return framework.teacher_prototypes(framework.teacher_head(seen)).view(6, 2, 11)


def test_defaults_are_the_crops_and_sizes_of_the_paper(encoder):
    framework = DINO(encoder, DINO.Options(hidden=8, bottleneck=256, outputs=65_536))
    assert framework.views() == {"global": Crop(2, 4.0), "local": Crop(4, 2.0)}
    assert framework.partnered == {"local"}  # the crops of a positive by label
    assert framework.embedding_dim == 512  # 25,000 of these are 51 MB
    logits = DINO(encoder, DINO.Options(hidden=8, outputs=65_536, store="logits"))
    assert logits.embedding_dim == 131_072  # 13.1 GB
    o = DINO.Options()
    assert (o.hidden, o.bottleneck, o.outputs, o.momentum) == (2048, 256, 65_536, 0.996)


def test_the_loss_compares_the_teachers_global_crops_with_all_student_crops(make, batch):
    framework = make()
    with torch.no_grad():  # teacher and student differ
        for p in framework.teacher.parameters():
            p += 0.1
    twin, centre = copy.deepcopy(framework), torch.linspace(-0.1, 0.1, 11)
    framework.centre.copy_(centre)
    step = framework(batch, same)
    logits = teacher(twin, batch)
    expected = self_distillation(student(twin, batch), torch.softmax((logits - centre) / 0.04, -1))
    torch.testing.assert_close(step.loss, expected)
    # the centre moves after the loss, by the logits before softmax
    torch.testing.assert_close(framework.centre, 0.9 * centre + 0.1 * logits.mean((0, 1)))


def test_the_student_learns_and_the_teacher_follows(make, batch):
    framework = make()
    before = {n: p.clone() for n, p in framework.named_parameters()}
    optimizer = torch.optim.SGD([p for p in framework.parameters() if p.requires_grad], lr=0.5)
    framework(batch, same).loss.backward()
    for name, p in framework.named_parameters():
        assert (p.grad is None) == name.startswith("teacher"), name
    framework.after_backward(1)
    optimizer.step()
    moved = {n for n, p in framework.named_parameters() if not torch.equal(p, before[n])}
    assert {n for n in moved if n.startswith("teacher")} == set() and "prototypes.weight" in moved
    framework.after_step(0.0)
    weight = "teacher.linear.weight"
    student = framework.encoder.linear.weight
    torch.testing.assert_close(framework.get_parameter(weight), before[weight].lerp(student, 0.004))


def test_the_last_layer_is_frozen_in_the_first_epoch(make, batch):
    framework = make()
    for epoch, frozen in ((0, True), (1, False), (80, False)):
        framework.zero_grad()
        framework(batch, same).loss.backward()
        framework.after_backward(epoch)
        assert (framework.prototypes.weight.grad is None) == frozen
        assert framework.head[0].weight.grad is not None


def test_the_model_is_the_teacher_which_starts_as_the_student(make):
    framework = make()
    assert framework.embedder is framework.teacher
    other = {name: torch.full_like(value, 2) for name, value in framework.encoder.state_dict().items()}
    framework.begin_with(other)
    for module in (framework.encoder, framework.teacher):
        assert all((value == 2).all() for value in module.state_dict().values())


def test_a_clean_reference_does_not_change_the_teachers_statistics(make, batch):
    from idemvox.modules import evaluating

    framework = make().train()
    before = {n: b.clone() for n, b in framework.named_buffers()}
    with evaluating(framework.embedder):
        framework.embedder(torch.randn(5, 10) + 3)
    assert all(torch.equal(b, before[n]) for n, b in framework.named_buffers())
    assert framework.teacher.training
    framework(batch, same)
    assert not torch.equal(framework.teacher.norm.running_mean, before["teacher.norm.running_mean"])


# -- with pseudo-positives ---------------------------------------------------------------------


def test_both_global_crops_come_from_the_pseudo_positive(make, batch):
    framework = make()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    others = framework.target(batch)[order].clone()
    swapped = copy.deepcopy(framework)(batch, lambda ids, targets: Swap(others))
    target = torch.softmax(teacher(copy.deepcopy(framework), batch)[order] / 0.04, -1)
    expected = self_distillation(student(copy.deepcopy(framework), batch), target)
    torch.testing.assert_close(swapped.loss, expected)


def test_bottlenecks_and_logits_give_the_same_loss_while_the_last_layer_is_constant(make, batch):
    both = make(), make(store="logits")
    both[1].load_state_dict(both[0].state_dict())
    losses, centres = [], []
    for framework in both:
        queue = framework.target(batch).clone()
        order = torch.tensor([3, 0, 5, 1, 2, 4])
        losses.append(framework(batch, lambda ids, targets, q=queue, o=order: Swap(q[o])).loss)
        centres.append(framework.centre)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*centres)


def test_stored_logits_become_outdated_but_stored_bottlenecks_do_not(make, batch):
    fresh, stale = make(), make(store="logits")
    stale.load_state_dict(fresh.state_dict())
    queues = [f.target(batch).clone() for f in (fresh, stale)]
    with torch.no_grad():
        for f in (fresh, stale):
            f.teacher_prototypes.weight.copy_(torch.randn(11, 5, generator=torch.Generator().manual_seed(1)))
    losses = [
        f(batch, lambda ids, targets, q=q: Swap(q)).loss for f, q in zip((fresh, stale), queues, strict=True)
    ]
    assert not torch.allclose(*losses, atol=1e-3)


def test_with_ssps_both_queues_give_the_same_loss_while_the_last_layer_is_constant(make, batch):
    both = make(), make(store="logits")
    both[1].load_state_dict(both[0].state_dict())
    losses, chosen = [], []
    for framework in both:
        sampler = SSPS(SSPS.Options(clusters=3, neighbours=1), Setting(6, 4, framework.embedding_dim, seed=0))
        sampler.observe(batch.ids, torch.randn(6, 4, generator=torch.Generator().manual_seed(1)))
        sampler.store(batch.ids, framework.target(batch))
        sampler.start_epoch(0)
        step = framework(batch, sampler)
        losses.append(step.loss)
        chosen.append(step.swap.chosen.tolist())
    assert chosen[0] == chosen[1] and max(chosen[0]) >= 0
    torch.testing.assert_close(*losses)
    assert not torch.allclose(losses[0], make()(batch, same).loss, atol=1e-3)


def test_the_teachers_outputs_are_cosines_for_targets_of_any_norm(make, batch):
    """SSPS's centroids have unit norm over all crops together, not for each crop."""
    lengths = torch.tensor([[0.8], [1.2]])
    plain, uneven = (
        make()(batch, lambda ids, targets, by=by: Swap((targets.unflatten(1, (2, -1)) * by).flatten(1)))
        for by in (torch.ones(2, 1), lengths)
    )
    torch.testing.assert_close(uneven.loss, plain.loss)


def test_invalid_options_are_refused():
    with pytest.raises(IdemvoxError, match="store must be 'bottleneck' or 'logits'"):
        DINO.Options(store="all")
    with pytest.raises(IdemvoxError, match=r"framework\.global_crops >= 1"):
        DINO.Options(global_crops=0)
    with pytest.raises(IdemvoxError, match="two crops"):
        DINO.Options(global_crops=1, local_crops=0)
