"""i-mix and l-mix: what they mix, and that the draws are a function of the step."""

from __future__ import annotations

import copy

import pytest
import torch

from idemvox.batch import Batch
from idemvox.errors import RecipeError
from idemvox.frameworks.imix import IMix
from idemvox.losses.mixture import mixed_nce


@pytest.fixture
def batch() -> Batch:
    return Batch(torch.arange(5), {n: torch.randn(5, 1, 10) for n in ("anchor", "positive")})


@pytest.mark.parametrize("level", ["input", "latent"])
def test_mixtures_are_compared_with_both_positives(batch, encoder, sampler, level):
    encoder.linear.weight.data.mul_(3)
    square = copy.deepcopy(encoder)
    encoder.forward = lambda wave, lengths=None: square(wave).square()  # so that the level matters
    framework = IMix(encoder, IMix.Options(level, temperature=0.2))
    partner, share = framework.draw(5, torch.device("cpu"))
    waves, s = batch.views["anchor"][:, 0], share[:, None].float()
    if level == "input":
        query = encoder.forward(s * waves + (1 - s) * waves[partner])
    else:
        query = s * encoder.forward(waves) + (1 - s) * encoder.forward(waves)[partner]
    other, related = torch.randn(5, 4), torch.rand(5, 5) < 0.3
    expected = mixed_nce(query, other, partner, share.float(), 0.2, related)
    found = framework(batch, sampler(lambda ids, targets: other, related)).loss
    torch.testing.assert_close(found, expected)


def test_draws_depend_on_the_step_also_after_resuming(encoder):
    framework = IMix(encoder)
    cpu, drawn = torch.device("cpu"), []
    for _ in range(3):
        drawn.append(framework.draw(50, cpu))
        assert torch.equal(framework.draw(50, cpu)[0], drawn[-1][0])
        framework.after_step(0.1)
    assert not torch.equal(drawn[0][0], drawn[1][0]) and not torch.equal(drawn[1][1], drawn[2][1])
    for partner, share in drawn:
        assert sorted(partner.tolist()) == list(range(50)) and share.min() >= 0.5 and share.max() <= 1
    resumed = IMix(copy.deepcopy(encoder))
    resumed.draw(50, cpu)
    resumed.load_state_dict(framework.state_dict())
    assert all(map(torch.equal, resumed.draw(50, cpu), framework.draw(50, cpu)))


def test_a_large_alpha_mixes_half_and_half(encoder):
    share = IMix(encoder, IMix.Options(alpha=1000.0)).draw(400, torch.device("cpu"))[1]
    assert share.max() < 0.6


@pytest.mark.parametrize("wrong", [{"level": "x"}, {"alpha": 0.0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(RecipeError, match="imix needs"):
        IMix.Options(**wrong)
