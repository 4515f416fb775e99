"""benchmarks/iterate.py: every system of the study is trained and has its row."""

from __future__ import annotations

from pathlib import Path

import pytest

from idemvox.corpus.manifest import save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.studies.jobs import TestSet
from idemvox.verification.drawing import make_trials

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = (
    *("encoder.channels=16", "encoder.mfa_channels=16", "encoder.dim=8", "frontend.mels=20"),
    *("framework.seconds=0.2", "augment.policy=none"),
    *("training.batch=8", "training.precision=fp32", "training.workers=0", "training.device=cpu"),
)


@pytest.mark.slow
def test_a_tiny_study_has_a_row_for_every_system_and_round(corpus, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import iterate
    import ssps_gain

    save_manifest(corpus.manifest, tmp_path / "learn.csv")
    pack(tmp_path / "learn.csv", tmp_path / "pack", progress=False)
    trials = make_trials(corpus.manifest, "any", targets=20, seed=0)
    data = ssps_gain.Data(
        tmp_path / "pack", 24, 12, (TestSet.make(trials, corpus.labelled, tmp_path / "tests"),)
    )
    rows = iterate.study("mild", data, tmp_path / "out", [0], 1, TINY, 0.01)
    known = {row["system"]: row.get("known", "") for row in rows}
    assert list(known) == [
        *("simclr", "simclr-ssps-agglomerative", "simclr-supervised", "supervised-aam"),
        *("plain, round 1", "lgl, round 1", "dlg-lc, round 1"),
    ]
    assert known["supervised-aam"] == known["simclr-supervised"] == "speakers"
    assert not known["simclr"] and known["lgl, round 1"].startswith("pseudo-speakers of simclr-ssps")
    assert all("purity" in row for row in rows if "round" in row["system"])
