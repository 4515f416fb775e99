"""What every model does, trained or exported: waveforms in, embeddings out, and how two are compared.

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

__all__ = ["Embedder", "Scoring"]

Embedder: TypeAlias = Callable[[Any, Any], Any]
"""(wave (B, T) float32 at 16 kHz, valid samples (B,)) -> (B, D): tensors in, a tensor or an array out."""

Scoring = Literal["cosine", "euclidean"]
"""How two representations are compared: cosine, or minus the squared Euclidean distance."""
