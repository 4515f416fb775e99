"""i-vectors, compared with loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.ivector import IVector
from idemvox.errors import IdemvoxError
from idemvox.model import build_encoder, load_model, save_model
from idemvox.recipe import Part

COMPONENTS, SIZE, DIM = 4, 6, 3


@pytest.fixture(params=["diagonal", "full"])
def encoder(request) -> IVector:
    """Two cepstra with first and second deltas; everything that is fitted is random."""
    torch.manual_seed(2)
    made = IVector(
        IVector.Options(components=COMPONENTS, dim=DIM, cepstra=2, covariance=request.param, mean_frames=40)
    )
    factors = torch.rand(COMPONENTS, SIZE) + 0.3
    if request.param == "full":
        factors = torch.diag_embed(factors) + 0.2 * torch.randn(COMPONENTS, SIZE, SIZE).tril(-1)
    made.put(factors=factors, weights=torch.rand(COMPONENTS).softmax(0), prior=torch.randn(DIM))
    return made


def factor(encoder: IVector, c: int) -> torch.Tensor:
    found = encoder.factors[c].double()
    return found if found.ndim == 2 else torch.diag(found)


def test_statistics_are_sums_over_speech_frames(encoder):
    features = torch.randn(1, 40, 90)
    features[..., 20:30] -= 9  # a pause
    (speech,) = encoder.speech(features, None)
    assert 0 < len(speech) <= 80
    counts, sums = torch.zeros(COMPONENTS).double(), torch.zeros(COMPONENTS, SIZE).double()
    for x in speech.double():
        joint = torch.tensor(
            [
                encoder.weights[c].double()
                * MultivariateNormal(
                    encoder.means[c].double(), precision_matrix=factor(encoder, c) @ factor(encoder, c).T
                )
                .log_prob(x)
                .exp()
                for c in range(COMPONENTS)
            ]
        )
        for c in range(COMPONENTS):
            counts[c] += joint[c] / joint.sum()
            sums[c] += joint[c] / joint.sum() * (factor(encoder, c).T @ (x - encoder.means[c].double()))
    found = encoder.statistics(features, None)
    torch.testing.assert_close(found[0][0].double(), counts, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[1][0].double(), sums, atol=1e-3, rtol=1e-3)


def test_long_utterances_are_taken_in_parts(encoder, monkeypatch):
    features = torch.randn(2, 40, 90)
    whole = encoder.statistics(features, torch.tensor([90, 50]))
    monkeypatch.setattr("idemvox.encoders.ivector.CHUNK", 16)
    for a, b in zip(whole, encoder.statistics(features, torch.tensor([90, 50])), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_the_posterior_equals_that_of_the_frames(encoder):
    """With whole frames given to components, w is a linear Gaussian model's latent: condition it directly."""
    torch.manual_seed(4)
    of = torch.tensor([0, 0, 1, 3, 3, 3])  # component of each frame; one has none
    y = torch.randn(len(of), SIZE).double()  # whitened frames
    counts, sums = torch.zeros(1, COMPONENTS), torch.zeros(1, COMPONENTS, SIZE)
    for c, frame in zip(of.tolist(), y, strict=True):
        counts[0, c] += 1
        sums[0, c] += frame.float()
    loads = torch.cat([encoder.loadings[c].double() for c in of.tolist()])  # (6 D, R)
    prior = encoder.prior.double()
    noise = torch.eye(len(loads)).double()
    marginal = loads @ loads.T + noise
    gain = loads.T @ torch.linalg.inv(marginal)  # (R, 6 D)
    mean = prior + gain @ (y.flatten() - loads @ prior)
    covariance = torch.eye(DIM).double() - gain @ loads
    found = encoder.posterior(counts, sums)
    torch.testing.assert_close(found.mean[0], mean, atol=1e-5, rtol=1e-5)
    moment = covariance + mean[:, None] * mean
    torch.testing.assert_close(found.second_moment()[0], moment, atol=1e-5, rtol=1e-5)
    alone = MultivariateNormal(torch.zeros(len(loads)).double(), noise).log_prob(y.flatten())
    with_w = MultivariateNormal(loads @ prior, marginal).log_prob(y.flatten())
    torch.testing.assert_close(found.gain[0], with_w - alone, atol=1e-4, rtol=1e-5)


def test_an_utterance_like_the_corpus_has_an_i_vector_of_zero(encoder):
    silent = torch.zeros(1, COMPONENTS), torch.zeros(1, COMPONENTS, SIZE)
    torch.testing.assert_close(encoder.posterior(*silent).mean[0].float(), encoder.prior)


def test_a_loaded_model_gives_the_same_embeddings(tmp_path):
    part, front = Part(name="ivector", components=6, dim=5, covariance="full"), {"normalise": "none"}
    torch.manual_seed(0)
    encoder = build_encoder(part, front)
    wave, lengths = torch.randn(3, 9000), torch.tensor([9000, 5000, 7000])
    before = encoder(wave, lengths)
    save_model(tmp_path, encoder, part, front, {}, scoring="cosine")
    loaded = load_model(tmp_path).encoder
    assert torch.equal(loaded(wave, lengths), before)
    loaded.load_state_dict({k: v * 0.5 for k, v in encoder.state_dict().items()})
    assert not torch.allclose(loaded(wave, lengths), before)  # nothing of the previous weights is cached


def test_settings_are_checked():
    with pytest.raises(IdemvoxError, match=r"frontend\.normalise=none"):
        IVector(frontend=FrontEndSettings())
    with pytest.raises(IdemvoxError, match=r"frontend\.mels"):
        IVector(frontend=FrontEndSettings(mels=20, normalise="none"))
    with pytest.raises(IdemvoxError, match="at least 1"):
        IVector.Options(components=0)
