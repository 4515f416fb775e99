"""A trial list of the size of VOiCES 2019 dev, from the key file to EER and minDCF: seconds and memory.

    python benchmarks/trials.py

There are 4,038,656 trials between 256 first and 15,776 second sides, of 196 speakers. The ids are as long as
the real ones, which makes a file of 680 MiB. The embeddings of the 15,904 utterances are 512 random numbers,
not speech. One process and one thread; `peak` is the most memory that the process has used so far, including
PyTorch.

Writes docs/results/trials.{md,json}.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from common import publish
from idemvox.corpus.importers.layout import write_trials
from idemvox.verification.embed import Embeddings
from idemvox.verification.evaluation import score_report
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import load_trials

FIRST, SECOND, UTTERANCES, SPEAKERS, DIM = 256, 15_776, 15_904, 196, 512


def write_keys(path: Path) -> dict[str, str]:
    """Write lines ``model file tgt|imp``, with models named after their files; return each file's speaker."""
    names = [
        f"sid_dev/sp{i % SPEAKERS:04d}/Lab41-SRI-VOiCES-rm{i % 4 + 1}-babb-sp{i % SPEAKERS:04d}-"
        f"ch{127535 + i}-sg{i % 90:04d}-mc{i % 12:02d}-stu-clo-dg080.wav"
        for i in range(UTTERANCES)
    ]
    speakers = {name: name.split("/")[1] for name in names}
    with path.open("w", encoding="utf-8") as file:
        for first in names[:FIRST]:
            for second in names[-SECOND:]:
                same = speakers[first] == speakers[second]
                file.write(f"{model(first)} {second} {'tgt' if same else 'imp'}\n")
    return speakers


def model(file: str) -> str:
    """Return the name of the enrolment model of a file: the file's own name."""
    return Path(file).stem


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    console, rows = Console(), []
    to_mib = 2**20 if sys.platform == "darwin" else 2**10

    def measured(name: str, run: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / to_mib
        rows.append({"system": name, "cpu_seconds": time.process_time() - began, "peak_mib": round(peak)})
        console.print(f"{name:<36}{rows[-1]['cpu_seconds']:8.2f} s  peak {peak:5.0f} MiB")
        return result

    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        keys, path = Path(folder) / "keys.lst", Path(folder) / "trials.txt"
        speakers = write_keys(keys)
        models = {model(file): file for file in list(speakers)[:FIRST]}
        measured("prepare: rewrite the keys", lambda: write_trials(keys, path, models, speakers))
        trials = measured("read the list", lambda: load_trials(path))
        numbers = np.random.default_rng(0).standard_normal((UTTERANCES, DIM), np.float32)
        embeddings = Embeddings(tuple(speakers), numbers)
        scores = measured("score", lambda: Scorer("cosine").scores(embeddings, trials))
        measured("EER, minDCF", lambda: score_report(scores, trials))
        measured("EER, minDCF, interval of 200 draws", lambda: score_report(scores, trials, speakers))
    publish(args.out, "trials", "Four million trials", __doc__ or "", rows)


if __name__ == "__main__":
    main()
