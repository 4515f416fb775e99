"""`idemvox adapt` on real telephone calls.

    python benchmarks/adapt.py MODELFOLDER [--seeds 0 1 2] [KEY=VALUE ...]

Adapts a model, such as Resemblyzer's GE2E LSTM (`idemvox import-weights`), to the train split of wuw2: real
telephone calls of 97 people, most of whom called once. No label is read; each call is a recording. Both
models are then scored on `trials/wuw_cross.txt` and `wuw_within.txt`: 15 other people, pairs across and
within calls.

`change`: of the EER against the model as it was, with its 95 % interval by resampling speakers. `pseudo-EER`:
of held-out calls, without labels, before and after; `verdict` is the command's answer, from that alone. The
settings are the command's defaults; none was chosen on these trials.

An interrupted run resumes. Writes docs/results/adapt.{md,json}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import corpora, parser_of, publish
from first_light import source, split
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.model import load_model
from idemvox.studies.adapt import AdaptOptions, adapt
from idemvox.verification.comparison import eer_difference
from idemvox.verification.evaluation import Scored, score_lists
from idemvox.verification.metrics import eer, min_dcf
from idemvox.verification.trials import load_trials

LISTS = ("wuw_cross", "wuw_within")


def calls(out: Path) -> Path:
    """Write a manifest of the calls to adapt to, without speakers."""
    found = split(corpora(), out, "train", 0.5).select(lambda u: source(u) == "wuw2")
    rows = [Utterance(u.id, str(found.path(u)), u.seconds, u.rate, recording=u.recording) for u in found]
    save_manifest(Manifest(rows, out), out / "calls.csv")
    return out / "calls.csv"


def scored(model: Path, out: Path) -> dict[str, Scored]:
    """Score a model on the trial lists."""
    lists = [load_trials(corpora() / "trials" / f"{name}.txt") for name in LISTS]
    dev = split(corpora(), out, "dev", 0.1)
    return dict(zip(LISTS, score_lists(load_model(model), lists, dev, progress=True), strict=True))


def row(system: str, before: Scored, after: Scored, **more: Any) -> dict[str, Any]:
    """Return the row of a system on a list."""
    labels, sides = after.trials.labels, after.trials.speakers(after.speakers)
    change = (
        "" if after is before else eer_difference(before.scores, after.scores, labels, *sides).relative_text
    )
    return {
        "system": system,
        "trials": after.trials.name,
        "eer": [eer(after.scores, labels).value],
        "mindcf_001": [min_dcf(after.scores, labels, 0.01)],
        "change": change,
        **more,
    }


def main() -> None:
    """Run it."""
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/adapt"))
    parser.add_argument("overrides", nargs="*", help="recipe KEY=VALUE")
    args = parser.parse_args()
    out = args.out.resolve()
    manifest, before = calls(out), scored(args.model, out)
    rows = [row("as it was", before[name], before[name]) for name in LISTS]
    for seed in args.seeds:
        folder = out / f"seed-{seed}"
        found = adapt(manifest, args.model, folder, AdaptOptions(seed=seed, overrides=tuple(args.overrides)))
        rates = f"{100 * found.difference.a:.2f} -> {100 * found.difference.b:.2f} %"
        told = {"pseudo-EER": rates, "verdict": "helped" if found.helped else "did not help"}
        after = scored(folder / "run", out)
        rows += [row(f"adapted, seed {seed}", before[name], after[name], **told) for name in LISTS]
    where = Path(__file__).resolve().parents[1] / "docs" / "results"
    publish(where, "adapt", "Adapting to real calls", __doc__ or "", rows)


if __name__ == "__main__":
    main()
