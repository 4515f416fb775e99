"""What works without torch: everything that uses an exported model."""

from __future__ import annotations

import os
import subprocess
import sys

NEEDED = (
    "idemvox.cli",
    "idemvox.cli.calibrate",
    "idemvox.cli.decide",
    "idemvox.cli.serve",
    "idemvox.cli.embed",
    "idemvox.cli.evaluate",
    "idemvox.cli.export",
    "idemvox.cli.speakers",
    "idemvox.model",
    "idemvox.service.app",
    "idemvox.service.run",
    "idemvox.verification.certificate",
    "idemvox.verification.embed",
    "idemvox.verification.embed_folder",
    "idemvox.verification.evaluation",
    "idemvox.verifier.calibrating",
    "idemvox.verifier.identification",
    "idemvox.verifier.pairs",
    "idemvox.verifier.transfer",
    "idemvox.verifier.verifier",
)
ABSENT = "import sys\nsys.modules |= dict.fromkeys(('torch', 'lightning_fabric', 'tensorboard'))\n"
"""An import of a module that is None in ``sys.modules`` fails as if it was not installed."""


def without_torch(code: str) -> str:
    """Run code in a process that cannot import torch; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", ABSENT + code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_way_from_a_recording_to_a_verdict_imports_no_torch():
    imports = "".join(f"import {name}\n" for name in NEEDED)
    assert "Verifier" in without_torch(imports + "from idemvox import Verifier\nprint(Verifier)")


EMBED = """
import numpy as np
from idemvox.audio.read import write_wav
from idemvox.verification.embed import EmbeddingCache, embed_shared
from idemvox.verification.embedding import waves
waves.OnnxEncoder = Spectrum = type("Spectrum", (), {"__call__": lambda self, wave, lengths: wave[:, :4]})
write_wav("a.wav", 0.1 * np.random.default_rng(0).normal(size=8000))
cache = EmbeddingCache(__import__("pathlib").Path("cache"), "model")
for _ in range(2):
    print(embed_shared(Spectrum(), ["a.wav"], cache=cache).matrix.shape)
"""


def test_an_exported_model_embeds_into_a_cache_without_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_torch(EMBED) == "(1, 4)\n(1, 4)\n"
