"""GPS: neighbours in a frozen embedding, compared with a loop, and the sources of that embedding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from idemvox.corpus.corpus import open_corpus
from idemvox.errors import CorpusError, RecipeError
from idemvox.model import build_encoder, save_model
from idemvox.positives import gps
from idemvox.positives.base import Setting
from idemvox.positives.gps import GPS
from idemvox.recipe import Part
from idemvox.training.prior import load_prior
from idemvox.verification.embed import Embeddings, embed_files, save_embeddings

CPU = torch.device("cpu")
PRIOR = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)


def sampler(prior: Any = PRIOR, neighbours: int = 4, seed: int = 0) -> GPS:
    found = GPS(GPS.Options(neighbours=neighbours), Setting(len(prior), 2, 2, seed, prior=prior))
    found.start_epoch(0)
    return found


def nearest(prior: np.ndarray, count: int) -> list[list[int]]:
    unit = prior / np.linalg.norm(prior, axis=1, keepdims=True)
    return [
        sorted((j for j in range(len(unit)) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:count]
        for i in range(len(unit))
    ]


@pytest.mark.parametrize("block", [1, 100, 10_000])
def test_neighbours_are_the_nearest_other_utterances(monkeypatch, block):
    monkeypatch.setattr(gps, "_BLOCK", block)
    assert sampler().near.tolist() == nearest(PRIOR, 4)


def test_each_epoch_draws_evenly_from_the_neighbours():
    found, near, drawn = sampler(), nearest(PRIOR, 4), Counter()
    for epoch in range(400):
        partners = found.partners(epoch).tolist()
        assert all(p in near[i] for i, p in enumerate(partners))
        drawn.update(near[i].index(p) for i, p in enumerate(partners))
    assert all(abs(count / 12_000 - 0.25) < 0.02 for count in drawn.values())
    assert not np.array_equal(found.partners(1), found.partners(2))
    assert np.array_equal(found.partners(1), sampler().partners(1))
    assert not np.array_equal(found.partners(1), sampler(seed=1).partners(1))


def test_a_restored_sampler_does_not_search_again():
    resumed = GPS(GPS.Options(), Setting(30, 2, 2, 0, prior=np.zeros_like(PRIOR)))
    resumed.load_state_dict(sampler().state_dict())
    resumed.start_epoch(3)
    assert np.array_equal(resumed.partners(3), sampler().partners(3))


def test_there_may_be_fewer_utterances_than_neighbours():
    assert sampler(PRIOR[:3], neighbours=9).near.tolist() == nearest(PRIOR[:3], 2)


def test_a_missing_embedding_names_the_option_to_set():
    assert GPS.prior(GPS.Options()) is None and GPS.prior(GPS.Options("a.npy")) == "a.npy"
    with pytest.raises(RecipeError, match=r"positives\.embeddings"):
        GPS(GPS.Options(), Setting(30, 2, 2, 0))
    with pytest.raises(RecipeError, match=r"positives\.neighbours"):
        GPS.Options(neighbours=0)


# -- the embedding ----------------------------------------------------------------------------


def test_reads_npy_by_order_and_npz_by_id(corpus, tmp_path):
    opened, rows = open_corpus((corpus.labelled,)), np.random.default_rng(1).standard_normal((24, 3))
    np.save(tmp_path / "a.npy", rows)
    assert np.array_equal(load_prior(tmp_path / "a.npy", opened, CPU), rows.astype(np.float32))
    order = np.random.default_rng(2).permutation(24)
    ids = tuple(opened.ids[i] for i in order)
    save_embeddings(Embeddings(ids, rows[order].astype(np.float32)), tmp_path / "a.npz")
    save_embeddings(Embeddings(ids, rows[order].astype(np.float32)), tmp_path / "folder")
    for name in ("a.npz", "folder"):
        assert np.array_equal(load_prior(tmp_path / name, opened, CPU), rows.astype(np.float32))


def test_a_model_folder_gives_the_usual_embeddings(corpus, tmp_path):
    part = Part(name="fast_resnet34", channels=[4, 4, 8, 8], dim=6)
    encoder = build_encoder(part, {"mels": 20}).eval()
    save_model(tmp_path / "model", encoder, part, {"mels": 20}, {}, scoring="cosine")
    found = load_prior(tmp_path / "model", open_corpus((corpus.labelled,)), CPU)
    expected = embed_files(encoder, corpus.manifest).matrix
    assert found.shape == (24, 6)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_embeddings_that_do_not_fit_are_refused(corpus, tmp_path):
    opened = open_corpus((corpus.labelled,))
    np.save(tmp_path / "short.npy", np.zeros((23, 3)))
    np.save(tmp_path / "nan.npy", np.full((24, 3), np.nan))
    (tmp_path / "text.npy").write_text("no array")
    save_embeddings(Embeddings(("x",), np.zeros((1, 3), np.float32)), tmp_path / "others.npz")
    for name, message in {
        "short.npy": "24 utterances",
        "nan.npy": "NaN",
        "text.npy": "cannot read",
        "missing.npy": "cannot read",
        "others.npz": "no embedding of",
    }.items():
        with pytest.raises(CorpusError, match=message):
            load_prior(tmp_path / name, opened, CPU)
