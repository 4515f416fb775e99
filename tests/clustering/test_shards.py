"""Two processes that hold a part of the rows each cluster them as one process with all of them does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from idemvox.clustering.kmeans import spherical_kmeans
from idemvox.clustering.shards import RowShards
from idemvox.errors import IdemvoxError

ONE_OF_TWO = """
import sys
import torch
from torch import distributed
from idemvox.errors import IdemvoxError
from idemvox.clustering.kmeans import spherical_kmeans

torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # as the fixture float64 does
rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
found = {}
for name, case in torch.load(f"{folder}/cases.pt").items():
    rows = case["rows"][rank]
    ids = rows if case["pass_ids"] else None
    try:
        more = case.get("more", {})
        clusters = spherical_kmeans(case["x"][rows], case["k"], 6, 5, ids=ids, sharded=True, **more)
        found[name] = (clusters.centroids, clusters.assignment, clusters.similarity)
    except IdemvoxError as error:
        found[name] = str(error)
torch.save(found, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


def cloud(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cases() -> dict[str, dict[str, Any]]:
    """The rows, K, and the rank of each row."""
    spoilt, sparse = cloud(60), cloud(80)
    spoilt[[4, 41]] = torch.nan
    sparse[::3] = 0
    every = torch.arange(400)
    mixed = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    repeated = torch.cat([cloud(1).expand(300, -1), cloud(100, seed=3)])  # most starts are one direction
    return {
        "halves": {"x": cloud(400), "k": 30, "rows": every.split([150, 250]), "pass_ids": False},
        "turns": {"x": cloud(400), "k": 30, "rows": (every[::2], every[1::2]), "pass_ids": True},
        "mixed": {"x": cloud(400), "k": 30, "rows": mixed.split([399, 1]), "pass_ids": True},
        "empty clusters": {"x": repeated, "k": 60, "rows": (every[::2], every[1::2]), "pass_ids": True},
        "too many clusters": {"x": cloud(30), "k": 50, "rows": every[:30].split(15), "pass_ids": True},
        "zeros": {"x": sparse, "k": 53, "rows": every[:80].split(40), "pass_ids": False},
        "one has none": {"x": cloud(50), "k": 9, "rows": (every[:50], every[:0]), "pass_ids": False},
        "spread": {
            "x": sparse,
            "k": 20,
            "rows": every[:80].split([30, 50]),
            "pass_ids": True,
            "more": {"start": "kmeans++", "restarts": 3},
        },
        "not finite": {"x": spoilt, "k": 9, "rows": every[:60].split(30), "pass_ids": False},
        "nothing": {"x": spoilt, "k": 9, "rows": (every[:0], every[:0]), "pass_ids": False},
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Any]]:
    """The results of two processes, by case."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.save(cases(), folder / "cases.pt")
    both = [subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [n for n in cases() if n not in ("not finite", "nothing")])
def test_two_processes_cluster_as_one(ranks, name):
    case = cases()[name]
    whole = spherical_kmeans(case["x"], case["k"], 6, 5, **case.get("more", {}))
    (centroids, *_), (others, *_) = (rank[name] for rank in ranks)
    assert torch.equal(centroids, others)
    torch.testing.assert_close(centroids, whole.centroids, atol=1e-9, rtol=0)
    for rank, rows in zip(ranks, case["rows"], strict=True):
        _, assignment, similarity = rank[name]
        assert torch.equal(assignment, whole.assignment[rows])
        torch.testing.assert_close(similarity, whole.similarity[rows], atol=1e-9, rtol=0)


def test_non_finite_rows_stop_every_rank(ranks):
    with pytest.raises(IdemvoxError) as alone:
        spherical_kmeans(cases()["not finite"]["x"], 9)
    assert "2 of 60" in str(alone.value) and "(ids 4, 41)" in str(alone.value)
    assert [rank["not finite"] for rank in ranks] == [str(alone.value)] * 2


def test_without_rows_every_rank_stops(ranks):
    assert all("nothing to cluster" in rank["nothing"] for rank in ranks)


def test_without_a_process_group_one_process_has_all():
    x, ids = cloud(20), torch.randperm(20, generator=torch.Generator().manual_seed(0)) + 100
    shards = RowShards(x, ids, sharded=True)
    assert torch.equal(shards.fetch(ids[[7, 2, 2]]), x[[7, 2, 2]])
    assert torch.equal(shards.gather(ids), ids)
    assert torch.equal(shards.lowest(torch.arange(20).flip(0) // 4, 3), ids[-4:].sort().values[:3])
