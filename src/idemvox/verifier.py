"""The verifier: are two recordings of one person?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from idemvox.encoders.base import Encoder
from idemvox.model import load_model
from idemvox.verification.embed import embed_files
from idemvox.verification.report import Report, load_report
from idemvox.verification.scoring import Scorer

__all__ = ["Verdict", "Verifier"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found; ``str(verdict)`` says it in words."""

    score: float
    """Cosine of the two embeddings, in [-1, 1], or minus their squared distance: as the model is scored."""
    threshold: float | None = None
    """``None`` where the model has not been evaluated on trials."""
    same: bool | None = None
    """Score at or above the threshold."""
    trials: str | None = None
    """Name of the trials that the threshold comes from."""
    eer: float | None = None
    """Error rate at the threshold on those trials, a fraction."""

    def __str__(self) -> str:
        if self.threshold is None or self.eer is None:
            return (
                f"score {self.score:.3f}; no verdict, as this model has no threshold yet:"
                " run `idemvox evaluate` on trials and store the report with the model"
            )
        verdict = "same speaker" if self.same else "different speakers"
        side = "at or above" if self.same else "below"
        return (
            f"{verdict}: score {self.score:.3f} is {side} the threshold {self.threshold:.3f}"
            f" (from the trials {self.trials!r}, where the equal error rate is {100 * self.eer:.2f} %)"
        )


class Verifier:
    """Compares recordings with a trained encoder; they may have any length, rate and format.

    >>> verifier = Verifier.load("runs/simclr/model")  # doctest: +SKIP
    >>> print(verifier.verify("monday.wav", "tuesday.wav"))  # doctest: +SKIP
    same speaker: score 0.712 is at or above the threshold 0.431 (from the trials 'calls', ...)
    """

    def __init__(
        self,
        encoder: Encoder,
        scorer: Scorer,
        report: Report | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.encoder = encoder
        self.scorer = scorer
        self.report = report
        self.device = device

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device | None = None) -> Verifier:
        """Load a model folder; its ``report.json``, where there is one, gives the threshold."""
        model = load_model(folder)
        return cls(model.encoder, Scorer.of(model), load_report(model.folder), device)

    def embed(self, path: str | Path) -> NDArray[np.float32]:
        """(D,) embedding of one recording, not normalised."""
        vector: NDArray[np.float32] = embed_files(self.encoder, [path], device=self.device).matrix[0]
        return vector

    def verify(self, first: str | Path, second: str | Path) -> Verdict:
        """Compare two recordings by their embeddings, the way the model is scored."""
        score = self.scorer.score(self.embed(first), self.embed(second))
        if self.report is None:
            return Verdict(score)
        threshold = self.report.eer_threshold
        return Verdict(score, threshold, score >= threshold, self.report.trials, self.report.eer)
