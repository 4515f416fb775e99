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
    "idemvox.cli.speakers",
    "idemvox.cli.verify",
    "idemvox.model",
    "idemvox.service.app",
    "idemvox.service.run",
    "idemvox.verification.certificate",
    "idemvox.verification.embed",
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
