"""Adapt a model to unlabelled recordings with SSPS, and measure without labels whether that helped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idemvox.corpus.cut import cut_long
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.prepare import prepare_folder
from idemvox.devices import device_named
from idemvox.draws import draw_seed
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.files import read_json, write_json
from idemvox.model import Model, load_model, save_model
from idemvox.recipe import Part, Recipe
from idemvox.training.loop import train
from idemvox.training.watch.held_out import HeldOut
from idemvox.verification.comparison import Difference, eer_difference

__all__ = ["AdaptOptions", "Adaptation", "adapt", "pseudo_difference"]

LONGEST = 10.0  # seconds of a piece of a recording
FEWEST = 40  # recordings; fewer cannot be clustered and held out
HELD_OUT = 256  # most utterances that gauges listen to


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How to adapt a model.

    Attributes:
        epochs: epochs of training.
        lr: learning rate; it is halved twice.
        clusters: K, the number of clusters of recordings; ``None``: half the number of recordings, which
            makes few wrong pairs if most people are in few recordings.
        held_out: share of the recordings that are not trained on, to measure on.
        seed: of the run and of the choice of held-out recordings.
        overrides: recipe ``KEY=VALUE`` for the run.
    """

    epochs: int = 8
    lr: float = 1e-4
    clusters: int | None = None
    held_out: float = 0.2
    seed: int = 0
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.epochs < 1 or not self.lr > 0:
            raise IdemvoxError("epochs and lr must be positive, and held_out a share between 0 and 1")


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The result.

    Attributes:
        before, after: label-free gauges of the held-out recordings by the given and the adapted model.
        difference: of the pseudo-EER: two crops of an utterance, one through a simulated channel, against
            crops of different recordings. Its interval resamples recordings.
        model: folder of the adapted model; ``None`` if it did not help.
        recordings, held_out: number of recordings trained on and held out.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    difference: Difference
    model: Path | None
    recordings: int
    held_out: int

    @property
    def helped(self) -> bool:
        """Whether the whole interval of the difference is below 0."""
        return self.difference.excludes_zero and self.difference.difference < 0

    def __str__(self) -> str:
        rates = f"pseudo-EER {100 * self.difference.a:.2f} -> {100 * self.difference.b:.2f} %"
        change = f"{rates}, {self.difference.absolute_text} on {self.held_out} held-out recordings"
        if self.helped:
            return f"helped: {change}"
        return f"did not help, keep the old model: {change}"


def adapt(
    source: Path, model: Path, out: Path, options: AdaptOptions | None = None, *, progress: bool = True
) -> Adaptation:
    """Continue a model with SSPS on unlabelled recordings, and say whether it helped.

    Recordings are known: each file, or each recording that a manifest names, is one. SSPS then clusters
    recordings and draws positives from *other* recordings of the cluster. Part of the recordings is held out.
    After training, both models embed it, and the pseudo-EER decides; it knows no speaker, so it is a stand-in
    for the true error rate, which only labelled trials can tell. An interrupted run resumes.

    Args:
        source: a folder of audio, or a manifest; speakers are not read.
        model: a model folder that was trained by gradients or imported.
        out: folder for manifests, the run, ``adaptation.json`` and, if it helped, ``model``.
        options: how to train.
        progress: show progress bars.

    Raises:
        CorpusError: there are too few recordings.
        ModelError: the model was exported, or cannot be trained further.
    """
    options, given = options or AdaptOptions(), load_model(model)
    network = given.network  # refuses an exported model before any work
    learn, held = _corpora(source, out, options, progress)
    recordings = len({u.recording for u in load_manifest(learn)})
    recipe = _recipe(given, learn, held, recordings, options)
    place = device_named(recipe.training.device)
    judge = HeldOut(held, HELD_OUT, options.seed)
    before = judge.embed(network.to(place), place)
    numbers = judge.measure(network, place)
    run = out / "run"
    train(recipe, run, resume=(run / "checkpoints").is_dir(), progress=progress)
    trained = load_model(run)
    after = judge.embed(trained.network.to(place), place)
    found = Adaptation(
        numbers,
        judge.measure(trained.network, place),
        pseudo_difference(before, after, judge.recordings),
        None,
        recordings,
        len(np.unique(judge.recordings)),
    )
    if found.helped:
        found = replace(found, model=_keep(trained, given, out / "model", found))
    write_json(out / "adaptation.json", _values(found))
    return found


def pseudo_difference(
    before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]], recordings: NDArray[np.integer[Any]]
) -> Difference:
    """Return the difference of two models' pseudo-EER through channels, with its interval.

    Targets are the first crop of an utterance and the second one through a channel, impostors the same of two
    utterances of different recordings. Whole recordings are drawn again for the interval.

    Args:
        before, after: (3, U, D) embeddings by each model, from
            :meth:`~idemvox.training.watch.held_out.HeldOut.embed`.
        recordings: (U,) the recording of each utterance, -1 if unknown.
    """
    count = len(recordings)
    own = np.where(recordings >= 0, recordings, recordings.max() + 1 + np.arange(count))
    same = np.eye(count, dtype=bool)
    asked = same | (own[:, None] != own[None, :])
    first, second = np.nonzero(asked)
    scores = [_cosines(x[0], x[2])[asked] for x in (before, after)]
    return eer_difference(scores[0], scores[1], same[asked], own[first], own[second])


def _cosines(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return (U, U) the cosines of all pairs."""
    x, y = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (a, b))
    return np.asarray(x @ y.T, np.float64)


def _corpora(source: Path, out: Path, options: AdaptOptions, progress: bool) -> tuple[Path, Path]:
    """Write the manifests of what is trained on and of what is held out; return their paths.

    Held-out recordings are drawn by name and seed, so a resumed run has the same.
    """
    if source.is_dir():
        prepare_folder(source, out / "recordings.csv", progress=progress)
        source = out / "recordings.csv"
    found = load_manifest(source)
    rows = [
        Utterance(u.id, str(found.path(u).absolute()), u.seconds, u.rate, None, u.recording, u.start)
        for u in found
    ]
    pieces = cut_long(Manifest(rows, out), LONGEST)
    names = sorted({str(u.recording) for u in pieces})
    if len(names) < FEWEST:
        raise CorpusError(
            f"{source} has {len(names)} recordings; adapting needs {FEWEST} or more, since some are held out "
            "and the others are clustered: give more recordings"
        )
    rng = np.random.default_rng(draw_seed(options.seed, 0xADA))
    count = max(1, round(options.held_out * len(names)))
    kept = {names[row] for row in rng.permutation(len(names))[:count]}
    paths = out / "learn.csv", out / "held-out.csv"
    save_manifest(pieces.select(lambda u: u.recording not in kept), paths[0])
    save_manifest(pieces.select(lambda u: u.recording in kept), paths[1])
    return paths


def _recipe(given: Model, learn: Path, held: Path, recordings: int, options: AdaptOptions) -> Recipe:
    """Return the recipe of the run: SimCLR with SSPS, recordings known, from the model's encoder."""
    described = read_json(given.folder / "model.json")
    utterances = len(load_manifest(learn))
    return Recipe().override(
        [
            "name=adapt",
            f"seed={options.seed}",
            f"start_from={given.folder}",
            f"data.manifest={learn}",
            f"data.held_out={held}",
            f"encoder={json.dumps(described['encoder'])}",
            f"frontend={json.dumps(described['frontend'])}",
            "positives.name=ssps",
            "positives.unit=recording",
            "positives.clusterer=agglomerative",
            f"positives.clusters={options.clusters or max(2, recordings // 2)}",
            "positives.neighbours=0",
            "positives.whiten=0.5",
            f"positives.queue={utterances}",
            "positives.refresh=true",
            f"training.epochs={options.epochs}",
            f"training.batch={max(2, min(128, utterances // 4))}",
            f"training.lr={options.lr}",
            "training.lr_decay=0.5",
            f"training.lr_every={max(1, -(-options.epochs // 3))}",
            f"training.gauge_utterances={HELD_OUT}",
            *options.overrides,
        ]
    )


def _keep(trained: Model, given: Model, folder: Path, found: Adaptation) -> Path:
    """Write the adapted model, with what it was adapted from and what was measured."""
    described = read_json(trained.folder / "model.json")
    values = {
        **trained.provenance,
        "adapted": {"from": str(given.folder), "provenance": given.provenance, "verdict": str(found)},
    }
    save_model(
        folder,
        trained.network,
        Part(**described["encoder"]),
        described["frontend"],
        values,
        scoring=trained.scoring,
    )
    return folder


def _values(found: Adaptation) -> dict[str, Any]:
    """Return a result as plain values."""
    return {**asdict(found), "model": found.model and str(found.model), "helped": found.helped}
