"""Evaluate an encoder on a trial list: the numbers, and everything needed to get them again."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from rich.table import Table
from torch import nn

from idemvox.audio.read import probe
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.encoders.base import Scoring
from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write
from idemvox.verification.bootstrap import eer_interval
from idemvox.verification.embed import Embeddings, embed_files
from idemvox.verification.metrics import eer, min_dcf
from idemvox.verification.scoring import SCORING_NAMES, missing_ids, trial_scores
from idemvox.verification.trials import Trials

__all__ = [
    "REPORT_FILE",
    "Report",
    "evaluate",
    "find_utterances",
    "library_versions",
    "load_report",
    "reports_table",
    "score_report",
    "store_report",
    "trial_utterances",
]

REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class Report:
    """Results of one model on one trial list; rates are fractions, 0.05 for 5 %."""

    trials: str
    targets: int
    impostors: int
    eer: float
    """Larger of both error rates where they are nearest, as the field's toolkits print it."""
    eer_threshold: float
    """Two recordings are taken for one speaker when they score this or more."""
    mindcf_001: float
    """Normalised minDCF with p_target = 0.01 and both costs 1."""
    mindcf_005: float
    """The same with p_target = 0.05."""
    eer_low: float | None = None
    """95 % confidence interval by resampling speakers; ``None`` where the speakers are not known."""
    eer_high: float | None = None
    scoring: str = "cosine"
    model: dict[str, Any] = field(default_factory=dict)
    """Where the model came from."""
    command: str = ""
    date: str = ""
    """UTC, ISO 8601."""
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what :meth:`to_json` gave."""
        try:
            values = json.loads(text)
            known = {item.name for item in fields(cls)}
            return cls(**{name: value for name, value in values.items() if name in known})
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise IdemvoxError(f"not an evaluation report ({error}); evaluate the model again") from error

    def table(self) -> Table:
        """Return a table with this report alone."""
        return reports_table([self])

    def eer_text(self) -> str:
        """Return the EER in per cent, with its interval where there is one: ``5.12 (3.9 to 6.8)``."""
        text = f"{100 * self.eer:.2f}"
        if self.eer_low is not None and self.eer_high is not None:
            text += f" ({100 * self.eer_low:.1f} to {100 * self.eer_high:.1f})"
        return text


def reports_table(reports: Iterable[Report]) -> Table:
    """Return one row per report, for the terminal."""
    rows = list(reports)
    notes = []
    if any(report.eer_low is not None for report in rows):
        notes.append("EER interval: 95 %, speakers resampled")
    if known := sorted({name for report in rows for name in report.model.get("known", [])}):
        notes.append(f"{' and '.join(known)} known in training")
    table = Table(caption="; ".join(notes) or None)
    table.add_column("trials")
    for heading in ("targets", "impostors", "EER %", "minDCF p=0.01", "minDCF p=0.05"):
        table.add_column(heading, justify="right", no_wrap=heading == "EER %")
    for r in rows:
        counts = (f"{r.targets:,}", f"{r.impostors:,}")
        table.add_row(r.trials, *counts, r.eer_text(), f"{r.mindcf_001:.4f}", f"{r.mindcf_005:.4f}")
    return table


def library_versions() -> dict[str, str]:
    """Versions of Python, idemvox, torch and NumPy."""
    found = {"python": platform.python_version()}
    for package in ("idemvox", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def trial_utterances(trials: Trials | Sequence[Trials], source: Manifest | str | Path) -> Manifest:
    """Find the utterances that trials name; the result's ids are the names used in the trials.

    Args:
        trials: one list, or several whose utterances are wanted together.
        source: a manifest: names are ids, paths as the manifest writes them, or the last parts of exactly one
            such path; or a folder: names are paths below it, and no speakers are known.

    Raises:
        IdemvoxError: names that are not found, with up to five of them.
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


def evaluate(
    encoder: nn.Module,
    trials: Trials,
    source: Manifest | str | Path | None = None,
    *,
    embeddings: Embeddings | None = None,
    draws: int = 200,
    model: Mapping[str, Any] | None = None,
    command: str = "",
    store: str | Path | None = None,
    **embedding: Any,
) -> Report:
    """Score a trial list by whole-utterance embeddings and report EER and minDCF.

    Args:
        encoder: what is evaluated; its ``scoring`` says how embeddings are compared (else cosine).
        trials: the list.
        source: manifest or root folder, as for :func:`trial_utterances`; its speaker column, where filled,
            gives the confidence interval.  Only needed for that if ``embeddings`` are given.
        embeddings: already computed, with the names used in the trials as ids (several lists, one pass:
            ``embed_files(encoder, trial_utterances(lists, source))``).
        draws: bootstrap draws for the interval; 0 for none.
        model: provenance to put into the report.
        command: what to run to get this report again.
        store: model folder; the report becomes its ``report.json``, whose threshold the verifier uses.
        embedding: for :func:`~idemvox.verification.embed.embed_files`: device, batch_seconds, precision,
            max_seconds, workers, progress.
    """
    if source is None and embeddings is None:
        raise IdemvoxError("to evaluate, give the manifest or the root folder of the trials, or embeddings")
    speakers: dict[str, str] = {}
    if source is not None and (embeddings is None or isinstance(source, Manifest)):
        utterances = trial_utterances(trials, source)
        speakers = {u.id: u.speaker for u in utterances if u.speaker is not None}
        if embeddings is None:
            embeddings = embed_files(encoder, utterances, **embedding)
    assert embeddings is not None
    compare: Scoring = getattr(encoder, "scoring", "cosine")
    report = score_report(trial_scores(compare, embeddings, trials), trials, speakers, draws)
    cut = embedding.get("max_seconds")
    scoring = f"{SCORING_NAMES[compare]} of {'whole utterances' if cut is None else f'the first {cut:g} s'}"
    if embedding.get("precision", "fp32") != "fp32":
        scoring += f", {embedding['precision']}"
    report = replace(report, scoring=scoring, model=dict(model or {}), command=command)
    if store is not None:
        store_report(store, report)
    return report


def store_report(folder: str | Path, report: Report) -> Path:
    """Write ``report.json`` into a model folder, in the place of an older one."""
    path = Path(folder) / REPORT_FILE
    with atomic_write(path) as file:
        file.write(report.to_json())
    return path


def load_report(folder: str | Path) -> Report | None:
    """Read the report stored with a model; ``None`` if it has not been evaluated."""
    path = Path(folder) / REPORT_FILE
    if not path.is_file():
        return None
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except (IdemvoxError, UnicodeDecodeError) as error:
        raise IdemvoxError(f"{path}: {error}") from error
