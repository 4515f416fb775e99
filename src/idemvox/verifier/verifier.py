"""The verifier: are two recordings of the same person?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from idemvox.audio.recording import Recording, open_recording
from idemvox.errors import AudioError
from idemvox.model import load_model
from idemvox.verification.calibration import Calibration, load_calibration
from idemvox.verification.embed import Embedder, embed_waves
from idemvox.verification.report import Report, load_report
from idemvox.verification.scoring import Scorer
from idemvox.verifier.listening import Facts, Heard, listen
from idemvox.verifier.verdict import Limits, Verdict, judge, no_speech

__all__ = ["Verifier", "Voice"]

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A recording, embedded.

    Attributes:
        facts: what the recording is like.
        vector: (D,) embedding of its speech, not normalised; ``None`` if it has no speech.
    """

    facts: Facts
    vector: Vector | None


class Verifier:
    """Compares recordings with a trained encoder; they may have any length, rate and format.

    A recording is a path, an audio file's bytes, an open file, or (samples, rate); see
    :data:`~idemvox.audio.recording.Recording`. Only its speech is embedded, so silence around it changes
    nothing; see :func:`~idemvox.audio.speech.speech`. Several threads may use one verifier: the encoder is
    put into evaluation mode once, and stays there.

    >>> verifier = Verifier.load("runs/simclr/model")  # doctest: +SKIP
    >>> print(verifier.verify("monday.wav", "tuesday.wav"))  # doctest: +SKIP
    same speaker: LLR 5.31 is at or above the threshold 2.10 for 1 % false accepts (calibrated on ...); ...

    Args:
        encoder: an :class:`~idemvox.encoders.base.Encoder`, or any other callable with its signature.
        scorer: how embeddings are compared.
        report: the model's evaluation; without a calibration, verdicts mention its threshold.
        device: of the encoder; ``None`` leaves it where it is.
        calibration: ``None`` for a model that is not calibrated: it gives scores, but no decisions.
        limits: when to abstain.
    """

    def __init__(
        self,
        encoder: Embedder,
        scorer: Scorer,
        report: Report | None = None,
        device: str | torch.device | None = None,
        *,
        calibration: Calibration | None = None,
        limits: Limits | None = None,
    ) -> None:
        if isinstance(encoder, nn.Module):
            encoder.eval().to(device)
        self.encoder = encoder
        self.scorer = scorer
        self.report = report
        self.device = device
        self.calibration = calibration
        self.limits = limits or Limits()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        *,
        limits: Limits | None = None,
    ) -> Verifier:
        """Load a model folder, with its calibration and its report if it has them.

        Raises:
            ModelError: not a model folder, or its calibration is for other weights or another scoring.
        """
        model = load_model(folder)
        scorer = Scorer.of(model)
        calibration = load_calibration(model.folder, str(scorer))
        report = load_report(model.folder)
        return cls(model.encoder, scorer, report, device, calibration=calibration, limits=limits)

    def embed(self, recording: Recording) -> Vector:
        """(D,) embedding of the speech in a recording, not normalised; see :meth:`hear`.

        Raises:
            AudioError: it cannot be read, or has no speech.
        """
        voice = self.hear(recording)
        if voice.vector is None:
            raise AudioError(f"cannot embed {voice.facts.name}: it {no_speech(voice.facts)}")
        return voice.vector

    def hear(self, recording: Recording) -> Voice:
        """Embed the speech in a recording, and say what the recording is like.

        Up to 60 s of speech are embedded at once. Longer speech is cut into equal windows of up to 60 s, and
        the result is the mean of their embeddings, which are not normalised before. Memory does not grow with
        the length.

        Raises:
            AudioError: it cannot be read.
        """
        with open_recording(recording) as source:
            heard = listen(source)
            return Voice(heard.facts, self._embed(heard))

    def _embed(self, heard: Heard) -> Vector | None:
        """Return the mean embedding of the windows; ``None`` if there are none."""
        total: NDArray[np.float64] | None = None
        count = 0
        for window in heard.windows():
            vector = embed_waves(self.encoder, [window], names=[heard.facts.name], device=self.device)[0]
            total = vector.astype(np.float64) if total is None else total + vector
            count += 1
        return None if total is None else (total / count).astype(np.float32)

    def verify(self, first: Recording, second: Recording, *, false_accept_rate: float = 0.01) -> Verdict:
        """Decide whether two recordings are of the same person; see :class:`Verdict` and :class:`Limits`.

        Args:
            first, second: the recordings.
            false_accept_rate: the share of different speakers that may be accepted, a fraction. The
                calibration must support it.

        Raises:
            AudioError: a recording cannot be read.
        """
        return self.compare(self.hear(first), self.hear(second), false_accept_rate=false_accept_rate)

    def compare(self, first: Voice, second: Voice, *, false_accept_rate: float = 0.01) -> Verdict:
        """Decide on two recordings that :meth:`hear` has embedded."""
        score = None
        if first.vector is not None and second.vector is not None:
            score = self.scorer.score(first.vector, second.vector)
        return judge(
            first.facts,
            second.facts,
            score,
            self.calibration,
            self.report,
            false_accept_rate=false_accept_rate,
            limits=self.limits,
        )
