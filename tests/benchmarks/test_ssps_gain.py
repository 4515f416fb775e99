"""benchmarks/ssps_gain.py: its recipes are whole, and its tables count what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from idemvox.registry import FRAMEWORKS

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
FAMILIES = ("simclr", "cel", "dino", "simclr-unaugmented", "grid")


@pytest.fixture
def gain(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import ssps_gain

    return ssps_gain


def jobs(gain, corpus: str, folder: Path, family: str = "simclr"):
    """Return the base and the systems of a corpus of the size of `mild`."""
    return gain.jobs(corpus, gain.Data(Path("pack"), 5000, 875, ()), folder, [1], (), family=family)


def test_these_are_all_families(gain):
    assert set(FAMILIES) == set(gain.FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_system_of_a_family_continues_one_base_at_the_same_rates(gain, family, tmp_path):
    base, *systems = jobs(gain, "mild", tmp_path, family)
    assert len(systems) == len(gain.FAMILIES[family].ways)
    for job in systems:
        assert job.recipe.start_from == base.folder
        for part in ("encoder", "framework", "augment", "training"):
            assert getattr(job.recipe, part) == getattr(systems[0].recipe, part)
        assert job.recipe.framework == base.recipe.framework
        options = FRAMEWORKS[job.recipe.framework.name].Options
        job.recipe.framework.build(options, "framework")  # no option is misspelt


@pytest.mark.parametrize("corpus", ["mild", "dense"])
def test_the_rate_is_4e_4_for_one_half_of_the_further_epochs_and_2e_4_for_the_other(gain, corpus, tmp_path):
    base, simclr, *_ = jobs(gain, corpus, tmp_path)
    rate, done = simclr.recipe.training, base.recipe.training.epochs
    rates = [rate.lr * rate.lr_decay ** ((done + n) // rate.lr_every) for n in range(rate.epochs)]
    half = rate.epochs // 2
    assert rates == pytest.approx([4e-4] * half + [2e-4] * half)


def test_the_change_is_that_of_the_mean_over_seeds(gain):
    def record(its: float, control: float) -> dict[str, Any]:
        def system(eer: float) -> dict[str, Any]:
            channel = {"probe": 0.5, "same_recording": 0.9, "other_recording": 0.5, "other_speaker": 0.1}
            return {"tests": {"dev": {"eer": eer, "channel": channel, "draws": [eer, 2 * eer]}}, "known": []}

        return {"systems": {"simclr": system(control), "simclr-ssps": system(its)}}

    control, ssps = gain.rows_of([record(0.08, 0.10), record(0.10, 0.14)], "simclr")
    assert control["change"] == ""
    assert ssps["eer"] == [0.08, 0.10]
    assert ssps["change"] == "-25.0 % (-25.0 to -25.0)"  # 0.09 against 0.12, in every draw
