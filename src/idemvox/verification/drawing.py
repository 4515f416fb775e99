"""Drawing trial lists from labelled utterances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from idemvox.corpus.pseudo import is_pseudo
from idemvox.errors import CorpusError
from idemvox.verification.trials import Trials

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest, Utterance

__all__ = ["make_trials"]

Kind = Literal["across", "within", "any"]
_MOST_PER_SPEAKER = 1000  # most utterances of a speaker that make_trials pairs: half a million pairs


def make_trials(
    manifest: Manifest,
    kind: Kind = "across",
    *,
    targets: int = 5_000,
    impostors: int = 20_000,
    same_gender: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Trials:
    """Draw a trial list from utterances with speaker labels, evenly over speakers.

    Targets are pairs of different utterances of one speaker: from different recordings (``"across"``, the
    case that matters in practice), from the same recording (``"within"``, which is easy because the channel
    helps), or either (``"any"``). Impostors are pairs of different speakers, drawn evenly over pairs of
    speakers. They depend on the seed but not on the kind, so lists of two kinds differ only in their targets.
    No pair occurs twice, in either order. The list is shorter if there are fewer pairs.

    Args:
        manifest: utterances without a speaker are left out; ``"across"`` and ``"within"`` also leave out
            those without a recording.
        kind: as above.
        targets: target trials to draw.
        impostors: impostor trials to draw.
        same_gender: draw impostors only between speakers of the same known gender, which is harder.
        seed: the same seed and utterances give the same list, in any order of the manifest.
        name: its name in reports; default: the kind.

    Raises:
        CorpusError: no such pairs can be drawn; the message gives the reason.
    """
    if kind not in ("across", "within", "any"):
        raise CorpusError(f"unknown kind of trials {kind!r}; have: across, any, within")
    labelled = sorted((u for u in manifest if u.speaker is not None), key=lambda u: u.id)
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for i, utterance in enumerate(labelled):
        by_speaker[str(utterance.speaker)].append(i)
    groups = [np.array(by_speaker[s]) for s in sorted(by_speaker)]
    if len(groups) < 2:
        raise CorpusError(
            f"trials need at least two speakers, the manifest names {len(groups)}; fill in its speaker column"
        )
    if any(is_pseudo(name) for name in by_speaker):
        raise CorpusError(
            "trials of pseudo-speakers would only test the clusters: give a manifest with speakers"
        )
    target_rng, impostor_rng = (np.random.default_rng([seed, part]) for part in (0, 1))
    same = _target_pairs(labelled, groups, kind, targets, target_rng)
    rivals = _by_gender(labelled, groups) if same_gender else [np.arange(len(groups))]
    other = _impostor_pairs(groups, rivals, impostors, impostor_rng)
    pairs = np.concatenate([same, other]).astype(np.int32)  # (N, 2)
    labels = np.arange(len(pairs)) < len(same)
    trials = Trials(name or kind, tuple(u.id for u in labelled), labels, pairs[:, 0], pairs[:, 1])
    return trials.select(np.ones(len(pairs), np.bool_))  # only the ids in use


def _target_pairs(
    utterances: Sequence[Utterance],
    groups: list[NDArray[Any]],
    kind: Kind,
    count: int,
    rng: np.random.Generator,
) -> NDArray[Any]:
    pools: list[NDArray[Any]] = []
    for group in groups:
        if kind != "any":
            group = group[[utterances[i].recording is not None for i in group]]
        if len(group) > _MOST_PER_SPEAKER:
            group = np.sort(rng.choice(group, _MOST_PER_SPEAKER, replace=False))
        first, second = np.triu_indices(len(group), 1)
        if kind != "any":
            _, recording = np.unique([str(utterances[i].recording) for i in group], return_inverse=True)
            keep = (recording[first] == recording[second]) == (kind == "within")
            first, second = first[keep], second[keep]
        pools.append(np.stack([group[first], group[second]], axis=1))
    quota = _share(count, np.array([len(pool) for pool in pools]), rng)
    chosen = [
        pool[rng.choice(len(pool), n, replace=False)] for pool, n in zip(pools, quota, strict=True) if n
    ]
    if not chosen:
        reason = {
            "across": "no speaker has utterances in two recordings (column recording); try kind 'any'",
            "within": "no recording holds two utterances of a speaker (column recording); try kind 'any'",
            "any": "no speaker has two utterances",
        }
        raise CorpusError(f"cannot draw target trials: {reason[kind]}")
    return _flip(np.concatenate(chosen), rng)


def _by_gender(utterances: Sequence[Utterance], groups: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the speakers of each known gender, as rows of ``groups``.

    Raises:
        CorpusError: a speaker has two genders, or no gender has two speakers.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        known = {gender for i in group if (gender := utterances[i].gender) is not None}
        if len(known) > 1:
            name = utterances[group[0]].speaker
            raise CorpusError(
                f"speaker {name!r} has {len(known)} genders ({', '.join(sorted(known))}); correct the column "
                "gender of the manifest"
            )
        for gender in known:
            rows[gender].append(row)
    blocks = [np.array(rows[gender]) for gender in sorted(rows) if len(rows[gender]) > 1]
    if not blocks:
        raise CorpusError(
            "impostors of the same gender need two speakers of one known gender; fill in the column "
            "gender of the manifest"
        )
    return blocks


def _impostor_pairs(
    groups: list[NDArray[Any]], rivals: list[NDArray[Any]], count: int, rng: np.random.Generator
) -> NDArray[Any]:
    """Draw pairs of utterances of different speakers of one block; ``rivals`` are rows of ``groups``."""
    sizes = np.array([len(group) for group in groups])
    ends = np.cumsum([len(block) * (len(block) - 1) // 2 for block in rivals])  # pairs of speakers so far
    cells = rng.choice(ends[-1], min(count, int(ends[-1])), replace=False)
    at = np.searchsorted(ends, cells, side="right")
    pairs = np.empty((len(cells), 2), np.int64)
    for number, block in enumerate(rivals):
        mine = at == number
        start = ends[number - 1] if number else 0
        first, second = _unrank(cells[mine] - start, len(block))
        pairs[mine] = np.stack([block[first], block[second]], axis=1)
    first, second = pairs.T
    room = sizes[first] * sizes[second]
    chosen: list[NDArray[Any]] = [np.empty((0, 2), np.int64)]
    for a, b, n in zip(first, second, _share(count, room, rng), strict=True):
        i, j = np.divmod(rng.choice(sizes[a] * sizes[b], n, replace=False), sizes[b])
        chosen.append(np.stack([groups[a][i], groups[b][j]], axis=1))
    return _flip(np.concatenate(chosen), rng)


def _unrank(cells: NDArray[Any], n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pair (a, b), a < b < n, for each pair number, counted row by row."""
    starts = np.cumsum(np.append(0, np.arange(n - 1, 0, -1)))  # first number of each row
    first = np.searchsorted(starts, cells, side="right") - 1
    return first, cells - starts[first] + first + 1


def _share(count: int, room: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Split ``count`` as evenly as the ``room`` of each allows; the remainder goes to random ones."""
    quota = np.zeros(len(room), np.int64)
    while (left := count - int(quota.sum())) > 0 and (free := np.flatnonzero(quota < room)).size:
        if left < len(free):
            free = rng.choice(free, left, replace=False)
        quota[free] = np.minimum(room[free], quota[free] + max(1, left // len(free)))
    return quota


def _flip(pairs: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Swap the sides of half of the pairs."""
    swap = rng.random(len(pairs)) < 0.5
    pairs[swap] = pairs[swap, ::-1]
    return pairs
