"""The names in `import idemvox`: imported when used, and typed."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import idemvox


def test_names_are_imported_when_they_are_used():
    assert sorted(idemvox._HOMES) == idemvox.__all__ == dir(idemvox)
    with pytest.raises(AttributeError, match="no attribute 'simclr'; have: AudioError, "):
        idemvox.simclr  # noqa: B018
    loaded = "import sys, idemvox; print('torch' in sys.modules, idemvox.Encoder, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "False <class 'idemvox.encoders.base.Encoder'> True"


def test_a_type_checker_knows_the_types(tmp_path):
    """mypy knows what a call returns, and reports a wrong argument and a missing name."""
    lines = ["import idemvox", *(f"reveal_type(idemvox.{name})" for name in idemvox.__all__)]
    lines += ["idemvox.load_recipe(3)", "idemvox.simclr"]
    (tmp_path / "user.py").write_text("\n".join(lines) + "\n")
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = skip\nignore_missing_imports = True\n"  # torch takes a minute
        "[mypy-idemvox.*]\nfollow_imports = silent\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(Path(idemvox.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    *revealed, wrong, missing, _ = done.stdout.splitlines()
    assert len(revealed) == len(idemvox.__all__), done.stdout + done.stderr
    for name, line in zip(idemvox.__all__, revealed, strict=True):
        public = getattr(idemvox, name)
        made = name if inspect.isclass(public) else inspect.signature(public).return_annotation
        assert re.search(rf'Revealed type is "def \(.*\) -> idemvox\.[\w.]+\.{made}"$', line), line
    assert "[arg-type]" in wrong and 'has no attribute "simclr"' in missing
