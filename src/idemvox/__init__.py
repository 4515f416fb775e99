"""idemvox (*idem vox*, the same voice): self-supervised speaker verification.

The public names. Each is imported on first use, so that ``import idemvox`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest, load_manifest
    from idemvox.encoders.base import Encoder
    from idemvox.errors import (
        AudioError,
        CorpusError,
        IdemvoxError,
        ModelError,
        RecipeError,
        RunError,
        StoreError,
    )
    from idemvox.frameworks.base import Framework
    from idemvox.model import load_model
    from idemvox.positives.base import Positives
    from idemvox.recipe import Recipe, load_recipe
    from idemvox.training.fitters.base import Hooks
    from idemvox.training.loop import train
    from idemvox.verification.embed import embed_files
    from idemvox.verification.evaluation import evaluate
    from idemvox.verification.trials import load_trials
    from idemvox.verifier.verifier import Verifier

__all__ = [
    "AudioError",
    "CorpusError",
    "Encoder",
    "Framework",
    "Hooks",
    "IdemvoxError",
    "Manifest",
    "ModelError",
    "Positives",
    "Recipe",
    "RecipeError",
    "RunError",
    "StoreError",
    "Verifier",
    "embed_files",
    "evaluate",
    "load_manifest",
    "load_model",
    "load_recipe",
    "load_trials",
    "train",
]

_HOMES = {
    "AudioError": "errors",
    "CorpusError": "errors",
    "Encoder": "encoders.base",
    "Framework": "frameworks.base",
    "Hooks": "training.fitters.base",
    "IdemvoxError": "errors",
    "Manifest": "corpus.manifest",
    "ModelError": "errors",
    "Positives": "positives.base",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "RunError": "errors",
    "StoreError": "errors",
    "Verifier": "verifier.verifier",
    "embed_files": "verification.embed",
    "evaluate": "verification.evaluation",
    "load_manifest": "corpus.manifest",
    "load_model": "model",
    "load_recipe": "recipe",
    "load_trials": "verification.trials",
    "train": "training.loop",
}

if not TYPE_CHECKING:  # a type checker would conclude that every name exists

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'idemvox' has no attribute {name!r}; have: {', '.join(__all__)}")
        try:
            return getattr(importlib.import_module(f"idemvox.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            from idemvox.extras import TORCH, missing_torch

            if (error.name or "").split(".")[0] not in TORCH:
                raise
            raise missing_torch(f"idemvox.{name}") from error


def __dir__() -> list[str]:
    return __all__
