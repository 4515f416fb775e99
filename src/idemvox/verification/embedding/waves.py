"""Embeddings of waves, as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from idemvox.embedder import Embedder
from idemvox.errors import AudioError, IdemvoxError, ModelError
from idemvox.onnx_encoder import OnnxEncoder
from idemvox.verification.embedding.embeddings import Floats

if TYPE_CHECKING:
    import torch

__all__ = ["SHORTEST", "Precision", "embed_waves", "runtime_of"]

Precision = Literal["fp32", "bf16"]

SHORTEST = 400
"""Samples of the shortest wave that can be embedded: one 25 ms window."""


def embed_waves(
    encoder: Embedder,
    waves: Sequence[Floats],
    *,
    names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Floats:
    """Return (N, D) the embeddings of waves, each (T,) at 16 kHz with full scale at 1, as one batch.

    Args:
        encoder: as for :func:`~idemvox.verification.embed.embed_files`.
        waves: waves of any lengths.
        names: names of the waves in errors.
        device: as for :func:`~idemvox.verification.embed.embed_files`.
        precision: as for :func:`~idemvox.verification.embed.embed_files`.

    Raises:
        AudioError: a wave is too short.
        ModelError: an embedding is not finite.
    """
    if precision not in ("fp32", "bf16"):
        raise IdemvoxError(f"unknown precision {precision!r}; have: bf16, fp32")
    names = names or ["this recording"] * len(waves)
    for name, wave in zip(names, waves, strict=True):
        if len(wave) < SHORTEST:
            raise AudioError(
                f"cannot embed {name}: {len(wave)} samples at 16 kHz are too few (at least {SHORTEST});"
                " use a longer recording, or leave it out"
            )
    lengths = np.array([len(wave) for wave in waves], np.int64)
    padded = np.zeros((len(waves), lengths.max()), np.float32)  # (B, T)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    if isinstance(encoder, OnnxEncoder):
        matrix = encoder(padded, lengths)
    else:
        from idemvox.verification.forward import forward

        matrix = forward(encoder, padded, lengths, device, precision)
    for name, vector in zip(names, matrix, strict=True):
        if not np.isfinite(vector).all():
            raise ModelError(
                f"the embedding of {name} is NaN or infinite: the model has probably diverged;"
                " use an earlier checkpoint"
            )
    return matrix


def runtime_of(encoder: Embedder, device: str | torch.device | None) -> str:
    """Return what computes embeddings: ``cpu``, ``cuda``, ..., or ``onnxruntime``; move a module there."""
    if isinstance(encoder, OnnxEncoder):
        return "onnxruntime"
    from idemvox.verification.forward import place_of

    return place_of(encoder, device).type
