"""The wheel, as after `pip install idemvox`: alone, outside the checkout, from audio to a verdict."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from idemvox.recipes import recipe_names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(*words: object, cwd: Path, status: int = 0) -> str:
    """Return what a command printed; nothing of this checkout is on its path."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(w) for w in words], cwd=cwd, env=clean | {"COLUMNS": "160"}, capture_output=True, text=True
    )
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of a new environment with the wheel, which finds its dependencies in this environment.

    A folder added by a .pth file has its own .pth files ignored, so an editable idemvox stays out of reach.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    run(*build, cwd=ROOT)
    (wheel,) = folder.glob("idemvox-*.whl")
    venv.create(folder / "new", symlinks=os.name != "nt", with_pip=False)
    programs = folder / "new" / ("Scripts" if os.name == "nt" else "bin")
    python = programs / Path(sys.executable).name
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(ours)) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", wheel, cwd=folder)
    found = run(python, "-c", "import idemvox; print(idemvox.__file__)", cwd=folder).strip()
    assert Path(found) == packages / "idemvox" / "__init__.py"
    assert (packages / "idemvox" / "py.typed").is_file()
    assert sorted(f.stem for f in (packages / "idemvox" / "recipes").glob("*.yaml")) == recipe_names()
    return programs


def test_wheel_and_source_pass_the_check_of_the_registry(tmp_path):
    """What `make dist` builds: the description renders, and the source holds what its tests and docs need."""
    check = pytest.importorskip("twine.commands.check", reason="this test needs twine: pip install '.[dev]'")
    run(sys.executable, "-m", "hatchling", "build", "--directory", tmp_path, cwd=ROOT)
    (wheel,), (packed,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert check.check([str(wheel), str(packed)], strict=True) is False  # whether any failed
    with tarfile.open(packed) as source:
        held = {name.partition("/")[2] for name in source.getnames()}
    assert {"mkdocs.yml", "docs/index.md", "tests/conftest.py", "CITATION.cff", "CHANGELOG.md"} <= held


def test_from_audio_to_a_verdict(installed, corpus, tmp_path):
    """Prepare, train by the name of a recipe, evaluate, verify; in a folder that only has recordings."""
    for speaker in ("s0", "s1", "s2", "s3"):
        shutil.copytree(corpus.labelled.parent / speaker, tmp_path / "calls" / speaker)
    trials = [f"1 s{s}/r0/0.wav s{s}/r1/1.wav\n0 s{s}/r0/0.wav s{(s + 1) % 4}/r1/1.wav\n" for s in range(4)]
    (tmp_path / "trials.txt").write_text("".join(trials))

    def idemvox(*words: object, status: int = 0) -> str:
        return run(installed / "idemvox", *words, cwd=tmp_path, status=status)

    assert "16" in idemvox("prepare", "folder", "calls", "--out", "calls.csv", "-q")
    tiny = ("encoder.channels=[4, 8, 8, 8]", "framework.seconds=0.3", "augment.simulated_rooms=2")
    short = ("training.epochs=1", "training.batch=8", "training.workers=0", "training.precision=fp32")
    assert "loss" in idemvox("train", "small", "data.manifest=calls.csv", *tiny, *short, "-q")
    assert "EER %" in idemvox("evaluate", "runs/small", "trials.txt", "--root", "calls", "-q")
    same = Path("calls/s0/r0/0.wav")
    verdict = idemvox("verify", same, same, "--model", "runs/small", status=4)  # it is not calibrated
    assert "undecided" in verdict and "1.000, at or above" in verdict
