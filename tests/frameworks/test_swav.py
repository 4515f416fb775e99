"""SwAV: assignments with and without the queue, what SSPS replaces, and frozen prototypes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.batch import Batch
from idemvox.errors import RecipeError
from idemvox.frameworks.swav import SwAV
from idemvox.losses.prototypes import sinkhorn, swapped_prediction

OPTIONS = {"prototypes": 5, "hidden": 6, "outputs": 3, "temperature": 0.3, "epsilon": 0.2}


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = {n: torch.randn(6, 1, 10, generator=generator) for n in ("anchor", "positive")}
    return Batch(torch.arange(6), views)


def projections(framework: SwAV, b: Batch) -> list[Tensor]:
    return [
        normalize(framework.projector(framework.encoder(b.views[n][:, 0])), dim=1)
        for n in ("anchor", "positive")
    ]


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("epoch", [0, 2])
def test_each_view_predicts_the_others_codes(encoder, sampler, epoch, replaced):
    framework = SwAV(encoder, SwAV.Options(queue=7, queue_from=2, **OPTIONS))
    weight = normalize(framework.prototypes.weight, dim=1)
    framework.start_epoch(epoch)
    held: list[list[Tensor]] = [[], []]
    for seed in range(3):
        b, other = batch(seed), normalize(torch.randn(6, 3), dim=1)
        z = projections(framework, b)
        seen = [z[0], other if replaced else z[1]]
        scores = [x @ weight.T for x in seen]
        codes = []
        for view in (0, 1):
            earlier = torch.stack(held[view][-7:]) @ weight.T if epoch and held[view] else scores[view][:0]
            codes.append(sinkhorn(torch.cat([scores[view], earlier]), 0.2)[:6])
        expected = (
            swapped_prediction(scores[0], codes[1], 0.3) + swapped_prediction(scores[1], codes[0], 0.3)
        ) / 2
        swap = partial(torch.where, torch.tensor(replaced), other)
        found = framework(b, sampler(lambda ids, targets, swap=swap: swap(targets))).loss
        torch.testing.assert_close(found, expected)
        for view in (0, 1):
            held[view] += list(z[view].detach())
    assert (framework.queue.ids >= 0).all()


def test_codes_get_no_gradient_and_frozen_prototypes_do_not_learn(encoder, sampler):
    framework = SwAV(encoder, SwAV.Options(frozen_epochs=2, **OPTIONS))
    framework(batch(0), sampler()).loss.backward()
    assert encoder.linear.weight.grad.any() and framework.prototypes.weight.grad.any()
    framework.after_backward(2)
    assert framework.prototypes.weight.grad is not None
    framework.after_backward(1)
    assert framework.prototypes.weight.grad is None


def test_it_works_without_a_queue(encoder, sampler):
    framework = SwAV(encoder, SwAV.Options(queue=0, **OPTIONS))
    framework.start_epoch(50)
    assert framework(batch(0), sampler()).loss.isfinite()
    assert framework.embedding_dim == 3 and framework.target(batch(0)).norm(dim=1).allclose(torch.ones(6))


def test_impossible_options_are_refused():
    with pytest.raises(RecipeError, match="swav needs"):
        SwAV.Options(prototypes=1)
