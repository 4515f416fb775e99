"""Evaluate a model on trial lists: find utterances, embed each once, score, report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.audio.read import probe
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.model import Model
from idemvox.verification.bootstrap import eer_interval
from idemvox.verification.counts import SortedTrials
from idemvox.verification.embed import EmbeddingCache, Embeddings, Precision, embed_shared
from idemvox.verification.metrics import Costs, eer_of, min_dcf_of
from idemvox.verification.report import Report, library_versions
from idemvox.verification.scoring import Scorer, missing_ids
from idemvox.verification.trials import Trials

if TYPE_CHECKING:
    import torch

__all__ = [
    "Scored",
    "evaluate",
    "evaluate_embeddings",
    "evaluate_lists",
    "find_utterances",
    "score_embeddings",
    "score_lists",
    "score_report",
    "scored_trials",
    "trial_utterances",
]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A model's scores on a trial list.

    Attributes:
        scores: (N,) one per trial.
        speakers: speaker of each id, as far as known.
        scoring: what was embedded and how embeddings were compared.
    """

    model: Model
    trials: Trials
    scores: NDArray[np.float32]
    speakers: Mapping[str, str]
    scoring: str

    @property
    def sides(self) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """Speakers of both sides of the trials, as numbers; ``None`` unless all are known."""
        if not all(name in self.speakers for name in self.trials.ids):
            return None
        return self.trials.speakers(self.speakers)

    def report(self, draws: int = 200, command: str = "") -> Report:
        """Return the report; with all speakers known it has a confidence interval, of ``draws`` draws."""
        report = score_report(self.scores, self.trials, self.speakers, draws)
        return replace(report, scoring=self.scoring, model=self.model.provenance, command=command)


def trial_utterances(trials: Trials | Sequence[Trials], source: Manifest | str | Path) -> Manifest:
    """Find the utterances of trial lists; the result's ids are the names used in the trials.

    Args:
        trials: one list, or several.
        source: a manifest, where names are ids, paths as written in the manifest, or the end of exactly one
            such path; or a folder, where names are paths below it and speakers are unknown.

    Raises:
        CorpusError: some names are not found; the message shows up to five of them.
    """
    lists = [trials] if isinstance(trials, Trials) else list(trials)
    names = list(dict.fromkeys(name for trial_list in lists for name in trial_list.ids))
    return find_utterances(names, source, " + ".join(trial_list.name for trial_list in lists))


def find_utterances(names: Sequence[str], source: Manifest | str | Path, trials: str) -> Manifest:
    """Find utterances by name, as :func:`trial_utterances` does; ``trials`` names the list in messages."""
    if isinstance(source, Manifest):
        by_name, root = _in_manifest(names, source), source.root
    else:
        root = Path(source)
        files = [name for name in names if (root / name).is_file()]
        by_name = {name: Utterance(name, name, probe(root / name).seconds) for name in files}
    if len(by_name) < len(names):
        missing = [name for name in names if name not in by_name]
        raise missing_ids(missing, len(names), trials)
    return Manifest([by_name[name] for name in names], root)


def _in_manifest(names: Sequence[str], manifest: Manifest) -> dict[str, Utterance]:
    """Return the utterance of each name that the manifest has, with that name as its id."""
    by_path: dict[str, Utterance] = {}
    by_end: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in manifest:
        by_path[utterance.path] = utterance
        by_end[Path(utterance.path).name].append(utterance)
    by_name: dict[str, Utterance] = {}
    for name in names:
        hit = manifest.by_id.get(name) or by_path.get(name)
        if hit is None:
            parts = Path(name).parts
            ends = [u for u in by_end[Path(name).name] if Path(u.path).parts[-len(parts) :] == parts]
            hit = ends[0] if len(ends) == 1 else None
        if hit is not None:
            by_name[name] = replace(hit, id=name)
    return by_name


def score_report(
    scores: ArrayLike, trials: Trials, speakers: Mapping[str, str] | None = None, draws: int = 200
) -> Report:
    """Compute a report from scores.

    Args:
        scores: (N,) one per trial.
        trials: the trials, in the order of the scores.
        speakers: speaker of each id, for the confidence interval; if one is missing there is no interval.
        draws: bootstrap draws; 0 for no interval.
    """
    ordered = SortedTrials(scores, trials.labels)
    equal = eer_of(ordered)
    low = high = None
    if draws and speakers is not None and all(name in speakers for name in trials.ids):
        interval = eer_interval(scores, trials.labels, *trials.speakers(speakers), draws=draws)
        low, high = interval.low, interval.high
    return Report(
        trials=trials.name,
        targets=trials.targets,
        impostors=trials.impostors,
        eer=equal.value,
        eer_threshold=equal.threshold,
        mindcf_001=min_dcf_of(ordered, Costs(0.01)),
        mindcf_005=min_dcf_of(ordered, Costs(0.05)),
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
    cache: EmbeddingCache | None = None,
    progress: bool = False,
) -> list[Report]:
    """Report EER and minDCF on several trial lists; every utterance is embedded once.

    Args:
        model: the model to evaluate, with its own scoring.
        lists: the trial lists.
        source: manifest or root folder, as for :func:`trial_utterances`; a complete speaker column gives a
            confidence interval.
        draws: bootstrap draws for the interval; 0 for none.
        command: the command that reproduces these reports.
        device: device to embed on; this and the rest as for
            :func:`~idemvox.verification.embed.embed_files`.
        batch_seconds: most audio in a batch.
        precision: precision of the network's arithmetic.
        max_seconds: cut each utterance to its first seconds; ``None`` embeds it whole.
        workers: threads that read audio.
        cache: take embeddings from it, and write others into it.
        progress: show a progress bar.
    """
    found = score_lists(
        model,
        lists,
        source,
        device=device,
        batch_seconds=batch_seconds,
        precision=precision,
        max_seconds=max_seconds,
        workers=workers,
        cache=cache,
        progress=progress,
    )
    return [scored.report(draws, command) for scored in found]


def score_lists(
    model: Model, lists: Sequence[Trials], source: Manifest | str | Path, **how: Any
) -> list[Scored]:
    """Score several trial lists; every utterance is embedded once.

    In a process group each process embeds its share, and rank 0 scores; the others return an empty list.

    ``how`` goes to :func:`~idemvox.verification.embed.embed_shared`; the rest is as for
    :func:`evaluate_lists`.
    """
    utterances = trial_utterances(lists, source)
    embeddings = embed_shared(model.encoder, utterances, **how)
    if embeddings is None:
        return []
    return [score_embeddings(model, embeddings, trials, utterances) for trials in lists]


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
    cache: EmbeddingCache | None = None,
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
        cache=cache,
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
    """Report on a trial list from embeddings computed before.

    Args:
        model: the model that computed them; gives the scoring and the provenance.
        embeddings: their ids are the names used in the trials.
        trials: the list.
        utterances: utterances of the trials; if all have speakers, there is a confidence interval.
        draws: as for :func:`evaluate_lists`.
        command: as for :func:`evaluate_lists`.
    """
    return score_embeddings(model, embeddings, trials, utterances).report(draws, command)


def score_embeddings(
    model: Model, embeddings: Embeddings, trials: Trials, utterances: Manifest | None = None
) -> Scored:
    """Score a trial list from embeddings computed before; arguments as for :func:`evaluate_embeddings`."""
    scores = Scorer.of(model).scores(embeddings, trials)
    return scored_trials(model, scores, trials, utterances, embeddings.of)


def scored_trials(
    model: Model, scores: NDArray[np.float32], trials: Trials, utterances: Manifest | None, of: str
) -> Scored:
    """Return what belongs to scores (N,) that the model's scorer gave; ``of`` says what was embedded."""
    scorer = Scorer.of(model)
    speakers = {u.id: u.speaker for u in utterances or () if u.speaker is not None}
    if scorer.backend is not None:
        model = replace(model, provenance=scorer.backend.known(model.provenance))
    return Scored(model, trials, scores, speakers, f"{scorer} of {of}")
