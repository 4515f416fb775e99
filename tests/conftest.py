"""A tiny corpus of voice-like recordings, and a recipe that trains on it in a second."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from idemvox.audio.read import SAMPLE_RATE, write_wav
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.recipe import Recipe, parse_recipe
from idemvox.registry import ENCODERS, FRAMEWORKS, POSITIVES

SPEAKERS, RECORDINGS, UTTERANCES = 6, 2, 2

THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
"""Of every test and of what it starts: sums of another number of threads have other bits."""
os.environ["MKL_NUM_THREADS"] = str(THREADS)  # as torch.set_num_threads sets it here, in what tests start

for size in ("COLUMNS", "LINES"):  # readline may have set them; a test says itself how wide output is
    os.environ.pop(size, None)

TEMPORARY = Path(tempfile.mkdtemp(prefix="idemvox-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
"""The temporary folder of tests and of what they start; pytest's own is where it always is."""
Finalize(None, shutil.rmtree, (TEMPORARY,), exitpriority=-200)  # after multiprocessing's own folder in it

os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
os.environ["TMPDIR"] = tempfile.tempdir = str(TEMPORARY)
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no processes that would stay
os.fsync = lambda file: None  # a test cannot cut the power, and disks are slow
os.environ.pop("IDEMVOX_CACHE", None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.load_profile("same")  # the same examples in every run, however long they take


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start every test with the same threads and random state, before its fixtures."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove pytest's temporary folder if it is empty."""
    with suppress(OSError):  # it keeps those of tests that failed
        Path(os.environ["PYTEST_DEBUG_TEMPROOT"], f"pytest-of-{getpass.getuser()}").rmdir()


def started() -> list[str]:
    """Return the commands of running processes that tests started, on systems with /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(f"TMPDIR={TEMPORARY}") in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    helpers = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")  # which end as pytest does
    return [command for command in found if not any(name in command for name in helpers)]


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves something in the temporary folder, or a process running."""
    yield
    until_the_end = ("pymp-", "torchinductor_")  # of multiprocessing, and of torch.compile
    left = [path.name for path in TEMPORARY.iterdir() if not path.name.startswith(until_the_end)]
    for name in left:
        path = TEMPORARY / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    end = time.monotonic() + 10
    while (running := started()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left and not running


@pytest.fixture
def float64() -> Iterator[None]:
    """Build modules and compute in float64, also where the code asks for float32 rather than bfloat16.

    Two ways of computing that differ by rounding alone then hardly differ, on every processor and
    after any number of steps. In float32, rounding errors grow from step to step. Augmentation is computed by
    NumPy in float32. If its rounding may differ too, leave it out (``augment.policy=none``).
    """
    real = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    yield
    torch.set_default_dtype(torch.float32)
    torch.Tensor.float = real  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True)
class TinyCorpus:
    """Paths of the tiny corpus: manifests with and without labels, and folders to augment from.

    ``prior`` holds a random embedding of each utterance. In ``recorded`` and ``recorded_labelled`` no two
    speakers' recordings share a name; the first knows no speaker.
    """

    labelled: Path
    unlabelled: Path
    recorded: Path
    recorded_labelled: Path
    banks: Path
    prior: Path

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.labelled)


def voice(
    rng: np.random.Generator, pitch: float, formants: np.ndarray, hiss: float, seconds: float
) -> np.ndarray:
    """Harmonics of a wavering pitch under the speaker's formants, in syllables, with the recording's hiss."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = (
        2
        * np.pi
        * np.cumsum(pitch * (1 + 0.03 * np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6))))
        / SAMPLE_RATE
    )
    wave = np.zeros_like(time)
    for n in range(1, int(3800 / pitch)):
        gain = sum(np.exp(-(((n * pitch - f) / 200) ** 2)) for f in formants) + 0.02
        wave += gain * np.sin(n * phase)
    wave *= 0.3 + 0.7 * np.abs(np.sin(2 * np.pi * 2 * time + rng.uniform(0, 6)))
    return 0.3 * wave / np.abs(wave).max() + hiss * rng.standard_normal(len(time))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Write 6 speakers x 2 recordings x 2 utterances of 2.2 to 3 s, and small banks of noises and rooms."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(7)
    rows = []
    for s in range(SPEAKERS):
        formants = rng.uniform([300, 1000, 2200], [800, 2000, 3200])
        for r in range(RECORDINGS):
            for u in range(UTTERANCES):
                path, seconds = f"s{s}/r{r}/{u}.wav", float(np.round(rng.uniform(2.2, 3.0), 3))
                write_wav(root / path, voice(rng, 90 + 25 * s, formants, 0.005 * (1 + 3 * r), seconds))
                rows.append(Utterance(f"s{s}r{r}u{u}", path, seconds, speaker=f"s{s}", recording=f"r{r}"))
    manifest = Manifest(rows, root)
    save_manifest(manifest, root / "labelled.csv")
    save_manifest(manifest.without_labels(), root / "unlabelled.csv")
    apart = [replace(u, recording=f"{u.speaker}{u.recording}") for u in rows]
    save_manifest(Manifest(apart, root), root / "recorded_labelled.csv")
    save_manifest(Manifest([replace(u, speaker=None) for u in apart], root), root / "recorded.csv")
    banks = root / "banks"
    for n in range(3):
        write_wav(banks / "noise" / f"{n}.wav", 0.1 * rng.standard_normal(SAMPLE_RATE))
        decay = np.exp(-np.arange(4800) / (300 * (n + 1)))
        write_wav(banks / "rooms" / f"{n}.wav", np.r_[0.9, 0.2 * rng.standard_normal(4799)] * decay)
    names = ("labelled", "unlabelled", "recorded", "recorded_labelled")
    np.save(root / "prior.npy", rng.standard_normal((len(rows), 5)))
    return TinyCorpus(*(root / f"{name}.csv" for name in names), banks, root / "prior.npy")


@pytest.fixture(scope="session")
def tiny_recipe(corpus: TinyCorpus) -> Callable[..., Recipe]:
    """Return ``make(*assignments, labelled=False, encoder=..., framework=..., positives=...)``."""

    def make(
        *assignments: str,
        labelled: bool = False,
        encoder: str = "fast_resnet34",
        framework: str = "simclr",
        positives: str = "same",
    ) -> Recipe:
        prior = {"embeddings": str(corpus.prior)} if positives == "gps" else {}
        tree: dict[str, Any] = {
            "name": "tiny",
            "seed": 3,
            "data": {"manifest": str(corpus.labelled if labelled else corpus.unlabelled)},
            "frontend": {"mels": 20},
            "encoder": {"name": encoder, **ENCODERS[encoder].tiny},
            "framework": {"name": framework, **FRAMEWORKS[framework].tiny},
            "positives": {"name": positives, **POSITIVES[positives].tiny, **prior},
            "augment": {"noise": str(corpus.banks / "noise"), "rooms": str(corpus.banks / "rooms")},
            "training": {"epochs": 2, "batch": 8, "workers": 0, "device": "cpu"},
        }
        return parse_recipe(tree).override(assignments)

    return make
