"""Every metric of 40 million scores: seconds and memory.

    python benchmarks/metrics.py

The scores are 40 million simulated float32 log-likelihood ratios, drawn from two normal distributions. 1 % or
half of the trials are targets, because a curve can have more corners with more targets. All metrics use one
sorted copy. "Ties" are the same scores rounded to 0.001. One process and one thread; `peak` is the most
memory that the process has used so far, of which the list itself takes 191 MiB (5 bytes per trial).

Writes docs/results/metrics.{md,json}.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from common import measuring, publish
from idemvox.verification.counts import SortedTrials
from idemvox.verification.llr import cllr_of, min_cllr_of
from idemvox.verification.metrics import Costs, act_dcf_of, det_curve_of, eer_of, min_dcf_of

TRIALS = 40_000_000
METRICS: dict[str, Callable[[SortedTrials], Any]] = {
    "EER": eer_of,
    "convex-hull EER": lambda trials: eer_of(trials, "hull"),
    "minDCF p=0.01": lambda trials: min_dcf_of(trials, Costs(0.01)),
    "actDCF p=0.01": lambda trials: act_dcf_of(trials, Costs(0.01)),
    "Cllr": cllr_of,
    "minCllr": min_cllr_of,
    "DET curve": det_curve_of,
}


def simulated(count: int, share: float) -> tuple[Any, Any]:
    """Return float32 log-likelihood ratios of two normal distributions, drawn block by block, and labels."""
    rng = np.random.default_rng(0)
    scores, labels = np.empty(count, np.float32), np.empty(count, np.bool_)
    for start in range(0, count, 1 << 20):
        part = slice(start, min(start + (1 << 20), count))
        labels[part] = rng.random(part.stop - start) < share
        scores[part] = 3 * rng.standard_normal(part.stop - start) + np.where(labels[part], 4.5, -4.5)
    return scores, labels


def main() -> None:
    """Run the benchmark."""
    args = measuring(__doc__).parse_args()
    count = TRIALS // 40 if args.quick else TRIALS
    console, rows = Console(), []
    to_mib = 2**20 if sys.platform == "darwin" else 2**10

    def measured(name: str, run: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / to_mib
        rows.append({"system": name, "cpu_seconds": time.process_time() - began, "peak_mib": round(peak)})
        console.print(f"{name:<44}{rows[-1]['cpu_seconds']:8.2f} s  peak {peak:5.0f} MiB")
        return result

    with threadpool_limits(1):
        for share, words in ((0.01, "1 % targets"), (0.5, "50 % targets")):
            scores, labels = measured(f"{words}: make the list", lambda share=share: simulated(count, share))
            for kind in ("", ", ties"):
                if kind:
                    np.round(scores, 3, out=scores)
                trials = measured(f"{words}{kind}: sort", lambda s=scores, x=labels: SortedTrials(s, x))
                for name, metric in METRICS.items():
                    measured(f"{words}{kind}: {name}", lambda metric=metric, t=trials: metric(t))
                del trials
            del scores, labels
    if not args.quick:
        publish(args.out, "metrics", "Forty million scores", __doc__ or "", rows)


if __name__ == "__main__":
    main()
