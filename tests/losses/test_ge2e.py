"""GE2E, compared with a loop written from the formula."""

from __future__ import annotations

import math
from statistics import mean

import pytest
import torch
from torch import Tensor

from idemvox.losses.ge2e import ge2e
from idemvox.losses.prototypical import angular_contrastive


def slow(embedding: Tensor, scale: float, bias: float) -> list[float]:
    """Wan et al. (2018): eq. 4 normalises, 8 leaves the utterance out, 9 compares, 6 is the loss of each."""
    units = [[e / e.norm() for e in speaker] for speaker in embedding]

    def similarity(j: int, i: int, k: int) -> float:
        whose = [e for n, e in enumerate(units[k]) if (k, n) != (j, i)]
        centroid = sum(whose) / len(whose)
        return scale * float(units[j][i] @ centroid) / float(centroid.norm()) + bias

    losses = []
    for j, speaker in enumerate(units):
        for i in range(len(speaker)):
            logits = [similarity(j, i, k) for k in range(len(units))]
            losses.append(math.log(sum(map(math.exp, logits))) - logits[j])
    return losses


def some(speakers: int = 4, utterances: int = 3, dim: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(speakers)
    return 2 * torch.randn(speakers, utterances, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("speakers", "utterances"), [(1, 2), (4, 2), (3, 5)])
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -5.0), (0.5, 2.0)])
def test_equals_the_formula(speakers, utterances, scale, bias):
    embedding = some(speakers, utterances)
    expected = slow(embedding, scale, bias)
    assert float(ge2e(embedding, scale, bias)) == pytest.approx(mean(expected), abs=1e-10)
    rows = ge2e(embedding, scale, bias, reduction="none")
    assert rows.shape == (speakers, utterances)
    assert rows.flatten().tolist() == pytest.approx(expected, abs=1e-10)


def test_an_utterance_is_left_out_of_its_own_centroid():
    """With two utterances, its centroid is the other one, so moving them apart costs at any norm."""
    embedding = torch.eye(4, dtype=torch.float64).view(2, 2, 4)
    together = embedding[:, :1].expand(-1, 2, -1)
    assert float(ge2e(embedding, 10.0, 0.0)) == pytest.approx(math.log(2))
    assert float(ge2e(together, 10.0, 0.0)) == pytest.approx(math.log1p(math.exp(-10)))
    assert ge2e(together, 10.0, 0.0) < angular_contrastive(*embedding.unbind(1), 10.0, 0.0)


def test_gradient_also_of_the_scale():
    for reduction in ("mean", "none"):
        assert torch.autograd.gradcheck(lambda e, r=reduction: ge2e(e, 5.0, -1.0, r), some().requires_grad_())
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (10.0, -5.0))
    assert torch.autograd.gradcheck(lambda s: ge2e(some(), s, -5.0), scale)
    ge2e(some(), scale, bias).backward()
    assert abs(float(scale.grad)) > 1e-3 and float(bias.grad) == pytest.approx(0, abs=1e-12)


def test_norms_and_the_order_of_speakers_and_utterances_do_not_matter():
    embedding = some()
    value = float(ge2e(embedding, 10.0, -5.0))
    lengths = torch.rand(4, 3, 1, dtype=torch.float64) + 0.5
    changed = (lengths * embedding)[[2, 0, 3, 1]][:, [1, 2, 0]]
    assert float(ge2e(changed, 10.0, -5.0)) == pytest.approx(value, abs=1e-10)
    mixed = embedding.transpose(0, 1).reshape(embedding.shape)
    assert abs(float(ge2e(mixed, 10.0, -5.0)) - value) > 1e-2


def test_autocast_leaves_the_logits_in_single_precision():
    embedding = some(8, 2, 16).float()
    plain = ge2e(embedding, 10.0, -5.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert ge2e(embedding, 10.0, -5.0) == plain
        half = ge2e(embedding.bfloat16(), 10.0, -5.0)
    assert half.dtype == torch.float32 and half == ge2e(embedding.bfloat16().float(), 10.0, -5.0)
