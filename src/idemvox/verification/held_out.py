"""How good a calibration is on speakers that it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from idemvox.errors import CorpusError, IdemvoxError
from idemvox.verification.calibrate import fit_calibration
from idemvox.verification.counts import SortedTrials
from idemvox.verification.llr import cllr_of, min_cllr_of
from idemvox.verification.metrics import Costs, act_dcf_of, min_dcf_of
from idemvox.verification.trials import Trials

__all__ = ["FOLDS", "Quality", "held_out_llrs", "quality_of", "trial_speakers"]

Floats = NDArray[np.float64]
Sides = tuple[NDArray[np.intp], NDArray[np.intp]]

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Quality:
    """How good scores are as natural-log likelihood ratios.

    Attributes:
        cllr: cost in bits per trial: 0 is perfect, 1 says nothing, more is misleading.
        min_cllr: the same after the best rising map, which is found on these trials.
        act_dcf_001, act_dcf_005: normalised cost at the Bayes threshold, p_target 0.01 and 0.05, costs 1.
        min_dcf_001, min_dcf_005: the same at the best threshold.
    """

    cllr: float
    min_cllr: float
    act_dcf_001: float
    min_dcf_001: float
    act_dcf_005: float
    min_dcf_005: float


def quality_of(llrs: ArrayLike, labels: ArrayLike) -> Quality:
    """Measure (N,) log-likelihood ratios of trials with labels (N,)."""
    trials = SortedTrials(llrs, labels)
    rates = [rate(trials, Costs(p)) for p in (0.01, 0.05) for rate in (act_dcf_of, min_dcf_of)]
    return Quality(cllr_of(trials), min_cllr_of(trials), *rates)


def held_out_llrs(
    scores: ArrayLike,
    labels: ArrayLike,
    speakers: tuple[ArrayLike, ArrayLike],
    *,
    prior: float = 0.01,
    durations: ArrayLike | None = None,
    folds: int = FOLDS,
) -> Floats:
    """Return (N,) the log-likelihood ratio of each trial, by a calibration fitted without its speakers.

    The speakers are dealt into folds. A trial between the folds f and g is judged by a calibration that was
    fitted to the trials of the other folds alone, so it knew neither of its speakers.

    Args:
        scores, labels, prior, durations: as for
            :func:`~idemvox.verification.calibrate.fit_calibration`.
        speakers: (N,) speakers of the first sides and (N,) of the second sides.
        folds: number of folds, at least 4.

    Raises:
        CorpusError: too few speakers have target trials.
    """
    if folds < 4:
        raise IdemvoxError("calibration needs at least 4 folds of speakers to be judged")
    score, label = np.asarray(scores, np.float64), np.asarray(labels).astype(np.bool_)
    sides = None if durations is None else np.asarray(durations, np.float64)
    first, second = _folds(label, speakers, folds)
    llrs = np.empty(len(score))
    for one in range(folds):
        for other in range(one, folds):
            asked = ((first == one) & (second == other)) | ((first == other) & (second == one))
            if not asked.any():
                continue
            learnt = ~(np.isin(first, (one, other)) | np.isin(second, (one, other)))
            fitted = fit_calibration(
                score[learnt],
                label[learnt],
                prior=prior,
                durations=None if sides is None else sides[learnt],
                draws=0,
            )
            llrs[asked] = fitted.llr(score[asked], None if sides is None else sides[asked])
    return llrs


def _folds(label: NDArray[np.bool_], speakers: tuple[ArrayLike, ArrayLike], folds: int) -> Sides:
    """Deal speakers into folds, those with most target trials first; return the fold of both sides (N,)."""
    names, numbers = np.unique(np.concatenate([np.asarray(side) for side in speakers]), return_inverse=True)
    first, second = np.split(numbers, 2)
    targets = np.bincount(first[label], minlength=len(names))
    if (having := int(np.count_nonzero(targets))) < 2 * folds:
        raise CorpusError(
            f"a calibration is judged on speakers that it was not fitted to, and needs {2 * folds} speakers "
            f"with same-speaker trials for that; this list has {having}: use trials of more speakers"
        )
    fold = np.empty(len(names), np.intp)
    fold[np.argsort(-targets, kind="stable")] = np.arange(len(names)) % folds
    return fold[first], fold[second]


def trial_speakers(trials: Trials, known: Mapping[str, str]) -> tuple[Sides, bool]:
    """Return the speakers of both sides of trials, as numbers, and whether they are known.

    If an id has no known speaker, speakers are taken from the target trials: utterances that these connect
    are of one speaker. That is right if the target trials of a speaker connect all its utterances; otherwise
    a speaker counts as several.

    Raises:
        CorpusError: an impostor trial compares utterances that target trials connect.
    """
    if all(name in known for name in trials.ids):
        return trials.speakers(known), True
    first, second = trials.enrol_index[trials.labels], trials.test_index[trials.labels]
    links = coo_array((np.ones(len(first)), (first, second)), (len(trials.ids), len(trials.ids)))
    speaker = connected_components(links, directed=False)[1].astype(np.intp)
    sides = speaker[trials.enrol_index], speaker[trials.test_index]
    if np.any((sides[0] == sides[1]) & ~trials.labels):
        raise CorpusError(
            f"the trials {trials.name!r} contradict each other: a different-speaker trial compares"
            " utterances that same-speaker trials connect; correct it, or give a manifest with speakers"
        )
    return sides, False
