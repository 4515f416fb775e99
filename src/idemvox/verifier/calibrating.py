"""Calibrate a model on a trial list, as the verifier uses it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.audio.recording import Recording
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import CorpusError
from idemvox.model import Model
from idemvox.processes import read_ahead
from idemvox.progress import task_bar
from idemvox.verification.calibrate import fit_calibration
from idemvox.verification.calibration import Calibration
from idemvox.verification.conditions import Conditions
from idemvox.verification.embed import Embeddings
from idemvox.verification.evaluation import trial_utterances
from idemvox.verification.held_out import Quality, held_out_llrs, quality_of, trial_speakers
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials
from idemvox.verifier.listening import Facts
from idemvox.verifier.verifier import Verifier, Voice

if TYPE_CHECKING:
    import torch

__all__ = ["Calibrated", "HeardTrials", "calibrate", "hear_trials"]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and what it gains on speakers that it was not fitted to.

    Attributes:
        calibration: fitted to all speakers.
        before: quality of the scores, taken as log-likelihood ratios.
        after: quality of held-out log-likelihood ratios from the scores alone.
        with_durations: the same from scores and durations; ``None`` if durations were not wanted.
        speakers_known: whether all speakers are known; otherwise they were taken from the target trials.
        without_speech: utterances without speech, whose trials were left out.
    """

    calibration: Calibration
    before: Quality
    after: Quality
    with_durations: Quality | None
    speakers_known: bool
    without_speech: tuple[str, ...]

    def table(self) -> Table:
        """Return the qualities, for the terminal."""
        who = "" if self.speakers_known else " (taken from the target trials)"
        table = Table(caption=f"measured on speakers{who} that the calibration was not fitted to")
        table.add_column("")
        for heading in ("Cllr", "minCllr", "actDCF p=0.01", "minDCF", "actDCF p=0.05", "minDCF"):
            table.add_column(heading, justify="right")
        rows = {"scores as they are": self.before, "calibrated": self.after}
        if self.with_durations is not None:
            rows["calibrated with durations"] = self.with_durations
        used = "calibrated with durations" if self.calibration.needs_durations else "calibrated"
        for name, quality in rows.items():
            values = [f"{value:.3f}" for value in asdict(quality).values()]
            table.add_row(name + (" (stored)" if name == used else ""), *values)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the table of thresholds, for JSON."""
        values = asdict(self)
        del values["calibration"]["points"]
        return values


@dataclass(frozen=True, slots=True, eq=False)
class HeardTrials:
    """Trials scored as :class:`~idemvox.verifier.verifier.Verifier` scores recordings: by their speech alone.

    Attributes:
        trials: those whose two recordings have speech.
        scores: (N,) one per trial.
        seconds: (N, 2) seconds of speech of both sides.
        facts: what each recording is like, by id.
        utterances: all utterances, with their speakers and recordings as far as known.
        scoring: description of the scorer.
        without_speech: utterances without speech, whose trials were left out.
    """

    trials: Trials
    scores: NDArray[np.float32]
    seconds: NDArray[np.float64]
    facts: dict[str, Facts]
    utterances: Manifest
    scoring: str
    without_speech: tuple[str, ...]

    @property
    def across(self) -> float | None:
        """Share of target trials that compare different recordings; ``None`` if a recording is unknown."""
        trials = self.trials
        recordings = [self.utterances.by_id[name].recording for name in trials.ids]
        if None in recordings:
            return None
        number = np.unique(np.array(recordings, dtype=str), return_inverse=True)[1]
        first, second = (number[side[trials.labels]] for side in (trials.enrol_index, trials.test_index))
        return float(np.mean(first != second))


def hear_trials(
    model: Model,
    trials: Trials,
    source: Manifest | str | Path,
    *,
    device: str | torch.device | None = None,
    workers: int = 2,
    progress: bool = False,
) -> HeardTrials:
    """Score trials as the verifier would.

    Args:
        model: the model, with its own scoring.
        trials: the list.
        source: manifest or root folder, as for :func:`~idemvox.verification.evaluation.trial_utterances`.
        device: device to embed on.
        workers: threads that decode and embed.
        progress: show a progress bar.

    Raises:
        CorpusError: no trial has speech in both recordings.
    """
    utterances = trial_utterances(trials, source)
    scorer = Scorer.of(model)
    voices = _hear(Verifier(model.encoder, scorer, device=device), utterances, workers, progress)
    trials, without_speech = _with_speech(trials, voices)
    matrix = np.stack([vector for name in trials.ids if (vector := voices[name].vector) is not None])
    facts = {name: voices[name].facts for name in trials.ids}
    speech = np.array([facts[name].speech for name in trials.ids])
    seconds = np.stack([speech[trials.enrol_index], speech[trials.test_index]], axis=1)
    scores = scorer.scores(Embeddings(trials.ids, matrix), trials)
    return HeardTrials(trials, scores, seconds, facts, utterances, str(scorer), without_speech)


def calibrate(heard: HeardTrials, *, prior: float = 0.01, durations: bool | None = None) -> Calibrated:
    """Calibrate the model that heard trials; nothing is stored.

    Args:
        heard: at least ten speakers need target trials. If all speakers are known, trials are split by them,
            otherwise by the target trials. Recordings that resemble those that will be verified give a
            threshold that holds for them.
        prior: as for :func:`~idemvox.verification.calibrate.fit_calibration`.
        durations: whether to use the durations of speech; ``None``: if that lowers the held-out Cllr.

    Raises:
        CorpusError: too few speakers or trials.
        ModelError: same-speaker trials do not score higher than others.
    """
    trials, scores, labels = heard.trials, heard.scores, heard.trials.labels
    known = {u.id: u.speaker for u in heard.utterances if u.speaker is not None}
    sides, all_known = trial_speakers(trials, known)
    after = quality_of(held_out_llrs(scores, labels, sides, prior=prior), labels)
    with_durations = None
    if durations is not False:
        llrs = held_out_llrs(scores, labels, sides, prior=prior, durations=heard.seconds)
        with_durations = quality_of(llrs, labels)
    use = durations or (with_durations is not None and with_durations.cllr < after.cllr)
    calibration = fit_calibration(
        scores,
        labels,
        prior=prior,
        durations=heard.seconds if use else None,
        speakers=sides,
        scoring=heard.scoring,
        trials=trials.name,
        conditions=Conditions.of(heard.facts.values(), heard.across),
    )
    before = quality_of(scores, labels)
    return Calibrated(calibration, before, after, with_durations, all_known, heard.without_speech)


def _hear(verifier: Verifier, utterances: Manifest, workers: int, progress: bool) -> dict[str, Voice]:
    """Return every utterance as the verifier hears it, by id."""

    def hear(utterance: Utterance) -> Voice:
        path = utterances.path(utterance)
        recording: Recording = path
        if utterance.start is not None:
            start, samples = (round(s * SAMPLE_RATE) for s in (utterance.start, utterance.seconds))
            recording = (read(path, start, samples), SAMPLE_RATE)
        return verifier.hear(recording)

    heard = read_ahead(hear, utterances, workers, 2 * workers)
    voices: dict[str, Voice] = {}
    with closing(heard), task_bar("embedding", len(utterances), progress) as bar:
        for utterance, voice in zip(utterances, heard, strict=True):
            voices[utterance.id] = voice
            bar.advance(bar.task_ids[0])
    return voices


def _with_speech(trials: Trials, voices: dict[str, Voice]) -> tuple[Trials, tuple[str, ...]]:
    """Return the trials whose two recordings have speech, and the ids without."""
    silent = np.array([voices[name].vector is None for name in trials.ids])
    if not silent.any():
        return trials, ()
    kept = trials.select(~(silent[trials.enrol_index] | silent[trials.test_index]))
    if not len(kept):
        raise CorpusError(f"no trial of {trials.name!r} has speech in both recordings: check the recordings")
    return kept, tuple(name for name, is_silent in zip(trials.ids, silent, strict=True) if is_silent)
