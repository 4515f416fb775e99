"""Embeddings that are kept on disk: found again, resumed, mapped."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idemvox.audio.read import write_wav
from idemvox.corpus.manifest import Manifest
from idemvox.encoders.base import Encoder
from idemvox.errors import AudioError, IdemvoxError
from idemvox.model import build_encoder, load_model, save_model
from idemvox.recipe import Part
from idemvox.verification.embed import (
    Crops,
    EmbeddingCache,
    Embeddings,
    embed_files,
    load_embeddings,
    save_embeddings,
)
from idemvox.verification.embed_folder import embed_folder
from idemvox.verification.embedding import cache as cache_module
from idemvox.verification.embedding import table as table_module
from idemvox.verification.embedding.group import Group
from idemvox.verification.embedding.kept import OnDisk, assembled
from idemvox.verification.embedding.table import Table
from idemvox.verification.fitting import BackEndOptions, fit_model_backend
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials

BATCH = 2.0
"""Seconds in a batch: several utterances in each of several batches."""


@pytest.fixture
def own(corpus, tmp_path) -> Manifest:
    """A copy of the corpus whose files were last changed long ago."""
    shutil.copytree(corpus.root, tmp_path / "audio")
    for path in (tmp_path / "audio").rglob("*.wav"):
        os.utime(path, (1e9, 1e9))
    return Manifest(corpus, tmp_path / "audio")


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", "a model")


def embedded(encoder, source, cache, **how) -> tuple[Embeddings, int]:
    """Return the embeddings and how many utterances the encoder was given for them."""
    encoder.batches.clear()
    found = embed_files(encoder, source, cache=cache, batch_seconds=BATCH, **how)
    return found, sum(shape[0] for shape in encoder.batches)


def test_with_a_cache_the_bits_are_the_same_and_the_second_time_nothing_is_embedded(encoder, own, cache):
    plain, _ = embedded(encoder, own, None)
    for expected in (len(own), 0):
        found, count = embedded(encoder, own, cache)
        assert (found.ids, found.of, count) == (plain.ids, plain.of, expected)
        np.testing.assert_array_equal(found.matrix, plain.matrix)
    again = Embeddings(found.ids, found.matrix)  # it outlives its name on the disk
    np.testing.assert_array_equal(again[own[3].id], plain[own[3].id])


def test_the_same_audio_is_found_under_other_names_and_in_other_places(encoder, own, cache, tmp_path):
    first, _ = embedded(encoder, own, cache)
    shutil.copytree(own.root, tmp_path / "moved")
    moved = Manifest([replace(u, id=f"x{u.id}") for u in reversed(own)], tmp_path / "moved")
    found, count = embedded(encoder, moved, cache)
    assert count == 0 and found.ids == tuple(f"x{u.id}" for u in reversed(own))
    np.testing.assert_array_equal(found.matrix, first.matrix[::-1])


def test_what_changes_an_embedding_is_embedded_anew(encoder, own, cache, monkeypatch):
    embedded(encoder, own, cache)
    assert embedded(encoder, own, replace(cache, model="another"))[1] == len(own)
    assert embedded(encoder, own, cache, max_seconds=0.5)[1] == len(own)
    assert embedded(encoder, own, cache, precision="bf16")[1] == len(own)
    found, count = embedded(encoder, own, cache, crops=Crops(2, 0.4))
    assert count > len(own) and found.matrix.shape == (len(own), 2, encoder.dim)
    again, count = embedded(encoder, own, cache, crops=Crops(2, 0.4))
    assert count == 0
    np.testing.assert_array_equal(again.matrix, found.matrix)
    part = Manifest([replace(own[0], start=0.1, seconds=0.2)], own.root)
    assert embedded(encoder, part, cache)[1] == 1
    write_wav(own.path(own[2]), np.random.default_rng(1).uniform(-0.5, 0.5, 9000))
    found, count = embedded(encoder, own, cache)
    assert count == 1
    np.testing.assert_allclose(found.matrix, embedded(encoder, own, None)[0].matrix, atol=1e-5)
    monkeypatch.setattr(cache_module, "_code", lambda: "edited")
    assert embedded(encoder, own, cache)[1] == len(own)


def test_an_unchanged_file_is_read_once_and_one_that_has_just_changed_again(encoder, own, cache, monkeypatch):
    real, read = cache_module._content, []
    monkeypatch.setattr(cache_module, "_content", lambda path: (read.append(path), real(path))[1])
    new = os.fspath(own.path(own[5]))
    os.utime(new, (2e11, 2e11))  # in the future: as if this very moment
    embedded(encoder, own, cache)
    assert len(read) == len(own)
    read.clear()
    assert embedded(encoder, own, cache)[1] == 0 and read == [new]
    read.clear()
    assert embedded(encoder, own, replace(cache, by_content=False))[1] == len(own) and not read


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("batches", [1, 3])
def test_a_stopped_run_resumes_and_ends_with_the_same_bits(encoder, own, cache, batches, monkeypatch):
    """Also where files have the same content; the batches must not depend on what was done before."""
    names = sorted(path.relative_to(own.root).as_posix() for path in own.root.rglob("*.wav"))
    for name in names[:5]:
        shutil.copy2(own.root / name, own.root / f"copy-{Path(name).name}-{name[1]}{name[4]}.wav")
    copies = [
        replace(u, id=f"copy {u.id}", path=f"copy-{Path(u.path).name}-{u.path[1]}{u.path[4]}.wav")
        for u in own
        if u.path in names[:5]
    ]
    source = Manifest([*own, *copies], own.root)
    whole, count = embedded(encoder, source, replace(cache, folder=cache.folder / "whole"))
    assert count == len(own)  # each content once
    forward = type(encoder).forward

    def failing(self, wave, lengths=None):
        if len(self.batches) == batches:
            raise Interrupted
        return forward(self, wave, lengths)

    with monkeypatch.context() as patch:
        patch.setattr(type(encoder), "forward", failing)
        with pytest.raises(Interrupted):
            embedded(encoder, source, cache)
    resumed, rest = embedded(encoder, source, cache)
    assert 0 < rest < len(own)
    np.testing.assert_array_equal(resumed.matrix, whole.matrix)
    for copy in copies:
        np.testing.assert_array_equal(resumed[copy.id], resumed[copy.id.removeprefix("copy ")])


def test_errors_name_the_file(encoder, own, cache):
    missing = Manifest([*own, replace(own[0], id="x", path="none.wav")], own.root)
    with pytest.raises(AudioError, match=r"none\.wav: No such file.*leave it out"):
        embedded(encoder, missing, cache)
    embedded(encoder, own, cache)
    for path in cache.folder.rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    with pytest.raises(IdemvoxError, match=r"safetensors is damaged .*delete it"):
        embedded(encoder, own, cache)


def test_an_unfinished_file_is_ignored_and_one_of_long_ago_removed(encoder, own, cache):
    embedded(encoder, own, cache)
    folder = next(path for path in cache.folder.iterdir() if path.name != "files")
    for name, when in ((".old.safetensors.x.part", 1e9), (".new.safetensors.x.part", 2e11)):
        (folder / name).write_bytes(b"begun")
        os.utime(folder / name, (when, when))
    assert embedded(encoder, own, cache)[1] == 0
    assert [path.name for path in folder.glob(".*")] == [".new.safetensors.x.part"]


# -- the table --------------------------------------------------------------------------------


def test_a_table_is_a_dictionary_to_which_two_writers_add(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "COMMIT_BYTES", 400)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (300, 16), np.uint8)
    keys[1] = [*keys[0][:15], keys[0][15] ^ 1]  # alike in the first half
    rows = rng.normal(size=(300, 3)).astype(np.float32)
    writers = Table(tmp_path / "t"), Table(tmp_path / "t")
    for number in range(2, 250):
        writers[number % 2].add(keys[number : number + 1], rows[number : number + 1])
    for writer in writers:
        writer.flush()
    writers[0].load()
    dictionary = {keys[n].tobytes(): rows[n] for n in range(2, 250)}
    order = rng.permutation(300)
    places = writers[0].find(keys[order])
    assert [place >= 0 for place in places] == [keys[n].tobytes() in dictionary for n in order]
    asked = order[places >= 0]
    found = np.zeros((len(asked), 3), np.float32)
    for which, some in writers[0].rows(places[places >= 0]):
        found[which] = some
    np.testing.assert_array_equal(found, rows[asked])
    assert len(writers[0]) == 248 and len(list((tmp_path / "t").iterdir())) > 4


# -- memory -----------------------------------------------------------------------------------


def peak_of(work) -> int:
    """Return the most bytes that ``work`` had at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_matrix_is_never_whole_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "COMMIT_BYTES", 1 << 19)
    rng, size = np.random.default_rng(0), (8000, 512)  # 16 MB
    keys = rng.integers(0, 256, (size[0], 16), np.uint8)
    matrices = []

    def work() -> None:
        kept = OnDisk(Table(tmp_path / "t"), keys)
        for start in range(0, size[0], 50):
            rows = np.arange(start, start + 50)
            kept.add(rows, np.repeat(rows[:, None], size[1], axis=1).astype(np.float32))
        matrix = assembled(kept, np.arange(size[0]), Group())
        save_embeddings(Embeddings(tuple(map(str, range(size[0]))), matrix), tmp_path / "out")
        matrices.append(load_embeddings(tmp_path / "out").matrix)

    assert peak_of(work) < 4 * np.prod(size) / 2
    assert not list((tmp_path / "t").glob("tmp*"))
    np.testing.assert_array_equal(matrices[0][:, 7], np.arange(size[0]))


@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
def test_a_scorer_reads_only_the_rows_of_the_trials(tmp_path, compare):
    count = 100_000
    matrix = np.asarray(np.memmap(tmp_path / "m", np.float32, "w+", shape=(count, 512)))  # a hole of 200 MB
    matrix[::1000] = np.random.default_rng(0).normal(size=(100, 512))
    ids = tuple(map(str, range(count)))
    embeddings = Embeddings(ids, matrix)
    pairs = np.arange(100, dtype=np.int32).reshape(2, 50)
    trials = Trials("few", ids[::1000], np.arange(50) % 2 == 0, *pairs)
    scores = []
    assert peak_of(lambda: scores.append(Scorer(compare).scores(embeddings, trials))) < 4e6
    few = Embeddings(ids[::1000], matrix[::1000].copy())
    np.testing.assert_array_equal(scores[0], Scorer(compare).scores(few, trials))


# -- folders ----------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    part = Part(name="fast_resnet34", channels=[4, 4, 8, 8], dim=6)
    torch.manual_seed(0)
    encoder = build_encoder(part, {"mels": 20})
    save_model(tmp_path / "model", encoder, part, {"mels": 20}, {}, scoring="cosine")
    return load_model(tmp_path / "model")


def test_a_folder_is_written_once_resumed_and_mapped(model, own, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    expected = embed_files(model.encoder, own)
    found = embed_folder(model, own, folder, command="idemvox embed x")
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert found.ids == expected.ids and not found.matrix.flags.owndata
    assert sorted(path.name for path in folder.iterdir()) == ["embeddings.json", "ids.txt", "matrix.npy"]
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "__call__", None)  # it is there already
        np.testing.assert_array_equal(embed_folder(model, own, folder).matrix, expected.matrix)
    for cut in (["embeddings.json"], ["embeddings.json", "ids.txt", "matrix.npy"]):
        for name in cut:  # killed while it wrote them
            (folder / name).unlink()
        (folder / ".matrix.npy.abc.part").write_bytes(b"begun")
        embed_folder(model, own, folder, command="idemvox embed x")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    with pytest.raises(IdemvoxError, match="another model, list or kind: give another folder"):
        embed_folder(model, own[:3], folder)
    with pytest.raises(IdemvoxError, match="holds other files"):
        embed_folder(model, own, own.root)


def test_ids_of_any_kind_survive_a_folder(tmp_path):
    ids = ("é/1.wav", "a\nb", "c\\n", "d\r", "")
    embeddings = Embeddings(ids, np.arange(15, dtype=np.float32).reshape(5, 3), "the first 2 s")
    save_embeddings(embeddings, tmp_path / "e")
    again = load_embeddings(tmp_path / "e")
    assert (again.ids, again.of) == (ids, "the first 2 s")
    np.testing.assert_array_equal(again.matrix, embeddings.matrix)
    (tmp_path / "e" / "ids.txt").write_text("too\nfew\n")
    with pytest.raises(IdemvoxError, match=r"cannot read embeddings from .*write them again"):
        load_embeddings(tmp_path / "e")


def test_a_back_end_is_fitted_from_the_cache(model, own, tmp_path, monkeypatch):
    cache = EmbeddingCache.of(model, tmp_path / "cache")
    plain = fit_model_backend(model, [own], BackEndOptions("s-norm"))
    fit_model_backend(model, [own], BackEndOptions("s-norm"), cache=cache)
    monkeypatch.setattr(Encoder, "__call__", None)
    again = fit_model_backend(model, [own], BackEndOptions("s-norm"), cache=cache)
    np.testing.assert_array_equal(again.mean, plain.mean)
    np.testing.assert_array_equal(again.cohort.vectors, plain.cohort.vectors)
