"""Augmentation adversarial training: which parameters learn from which loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from idemvox.batch import Batch
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.frameworks.aat import AAT, Discriminator, with_reversed_gradient
from idemvox.losses.prototypical import angular_prototypical, prototypical
from idemvox.recipe import Training
from idemvox.training.optimizer import build_optimizer
from idemvox.training.state.checkpoint import load_checkpoint, save_checkpoint

VIEWS = ("anchor", "shared", "positive")


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.arange(6), {n: torch.randn(6, 1, 10, generator=generator) for n in VIEWS})


@pytest.fixture
def make(encoder):
    def made(**options: object) -> AAT:
        torch.manual_seed(1)
        return AAT(copy.deepcopy(encoder), AAT.Options(**options)).train()

    return made


def same_bits(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def weights(framework: AAT) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in framework.named_parameters()}


def pairs_of(framework: AAT, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pairs (A(x1), A(x2)) of every utterance, then (A(x1), B(x2)), and which pairs have one augmentation."""
    query, shared, positive = (framework.encoder(batch.views[name][:, 0]) for name in VIEWS)
    rows = [torch.cat([q, s]) for q, s in zip(query, shared, strict=True)]
    rows += [torch.cat([q, p]) for q, p in zip(query, positive, strict=True)]
    return torch.stack(rows), torch.tensor([1] * 6 + [0] * 6)


def slow_cross_entropy(discriminator: Discriminator, pairs: Tensor, alike: Tensor) -> Tensor:
    total = 0
    for logits, right in zip(discriminator.layers(pairs), alike.tolist(), strict=True):
        total = total - logits[right] + sum(each.exp() for each in logits).log()
    return total / len(pairs)


def test_the_reversal_changes_the_sign_of_the_gradient_and_nothing_else():
    x = torch.randn(4, 3, requires_grad=True)
    weight = torch.randn(4, 3)
    assert torch.equal(with_reversed_gradient(x), x)
    (plain,) = torch.autograd.grad((weight * x.exp()).sum(), x)
    (reversed_,) = torch.autograd.grad((weight * with_reversed_gradient(x).exp()).sum(), x)
    torch.testing.assert_close(reversed_, -plain)


@pytest.mark.parametrize(("similarity", "alpha"), [("prot", 3.0), ("a-prot", 3.0), ("a-prot", 0.5)])
def test_the_loss_and_both_gradients_equal_the_formulas(make, batch, sampler, similarity, alpha):
    framework = make(similarity=similarity, alpha=alpha)
    twin = copy.deepcopy(framework)
    step = framework(batch, sampler())
    step.loss.backward()

    pairs, alike = pairs_of(twin, batch)
    twin.discriminator.learn(pairs, alike)
    query, _, positive = (twin.encoder(batch.views[name][:, 0]) for name in VIEWS)
    if similarity == "prot":
        match = prototypical(query, positive)
    else:
        match = angular_prototypical(query, positive, twin.affine.scale, twin.affine.bias)
    adversarial = slow_cross_entropy(twin.discriminator, pairs, alike)
    torch.testing.assert_close(step.loss, match + alpha * adversarial)
    torch.testing.assert_close(step.metrics["match"], match.detach())
    torch.testing.assert_close(step.metrics["discriminator"], adversarial.detach())
    for name, parameter in twin.encoder.named_parameters():
        towards, away = (
            torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (match, adversarial)
        )
        torch.testing.assert_close(framework.encoder.get_parameter(name).grad, towards - alpha * away)
        assert name != "linear.weight" or away.abs().sum() > 1e-2  # its normalisation ignores the bias


def test_the_main_loss_and_optimiser_never_change_the_discriminator(make, batch, sampler):
    framework = make(steps=0)
    main = build_optimizer(framework, Training(lr=0.1, weight_decay=0.1, optimizer="sgd"))
    before = weights(framework)
    for _ in range(3):
        framework(batch, sampler()).loss.backward()
        assert all(p.grad is None for p in framework.discriminator.parameters())
        main.step()
        main.zero_grad()
    moved = {name for name, value in weights(framework).items() if not torch.equal(value, before[name])}
    assert moved - {"affine.bias"} == {"encoder.linear.weight", "encoder.linear.bias", "affine.weight"}


def test_a_discriminator_step_changes_only_the_discriminator(make, batch, sampler):
    framework = make()
    before = weights(framework)
    pairs, alike = pairs_of(framework, batch)
    framework.discriminator.learn(pairs, alike)
    assert all(p.grad is None for p in framework.parameters())
    moved = {name for name, value in weights(framework).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("discriminator")}
    framework(batch, sampler()).loss.backward()  # the forward pass of a whole step does the same
    assert all(
        torch.equal(value, before[name])
        for name, value in weights(framework).items()
        if not name.startswith("discriminator")
    )


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_discriminator_takes_steps_only_in_training(make, batch, sampler, steps, monkeypatch):
    learnt = []
    monkeypatch.setattr(Discriminator, "learn", lambda self, pairs, alike: learnt.append(pairs))
    framework = make(steps=steps)
    framework(batch, sampler())
    assert len(learnt) == steps
    framework.eval()(batch, sampler())
    assert len(learnt) == steps


def separable(pairs: int, dim: int = 4) -> tuple[Tensor, Tensor]:
    """Pairs whose halves are either near each other or nearly opposite."""
    generator = torch.Generator().manual_seed(pairs)
    alike = torch.arange(pairs) % 2
    first = torch.randn(pairs, dim, generator=generator)
    second = (2 * alike[:, None] - 1) * first + 0.1 * torch.randn(pairs, dim, generator=generator)
    return torch.cat([first, second], 1), alike


def test_the_discriminator_learns_separable_pairs():
    torch.manual_seed(0)
    discriminator = Discriminator(4, lr=1e-2)
    held_out = separable(400)
    accuracy = [float(discriminator(*held_out)[1])]
    for _ in range(150):
        discriminator.learn(*separable(200))
    accuracy.append(float(discriminator(*held_out)[1]))
    assert accuracy[0] < 0.7 and accuracy[1] > 0.95


def test_accuracy_is_measured_before_the_discriminator_learns_from_the_batch(make, batch, sampler):
    framework = make(discriminator_lr=1.0)  # afterwards the accuracy differs
    pairs, alike = pairs_of(framework, batch)
    logits = copy.deepcopy(framework.discriminator).layers(pairs)
    right = sum(int(row[1] > row[0]) == a for row, a in zip(logits, alike.tolist(), strict=True))
    found = framework(batch, sampler()).metrics["discriminator_accuracy"]
    assert float(found) == pytest.approx(right / 12)


def test_autocast_leaves_the_discriminator_in_single_precision():
    torch.manual_seed(0)
    discriminator, (pairs, alike) = Discriminator(4, 1e-3), separable(20)
    plain = discriminator(pairs, alike)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert discriminator(pairs, alike)[0] == plain


# -- checkpoints ------------------------------------------------------------------------------


def run(framework: AAT, main: torch.optim.Optimizer, batch: Batch, sampler, steps: int) -> None:
    for _ in range(steps):
        framework(batch, sampler()).loss.backward()
        main.step()
        main.zero_grad()


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_resumed_run_has_the_same_bits_because_the_optimiser_is_saved(
    make, batch, sampler, tmp_path, forgotten
):
    recipe = Training(lr=0.01)
    whole = make()
    main = build_optimizer(whole, recipe)
    run(whole, main, batch, sampler, 3)
    path = save_checkpoint(
        tmp_path, 1, {"framework": whole.state_dict(), "optimizer": main.state_dict()}, keep=1
    )
    run(whole, main, batch, sampler, 2)

    state = load_checkpoint(path)
    resumed = make()
    second = build_optimizer(resumed, recipe)
    resumed.load_state_dict(state["framework"])
    second.load_state_dict(state["optimizer"])
    if forgotten:
        resumed.discriminator.optimizer.state.clear()
    run(resumed, second, batch, sampler, 2)
    assert same_bits(weights(whole), weights(resumed)) != forgotten


# -- views, sampler and options -------------------------------------------------------------------


def test_views_share_what_the_discriminator_needs(make):
    assert make().views() == {
        "anchor": Crop(1, 1.815, disjoint=True),
        "positive": Crop(1, 1.815, disjoint=True),
        "shared": Crop(1, 1.815, cut_as="positive", augment_as="anchor"),
    }


def test_the_sampler_replaces_the_match_and_not_what_the_discriminator_sees(make, batch, sampler):
    plain, swapped = make(), make()
    other, related = torch.randn(6, 4), torch.rand(6, 6) < 0.4
    found = swapped(batch, sampler(lambda ids, targets: other, related)).metrics
    query = plain.encoder(batch.views["anchor"][:, 0]).detach()
    match = angular_prototypical(query, other, 10.0, -5.0, related)
    torch.testing.assert_close(found["match"], match)
    assert torch.equal(found["discriminator"], plain(batch, sampler()).metrics["discriminator"])
    assert torch.equal(plain.target(batch), plain.encoder(batch.views["positive"][:, 0]))


def test_sizes_and_how_scores_are_compared(make):
    framework = make()
    assert [tuple(p.shape) for p in framework.discriminator.layers.parameters() if p.ndim == 2] == [
        (4, 8),
        (2, 4),
    ]
    assert (framework.options.alpha, framework.options.steps) == (3.0, 1)
    assert framework.scoring == "cosine" and make(similarity="prot").scoring == "euclidean"
    assert math.isclose(framework.affine.scale.item(), 10)


def test_invalid_options_are_refused():
    for options in ({"similarity": "cel"}, {"alpha": -1.0}, {"steps": -1}, {"discriminator_lr": 0.0}):
        with pytest.raises(IdemvoxError, match=rf"framework\.{next(iter(options))}"):
            AAT.Options(**options)


def test_the_discriminator_skips_pairs_that_are_not_finite():
    """Its optimiser does not count the step either, so the next step is the same as without it."""
    torch.manual_seed(0)
    plain, pairs, alike = Discriminator(4, 1e-2), torch.randn(6, 8), torch.arange(6) < 3
    other = copy.deepcopy(plain)
    other.learn(pairs * float("nan"), alike.long())
    other.layers.load_state_dict(plain.layers.state_dict())  # its statistics, which the loop restores
    for each in (plain, other):
        each.learn(pairs, alike.long())
    assert all(parameter.isfinite().all() for parameter in other.parameters())
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
