"""What a back end and a calibration change, for models that are there.

    python benchmarks/backends.py RUN ... [--data FOLDER]

Scores each model on the development lists of benchmarks/first_light.py (across and within *simulated*
recordings, and across real calls) with the back ends of `idemvox backend`: the plain cosine; the mean
subtracted; S-norm; AS-norm with a cohort of utterances and, with labels, of speakers' mean embeddings; PLDA
on pseudo-speakers found by clustering; and PLDA on speakers. Every back end is fitted on the utterances that
the first-light systems learn from (`--data`), none on a list that is scored.

`change`: of the EER against the plain cosine, with its 95 % interval by resampling speakers. `Cllr` and
`actDCF` (p = 0.01) are those of log-likelihood ratios by a calibration that knew neither speaker of a trial
(five folds of the speakers); blank if some fold could not be calibrated, because same-speaker pairs did not
score higher there. `before` takes the score itself for a log-likelihood ratio. `known`: the labels that the
back end used; some of the models used labels in training too, as their names say.

Writes docs/results/backends.{md,json}.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from rich.console import Console

from common import parser_of, publish
from first_light import build
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.errors import ModelError
from idemvox.model import Model, load_model
from idemvox.studies.jobs import TestSet
from idemvox.verification.comparison import eer_difference
from idemvox.verification.embed import embed_files
from idemvox.verification.evaluation import trial_utterances
from idemvox.verification.fitting import BackEndOptions, fit_backend
from idemvox.verification.held_out import Quality, held_out_llrs, quality_of
from idemvox.verification.metrics import eer
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import load_trials

PER_SPEAKER = 20  # utterances of a pseudo-speaker on average
BACK_ENDS: dict[str, BackEndOptions | None] = {
    "cosine": None,
    "mean-subtracted": BackEndOptions("mean"),
    "S-norm": BackEndOptions("s-norm"),
    "AS-norm": BackEndOptions("as-norm"),
    "AS-norm, speakers": BackEndOptions("as-norm", labels=True, top=100),
    "PLDA on pseudo-speakers": BackEndOptions("plda", clusters=2),
    "PLDA on speakers": BackEndOptions("plda", labels=True),
}


def scorers(model: Model, learnt: Manifest) -> dict[str, Scorer]:
    """Fit every back end for a model."""
    matrix = embed_files(model.encoder, learnt.without_labels(), progress=True).matrix
    speakers = number_labels(learnt).speakers
    made = {}
    for name, options in BACK_ENDS.items():
        if options is not None and options.clusters is not None:
            options = BackEndOptions(options.kind, clusters=len(matrix) // PER_SPEAKER)
        backend = None if options is None else fit_backend(matrix, options, speakers)
        made[name] = Scorer(model.scoring, backend)
    return made


def calibrated(scores: ArrayLike, labels: ArrayLike, sides: tuple[ArrayLike, ArrayLike]) -> Quality | None:
    """Measure scores after calibration; ``None`` if they are too bad to be calibrated in some fold."""
    try:
        return quality_of(held_out_llrs(scores, labels, sides), labels)
    except ModelError:
        return None


def rows_of(name: str, model: Model, learnt: Manifest, tests: Sequence[TestSet]) -> list[dict[str, Any]]:
    """Return a row for each back end on each list."""
    lists = defaultdict(list)
    for test in tests:
        lists[test.manifest].append(load_trials(test.trials, test.name))
    made, rows = scorers(model, learnt), []
    for path, some in lists.items():
        utterances = trial_utterances(some, load_manifest(path))
        embeddings = embed_files(model.encoder, utterances, progress=True)
        speakers = {u.id: str(u.speaker) for u in utterances}
        for trials in some:
            sides, labels = trials.speakers(speakers), trials.labels
            scores = {way: scorer.scores(embeddings, trials) for way, scorer in made.items()}
            for way, found in scores.items():
                before = quality_of(found, labels)
                after = calibrated(found, labels, sides)
                options = BACK_ENDS[way]
                change = "" if way == "cosine" else eer_difference(scores["cosine"], found, labels, *sides)
                rows.append(
                    {
                        "system": f"{name}: {way}",
                        "trials": trials.name,
                        "eer": [eer(found, labels).value],
                        "mindcf_001": [before.min_dcf_001],
                        "change": change and change.relative_text,
                        "Cllr before": round(before.cllr, 3),
                        "Cllr": after and round(after.cllr, 3),
                        "minCllr": round(before.min_cllr, 3),
                        "actDCF before": round(before.act_dcf_001, 3),
                        "actDCF": after and round(after.act_dcf_001, 3),
                        "known": "speakers" if options is not None and options.labels else "",
                    }
                )
    return rows


def main() -> None:
    """Run it."""
    parser = parser_of(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, STUDY/seed-S/SYSTEM")
    parser.add_argument("--data", type=Path, default=Path("runs/first-light"))
    args = parser.parse_args()
    learn, tests = build(args.data.resolve(), "mild", choose=False)
    learnt, rows = load_manifest(learn), []
    for run in args.runs:
        Console().print(str(run))
        rows += rows_of("/".join(run.parts[-2:]), load_model(run), learnt, tests)
    where = Path(__file__).resolve().parents[1] / "docs" / "results"
    publish(where, "backends", "Back ends", __doc__ or "", rows)


if __name__ == "__main__":
    main()
