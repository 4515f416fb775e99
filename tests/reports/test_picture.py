"""The t-SNE picture."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from idemvox.errors import IdemvoxError
from idemvox.reports.picture import tsne_picture


def panel(title, speakers, recordings, each=3, dim=8):
    rng = np.random.default_rng(0)
    who = [f"speaker {s}" for s in range(speakers) for _ in range(recordings * each)]
    what = [f"{s}-{r}" for s in range(speakers) for r in range(recordings) for _ in range(each)]
    centres = {s: rng.normal(size=dim) for s in who}
    return title, np.stack([centres[s] + 0.3 * rng.normal(size=dim) for s in who]), who, what


def test_picture_is_a_png_as_wide_as_its_panels_and_repeatable(tmp_path):
    pytest.importorskip("sklearn")
    image = pytest.importorskip("matplotlib.image")
    panels = [panel("before", 3, 2), panel("after", 3, 2)]
    first = tsne_picture(panels, tmp_path / "two.png")
    again = tsne_picture(panels, tmp_path / "again.png")
    assert first.read_bytes() == again.read_bytes()
    pixels = image.imread(first)
    assert pixels.shape[1] > 1.5 * pixels.shape[0] and pixels.std() > 0.02
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "two.png"]


@pytest.mark.parametrize(
    ("panels", "says"),
    [
        ([], "at least one panel"),
        ([panel("many", 21, 1)], "at most 20"),
        ([panel("many", 1, 11)], "at most 10"),
        ([("few", np.ones((2, 3)), ["a", "b"], ["1", "2"])], "at least 4"),
        ([("uneven", np.ones((5, 3)), ["a"] * 5, ["1"] * 4)], "5, 5 and 4"),
    ],
)
def test_refuses(tmp_path, panels, says):
    with pytest.raises(IdemvoxError, match=says):
        tsne_picture(panels, tmp_path / "x.png")


def test_missing_packages_name_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError("No module named 'sklearn'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(IdemvoxError, match=r"idemvox\[plots\]"):
        tsne_picture([panel("one", 2, 2)], tmp_path / "x.png")
