"""Supervised positive sampling, the upper bound for SSPS."""

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
    """Cut the positive view from another utterance of the same class (in Table 1 of the SSPS paper, speaker).

    In each epoch the utterances of a class form one random cycle, in which each is the partner of the one
    before. So every utterance is the positive of one other, and in a class of three or more no two utterances
    are each other's positives, which would be false negatives in the same batch. The paper's code forms pairs
    instead. Neither considers recordings. An utterance without a class, or alone in its class, keeps its
    positive.
    """

    supervised = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """There are no options."""

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        classes = setting.classes
        if classes is None or len(np.unique(classes[classes >= 0])) < 2:
            raise CorpusError(
                "positives.name=supervised needs at least 2 classes: give a manifest with a speaker column, "
                "or data.labels=FILE (a table of id and class); or use positives.name=same or ssps"
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
