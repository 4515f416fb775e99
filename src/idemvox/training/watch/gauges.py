"""The log of a run (JSONL, TensorBoard), and measurements of pseudo-positives."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from idemvox.batch import Swap
from idemvox.clustering.purity import pair_share, purity
from idemvox.files import atomic_write
from idemvox.training.watch.curves import read_log, write_curves

__all__ = ["Log", "PositiveGauge"]

Numbers = npt.NDArray[Any]

_COUNTED_TOGETHER = 256  # steps whose counts are fetched from the device at once


class Log:
    """Writes each event as a line of ``log.jsonl`` and its numbers to TensorBoard; epochs to ``curves.csv``.

    Args:
        folder: folder of the run; ``None`` for a process that writes no log.
        step: step at which the run starts or resumes; later events of an earlier attempt are removed.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        self._folder = folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        events = [event for event in read_log(folder / "log.jsonl") if event["step"] < step]
        with atomic_write(folder / "log.jsonl") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)
        write_curves(folder)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Log one event at a global step, counted from 0."""
        if self._folder is None:
            return
        self._file.write(
            json.dumps({"event": event, "step": step, "time": round(time.time(), 3), **values}) + "\n"
        )
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(f"{event}/{name}", value, step)
        if event == "epoch":
            write_curves(self._folder)

    def close(self) -> None:
        """Close the log."""
        if self._folder is not None:
            self._file.close()
            self._board.close()


class PositiveGauge:
    """Measures pseudo-positives over an epoch: embeddings at each step, views from the epoch's partners.

    Coverage is the share of anchors whose positive was replaced. If the corpus has labels, it also measures
    the shares of replaced positives from the anchor's speaker and from the same recording. These are
    diagnostics; no training code reads them.
    """

    def __init__(self, speakers: npt.NDArray[np.int32], recordings: npt.NDArray[np.int32]) -> None:
        """Take the speaker and the recording of each utterance (N,), -1 if unknown."""
        labels = {"speaker": speakers, "recording": recordings}
        self._labels = {name: numbers for name, numbers in labels.items() if (numbers >= 0).any()}
        self._sums: dict[str, float] = defaultdict(float)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, ids: Tensor, swap: Swap) -> None:
        """Count a step of the utterances ``ids`` (B,), if the sampler works on embeddings."""
        if swap.replaced is None or swap.chosen is None:
            return
        self._waiting.append((ids, swap.chosen, swap.replaced))
        if len(self._waiting) >= _COUNTED_TOGETHER:
            self._count()

    def _count(self) -> None:
        """Count the pending steps; fetching results after every step would make the device wait."""
        if not self._waiting:
            return
        anchor, other, replaced = (torch.cat(part).cpu().numpy() for part in zip(*self._waiting, strict=True))
        self._waiting.clear()
        for name, number in self._right(anchor, other, replaced).items():
            self._sums[name] += number

    def _right(self, anchor: Numbers, other: Numbers, replaced: Numbers) -> dict[str, float]:
        """Count the anchors (B,) with a pseudo-positive, and of these the ones whose ``other`` is right."""
        counts = {"anchors": float(len(anchor)), "hits": float(replaced.sum())}
        for name, labels in self._labels.items():
            known = (other >= 0) & (labels[anchor] >= 0) & (labels[np.maximum(other, 0)] >= 0)
            counts[f"{name}_known"] = float(known.sum())
            counts[f"{name}_right"] = float((labels[anchor][known] == labels[other[known]]).sum())
        return counts

    def partners(self, partners: Numbers | None) -> dict[str, float]:
        """Measure a sampler of views by an epoch's partners, (N,) or (N, P); ``None`` from any other."""
        if partners is None:
            return {}
        anchor = np.arange(len(partners)).repeat(partners.size // len(partners))
        partners = partners.ravel()
        replaced = partners != anchor
        return _shares(self._right(anchor, np.where(replaced, partners, -1), replaced))

    def clusters(self, assignment: Tensor | None) -> dict[str, float]:
        """Measure a sampler's clusters (N,), -1 for none, if labels are known.

        ``cluster_purity`` is the share of utterances from their cluster's most frequent speaker.
        ``cluster_speaker_pairs`` and ``cluster_recording_pairs`` are the shares of pairs within clusters with
        the same speaker and the same recording.
        """
        if assignment is None or not self._labels:
            return {}
        cluster = assignment.cpu().numpy()
        labels = self._labels
        shares = {f"cluster_{name}_pairs": pair_share(cluster, labels[name]) for name in labels}
        if "speaker" in labels:
            shares["cluster_purity"] = purity(cluster, labels["speaker"])
        return {name: value for name, value in shares.items() if value is not None}

    def state(self) -> dict[str, float]:
        """Return the counts since the last :meth:`result`."""
        self._count()
        return dict(self._sums)

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore the counts from :meth:`state`."""
        self._waiting.clear()
        self._sums = defaultdict(float, state)

    def result(self) -> Mapping[str, float]:
        """Return the shares since the last call, and reset the counts."""
        self._count()
        sums, self._sums = self._sums, defaultdict(float)
        return _shares(sums)


def _shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Return the shares to log, from counts."""
    if not counts.get("anchors"):
        return {}
    shares = {"coverage": counts["hits"] / counts["anchors"]}
    for name in ("speaker", "recording"):
        if counts.get(f"{name}_known"):
            shares[f"{name}_accuracy"] = counts[f"{name}_right"] / counts[f"{name}_known"]
    return shares
