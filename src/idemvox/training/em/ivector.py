"""Fitting i-vectors to unlabelled speech: the mixture, then the total variability by EM."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from idemvox.audio.memory import to_wave
from idemvox.audio.read import SAMPLE_RATE
from idemvox.corpus.crops import AudioSource
from idemvox.draws import draw_seed
from idemvox.encoders.ivector import IVector
from idemvox.encoders.mixture import from_upper_triangle, upper_triangle, widest
from idemvox.processes import read_ahead
from idemvox.recipe import Part
from idemvox.training.em.mixture import fit_mixture
from idemvox.training.watch.gauges import Log

__all__ = ["Speech", "em_iteration", "fit_ubm", "sized"]

KEPT = 2 * 2**30  # most bytes of statistics to keep between iterations; otherwise they are recomputed
BATCH_SECONDS = 480.0  # large, because adding to the sums costs as much per batch as ten utterances
PER_UTTERANCE = 200  # frames per utterance that the mixture is fitted to, if there are enough utterances
SIZES = ((3.0, 256, 100), (100.0, 512, 200), (500.0, 1024, 300), (math.inf, 2048, 400))
"""(hours of speech, Gaussians, dimensions) up to these hours; the last are Kaldi's for VoxCeleb."""
Statistics = tuple[Tensor, Tensor]
"""Counts (B, C) and whitened sums (B, C, D) of a batch, from :meth:`IVector.statistics`."""


def sized(part: Part, source: AudioSource) -> Part:
    """Return an encoder's options with missing sizes filled in by the hours of the corpus (:data:`SIZES`)."""
    hours = float(source.lengths.sum()) / SAMPLE_RATE / 3600
    components, dim = next((c, d) for most, c, d in SIZES if hours <= most)
    given = {key: value for key, value in part.model_dump().items() if value is not None}
    return Part(**{"components": components, "dim": dim, **given})


class Speech:
    """Whole utterances of a corpus, for fitting i-vectors."""

    def __init__(self, encoder: IVector, source: AudioSource, workers: int, bar: Progress) -> None:
        self.encoder, self.source, self.workers, self.bar = encoder, source, workers, bar
        size = 4 * len(source) * (encoder.means.numel() + len(encoder.means))
        self._kept: list[Statistics] | None = [] if size <= KEPT else None

    def statistics(self, title: str) -> Iterator[Statistics]:
        """Yield the statistics of all utterances, in batches; kept for the next call if small enough."""
        if self._kept:
            yield from self._kept
            return
        batches = []
        for _, features, frames in self.features(range(len(self.source)), title):
            batch = self.encoder.statistics(features, frames)
            if self._kept is not None:
                batches.append(batch)
            yield batch
        self._kept = batches or None

    def draw(self, count: int, seed: int) -> Tensor:
        """Return (N, D) about ``count`` random frames of speech, a few from each of many utterances."""
        number_of_utterances = min(len(self.source), math.ceil(count / PER_UTTERANCE))
        ids = np.random.default_rng([seed, 0x0B31]).permutation(len(self.source))[:number_of_utterances]
        share = math.ceil(count / number_of_utterances)
        drawn = []
        for batch, features, frames in self.features(ids.tolist(), "reading speech"):
            for number, cepstra in zip(batch, self.encoder.speech(features, frames), strict=True):
                generator = torch.Generator().manual_seed(draw_seed(seed, number, 0x0B32))
                chosen = torch.randperm(len(cepstra), generator=generator)[:share]
                drawn.append(cepstra[chosen.to(cepstra.device)])
        return torch.cat(drawn)

    def features(self, ids: Sequence[int], title: str) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
        """Yield batches, longest first: ids, log-mel features (B, mels, F) and frames (B,)."""
        lengths, most = self.source.lengths, BATCH_SECONDS * SAMPLE_RATE
        batches: list[list[int]] = []
        for number in sorted(ids, key=lambda number: (-lengths[number], number)):
            if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > most:
                batches.append([])
            batches[-1].append(number)
        task = self.bar.add_task(title, total=len(ids), note="")
        device = self.encoder.means.device
        read = read_ahead(self._read, batches, self.workers, self.workers + 1)
        with closing(read):
            for batch, (pcm, sizes) in zip(batches, read, strict=True):
                yield batch, *self.encoder.frontend(to_wave(pcm.to(device)), sizes)
                self.bar.update(task, advance=len(batch))
        self.bar.remove_task(task)

    def _read(self, batch: list[int]) -> tuple[Tensor, Tensor]:
        """Return 16-bit samples (B, T) of whole utterances, and the number of samples of each (B,)."""
        pcm = np.zeros((len(batch), int(self.source.lengths[batch[0]])), np.int16)
        sizes = [
            self.source.read_into(number, 0, row[: int(self.source.lengths[number])])
            for number, row in zip(batch, pcm, strict=True)
        ]
        return torch.from_numpy(pcm), torch.tensor(sizes)


def fit_ubm(encoder: IVector, speech: Speech, seed: int, log: Log) -> float:
    """Fit the mixture; return the mean log-likelihood of a frame."""
    o, components = encoder.options, len(encoder.means)
    frames = speech.draw(o.frames * components, seed)
    full = o.covariance == "full"
    task = speech.bar.add_task("mixture", total=o.mixture_iterations * (1 + full), note="")
    values: list[float] = []

    def tell(value: float) -> None:
        log.write("mixture", len(values), log_likelihood=value)
        values.append(value)
        speech.bar.update(task, advance=1, note=f"log-likelihood {value:.3f}")

    mixture = fit_mixture(
        frames, components, full=full, iterations=o.mixture_iterations, seed=seed, tell=tell
    )
    speech.bar.remove_task(task)
    encoder.put(weights=mixture.weights, means=mixture.means, factors=mixture.factors)
    return values[-1]


def em_iteration(encoder: IVector, statistics: Iterable[Statistics]) -> float:
    """Run one iteration of EM for the total variability, with minimum divergence, in place.

    The loadings are set to the most likely ones given the posteriors of w (Kenny et al., 2005). Then the mean
    and covariance of w over the corpus become its prior, and w is transformed so that its covariance is the
    identity again (Brümmer, 2009; in Kaldi's form, where the prior's mean is a parameter).

    Args:
        encoder: an encoder whose mixture is fitted.
        statistics: statistics of all utterances, in batches.

    Returns:
        The log-likelihood of a frame above that of the mixture alone, before the change; it never falls.
    """
    wide, products = widest(encoder.means), encoder.derived[1]
    second = torch.zeros_like(products, dtype=wide)  # (C, R (R + 1) / 2)
    cross = torch.zeros_like(encoder.loadings, dtype=wide)  # (C, D, R)
    mean, moment = torch.zeros_like(encoder.prior, dtype=wide), torch.zeros_like(second[0])
    gain, frames, utterances = 0.0, 0.0, 0
    for counts, sums in statistics:
        posterior = encoder.posterior(counts, sums)
        moments = upper_triangle(posterior.second_moment())  # (B, R (R + 1) / 2)
        second += counts.T @ moments.to(counts)
        cross += (sums.flatten(1).T @ posterior.mean.to(sums)).view_as(cross)
        mean += posterior.mean.sum(0)
        moment += moments.sum(0)
        gain += float(posterior.gain.sum())
        frames += float(counts.sum())
        utterances += len(counts)
    mean /= utterances
    turn = torch.linalg.cholesky(from_upper_triangle(moment / utterances) - mean[:, None] * mean)  # (R, R)
    ridge = 1e-6 * torch.eye(len(mean), device=mean.device, dtype=wide)  # for unused components
    loadings = [
        torch.cholesky_solve(b.mT, torch.linalg.cholesky(from_upper_triangle(a) + ridge)).mT @ turn
        for a, b in zip(second.split(32), cross.split(32), strict=True)
    ]
    prior = torch.linalg.solve_triangular(turn, mean[:, None], upper=False).squeeze(1)
    encoder.put(loadings=torch.cat(loadings), prior=prior)
    return gain / frames
