"""The verifier: are two recordings of the same person?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from idemvox.audio.recording import Recording, read_recording
from idemvox.model import load_model
from idemvox.verification.embed import Embedder, embed_waves
from idemvox.verification.report import Report, load_report
from idemvox.verification.scoring import Scorer

__all__ = ["Verdict", "Verifier"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison; ``str(verdict)`` puts it into words.

    Attributes:
        score: cosine of the two embeddings, in [-1, 1], or minus their squared distance, as the model
            defines.
        threshold: ``None`` if the model has not been evaluated on trials.
        same: whether the score is at or above the threshold.
        trials: name of the trials that the threshold comes from.
        eer: error rate at the threshold on those trials, a fraction.
    """

    score: float
    threshold: float | None = None
    same: bool | None = None
    trials: str | None = None
    eer: float | None = None

    def __str__(self) -> str:
        if self.threshold is None or self.eer is None:
            return (
                f"score {self.score:.3f}; no verdict, because this model has no threshold yet:"
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

    A recording is a path, an audio file's bytes, an open file, or (samples, rate). Several threads may use
    one verifier: the encoder is put into evaluation mode once, and stays there.

    >>> verifier = Verifier.load("runs/simclr/model")  # doctest: +SKIP
    >>> print(verifier.verify("monday.wav", "tuesday.wav"))  # doctest: +SKIP
    same speaker: score 0.712 is at or above the threshold 0.431 (from the trials 'calls', ...)
    """

    def __init__(
        self,
        encoder: Embedder,
        scorer: Scorer,
        report: Report | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if isinstance(encoder, nn.Module):
            encoder.eval().to(device)
        self.encoder = encoder
        self.scorer = scorer
        self.report = report
        self.device = device

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device | None = None) -> Verifier:
        """Load a model folder; its ``report.json``, if there is one, gives the threshold."""
        model = load_model(folder)
        return cls(model.encoder, Scorer.of(model), load_report(model.folder), device)

    def embed(self, recording: Recording) -> NDArray[np.float32]:
        """(D,) embedding of one recording, not normalised."""
        names = [str(recording)] if isinstance(recording, str | Path) else None
        waves = [read_recording(recording)]
        vector: NDArray[np.float32] = embed_waves(self.encoder, waves, names=names, device=self.device)[0]
        return vector

    def verify(self, first: Recording, second: Recording) -> Verdict:
        """Compare two recordings by their embeddings, with the model's scoring."""
        score = self.scorer.score(self.embed(first), self.embed(second))
        if self.report is None:
            return Verdict(score)
        threshold = self.report.eer_threshold
        return Verdict(score, threshold, score >= threshold, self.report.trials, self.report.eer)
