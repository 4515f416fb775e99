"""Fitting i-vectors: on data from a known model, and on the tiny corpus by the ordinary commands."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from idemvox.corpus.manifest import load_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.encoders.ivector import IVector
from idemvox.errors import IdemvoxError
from idemvox.model import load_model
from idemvox.recipe import Part, parse_recipe
from idemvox.training.em import ivector as module
from idemvox.training.em.ivector import em_iteration, sized
from idemvox.training.fitters import em
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint
from idemvox.verification.drawing import make_trials
from idemvox.verification.evaluation import evaluate

COMPONENTS, SIZE, DIM = 5, 6, 3


def draw(utterances: int = 400, seed: int = 0):
    """Statistics from a known model: loadings (C, D, R), w (U, R) around a mean, counts and whitened sums."""
    torch.manual_seed(seed)
    loadings = torch.randn(COMPONENTS, SIZE, DIM)
    w = torch.randn(utterances, DIM) @ torch.tensor([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 2]]) + torch.tensor(
        [1.0, 0, -1]
    )
    counts = torch.randint(0, 12, (utterances, COMPONENTS)).float()
    noise = torch.randn(utterances, COMPONENTS, SIZE) * counts.sqrt()[..., None]
    return loadings, w, counts, counts[..., None] * torch.einsum("cdr,ur->ucd", loadings, w) + noise


def blank() -> IVector:
    torch.manual_seed(9)
    return IVector(IVector.Options(components=COMPONENTS, dim=DIM, cepstra=SIZE // 3))


def test_em_raises_the_likelihood_and_finds_the_subspace():
    loadings, w, counts, sums = draw()
    encoder = blank()
    batches = list(zip(counts.split(70), sums.split(70), strict=True))
    gains = [em_iteration(encoder, batches) for _ in range(30)]
    assert all(b >= a - 1e-5 for a, b in itertools.pairwise(gains)) and gains[-1] > gains[0] + 0.1
    truth, found = (torch.linalg.qr(x.flatten(0, 1))[0] for x in (loadings, encoder.loadings))
    assert torch.linalg.svdvals(truth.T @ found).min() > 0.98  # cosine of the largest angle between them
    mean = encoder.posterior(counts, sums).mean
    assert mean.sub(encoder.prior).mean(0).abs().max() < 1e-2  # the prior's mean is that of the corpus
    torch.testing.assert_close(mean.T.cov(), torch.eye(DIM).double(), atol=0.1, rtol=0)
    with_one = torch.cat([mean, torch.ones(len(mean), 1)], 1)
    left = w.double() - with_one @ torch.linalg.lstsq(with_one, w.double()).solution
    assert left.var(0).max() < 0.1 * w.var(0).min()


def test_an_iteration_equals_a_loop():
    _, _, counts, sums = draw(40)
    encoder = blank()
    encoder.put(prior=torch.tensor([0.3, -0.2, 0.1]))
    loads, prior = encoder.loadings.double().numpy(), encoder.prior.double().numpy()
    means, moments, gains = [], [], []
    for n, f in zip(counts.double().numpy(), sums.double().numpy(), strict=True):
        precision, target = np.eye(DIM), prior.copy()
        for c in range(COMPONENTS):
            precision += n[c] * loads[c].T @ loads[c]
            target += loads[c].T @ f[c]
        mean = np.linalg.solve(precision, target)
        means.append(mean)
        moments.append(np.linalg.inv(precision) + np.outer(mean, mean))
        gains.append(target @ mean / 2 - np.linalg.slogdet(precision)[1] / 2 - prior @ prior / 2)
    centre = np.mean(means, 0)
    turn = np.linalg.cholesky(np.mean(moments, 0) - np.outer(centre, centre))
    wanted = np.empty_like(loads)
    for c in range(COMPONENTS):
        left = sum(np.outer(f, m) for f, m in zip(sums[:, c].double().numpy(), means, strict=True))
        right = sum(n * m for n, m in zip(counts[:, c].double().numpy(), moments, strict=True))
        wanted[c] = left @ np.linalg.inv(right) @ turn
    gain = em_iteration(encoder, zip(counts.split(7), sums.split(7), strict=True))
    assert gain == pytest.approx(np.sum(gains) / float(counts.sum()), rel=1e-5)
    np.testing.assert_allclose(encoder.loadings.numpy(), wanted, atol=1e-4, rtol=1e-3)
    np.testing.assert_allclose(encoder.prior.numpy(), np.linalg.solve(turn, centre), atol=1e-4, rtol=1e-3)


def test_an_unused_component_does_no_harm():
    _, _, counts, sums = draw(40)
    counts[:, 2], sums[:, 2] = 0, 0
    encoder = blank()
    assert all(np.isfinite(em_iteration(encoder, [(counts, sums)])) for _ in range(2))
    assert not encoder.loadings[2].any()


@pytest.fixture(scope="module")
def recipe(corpus):
    """Return ``make(*assignments, labelled=False)``."""

    def make(*assignments, labelled=False):
        tree = {
            "name": "i",
            "data": {"manifest": str(corpus.labelled if labelled else corpus.unlabelled)},
            "frontend": {"normalise": "none"},
            "encoder": {"name": "ivector", "components": 12, "dim": 6, "mixture_iterations": 4},
            "training": {"epochs": 3, "device": "cpu", "workers": 0},
        }
        return parse_recipe(tree).override(assignments)

    return make


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    return train(recipe(), tmp_path_factory.mktemp("i"), progress=False)


def newest(folder):
    return load_checkpoint(last_checkpoint(folder / "checkpoints"))


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def test_it_writes_an_ordinary_run(trained):
    assert trained.epochs == 3 and trained.numbers.keys() == {"log_likelihood", "gain"}
    model = load_model(trained.folder)
    assert isinstance(model.encoder, IVector) and (model.encoder.dim, len(model.encoder.means)) == (6, 12)
    assert (model.provenance["epochs"], model.provenance["utterances"]) == (3, 24)
    lines = [json.loads(line) for line in (trained.folder / "log.jsonl").read_text().splitlines()]
    gains = [line["gain"] for line in lines if line["event"] == "epoch"]
    assert len(gains) == 3 and gains == sorted(gains)
    mixture = [line["log_likelihood"] for line in lines if line["event"] == "mixture"]
    assert len(mixture) == 4 and mixture == sorted(mixture)


def test_i_vectors_tell_voices_apart(trained, corpus):
    manifest = load_manifest(corpus.labelled)
    report = evaluate(load_model(trained.folder), make_trials(manifest, "any"), manifest, draws=0)
    assert report.eer < 0.15


def test_covariances_may_be_full(recipe, trained, corpus, tmp_path):
    few = ("encoder.components=2", "encoder.frames=5000")  # with more, each component would learn a speaker
    run = train(recipe("encoder.covariance=full", *few), tmp_path, progress=False)
    assert run.numbers["log_likelihood"] > trained.numbers["log_likelihood"] + 1
    model = load_model(run.folder)
    assert model.encoder.factors.shape == (2, 72, 72)
    manifest = load_manifest(corpus.labelled)
    assert evaluate(model, make_trials(manifest, "any"), manifest, draws=0).eer < 0.2


def test_labels_are_not_used(recipe, trained, tmp_path):
    assert weights(train(recipe(labelled=True), tmp_path, progress=False).folder) == weights(trained.folder)


def test_a_pack_gives_the_same_model(recipe, corpus, trained, tmp_path):
    pack(corpus.unlabelled, tmp_path / "pack", progress=False)
    packed = train(recipe(f"data.manifest={tmp_path / 'pack'}"), tmp_path / "run", progress=False)
    assert weights(packed.folder) == weights(trained.folder)


def test_statistics_need_not_be_kept(recipe, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 0)
    assert weights(train(recipe(), tmp_path, progress=False).folder) == weights(trained.folder)


def test_another_seed_gives_other_weights(recipe, trained, tmp_path):
    assert weights(train(recipe("seed=1"), tmp_path, progress=False).folder) != weights(trained.folder)


@pytest.mark.usefixtures("float64")
def test_another_batch_size_gives_the_same_up_to_rounding(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "to_wave", lambda pcm: pcm / 2**15)
    few = ("encoder.components=4", "encoder.mixture_iterations=2", "training.epochs=2")
    one = train(recipe(*few), tmp_path / "one", progress=False).folder
    monkeypatch.setattr(module, "BATCH_SECONDS", 7.0)
    other = train(recipe(*few, "training.workers=2"), tmp_path / "other", progress=False).folder
    found, expected = (state["encoder"] for state in map(newest, (other, one)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_an_interrupted_and_resumed_run_ends_with_the_same_bits(recipe, trained, tmp_path, monkeypatch):
    calls = itertools.count(1)

    def interrupted(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return em_iteration(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(em, "em_iteration", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), tmp_path, progress=False)
    assert not (tmp_path / "model").exists()
    with pytest.raises(IdemvoxError, match="--resume"):
        train(recipe(), tmp_path, progress=False)
    assert train(recipe(), tmp_path, resume=True, progress=False).epochs == 3
    assert weights(tmp_path) == weights(trained.folder)
    stamp = (tmp_path / "model" / "model.json").stat().st_mtime_ns
    assert train(recipe(), tmp_path, resume=True, progress=False).epochs == 3
    assert (tmp_path / "model" / "model.json").stat().st_mtime_ns == stamp  # unchanged
    assert train(recipe("training.epochs=4"), tmp_path, resume=True, progress=False).epochs == 4
    assert weights(tmp_path) != weights(trained.folder)


def test_the_model_of_fewer_iterations_is_replaced(recipe, tmp_path, monkeypatch):
    """One iteration is finished; another is killed before its model is written."""
    train(recipe("training.epochs=1"), tmp_path, progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(em, "save_trained", lambda *rest, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        train(recipe("training.epochs=2"), tmp_path, resume=True, progress=False)
    train(recipe("training.epochs=2"), tmp_path, resume=True, progress=False)
    assert load_model(tmp_path).provenance["epochs"] == 2


def test_settings_that_i_vectors_do_not_use_are_refused(recipe, tmp_path):
    with pytest.raises(IdemvoxError, match=r"leave them out: framework\.name, training\.lr"):
        train(recipe("framework.name=dino", "training.lr=0.1"), tmp_path, progress=False)
    with pytest.raises(IdemvoxError, match=r"training\.device must be auto, cpu, cuda or mps, not 'gpu'"):
        train(recipe("training.device=gpu"), tmp_path, progress=False)


def test_sizes_follow_the_hours_of_speech():
    class Hours:
        def __init__(self, hours):
            self.lengths = np.array([hours * 3600 * 16_000 / 2] * 2, np.int64)

    def size(hours, **given):
        found = sized(Part(name="ivector", **given), Hours(hours)).model_dump()
        return found["components"], found["dim"]

    assert [size(h) for h in (1, 9, 340, 2400)] == [(256, 100), (512, 200), (1024, 300), (2048, 400)]
    assert size(9, dim=64) == (512, 64) and size(9, components=32, dim=None) == (32, 200)
