"""How long does it take to identify one of 100,000 speakers, and what does a change of the store cost?

    python benchmarks/store.py [--speakers 100000] [--rounds 30] [--quick]

Random embeddings of 192 and of 512 numbers, one per speaker, are kept in an SQLite store and compared by the
cosine, with and without AS-norm (the top 300 of a cohort of 2,000), on one thread. Each round times, one
after the other: an identification (from the embedding to candidates and scores), the enrolment of one more
speaker, the first identification after that, which reads the change, the deletion of that speaker, and the
first identification after that. Times are medians over the rounds, and also the slowest identification.
`cpu` is the CPU time of this process, which other work on the machine changes less, and `load` is the
machine's load average. Loading is the first identification of a process, measured once. Filling enrols all
speakers in one transaction.

Writes docs/results/store.{md,json}.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from common import measuring, publish
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.scoring import Scorer
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.identification import Identifier
from idemvox.verifier.sqlite import SqliteStore

DIMS = (192, 512)
COHORT, TOP = 2000, 300


def milliseconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Return how many milliseconds a call takes, in real time and in CPU time."""
    began, worked = time.perf_counter(), time.process_time()
    run()
    return 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - worked)


def people(speakers: int, dim: int) -> Iterator[tuple[str, str, Voiceprint]]:
    """Yield speakers with random embeddings."""
    rng = np.random.default_rng(0)
    for number in range(speakers):
        yield f"speaker {number}", "", Voiceprint(rng.standard_normal(dim, np.float32), f"{number}.wav", 5.0)


def measure(path: Path, dim: int, speakers: int, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of one size of embedding, one for each scorer."""
    rng, rows = np.random.default_rng(1), []
    with SqliteStore(path, "benchmark") as store:
        filling, _ = milliseconds(lambda: store.add(people(speakers, dim)))
        cohort = Cohort(rng.standard_normal((COHORT, dim), np.float32), TOP)
        for scorer in (Scorer(), Scorer(backend=BackEnd(cohort=cohort))):
            identifier = Identifier(store, scorer)

            def identify(identifier: Identifier = identifier) -> None:
                identifier.identify(rng.standard_normal(dim, np.float32))

            def enrol() -> None:
                store.enrol("one more", [Voiceprint(rng.standard_normal(dim, np.float32))])

            loading, _ = milliseconds(identify)
            steps = {
                "identify": identify,
                "enrol": enrol,
                "identify_after_enrolment": identify,
                "delete": lambda: store.delete("one more"),
                "identify_after_deletion": identify,
            }
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
            for _ in range(rounds):
                for name, step in steps.items():
                    times[name].append(milliseconds(step))
            medians = {
                name: [statistics.median(both) for both in zip(*times[name], strict=True)] for name in steps
            }
            norm = "cosine" if scorer.backend is None else "AS-norm of the cosine"
            rows.append(
                {
                    "system": f"{speakers:,} of {dim} numbers, {norm}",
                    **{f"{name}_ms": round(wall, 1) for name, (wall, _) in medians.items()},
                    **{f"{name}_cpu_ms": round(cpu, 1) for name, (_, cpu) in medians.items()},
                    "load": round(os.getloadavg()[0], 1),
                    "slowest_identify_ms": round(max(wall for wall, _ in times["identify"]), 1),
                    "load_seconds": round(loading / 1000, 2),
                    "fill_seconds": round(filling / 1000, 1),
                    "file_mib": round(path.stat().st_size / 2**20),
                    "rounds": rounds,
                }
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, rounds=30, quick="1,000 speakers; writes nothing")
    parser.add_argument("--speakers", type=int, default=100_000)
    args = parser.parse_args()
    speakers, rounds = (1000, 3) if args.quick else (args.speakers, args.rounds)
    console, rows = Console(), []
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for dim in DIMS:
            rows += measure(Path(folder) / f"{dim}.sqlite", dim, speakers, rounds)
            for row in rows[-2:]:
                console.print(row)
    if not args.quick:
        publish(args.out, "store", f"A store of {speakers:,} speakers", __doc__ or "", rows)


if __name__ == "__main__":
    main()
