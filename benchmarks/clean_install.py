"""Does `pip install 'idemvox[onnx]'` verify without torch? In a new environment, from the package index.

    python benchmarks/clean_install.py EXPORTED FIRST SECOND

EXPORTED is a folder that `idemvox export` wrote, FIRST and SECOND are recordings. Builds the wheel, installs
it with the extra, prints what was installed, and verifies. Fails if torch came along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from common import parser_of

ROOT = Path(__file__).resolve().parents[1]


def run(*words: object, cwd: Path, status: tuple[int, ...] = (0,)) -> str:
    """Return what a command printed, run outside the checkout and without its settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    if done.returncode not in status:
        sys.exit(f"{' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Build, install, list, verify."""
    parser = parser_of(__doc__)
    parser.add_argument("exported", type=Path)
    parser.add_argument("recordings", type=Path, nargs=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="idemvox-clean-") as temporary:
        folder = Path(temporary)
        build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
        run(*build, cwd=ROOT)
        (wheel,) = folder.glob("idemvox-*.whl")
        venv.create(folder / "new", with_pip=True)
        python = folder / "new" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[onnx]", cwd=folder)
        listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", cwd=folder))
        names = sorted(package["name"].lower() for package in listed)
        size = sum(file.stat().st_size for file in (folder / "new").rglob("*") if file.is_file())
        print(f"{len(names)} packages, {size / 2**20:.0f} MiB: {', '.join(names)}")
        if "torch" in names:
            sys.exit("torch was installed")
        pair = [path.resolve() for path in given.recordings]
        model = ("--model", given.exported.resolve())
        decided = (0, 3, 4)
        print(run(python.with_name("idemvox"), "verify", *pair, *model, cwd=folder, status=decided))


if __name__ == "__main__":
    main()
