"""Names of pseudo-speakers: clusters that stand for speakers, and say so wherever the name goes.

A pseudo-speaker is called ``pseudo:SOURCE:NUMBER``. The source names the model that found it and this
labelling, so it survives in packs, joined manifests and every model that is trained on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

__all__ = ["is_pseudo", "known_as", "pseudo_names", "source_name"]

_NAME = re.compile(r"(?:.*/)?pseudo:(?P<source>[^:]+):\d+")
_WHO = "pseudo-speakers of "


def source_name(model: str, known: Sequence[str], assignment: Sequence[tuple[str, int]]) -> str:
    """Return the source of a labelling, such as ``simclr@1f2e3d4c``.

    Labels that the model was itself trained with are appended, as in ``supervised@1f2e3d4c+speakers``, so
    that a model trained on its clusters does not pass for one that knew none.

    Args:
        model: what the model is called, such as its recipe.
        known: the labels that it knew, as its provenance lists them.
        assignment: id and cluster of each utterance, which make the labelling recognisable.
    """
    rows = "".join(f"{name},{cluster}\n" for name, cluster in assignment)
    digest = hashlib.sha256(rows.encode()).hexdigest()[:8]
    labels = sorted({name.partition(":")[0] for name in known if not name.startswith(_WHO)})
    return "+".join([f"{re.sub(r'[^0-9A-Za-z_.-]+', '-', model)}@{digest}", *labels])


def pseudo_names(source: str, count: int) -> list[str]:
    """Return the names of ``count`` pseudo-speakers.

    >>> pseudo_names("simclr@1f2e3d4c", 2)
    ['pseudo:simclr@1f2e3d4c:0001', 'pseudo:simclr@1f2e3d4c:0002']
    """
    return [f"pseudo:{source}:{number:04d}" for number in range(1, count + 1)]


def is_pseudo(speaker: str) -> bool:
    """Return whether a speaker's name is that of a pseudo-speaker."""
    return _NAME.fullmatch(speaker) is not None


def known_as(speakers: Iterable[str]) -> list[str]:
    """Return what a model knows that was trained with these speakers, for its provenance.

    >>> known_as(["pseudo:simclr@1f2e3d4c:0001", "id10001"])
    ['speakers', 'pseudo-speakers of simclr@1f2e3d4c']
    """
    found = {match["source"] if (match := _NAME.fullmatch(name)) else None for name in speakers}
    sources = [source.split("+") for source in sorted(source for source in found if source)]
    labels = {label for _, *known in sources for label in known} | ({"speakers"} if None in found else set())
    return [*sorted(labels), *(_WHO + source for source, *_ in sources)]
