"""Several processes embed as one does, and one that is killed or fails is no loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idemvox.corpus.manifest import Manifest, save_manifest
from idemvox.errors import AudioError
from idemvox.launch import run_on
from idemvox.model import build_encoder, load_model, save_model
from idemvox.recipe import Part
from idemvox.verification.drawing import make_trials
from idemvox.verification.embed import EmbeddingCache, embed_files, load_embeddings
from idemvox.verification.embed_folder import embed_folder
from idemvox.verification.report import load_report
from idemvox.verification.trials import save_trials

pytestmark = pytest.mark.slow

BATCH = 2.0
"""Seconds in a batch, here and in the scripts: several batches for each process."""

ONE_OF_TWO = """
import sys
from pathlib import Path
import numpy as np
import torch
from torch import distributed
from idemvox.corpus.manifest import load_manifest
from idemvox.model import load_model
from idemvox.verification.embed import EmbeddingCache, embed_shared

torch.set_num_threads(1)
rank, folder, manifests = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
model = load_model(folder / "model")
cache = EmbeddingCache.of(model, folder / "cache")
for manifest in map(Path, manifests):
    for name, kept in (("plain", None), ("cold", cache), ("warm", cache)):
        source = load_manifest(manifest)
        found = embed_shared(model.encoder, source, cache=kept, batch_seconds=2.0)
        assert (found is None) == (rank == 1)
        if found is not None:
            np.save(folder / f"{manifest.stem}-{name}.npy", found.matrix)
distributed.destroy_process_group()
"""

KILLED = """
import os, signal, sys
from idemvox.cli import app
from idemvox.verification.embedding import table
from idemvox.verification import embed

table.COMMIT_BYTES, kill, real = 1, int(sys.argv.pop(1)), embed.embed_waves

def counted(*args, **how):
    global kill
    kill -= 1
    if kill < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **how)

embed.embed_waves = counted
real_batches = embed.batches_of
embed.batches_of = lambda jobs, seconds: real_batches(jobs, 2.0)
app()
"""


@pytest.fixture
def home(corpus, tmp_path) -> Path:
    """A folder with a model, two manifests, and one in which the audio of one process's share is missing."""
    part = Part(name="fast_resnet34", channels=[4, 4, 8, 8], dim=6)
    torch.manual_seed(0)
    encoder = build_encoder(part, {"mels": 20})
    save_model(tmp_path / "model", encoder, part, {"mels": 20}, {}, scoring="cosine")
    save_manifest(corpus, tmp_path / "all.csv")
    save_manifest(corpus[:1], tmp_path / "one.csv")  # the second process has nothing to do
    save_trials(make_trials(corpus, "any"), tmp_path / "trials.txt")
    return tmp_path


def both(home: Path, *manifests: str) -> list[tuple[int, str]]:
    """Run two processes that embed manifests together; return how each ended and what it said."""
    names = [str(home / name) for name in manifests]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, str(rank), str(home), *names],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def idemvox(*arguments: object, before: tuple[str, ...] = ("-m", "idemvox.cli")) -> str:
    """Run a command that should succeed; return what it printed."""
    done = subprocess.run(
        [sys.executable, *before, *map(str, arguments), "-q"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_embed_as_one(home, corpus):
    assert both(home, "all.csv", "one.csv") == [(0, ""), (0, "")]
    model = load_model(home / "model")
    expected = embed_files(model.encoder, corpus, batch_seconds=BATCH).matrix
    for name in ("plain", "cold", "warm"):
        np.testing.assert_array_equal(np.load(home / f"all-{name}.npy"), expected)
        np.testing.assert_allclose(np.load(home / f"one-{name}.npy"), expected[:1], atol=1e-5)


@pytest.mark.parametrize("wrong", [0, -1], ids=["first", "second"])
def test_a_process_that_fails_ends_the_other(home, corpus, wrong):
    order = sorted(corpus, key=lambda u: -u.seconds)
    broken = order[0].id if wrong == 0 else order[-1].id
    (home / "broken.wav").write_bytes(b"not audio")
    rows = [replace(u, path="broken.wav") if u.id == broken else u for u in Manifest(corpus, corpus.root)]
    rows = [u if u.id == broken else replace(u, path=str(corpus.path(u))) for u in rows]
    save_manifest(Manifest(rows, home), home / "broken.csv")
    ended = both(home, "broken.csv")
    assert [code != 0 for code, _ in ended] == [True, True]
    assert any(f"cannot embed '{broken}'" in said for _, said in ended)
    assert any("another process of this command has stopped" in said for _, said in ended)


def test_devices_and_torchrun_write_what_one_process_writes(home):
    embed = ("embed", home / "model", home / "all.csv")
    said = idemvox(*embed, "--out", home / "one")
    assert f"16 embeddings of 6 numbers, to compare by cosine: {home / 'one'}" in said
    assert idemvox(*embed, "--out", home / "devices", "--devices", 2).count("16 embeddings") == 1
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--log-dir", str(home / "logs"))
    torchrun = (*torchrun, "-m", "idemvox.cli")
    assert idemvox(*embed, "--out", home / "torchrun", before=torchrun).count("16 embeddings") == 1
    for name in ("devices", "torchrun"):
        for file in ("matrix.npy", "ids.txt"):
            assert (home / name / file).read_bytes() == (home / "one" / file).read_bytes()


def test_evaluation_by_two_processes_keeps_what_it_embeds(home):
    command = ("evaluate", home / "model", home / "trials.txt", "--manifest", home / "all.csv")
    command = (*command, "--against", home / "model")
    alone = idemvox(*command)
    report = load_report(home / "model")
    shared = idemvox(*command, "--devices", 2, "--cache", home / "kept")
    again = replace(load_report(home / "model"), date=report.date, command=report.command)
    assert shared == alone and again == report
    model = load_model(home / "model")
    table = EmbeddingCache.of(model, home / "kept").table("whole utterances", "cpu")
    assert len(table) == 16


def test_the_error_of_a_process_is_the_error_of_all(home):
    with pytest.raises(AudioError, match=r"cannot read .*none\.wav"):
        run_on(2, NoAudio(home), gpus=False)


class NoAudio:
    """Embeds a file that is not there, in one of two processes."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self) -> None:
        from idemvox import ranks

        if ranks.rank() == 1:
            embed_files(load_model(self.home / "model").encoder, [self.home / "none.wav"])
        ranks.collect(torch.zeros(1))


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_kill_nine_after_any_batch_changes_nothing(home, corpus):
    words = ["embed", str(home / "model"), str(home / "all.csv"), "--out", str(home / "killed"), "-q"]

    def ended(batches: int) -> int:
        script = [sys.executable, "-c", KILLED, str(batches), *words]
        return subprocess.run(script, timeout=120, capture_output=True).returncode

    for batches in (1, 2):
        assert ended(batches) == -signal.SIGKILL
        done = list((home / "killed" / "parts").rglob("*.safetensors"))
        assert len(done) == (1 if batches == 1 else 3)
    assert ended(1000) == 0
    whole = embed_folder(load_model(home / "model"), corpus, home / "whole", batch_seconds=BATCH)
    assert load_embeddings(home / "killed").ids == whole.ids
    assert (home / "killed" / "matrix.npy").read_bytes() == (home / "whole" / "matrix.npy").read_bytes()
    assert sorted(p.name for p in (home / "killed").iterdir()) == ["embeddings.json", "ids.txt", "matrix.npy"]
