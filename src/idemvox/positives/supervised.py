"""Supervised positive sampling: the upper bound of SSPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idemvox.errors import CorpusError
from idemvox.positives.base import Positives, Setting
from idemvox.registry import POSITIVES

__all__ = ["Supervised"]


@POSITIVES.register("supervised")
class Supervised(Positives):
    """Cut the positive view from another utterance of the same class (SSPS paper, Table 1: the speaker's).

    In each epoch the utterances of a class are dealt into one cycle, each the partner of the one before;
    so every utterance is a positive once, none is its own, and among three or more no two are each other's
    (which inside one batch would be false negatives).  The paper's code pairs utterances instead; neither
    looks at recordings.  An utterance whose class has no other, or that has no class, keeps its own positive.
    """

    supervised = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """There is nothing to choose."""

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        classes = setting.classes
        if classes is None or len(np.unique(classes[classes >= 0])) < 2:
            raise CorpusError(
                "positives 'supervised' needs at least 2 classes: give a manifest with a speaker column, or "
                "data.labels=FILE (a table of id and class); or use 'same' or 'ssps'"
            )
        order = np.argsort(classes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
        self._groups = [g for g in groups if classes[g[0]] >= 0 and len(g) > 1]

    def partners(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng([self.setting.seed, epoch, 0x5059])
        partner = np.arange(self.setting.utterances)
        for group in self._groups:
            cycle = rng.permutation(group)
            partner[cycle] = np.roll(cycle, 1)
        return partner
