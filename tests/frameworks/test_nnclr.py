"""NNCLR, compared with a plain list of the embeddings it has seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from idemvox.batch import Batch
from idemvox.errors import RecipeError
from idemvox.frameworks.nnclr import NNCLR
from idemvox.losses.pairwise import info_nce


def batch(ids: list[int], seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = {n: torch.randn(len(ids), 1, 10, generator=generator) for n in ("anchor", "positive")}
    return Batch(torch.tensor(ids), views)


BATCHES = [batch([3, 1, 4], 0), batch([0, 5, 3], 1), batch([4, 3, 0], 2), batch([1, 2, 3], 3)]


def nearest(x: Tensor, own: int, held: list[tuple[int, Tensor]]) -> tuple[Tensor, int]:
    others = [(i, v) for i, v in held if i != own]
    if not others:
        return x, -1
    i, v = max(others, key=lambda pair: float(cosine_similarity(x, pair[1], dim=0)))
    return v, i


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("size", [4, 50])
def test_the_loss_equals_that_of_a_plain_list(encoder, sampler, size, replaced):
    framework = NNCLR(encoder, NNCLR.Options(0.2, size, hidden=6, outputs=3, predictor=5))
    held: list[tuple[int, Tensor]] = []
    for b in BATCHES:
        z1, z2 = (framework.projector(encoder(b.views[n][:, 0])) for n in ("anchor", "positive"))
        target = torch.randn(3, 3) if replaced else z2
        ids, expected = b.ids.tolist(), []
        for sought, other in ((z1, z2), (target, z1)):
            near, whose = zip(
                *(nearest(x.detach(), i, held[-size:]) for i, x in zip(ids, sought, strict=True)), strict=True
            )
            out = torch.tensor([[w == i for i in ids] for w in whose])
            expected.append(info_nce(torch.stack(near), framework.predictor(other), 0.2, out))
        found = framework(b, sampler(lambda ids, targets, target=target: target)).loss
        torch.testing.assert_close(found, torch.stack(expected).mean())
        held += zip(ids, z2.detach(), strict=True)


def test_neighbours_get_no_gradient_and_in_eval_mode_nothing_is_stored(encoder, sampler):
    framework = NNCLR(encoder, NNCLR.Options(hidden=6, outputs=3, predictor=5, queue=8))
    framework(BATCHES[0], sampler())
    framework(BATCHES[1], sampler()).loss.backward()
    assert encoder.linear.weight.grad.any() and framework.predictor[0].weight.grad.any()
    held = framework.queue.ids.clone()
    framework.eval()(BATCHES[2], sampler())
    assert torch.equal(held, framework.queue.ids)


def test_impossible_options_are_refused():
    with pytest.raises(RecipeError, match="nnclr needs"):
        NNCLR.Options(queue=0)
