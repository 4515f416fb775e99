"""Encoders compiled by torch.compile."""

from __future__ import annotations

import os
import shutil

import torch

from idemvox.encoders.base import Encoder
from idemvox.errors import RunError
from idemvox.frameworks.base import Framework

__all__ = ["compile_encoders"]


def compile_encoders(framework: Framework, device: torch.device) -> None:
    """Let the networks of a framework's encoders, a teacher's too, be compiled when they first run.

    Front ends are not, nor is what is behind: heads and losses.  Names and weights stay as they are.

    Raises:
        RunError: on a CPU without a C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise RunError(
            f"training.compile needs a C++ compiler on a CPU, and there is no {compiler}; install one, "
            "name it in the environment variable CXX, or leave training.compile out"
        )
    for module in framework.modules():
        if isinstance(module, Encoder):
            module.encode = torch.compile(module.encode)  # type: ignore[method-assign]
