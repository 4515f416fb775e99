"""What a run writes of itself: JSONL, TensorBoard; and how right the pseudo-positives are."""

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

_COUNTED_TOGETHER = 256  # steps


class Log:
    """Writes each event as a line of ``log.jsonl`` and its numbers to TensorBoard; epochs to ``curves.csv``.

    Args:
        folder: of the run; ``None`` for a process that is not to write.
        step: from which on the run goes on; what an earlier attempt has logged from there on is removed.
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
        """Log one event at a global step, the number of those before it."""
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
        """Flush and close both."""
        if self._folder is not None:
            self._file.close()
            self._board.close()


class PositiveGauge:
    """Measures pseudo-positives over an epoch: embeddings step by step, views by the epoch's partners.

    Coverage is the share of anchors whose positive was replaced.  Where the corpus happens to have labels,
    also the share of replaced positives of the anchor's own speaker, and of the same recording; these are
    diagnostics: nothing that learns reads them.
    """

    def __init__(self, speakers: npt.NDArray[np.int32], recordings: npt.NDArray[np.int32]) -> None:
        """Take numbers (N,) of speakers and of recordings, -1 where unknown."""
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
        """Count the steps that wait; asking a device after each would make it wait."""
        if not self._waiting:
            return
        anchor, other, replaced = (torch.cat(each).cpu().numpy() for each in zip(*self._waiting, strict=True))
        self._waiting.clear()
        for name, number in self._right(anchor, other, replaced).items():
            self._sums[name] += number

    def _right(self, anchor: Numbers, other: Numbers, replaced: Numbers) -> dict[str, float]:
        """Count how many anchors (B,) were given anything, and of those given ``other`` who is right."""
        counts = {"anchors": float(len(anchor)), "hits": float(replaced.sum())}
        for name, labels in self._labels.items():
            known = (other >= 0) & (labels[anchor] >= 0) & (labels[np.maximum(other, 0)] >= 0)
            counts[f"{name}_known"] = float(known.sum())
            counts[f"{name}_right"] = float((labels[anchor][known] == labels[other[known]]).sum())
        return counts

    def partners(self, partners: Numbers | None) -> dict[str, float]:
        """Measure a sampler of views by the partners (N,) of an epoch; ``None`` from any other sampler."""
        if partners is None:
            return {}
        anchor = np.arange(len(partners))
        replaced = partners != anchor
        return _shares(self._right(anchor, np.where(replaced, partners, -1), replaced))

    def clusters(self, assignment: Tensor | None) -> dict[str, float]:
        """Measure a sampler's clusters (N,), -1 for none, where labels are known.

        ``cluster_purity`` is the share of utterances of their cluster's most frequent speaker;
        ``cluster_speaker_pairs`` and ``cluster_recording_pairs`` are shares of the pairs within clusters.
        """
        if assignment is None or not self._labels:
            return {}
        cluster = assignment.cpu().numpy()
        labels = self._labels
        found = {f"cluster_{name}_pairs": pair_share(cluster, labels[name]) for name in labels}
        if "speaker" in labels:
            found["cluster_purity"] = purity(cluster, labels["speaker"])
        return {name: value for name, value in found.items() if value is not None}

    def state(self) -> dict[str, float]:
        """Return what has been counted since the last :meth:`result`."""
        self._count()
        return dict(self._sums)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on counting from :meth:`state`."""
        self._waiting.clear()
        self._sums = defaultdict(float, state)

    def result(self) -> Mapping[str, float]:
        """Return the shares since the last call, and start anew."""
        self._count()
        sums, self._sums = self._sums, defaultdict(float)
        return _shares(sums)


def _shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Make the logged shares of counts."""
    if not counts.get("anchors"):
        return {}
    shares = {"coverage": counts["hits"] / counts["anchors"]}
    for name in ("speaker", "recording"):
        if counts.get(f"{name}_known"):
            shares[f"{name}_accuracy"] = counts[f"{name}_right"] / counts[f"{name}_known"]
    return shares
