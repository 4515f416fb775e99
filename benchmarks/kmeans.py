"""How fast and how good spherical k-means is, compared with scikit-learn and faiss.

    python benchmarks/kmeans.py [--device cpu] [--threads 1] [--rounds 5] [--quick]

On a CPU: 10 iterations for 2,500 clusters of 100,000 vectors of 512 numbers, and the assignment to the final
centroids, by scikit-learn's KMeans (lloyd), faiss' spherical Kmeans with all vectors, and idemvox, with the
same initial centroids and the same number of threads. All take turns for several rounds. "idemvox times as
fast" is the median of the ratios within a round. "Mean cosine" is between each vector and its nearest final
centroid, scaled to unit length, and is computed by the same function for all. On a GPU (`--device cuda`):
idemvox alone, at VoxCeleb2's size, with 1,092,009 vectors and 25,000 clusters.

"fp32 alone" leaves out the product in low precision that rules out most centroids, as on CPUs without matrix
units. The centroids are the same up to the order of sums.

The vectors resemble those of a half-trained encoder. They are sums of normal noise from four sources, with
cosines of 0.3 between speakers, 0.55 within a speaker and 0.75 within a recording. There are 182 vectors per
speaker and 7.5 per recording on average, as in VoxCeleb2.

Writes docs/results/kmeans.{md,json}; on a GPU kmeans-cuda.{md,json}.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from importlib.metadata import version
from unittest import mock

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from common import in_turn, measuring, publish, times
from idemvox.clustering.kmeans import spherical_kmeans
from idemvox.clustering.nearest import fastest_type

OURS, PLAIN = "idemvox", "idemvox, fp32 alone"
LEARN, FAISS = "scikit-learn, lloyd", "faiss, spherical"
DIM, ITERATIONS, SEED = 512, 10, 0


def embeddings(count: int) -> Tensor:
    """Return (count, 512) unit vectors: sums of a common, a speaker's, a recording's and a random part."""
    generator = torch.Generator().manual_seed(SEED)

    def directions(rows: int, share: float) -> Tensor:
        return torch.randn(rows, DIM, generator=generator).mul_(math.sqrt(share / DIM))

    recordings, speakers = math.ceil(count / 7.5), math.ceil(count / 182)
    recording = torch.randint(recordings, (count,), generator=generator)
    x = directions(count, 0.25).add_(directions(1, 0.3))
    x += directions(recordings, 0.2)[recording]
    x += directions(speakers, 0.25)[recording % speakers]
    return F.normalize(x, dim=1)


def mean_cosine(x: Tensor, centroids: Tensor) -> float:
    """Return the mean cosine of the vectors with their nearest centroid, computed in fp32."""
    unit = F.normalize(centroids.to(x), dim=1)
    best = [(block @ unit.T).amax(dim=1) for block in x.split(4096)]
    return float(torch.cat(best).double().mean())


def scikit_learn(x: Tensor, start: Tensor) -> Tensor:
    """Return the centroids after 10 iterations; they are means, not of unit norm."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(
        len(start), init=start.numpy(), n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd"
    ).fit(x.numpy())
    return torch.from_numpy(kmeans.cluster_centers_)


def faiss_spherical(x: Tensor, start: Tensor) -> Tensor:
    """Return the centroids after 10 iterations, and assign the vectors to them as the others do."""
    import faiss

    kmeans = faiss.Kmeans(
        DIM,
        len(start),
        niter=ITERATIONS,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(x),
    )
    kmeans.train(x.numpy(), init_centroids=start.numpy())
    kmeans.assign(x.numpy())
    return torch.from_numpy(kmeans.centroids)


def idemvox(x: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """Return the centroids after 10 iterations, with the first product of each iteration in this type."""
    with mock.patch("idemvox.clustering.nearest.fastest_type", lambda device: dtype):
        centroids = spherical_kmeans(x, k, ITERATIONS, SEED).centroids
    if x.is_cuda:
        torch.cuda.synchronize()
    return centroids


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, rounds=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    device = torch.device(args.device)
    n, k = (100_000, 2_500) if device.type == "cpu" else (1_092_009, 25_000)
    if args.quick:
        n, k = 10_000, 250
    torch.set_num_threads(args.threads)
    x = embeddings(n).to(device)
    start = spherical_kmeans(x, k, 0, SEED).centroids
    fast = fastest_type(device)
    found: dict[str, Tensor] = {}

    def keep(name: str, run: Callable[[], Tensor]) -> Callable[[], None]:
        def kept() -> None:
            found[name] = run()

        return kept

    systems = {OURS: lambda: idemvox(x, k, fast), PLAIN: lambda: idemvox(x, k, torch.float32)}
    peers = ""
    if device.type == "cpu":
        systems |= {FAISS: lambda: faiss_spherical(x, start), LEARN: lambda: scikit_learn(x, start)}
        peers = f" scikit-learn {version('scikit-learn')}, faiss-cpu {version('faiss-cpu')}."
    with threadpool_limits(args.threads):
        rates = in_turn({name: (keep(name, run), 1.0) for name, run in systems.items()}, args.rounds)
    rows = [
        {
            "system": name,
            "mean_cosine": f"{mean_cosine(x, found[name]):.6f}",
            "seconds": [1 / rate for rate in rates[name]],
            "median": statistics.median(1 / rate for rate in rates[name]),
            "idemvox_times_as_fast": times(rates, OURS, name),
        }
        for name in systems
    ]
    notes = (
        f"\n\n{n:,} vectors, {k:,} clusters, {args.threads} thread{'s'[: args.threads > 1]}; mean cosine at "
        f"the start {mean_cosine(x, start):.6f}.{peers} First products of idemvox here: {fast}."
    ).replace("torch.", "")
    if device.type == "cuda":
        notes += f" Most GPU memory in use: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB."
    console = Console()
    for row in rows:
        console.print(
            f"{row['system']:<22} {row['median']:8.2f} s, mean cosine {row['mean_cosine']}, "
            f"idemvox {row['idemvox_times_as_fast']:.2f} times as fast",
            soft_wrap=True,
        )
    console.print(notes.strip(), soft_wrap=True)
    if not args.quick:
        publish(
            args.out,
            "kmeans" if device.type == "cpu" else f"kmeans-{device.type}",
            "Spherical k-means",
            __doc__ or "",
            rows,
            notes,
            per="round",
        )


if __name__ == "__main__":
    main()
