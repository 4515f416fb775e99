"""The verifier: are two recordings of the same person?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from idemvox.audio.recording import Recording, open_recording
from idemvox.embedder import Embedder
from idemvox.errors import AudioError
from idemvox.model import fingerprint, load_model
from idemvox.onnx_encoder import OnnxEncoder
from idemvox.verification.calibration import Calibration, load_calibration
from idemvox.verification.embed import embed_waves
from idemvox.verification.report import Report, load_report
from idemvox.verification.scoring import Scorer
from idemvox.verifier.enrolment import Added, Voiceprint
from idemvox.verifier.identification import Identification, Identifier
from idemvox.verifier.listening import Facts, Heard, listen
from idemvox.verifier.opening import opened
from idemvox.verifier.roster import Combining
from idemvox.verifier.store import SpeakerStore
from idemvox.verifier.verdict import Limits, Verdict, examine, judge, no_speech

if TYPE_CHECKING:
    import torch

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
        encoder: an :class:`~idemvox.encoders.base.Encoder`, an exported one, or any other callable with its
            signature.
        scorer: how embeddings are compared.
        report: the model's evaluation; without a calibration, verdicts mention its threshold.
        device: of the encoder; ``None`` leaves it where it is. An exported one runs on the processor.
        calibration: ``None`` for a model that is not calibrated: it gives scores, but no decisions.
        limits: when to abstain.
        folder: the model folder; stores of speakers are checked to be of this model.
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
        folder: Path | None = None,
    ) -> None:
        if not isinstance(encoder, OnnxEncoder):
            from idemvox.verification.forward import settle

            settle(encoder, device)
        self.encoder = encoder
        self.scorer = scorer
        self.report = report
        self.device = device
        self.calibration = calibration
        self.limits = limits or Limits()
        self.folder = folder
        self._identifier: Identifier | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        *,
        limits: Limits | None = None,
    ) -> Verifier:
        """Load a model folder, trained or exported, with its calibration and its report if it has them.

        Raises:
            ModelError: not a model folder, or its calibration is for other weights or another scoring.
        """
        model = load_model(folder)
        scorer = Scorer.of(model)
        calibration = load_calibration(model.folder, str(scorer))
        report = load_report(model.folder)
        return cls(
            model.encoder, scorer, report, device, calibration=calibration, limits=limits, folder=model.folder
        )

    def embed(self, recording: Recording) -> Vector:
        """(D,) embedding of the speech in a recording, not normalised; see :meth:`hear`.

        Raises:
            AudioError: it cannot be read, or has no speech.
        """
        voice = self.hear(recording)
        if voice.vector is None:
            raise AudioError(f"cannot embed {voice.facts.name}: it {no_speech(voice.facts)}")
        return voice.vector

    def hear(self, recording: Recording, *, name: str | None = None, longest: float | None = None) -> Voice:
        """Embed the speech in a recording, and say what the recording is like.

        Up to 60 s of speech are embedded at once. Longer speech is cut into equal windows of up to 60 s, and
        the result is the mean of their embeddings, which are not normalised before. Memory does not grow with
        the length.

        Args:
            recording: what to embed.
            name: of bytes or an open file, for messages.
            longest: most seconds of audio; ``None``: any length.

        Raises:
            AudioError: it cannot be read, or is longer.
        """
        with open_recording(recording, name) as source:
            if longest is not None and source.frames > longest * source.rate:
                raise AudioError(
                    f"{source.name} is {source.frames / source.rate:,.0f} s long, and at most {longest:g} s"
                    " are accepted: give a part of it"
                )
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

    @cached_property
    def fingerprint(self) -> str | None:
        """:func:`~idemvox.model.fingerprint` of the model; ``None`` without a folder."""
        return None if self.folder is None else fingerprint(self.folder)

    def enrol(
        self,
        name: str,
        recordings: Iterable[Recording],
        *,
        store: SpeakerStore | str | Path,
        channel: str = "",
    ) -> Added:
        """Add recordings of a speaker to a store: all, or after an error none.

        Args:
            name: any text; a known name gets more enrolments.
            recordings: one or more.
            store: an open store, or the name of one, which is made if there is none.
            channel: such as ``phone``; channels are kept apart.

        Raises:
            AudioError: a recording cannot be read, or is not good enough; see :class:`Limits`.
            StoreError: the store is of another model, or a recording is enrolled under another name.
        """
        voiceprints = [self.voiceprint(self.hear(recording)) for recording in recordings]
        with opened(store, self.fingerprint, create=True) as one:
            return one.enrol(name, voiceprints, channel=channel)

    def voiceprint(self, voice: Voice) -> Voiceprint:
        """Return what a store keeps of a recording.

        Raises:
            AudioError: it is not good enough to enrol; see :class:`Limits`.
        """
        reasons, _ = examine(voice.facts, self.limits)
        if reasons or voice.vector is None:
            raise AudioError(f"not enrolled: {'; '.join(reasons) or no_speech(voice.facts)}")
        facts = voice.facts
        return Voiceprint(voice.vector, Path(facts.name).name, facts.speech, narrow=facts.narrow)

    def identify(
        self,
        recording: Recording,
        top: int = 5,
        *,
        store: SpeakerStore | str | Path,
        channel: str | None = None,
        combining: Combining = "mean",
        false_accept_rate: float = 0.01,
        name: str | None = None,
        longest: float | None = None,
    ) -> Identification:
        """Say whose voice a recording is, among the speakers of a store, or that it is nobody's.

        Args:
            recording: of one speaker.
            top: most candidates to return.
            store: the name of a store or, to keep its speakers in memory between calls, an open one.
            channel: compare only with enrolments of this channel; ``None``: with all.
            combining: how several enrolments of a speaker count.
            false_accept_rate: the share of strangers that may be given a name, a fraction.
            name, longest: as for :meth:`hear`.

        Raises:
            AudioError: the recording cannot be read.
            StoreError: the store is empty or of another model.
        """
        voice = self.hear(recording, name=name, longest=longest)
        facts = voice.facts
        reasons, warnings = examine(facts, self.limits)
        if voice.vector is None:
            return Identification((), "undecided", None, "; ".join(reasons), 0, warnings)
        with opened(store, self.fingerprint) as one:
            found = self._identifier_of(one, combining, channel, keep=one is store).identify(
                voice.vector,
                top,
                seconds=facts.speech,
                narrow=facts.narrow,
                false_accept_rate=false_accept_rate,
            )
        if reasons:
            found = replace(found, decision="undecided", threshold=None, reason="; ".join(reasons))
        return replace(found, warnings=(*warnings, *found.warnings))

    def _identifier_of(
        self, store: SpeakerStore, combining: Combining, channel: str | None, *, keep: bool
    ) -> Identifier:
        """Return the last identifier, if it is the same; ``keep`` a new one for the next call."""
        last = self._identifier
        if last and (last.store, last.combining, last.channel) == (store, combining, channel):
            return last
        made = Identifier(store, self.scorer, self.calibration, combining=combining, channel=channel)
        if keep:
            self._identifier = made
        return made
