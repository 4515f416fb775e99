"""Embedding files: order, batching, modes, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from idemvox.audio.read import SAMPLE_RATE, read, write_wav
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import IdemvoxError
from idemvox.verification.embed import (
    Crops,
    Embeddings,
    embed_files,
    embed_waves,
    load_embeddings,
    save_embeddings,
)


def one_by_one(encoder, manifest):
    encoder.eval()
    with torch.no_grad():
        waves = [torch.from_numpy(read(manifest.path(u)))[None] for u in manifest]
        return np.stack([encoder(w, torch.tensor([w.shape[1]]))[0].numpy() for w in waves])


@pytest.mark.parametrize("batch_seconds", [0.1, 3.0, 1000.0])
def test_batches_equal_one_by_one_in_the_given_order(encoder, corpus, batch_seconds):
    expected = one_by_one(encoder, corpus)
    encoder.batches.clear()
    found = embed_files(encoder, corpus, batch_seconds=batch_seconds)
    assert found.ids == tuple(u.id for u in corpus)
    assert found.matrix.dtype == np.float32
    np.testing.assert_allclose(found.matrix, expected, atol=1e-5)
    if batch_seconds == 3.0:
        assert max(b * t for b, t in encoder.batches) <= 3.0 * SAMPLE_RATE
        assert 1 < len(encoder.batches) < len(corpus)
    else:
        assert len(encoder.batches) == (len(corpus) if batch_seconds < 1 else 1)


def test_paths_as_ids(encoder, corpus):
    paths = [corpus.path(u) for u in corpus][:3]
    found = embed_files(encoder, [*paths, str(paths[0])])
    assert found.ids == tuple(str(p) for p in paths)
    whole = embed_files(encoder, corpus)
    np.testing.assert_allclose(found[str(paths[2])], whole[corpus[2].id], atol=1e-5)


def test_modes_and_gradients_are_left_alone(encoder, corpus):
    encoder.linear.eval()  # a part frozen by its owner
    first, again = (embed_files(encoder, corpus[:4]).matrix for _ in range(2))
    np.testing.assert_array_equal(first, again)  # the dropout is off
    assert encoder.training and encoder.dropout.training and not encoder.linear.training
    assert encoder.linear.weight.grad is None and torch.is_grad_enabled()
    bad = Manifest([replace(corpus[0], path="none.wav")], corpus.root)
    with pytest.raises(IdemvoxError):
        embed_files(encoder, bad)
    assert encoder.training and encoder.dropout.training


def test_a_file_with_nan_is_to_blame_and_not_the_model(encoder, tmp_path):
    wave = np.full(SAMPLE_RATE, 0.1, np.float32)
    wave[8000] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(
        IdemvoxError, match=r"cannot embed .*a\.wav: it has NaN or infinite samples.* at 0\.50 s"
    ):
        embed_files(encoder, [tmp_path / "a.wav"])


def test_a_truncated_wav_is_embedded_with_a_warning(encoder, tmp_path, caplog):
    write_wav(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 2 * SAMPLE_RATE))
    whole = embed_files(encoder, [tmp_path / "a.wav"])
    assert not caplog.messages
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[: 44 + 2 * SAMPLE_RATE])
    cut = embed_files(encoder, [tmp_path / "a.wav"])
    assert "a.wav is truncated: its header says 2.00 s" in caplog.text
    assert np.abs(whole.matrix - cut.matrix).max() > 1e-4


def test_max_seconds(encoder, corpus):
    whole, cut = embed_files(encoder, corpus), embed_files(encoder, corpus, max_seconds=0.5)
    assert max(t for _, t in encoder.batches[1:]) == SAMPLE_RATE // 2
    short = [u.seconds < 0.525 for u in corpus]  # the encoder's frames are 0.025 s
    same = np.isclose(whole.matrix, cut.matrix, atol=1e-5).all(1)
    assert any(short) and not all(short) and same.tolist() == short


@pytest.mark.parametrize("batch_seconds", [0.5, 120])
def test_crops_lie_at_equal_distances_and_a_short_utterance_is_its_own(encoder, corpus, batch_seconds):
    crops = Crops(3, 0.6)
    found = embed_files(encoder, corpus, crops=crops, batch_seconds=batch_seconds)
    assert (
        found.matrix.shape == (len(corpus), 3, encoder.dim)
        and found.of == "3 crops of 0.6 s, mean of all pairs"
    )
    short = 0
    for utterance in corpus:
        wave = read(corpus.path(utterance))
        last = len(wave) - 9600  # samples: 0.6 s
        parts = [wave[s : s + 9600] for s in (0, last // 2, last)] if last > 0 else [wave] * 3
        short += last <= 0
        np.testing.assert_allclose(found[utterance.id], embed_waves(encoder, parts), rtol=1e-4, atol=1e-4)
    assert 0 < short < len(corpus)


def test_crops_that_make_no_sense_are_refused():
    for wrong in ((0, 4.0), (10, 0.0)):
        with pytest.raises(IdemvoxError, match="1 crop or more"):
            Crops(*wrong)


def test_bf16_is_close_and_float32(encoder, corpus):
    exact, rough = embed_files(encoder, corpus), embed_files(encoder, corpus, precision="bf16")
    assert rough.matrix.dtype == np.float32
    assert not np.array_equal(exact.matrix, rough.matrix)
    np.testing.assert_allclose(rough.matrix, exact.matrix, atol=0.1)


def test_errors_name_the_file(encoder, corpus, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    rows = [*corpus, replace(corpus[0], id="bad", path=str(tmp_path / "broken.wav"))]
    with pytest.raises(IdemvoxError, match=r"(?s)'bad'.*broken\.wav.*leave it out"):
        embed_files(encoder, Manifest(rows, corpus.root))
    write_wav(tmp_path / "short.wav", np.zeros(100))
    with pytest.raises(IdemvoxError, match=r"short\.wav.*too few"):
        embed_files(encoder, [tmp_path / "short.wav"])
    with pytest.raises(IdemvoxError, match="nothing to embed"):
        embed_files(encoder, [])
    with pytest.raises(IdemvoxError, match="precision"):
        embed_files(encoder, corpus, precision="fp16")
    with pytest.raises(IdemvoxError, match="above 0"):
        embed_files(encoder, corpus, batch_seconds=0)
    torch.nn.init.constant_(encoder.linear.bias, float("nan"))
    with pytest.raises(IdemvoxError, match=r"\.wav is NaN or infinite"):
        embed_files(encoder, corpus)


def test_a_wrong_length_in_the_manifest_does_no_harm(encoder, corpus):
    wrong = Manifest([replace(u, seconds=1.0) for u in corpus], corpus.root)
    np.testing.assert_allclose(
        embed_files(encoder, wrong, batch_seconds=4).matrix, embed_files(encoder, corpus).matrix, atol=1e-5
    )


def test_save_and_load(tmp_path):
    embeddings = Embeddings(("é/1.wav", "b"), np.arange(6, dtype=np.float32).reshape(2, 3))
    save_embeddings(embeddings, tmp_path / "e.npz")
    again = load_embeddings(tmp_path / "e.npz")
    assert again.ids == embeddings.ids and again["b"].tolist() == [3, 4, 5]
    np.testing.assert_array_equal(again.matrix, embeddings.matrix)
    assert [p.name for p in tmp_path.iterdir()] == ["e.npz"]
    with pytest.raises(IdemvoxError, match="no embedding of 'c'"):
        again["c"]
    np.savez(tmp_path / "pickled.npz", ids=np.array(["a", None], dtype=object), matrix=embeddings.matrix)
    (tmp_path / "text.npz").write_text("hello")
    for name in ("none.npz", "pickled.npz", "text.npz"):
        with pytest.raises(IdemvoxError, match=name):
            load_embeddings(tmp_path / name)


def test_embeddings_refuse_what_does_not_fit():
    for ids in (("a",), ("a", "a")):
        with pytest.raises(IdemvoxError, match="must all differ"):
            Embeddings(ids, np.zeros((2, 3), np.float32))


def test_a_part_of_a_file_is_embedded_alone(encoder, tmp_path):
    wave = 0.1 * np.random.default_rng(0).standard_normal(40_000)
    write_wav(tmp_path / "long.wav", wave)
    write_wav(tmp_path / "cut.wav", wave[16_000:32_000])
    write_wav(tmp_path / "first.wav", wave[:16_000])
    rows = [
        Utterance("part", "long.wav", 1.0, start=1.0),
        Utterance("beginning", "long.wav", 1.0, start=0.0),
        Utterance("whole", "long.wav", 2.5),
    ]
    parts = embed_files(encoder, Manifest(rows, tmp_path)).matrix
    files = embed_files(encoder, [tmp_path / n for n in ("cut.wav", "first.wav", "long.wav")]).matrix
    np.testing.assert_allclose(parts, files, atol=1e-5)
    brief = embed_files(encoder, Manifest(rows[:1], tmp_path), max_seconds=0.5).matrix
    expected = embed_files(encoder, [tmp_path / "cut.wav"], max_seconds=0.5).matrix
    np.testing.assert_allclose(brief, expected, atol=1e-5)


def test_whatever_is_called_like_an_encoder_is_one(encoder, corpus):
    """As a session of a runtime would be: a function of arrays."""
    expected = embed_files(encoder, corpus).matrix
    encoder.eval()

    def session(wave, lengths):
        assert wave.device.type == "cpu"
        with torch.no_grad():
            return encoder(torch.from_numpy(wave.numpy()), lengths).numpy()

    found = embed_files(session, corpus)
    assert found.matrix.dtype == np.float32 and found.ids == tuple(u.id for u in corpus)
    np.testing.assert_array_equal(found.matrix, expected)


def test_an_encoder_is_not_moved_to_where_it_is(encoder, monkeypatch):
    """Moving takes an LSTM's weights apart for a moment, while another thread may be using them."""
    moved = []
    monkeypatch.setattr(type(encoder), "_apply", lambda self, *_, **__: moved.append(self) or self)
    for device in (None, "cpu", torch.device("cpu")):
        embed_waves(encoder, [np.zeros(8000, np.float32)], device=device)
    assert not moved
