"""Judging a calibration on held-out speakers, compared with fitting each fold by hand."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.errors import CorpusError, IdemvoxError
from idemvox.verification.calibrate import fit_calibration
from idemvox.verification.held_out import held_out_llrs, quality_of, trial_speakers
from idemvox.verification.llr import cllr, min_cllr
from idemvox.verification.metrics import act_dcf, min_dcf
from idemvox.verification.trials import Trials


def speaker_trials(rng, speakers, each=3):
    """All pairs of ``each`` utterances of each speaker."""
    names = np.repeat(np.arange(speakers), each)
    a, b = np.triu_indices(len(names), 1)
    labels = names[a] == names[b]
    return rng.normal(size=len(a)) + 3 * labels, labels, (names[a], names[b])


@pytest.mark.parametrize("with_durations", [False, True])
def test_each_trial_is_judged_without_its_speakers(with_durations):
    """Speakers 0 to 11 have equally many targets, so speaker s is in fold s % 4."""
    rng = np.random.default_rng(0)
    scores, labels, (a, b) = speaker_trials(rng, 12)
    durations = rng.uniform(1, 9, (len(labels), 2)) if with_durations else None
    found = held_out_llrs(scores, labels, (a, b), durations=durations, folds=4)
    for trial in rng.choice(len(labels), 20, replace=False):
        barred = {a[trial] % 4, b[trial] % 4}
        learnt = np.array([not {i % 4, j % 4} & barred for i, j in zip(a, b, strict=True)])
        sides = {} if durations is None else {"durations": durations[learnt]}
        fitted = fit_calibration(scores[learnt], labels[learnt], **sides)
        one = slice(trial, trial + 1)
        assert found[trial] == fitted.llr(scores[one], None if durations is None else durations[one])[0]


def test_held_out_llrs_are_calibrated_where_raw_scores_are_not():
    scores, labels, sides = speaker_trials(np.random.default_rng(1), 30)
    before, after = (
        quality_of(scores / 10, labels),
        quality_of(held_out_llrs(scores / 10, labels, sides), labels),
    )
    assert after.cllr < 0.5 < before.cllr
    assert before.min_cllr <= after.min_cllr <= after.cllr  # the folds differ a little


def test_the_quality_equals_the_metrics():
    scores, labels, _ = speaker_trials(np.random.default_rng(2), 6)
    found = quality_of(scores, labels)
    assert (found.cllr, found.min_cllr) == (cllr(scores, labels), min_cllr(scores, labels))
    assert found.act_dcf_001 == act_dcf(scores, labels, 0.01)
    assert found.min_dcf_005 == min_dcf(scores, labels, 0.05)


def test_too_few_speakers_are_refused():
    scores, labels, sides = speaker_trials(np.random.default_rng(3), 9)
    with pytest.raises(CorpusError, match=r"needs 10 speakers.* has 9"):
        held_out_llrs(scores, labels, sides)
    with pytest.raises(IdemvoxError, match="at least 4 folds"):
        held_out_llrs(scores, labels, sides, folds=3)


def trials(*rows):
    ids = tuple(sorted({name for _, *pair in rows for name in pair}))
    at = {name: number for number, name in enumerate(ids)}
    labels, first, second = zip(*rows, strict=True)
    sides = [np.array([at[name] for name in side], np.int32) for side in (first, second)]
    return Trials("calls", ids, np.array(labels, bool), *sides)


def test_without_names_speakers_are_those_connected_by_target_trials():
    pairs = trials((1, "a1", "a2"), (1, "a2", "a3"), (0, "a1", "b1"), (0, "b1", "b2"))
    (first, second), known = trial_speakers(pairs, {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "c"})
    assert known and (first == second).tolist() == [True, True, False, False]
    (first, second), known = trial_speakers(pairs, {"a1": "a"})
    assert not known and first[0] == second[1] and first[2] != second[2] != second[3]
    with pytest.raises(CorpusError, match="contradict each other"):
        trial_speakers(trials((1, "a1", "a2"), (1, "a2", "a3"), (0, "a1", "a3")), {})
