"""Evaluate a model on trial lists: find the utterances, embed each once, score, report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from numpy.typing import ArrayLike

from idemvox.audio.read import probe
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.model import Model
from idemvox.verification.bootstrap import eer_interval
from idemvox.verification.embed import Embeddings, Precision, embed_files
from idemvox.verification.metrics import eer, min_dcf
from idemvox.verification.report import Report, library_versions
from idemvox.verification.scoring import Scorer, missing_ids
from idemvox.verification.trials import Trials

__all__ = [
    "evaluate",
    "evaluate_embeddings",
    "evaluate_lists",
    "find_utterances",
    "score_report",
    "trial_utterances",
]


def trial_utterances(trials: Trials | Sequence[Trials], source: Manifest | str | Path) -> Manifest:
    """Find the utterances that trials name; the result's ids are the names used in the trials.

    Args:
        trials: one list, or several whose utterances are wanted together.
        source: a manifest: names are ids, paths as the manifest writes them, or the last parts of exactly one
            such path; or a folder: names are paths below it, and no speakers are known.

    Raises:
        CorpusError: names that are not found, with up to five of them.
    """
    lists = [trials] if isinstance(trials, Trials) else list(trials)
    names = list(dict.fromkeys(name for trial_list in lists for name in trial_list.ids))
    return find_utterances(names, source, " + ".join(trial_list.name for trial_list in lists))


def find_utterances(names: Sequence[str], source: Manifest | str | Path, trials: str) -> Manifest:
    """Find utterances by the names that the trials so called give them, as :func:`trial_utterances` does."""
    if isinstance(source, Manifest):
        found, root = _in_manifest(names, source), source.root
    else:
        root = Path(source)
        there = [name for name in names if (root / name).is_file()]
        found = {name: Utterance(name, name, probe(root / name).seconds) for name in there}
    if len(found) < len(names):
        missing = [name for name in names if name not in found]
        raise missing_ids(missing, len(names), trials)
    return Manifest([found[name] for name in names], root)


def _in_manifest(names: Sequence[str], manifest: Manifest) -> dict[str, Utterance]:
    by_path: dict[str, Utterance] = {}
    by_end: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in manifest:
        by_path[utterance.path] = utterance
        by_end[Path(utterance.path).name].append(utterance)
    found: dict[str, Utterance] = {}
    for name in names:
        hit = manifest.by_id.get(name) or by_path.get(name)
        if hit is None:
            parts = Path(name).parts
            ends = [u for u in by_end[Path(name).name] if Path(u.path).parts[-len(parts) :] == parts]
            hit = ends[0] if len(ends) == 1 else None
        if hit is not None:
            found[name] = replace(hit, id=name)
    return found


def score_report(
    scores: ArrayLike, trials: Trials, speakers: Mapping[str, str] | None = None, draws: int = 200
) -> Report:
    """Compute the metrics of given scores.

    Args:
        scores: (N,) one per trial.
        trials: the trials, in the order of the scores.
        speakers: speaker of each id, for the confidence interval; without all of them there is none.
        draws: bootstrap draws; 0 for no interval.
    """
    found = eer(scores, trials.labels)
    low = high = None
    if draws and speakers is not None and all(name in speakers for name in trials.ids):
        interval = eer_interval(scores, trials.labels, *trials.speakers(speakers), draws=draws)
        low, high = interval.low, interval.high
    return Report(
        trials=trials.name,
        targets=trials.targets,
        impostors=trials.impostors,
        eer=found.value,
        eer_threshold=found.threshold,
        mindcf_001=min_dcf(scores, trials.labels, 0.01),
        mindcf_005=min_dcf(scores, trials.labels, 0.05),
        eer_low=low,
        eer_high=high,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )


def evaluate_lists(
    model: Model,
    lists: Sequence[Trials],
    source: Manifest | str | Path,
    *,
    draws: int = 200,
    command: str = "",
    device: str | torch.device | None = None,
    batch_seconds: float = 120.0,
    precision: Precision = "fp32",
    max_seconds: float | None = None,
    workers: int = 2,
    progress: bool = False,
) -> list[Report]:
    """Report EER and minDCF on each of several trial lists; every utterance is embedded once.

    Args:
        model: what is evaluated; its embeddings are compared as it says.
        lists: the trial lists.
        source: manifest or root folder, as for :func:`trial_utterances`; its speaker column, where filled,
            gives the confidence interval.
        draws: bootstrap draws for the interval; 0 for none.
        command: what to run to get these reports again.
        device: where to embed, as the rest for :func:`~idemvox.verification.embed.embed_files`.
        batch_seconds: most audio in a batch.
        precision: of the network's arithmetic.
        max_seconds: of each utterance; ``None`` takes it whole.
        workers: threads that read audio.
        progress: show a progress bar.
    """
    utterances = trial_utterances(lists, source)
    embeddings = embed_files(
        model.encoder,
        utterances,
        device=device,
        batch_seconds=batch_seconds,
        precision=precision,
        max_seconds=max_seconds,
        workers=workers,
        progress=progress,
    )
    return [
        evaluate_embeddings(model, embeddings, trials, utterances, draws=draws, command=command)
        for trials in lists
    ]


def evaluate(
    model: Model,
    trials: Trials,
    source: Manifest | str | Path,
    *,
    draws: int = 200,
    command: str = "",
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
    max_seconds: float | None = None,
    progress: bool = False,
) -> Report:
    """Report EER and minDCF on one trial list; arguments as for :func:`evaluate_lists`."""
    [report] = evaluate_lists(
        model,
        [trials],
        source,
        draws=draws,
        command=command,
        device=device,
        precision=precision,
        max_seconds=max_seconds,
        progress=progress,
    )
    return report


def evaluate_embeddings(
    model: Model,
    embeddings: Embeddings,
    trials: Trials,
    utterances: Manifest | None = None,
    *,
    draws: int = 200,
    command: str = "",
) -> Report:
    """Report on a trial list from embeddings of a model that are there already.

    Args:
        model: says how embeddings are compared, and where they come from.
        embeddings: their ids are the names used in the trials.
        trials: the list.
        utterances: of the trials; where all have speakers, there is a confidence interval.
        draws: as for :func:`evaluate_lists`.
        command: likewise.
    """
    scorer = Scorer.of(model)
    speakers = {u.id: u.speaker for u in utterances or () if u.speaker is not None}
    report = score_report(scorer.scores(embeddings, trials), trials, speakers, draws)
    return replace(report, scoring=f"{scorer} of {embeddings.of}", model=model.provenance, command=command)
