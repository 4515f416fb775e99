"""Gauges: how good embeddings are, measured without any speaker label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import CorpusError
from idemvox.recipe import GaugeName
from idemvox.verification.channel import probe_accuracy
from idemvox.verification.metrics import eer

__all__ = ["BEST_GAUGES", "HIGHER_IS_BETTER", "Gauges", "gauge"]

Floats = NDArray[np.float64]
HIGHER_IS_BETTER: frozenset[GaugeName] = frozenset({"effective_rank"})
"""The gauges that are better the higher they are; all others are better the lower they are."""
BEST_GAUGES: tuple[GaugeName, ...] = ("recording_pseudo_eer", "pseudo_eer")
"""The gauges that order the epochs of a run most like their true EER does, best first; the first one needs
to know recordings (docs/results/gauges.md)."""
_SHARPNESS = 2.0  # t of the Gaussian potential


@dataclass(frozen=True, slots=True)
class Gauges:
    """Label-free measurements of length-normalised embeddings.

    None of them knows speakers, so different utterances count as different speakers, though a few are not.

    Attributes:
        alignment: mean squared distance of two crops of an utterance, 0 to 4; lower is better (Wang and
            Isola, 2020).
        uniformity: log of the mean Gaussian potential between utterances, 0 if all are the same; lower is
            more evenly spread (the same paper, t = 2).
        effective_rank: number of directions in use: exp of the entropy of the singular values (RankMe,
            Garrido et al., 2023). Near 1 after a collapse.
        pseudo_eer: EER of two crops of an utterance against crops of different utterances, a fraction. The
            channel helps, so it flatters.
        channel_pseudo_eer: the same where the second crop of every utterance went through a simulated
            channel; closer to comparing recordings of different days.
        channel_probe: how often a linear probe tells which of the channels it was, for utterances that it
            was not trained on; a voice alone would leave it at ``channel_chance``.
        channel_chance: the accuracy of guessing.
        recording_pseudo_eer: EER of different utterances of one recording against utterances of different
            recordings; ``None`` if recordings are unknown.
    """

    alignment: float
    uniformity: float
    effective_rank: float
    pseudo_eer: float
    channel_pseudo_eer: float
    channel_probe: float
    channel_chance: float
    recording_pseudo_eer: float | None = None


def gauge(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    heard: NDArray[np.floating],
    channels: NDArray[np.integer],
    recordings: NDArray[np.integer] | None = None,
) -> Gauges:
    """Measure embeddings of U utterances, of any norm.

    Args:
        first, second: (U, D) two crops of each utterance.
        heard: (U, D) the second crops, each through a channel.
        channels: (U,) its number; each of the two or more channels has two utterances or more.
        recordings: (U,) the recording of each utterance, -1 if unknown. Utterances of one recording are not
            taken for different speakers. ``None`` if all are unknown.

    Raises:
        CorpusError: all utterances are of one recording.
    """
    a, b, c = _unit(first), _unit(second), _unit(heard)
    number = np.full(len(a), -1) if recordings is None else np.asarray(recordings)
    alike = (number[:, None] == number) & (number >= 0)[:, None]  # (U, U): of one recording
    other = ~alike & ~np.eye(len(a), dtype=bool)
    if not other.any():
        raise CorpusError("gauges need utterances of at least two recordings")
    potential = np.exp(-_SHARPNESS * (2 - 2 * np.clip(a @ a.T, -1, 1)))
    same = np.triu(alike, 1)
    return Gauges(
        alignment=float(np.mean(np.sum((a - b) ** 2, axis=1))),
        uniformity=float(np.log(np.mean(potential[~np.eye(len(a), dtype=bool)]))),
        effective_rank=_effective_rank(a),
        pseudo_eer=_pseudo_eer(a @ b.T, np.eye(len(a), dtype=bool), other),
        channel_pseudo_eer=_pseudo_eer(a @ c.T, np.eye(len(a), dtype=bool), other),
        channel_probe=probe_accuracy(c, np.unique(channels, return_inverse=True)[1]),
        channel_chance=1 / len(np.unique(channels)),
        recording_pseudo_eer=_pseudo_eer(a @ a.T, same, np.triu(other, 1)) if same.any() else None,
    )


def _unit(vectors: NDArray[np.floating]) -> Floats:
    x = np.asarray(vectors, np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _effective_rank(x: Floats) -> float:
    values = np.linalg.svd(x, compute_uv=False)
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def _pseudo_eer(scores: Floats, targets: NDArray[np.bool_], impostors: NDArray[np.bool_]) -> float:
    """Return the EER of the scores (U, U) at the pairs that count as targets and as impostors."""
    chosen = np.concatenate([scores[targets], scores[impostors]])
    return eer(chosen, np.arange(len(chosen)) < np.count_nonzero(targets)).value
