"""Compiling encoders with torch.compile."""

from __future__ import annotations

import os
import shutil

import torch

from idemvox.encoders.base import Encoder
from idemvox.errors import RunError
from idemvox.frameworks.base import Framework

__all__ = ["compile_encoders"]


def compile_encoders(framework: Framework, device: torch.device) -> None:
    """Compile the networks of a framework's encoders, including a teacher's, on their first run.

    Front ends, heads and losses are not compiled. Names and weights do not change.

    Raises:
        RunError: there is no C++ compiler on a CPU.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise RunError(
            f"training.compile needs a C++ compiler on a CPU, and there is no {compiler}; install one, "
            "set the environment variable CXX to one, or leave out training.compile"
        )
    for module in framework.modules():
        if isinstance(module, Encoder):
            module.encode = torch.compile(module.encode)  # type: ignore[method-assign]
