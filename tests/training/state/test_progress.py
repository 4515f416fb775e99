"""The progress of an epoch, and the means it collects."""

from __future__ import annotations

import torch

from idemvox.training.state.progress import Place


def test_means_are_the_same_after_saving():
    place = Place(filled=3, steps=2, numbers={"clusters": 5.0})
    for loss in (1.0, 2.0):
        place.sums["loss"].append(torch.tensor(loss))
    again = Place.restored(place.state(), torch.device("cpu"))
    assert (again.filled, again.steps, again.numbers) == (3, 2, {"clusters": 5.0})
    again.sums["loss"].append(torch.tensor(6.0))
    assert place.means() == {"loss": 1.5} and again.means() == {"loss": 3.0}
