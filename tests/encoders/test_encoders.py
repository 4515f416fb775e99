"""One contract for every registered encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from idemvox.encoders.base import Encoder
from idemvox.recipe import build_options
from idemvox.registry import ENCODERS

LENGTHS = [12_000, 5_003, 8_000, 330, 90]


def waves(seed: int = 0) -> Tensor:
    """(5, 12000) noise whose colour and rhythm differ from row to row."""
    noise = torch.randn(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(seed))
    t = torch.arange(max(LENGTHS))
    tones = [torch.sin(t * 0.05 * (row + 1)) * torch.sin(t / 700 * (row + 2)) for row in range(len(LENGTHS))]
    return 0.03 * noise + 0.2 * torch.stack(tones)


LEARNING = [name for name in ENCODERS if ENCODERS[name].fitter == "gradient"]
"""Encoders that learn by gradient."""


@pytest.fixture(scope="module", params=list(ENCODERS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """A small encoder with trained batch norms, in evaluation mode; tests that change it must copy it."""
    torch.manual_seed(1)
    cls = ENCODERS[request.param]
    made: Encoder = cls(build_options(cls.tiny, cls.Options, "encoder")).train()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.momentum = 0.5
        for name, parameter in made.named_parameters():
            if name.endswith("squeeze.bias"):
                parameter.fill_(0.5)  # otherwise, the few units of so small a gate may all be dead
        for seed in range(6):
            made(waves(seed))
    return made.eval()


def test_embeddings_have_the_right_shape_and_differ(encoder: Encoder) -> None:
    with torch.no_grad():
        out = encoder(waves())
    assert out.shape == (len(LENGTHS), encoder.dim)
    assert torch.pdist(out).min() > 1e-2 * out.std(), "embeddings that do not differ test nothing"


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
@pytest.mark.parametrize("extra", [0, 3_001])
def test_padding_changes_nothing(encoder: Encoder, order: list[int], extra: int) -> None:
    lengths = torch.tensor(LENGTHS)[order]
    wave = torch.nn.functional.pad(waves()[order], (0, extra), value=0.5)
    with torch.no_grad():
        together = encoder(wave, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = encoder(wave[row : row + 1, :length])
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)


def test_without_lengths_padding_changes_embeddings(encoder: Encoder) -> None:
    with torch.no_grad():
        features, frames = encoder.frontend(waves(), torch.tensor(LENGTHS))
        blind, masked = encoder.encode(features, None), encoder.encode(features, frames)
    assert (blind - masked)[1:4].abs().amax(1).min() > 3e-3  # the last, one frame, is zero however padded
    torch.testing.assert_close(blind[:1], masked[:1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("encoder", LEARNING, indirect=True)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_every_parameter_gets_a_gradient(encoder: Encoder, with_lengths: bool) -> None:
    learner = copy.deepcopy(encoder).train()
    out = learner(waves(), torch.tensor(LENGTHS) if with_lengths else None)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_bfloat16_is_close(encoder: Encoder) -> None:
    wave, lengths = waves(), torch.tensor(LENGTHS)
    with torch.no_grad():
        exact = encoder(wave, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(wave, lengths)
            alone = encoder(wave[4:, : LENGTHS[4]])
    for a, b in ((rough, exact), (alone, exact[4:])):
        assert torch.nn.functional.cosine_similarity(a.float(), b).min() > 0.995


@pytest.mark.parametrize("encoder", LEARNING, indirect=True)
def test_bfloat16_training_step_is_finite(encoder: Encoder) -> None:
    learner = copy.deepcopy(encoder).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = learner(waves()[:, :8000])
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


def test_the_same_input_gives_the_same_bits(encoder: Encoder) -> None:
    with torch.no_grad():
        assert torch.equal(encoder(waves()), encoder(waves()))
        twin = copy.deepcopy(encoder)
        twin.load_state_dict(encoder.state_dict())
        assert torch.equal(encoder(waves()), twin(waves()))


def test_a_seed_determines_the_network(encoder: Encoder) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(type(encoder)(encoder.options).state_dict())  # type: ignore[call-arg, arg-type]
    assert all(torch.equal(a, b) for a, b in zip(made[0].values(), made[1].values(), strict=True))


def test_weights_are_contiguous(encoder: Encoder) -> None:
    for name, tensor in encoder.state_dict().items():
        assert tensor.is_contiguous(), f"safetensors refuses {name}"
