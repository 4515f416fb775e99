"""What a page is made from: certificates of evaluations, and runs with their curves and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import IdemvoxError
from idemvox.training.watch.curves import CURVES_FILE, read_curves
from idemvox.verification.certificate import CERTIFICATE_FILE, Certificate, read_certificate
from idemvox.verification.counts import SortedTrials

__all__ = ["Run", "System", "read_places"]

_MODEL = "model.json"


@dataclass(frozen=True, eq=False)
class System:
    """An evaluation with its name in the page."""

    name: str
    certificate: Certificate

    @cached_property
    def ordered(self) -> SortedTrials:
        """Its sorted scores."""
        return SortedTrials(self.certificate.rows.scores, self.certificate.rows.labels)

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """Its metrics."""
        found: Mapping[str, Mapping[str, float]] = self.certificate.values["metrics"]
        return found

    @property
    def threshold(self) -> float:
        """The threshold at its EER."""
        return self.metrics["EER threshold"]["value"]

    @property
    def trials(self) -> str:
        """The name of its trial list."""
        return str(self.certificate.values["trials"]["name"])


@dataclass(frozen=True, eq=False)
class Run:
    """A run, or a model folder alone.

    Attributes:
        name: in the page.
        model: its model folder, if it has one.
        curves: by column of ``curves.csv``, a number for each finished epoch, NaN where there is none.
    """

    name: str
    model: Path | None
    curves: Mapping[str, NDArray[np.float64]]


def read_places(folders: Sequence[str | Path]) -> tuple[list[System], list[Run]]:
    """Return the certificates in some folders, and those of the folders that are runs or models.

    A folder is a certificate, a folder of certificates, a run (with certificates or without), or a model.

    Raises:
        IdemvoxError: a folder is none of these, a certificate is not in order, or one is given twice.
    """
    places = [Path(folder) for folder in folders]
    found = [_certificates(place) for place in places]
    runs = [place for place in places if (place / CURVES_FILE).is_file() or _model(place) is not None]
    for place, certificates in zip(places, found, strict=True):
        if not certificates and place not in runs:
            raise IdemvoxError(
                f"{place} is no run and holds no {CERTIFICATE_FILE}: `idemvox train --out {place}` makes a"
                f" run, `idemvox evaluate --certificate {place}` a certificate"
            )
    folders_of = [folder for certificates in found for folder in certificates]
    if len({folder.resolve() for folder in folders_of}) < len(folders_of):
        raise IdemvoxError("a certificate is given twice: name each folder once")
    names = _distinct([_short(place) for place in runs], runs)
    return _named([read_certificate(folder) for folder in folders_of]), [
        Run(name, _model(place), read_curves(place)) for name, place in zip(names, runs, strict=True)
    ]


def _certificates(place: Path) -> list[Path]:
    """Return the certificates in a folder: itself, or those below it, as `idemvox evaluate` writes them."""
    if (place / CERTIFICATE_FILE).is_file():
        return [place]
    below = (place.glob(f"{steps}{CERTIFICATE_FILE}") for steps in ("*/", "*/*/"))
    return sorted(path.parent for paths in below for path in paths)


def _model(place: Path) -> Path | None:
    """Return the model folder of a run, or the folder itself if it is one."""
    return next((folder for folder in (place, place / "model") if (folder / _MODEL).is_file()), None)


def _short(place: Path) -> str:
    """Return the name of a run; a model folder in it is named after it."""
    parts = place.resolve().parts
    return parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]


def _distinct(names: Sequence[str], places: Sequence[Path]) -> list[str]:
    """Return the names, with the paths instead of those that occur twice."""
    return [name if names.count(name) == 1 else str(place) for name, place in zip(names, places, strict=True)]


def _named(certificates: Sequence[Certificate]) -> list[System]:
    """Name each certificate after its folder or the run that it lies in; two of one name by their paths."""
    short = []
    for certificate in certificates:
        parts = [p for p in certificate.folder.resolve().parts if p != "certificate"]
        same = parts[-1] == certificate.values["trials"]["name"].replace("/", "-") and len(parts) > 1
        short.append(parts[-2] if same else parts[-1])
    keys = [(name, c.values["trials"]["sha256"]) for name, c in zip(short, certificates, strict=True)]
    names = [
        name if keys.count(key) == 1 else str(c.folder)
        for name, key, c in zip(short, keys, certificates, strict=True)
    ]
    return [System(name, c) for name, c in zip(names, certificates, strict=True)]
