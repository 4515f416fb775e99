"""Projectors and predictors: layers behind an encoder or a projector, thrown away after training."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

__all__ = ["Projector"]


class Projector(nn.Sequential):
    """Linear layers with batch normalisation and ReLU between them.

    Args:
        widths: of the input, of each hidden layer, and of the output.
        normalised: whether a batch normalisation without weights follows the last layer, as in SimSiam.
    """

    def __init__(self, *widths: int, normalised: bool = False) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        super().__init__(*layers[:-2])
        if normalised:
            self.append(nn.BatchNorm1d(widths[-1], affine=False))
