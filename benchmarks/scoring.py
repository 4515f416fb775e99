"""AS-norm of a trial list of the size of VOiCES 2019 dev: seconds and memory, and those of a loop.

    python benchmarks/scoring.py

4,038,656 trials are all pairs of 256 first and 15,776 second sides, out of 15,904 utterances. The cohort has
10,000 utterances, of which the 300 highest scores count. The embeddings are 512 random numbers, not speech.
All variants use one thread and take turns in every round. Seconds are CPU time and medians over the rounds;
`ours is faster` is the median of the ratios within a round. `peak_mib` is the most memory that the process
has used after our first scoring, including PyTorch.

The loop first computes, for each utterance, a matrix product with the cohort, the 300 highest scores, and
their mean and deviation. Then it computes, for each trial, the cosine of the two embeddings and both
normalisations. It is timed on 1,000 utterances and 100,000 trials between them and extrapolated to all; its
scores are compared with ours. The last row is the same loop without stored statistics: each trial scores both
sides against the cohort.

Writes docs/results/scoring.{md,json}.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from common import measuring, publish
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.embed import Embeddings
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials

FIRST, SECOND, UTTERANCES, DIM, COHORT, TOP = 256, 15_776, 15_904, 512, 10_000, 300
LOOP_TRIALS, LOOP_UTTERANCES = 100_000, 1_000


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def statistics_loop(rows: np.ndarray, cohort: np.ndarray) -> list[tuple[float, float]]:
    """Return the mean and standard deviation of each row's highest scores, one row at a time."""
    found = []
    for row in rows:
        highest = np.partition(cohort @ row, len(cohort) - TOP)[-TOP:]
        found.append((float(highest.mean()), float(highest.std())))
    return found


def trials_loop(
    rows: np.ndarray, of: list[tuple[float, float]], first: list[int], second: list[int]
) -> list[float]:
    """Return the normalised scores, one trial at a time."""
    scores = []
    for a, b in zip(first, second, strict=True):
        score = float(rows[a] @ rows[b])
        (mean_a, deviation_a), (mean_b, deviation_b) = of[a], of[b]
        scores.append(((score - mean_a) / deviation_a + (score - mean_b) / deviation_b) / 2)
    return scores


def main() -> None:
    """Run the benchmark."""
    args = measuring(__doc__, rounds=3).parse_args()
    first, second, utterances, cohort_size = FIRST, SECOND, UTTERANCES, COHORT
    if args.quick:
        first, second, utterances, cohort_size = 16, 300, 310, 1000
    console, rng = Console(), np.random.default_rng(0)
    matrix = rng.standard_normal((utterances, DIM), np.float32)
    strangers = rng.standard_normal((cohort_size, DIM), np.float32)
    ids = tuple(f"utterance-{number}" for number in range(utterances))
    enrolled = np.repeat(np.arange(first, dtype=np.int32), second)
    tested = np.tile(np.arange(utterances - second, utterances, dtype=np.int32), first)
    trials = Trials("grid", ids, np.zeros(len(enrolled), bool), enrolled, tested)
    embeddings = Embeddings(ids, matrix)
    few = min(LOOP_UTTERANCES, utterances)
    within = np.flatnonzero(tested < few)
    some = rng.choice(within, min(LOOP_TRIALS, len(within)), replace=False)
    ours, loop, repeated, peak, apart = [], [], [], 0.0, 0.0
    to_mib = 2**20 if sys.platform == "darwin" else 2**10
    with threadpool_limits(1):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / to_mib
        for turn in range(args.rounds):
            began = time.process_time()
            scores = Scorer("cosine", BackEnd(cohort=Cohort(strangers, TOP))).scores(embeddings, trials)
            ours.append(time.process_time() - began)
            if turn == 0:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / to_mib
            rows, cohort = unit(matrix), unit(strangers)
            began = time.process_time()
            of = statistics_loop(rows[:few], cohort)
            each_utterance = (time.process_time() - began) / few
            pairs = enrolled[some].tolist(), tested[some].tolist()
            began = time.process_time()
            one_by_one = trials_loop(rows, of, *pairs)
            each_trial = (time.process_time() - began) / len(some)
            loop.append(each_utterance * utterances + each_trial * len(trials))
            repeated.append((2 * each_utterance + each_trial) * len(trials))
            apart = max(apart, float(np.abs(scores[some] - one_by_one).max()))
            console.print(
                f"ours {ours[-1]:.2f} s, loop {loop[-1]:.1f} s ({1e6 * each_trial:.1f} us a trial, "
                f"{1e3 * each_utterance:.2f} ms an utterance), apart by {apart:.1e}"
            )
    result = [
        {
            "system": "matrix products",
            "cpu_seconds": round(statistics.median(ours), 1),
            "peak_mib": round(peak),
            "mib_before": round(before),
        }
    ]
    for system, seconds in (
        ("loop over trials", loop),
        ("loop that scores the cohort in each trial", repeated),
    ):
        ratio = statistics.median(b / a for a, b in zip(ours, seconds, strict=True))
        result.append(
            {
                "system": f"{system}, extrapolated",
                "cpu_seconds": round(statistics.median(seconds), 1),
                "ours is faster": round(ratio, 1),
            }
        )
    load = os.getloadavg()[0]
    notes = f"\n\nLargest difference between two scores: {apart:.1e}. The machine's load was {load:.1f} on "
    notes += f"{os.cpu_count()} cores; if the load is higher, the machine was busy with other work."
    console.print(result, notes)
    if not args.quick:
        publish(args.out, "scoring", "AS-norm of four million trials", __doc__ or "", result, notes)


if __name__ == "__main__":
    main()
