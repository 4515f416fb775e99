"""idemvox (*idem vox*, the same voice): self-supervised speaker verification.

The ten public names; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Encoder": "encoders.base",
    "Framework": "frameworks.base",
    "IdemvoxError": "errors",
    "Manifest": "corpus.manifest",
    "Positives": "positives.base",
    "Verifier": "verifier",
    "load_manifest": "corpus.manifest",
    "load_model": "model",
    "load_recipe": "recipe",
    "train": "training.loop",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'idemvox' has no attribute {name!r}; have: {', '.join(__all__)}")
    return getattr(importlib.import_module(f"idemvox.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
