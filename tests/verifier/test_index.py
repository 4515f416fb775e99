"""The approximate index: the same answers as the matrix product, while the store changes."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.verification.scoring import Scorer
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.identification import Identifier
from idemvox.verifier.sqlite import SqliteStore

pytest.importorskip("usearch", reason="usearch is not installed: pip install 'idemvox[index]'")


@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
def test_it_finds_who_the_matrix_product_finds(compare, tmp_path):
    rng = np.random.default_rng(0)
    people = rng.standard_normal((600, 16)).astype(np.float32)

    def near(number):
        return people[number] + 0.1 * rng.standard_normal(16)

    with SqliteStore(tmp_path / "s", "m") as store:
        store.add((f"p{n}", "", Voiceprint(vector)) for n, vector in enumerate(people[:500]))
        scorer = Scorer(compare)
        quick, exact = Identifier(store, scorer, shortlist=30), Identifier(store, scorer)

        def agree(numbers):
            for n in numbers:
                probe = near(n)
                found, expected = (i.identify(probe, 3).candidates for i in (quick, exact))
                assert found[0].speaker == f"p{n}" == expected[0].speaker
                assert found[0].score == pytest.approx(expected[0].score, abs=1e-5)

        agree(range(0, 500, 25))
        for n in range(500, 600):  # more than an eighth: the roster is tidied on the way
            store.add([(f"p{n}", "", Voiceprint(people[n]))])
            if n % 20 == 0:
                agree([n, n - 499])
        agree(range(500, 600, 10))
        for n in (3, 550):
            store.delete(f"p{n}")
            probe = near(n)
            assert quick.identify(probe).candidates[0].speaker == exact.identify(probe).candidates[0].speaker
            store.add([(f"p{n}", "", Voiceprint(near(n)))])
            agree([n])
        assert len(quick.identify(near(0), 99).candidates) == 30
        assert quick.identify(near(0)).comparisons == 600
