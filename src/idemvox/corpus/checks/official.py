"""How many speakers, recordings and utterances the public corpora have, as their makers say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from idemvox.corpus.importers.registry import IMPORTERS
from idemvox.corpus.manifest import Utterance
from idemvox.errors import CorpusError, unknown_name

__all__ = ["Official", "corpora", "count", "match", "official", "recognise"]


@dataclass(frozen=True, slots=True)
class Official:
    """A corpus, or a part of one.

    Attributes:
        pattern: finds an utterance by its id or path; its groups are what is counted: ``speaker``,
            ``recording`` and ``kind``.
        counts: what there should be, the total last.
        speech: False for what is only added to speech: may be short, and need not fill a voice's band.
        note: what else help says of it, where the name does not tell all.
    """

    name: str
    pattern: re.Pattern[str]
    counts: Mapping[str, int]
    speech: bool = True
    note: str = ""


def corpora() -> dict[str, Official]:
    """Every corpus, and part of one, whose counts are known, by name: those of the importers."""
    return {each.name: each for name in IMPORTERS for each in IMPORTERS[name].official}


def official(name: str) -> Official:
    """Return the corpus of this name.

    Raises:
        CorpusError: there is none; lists the names.
    """
    known = corpora()
    if name not in known:
        raise unknown_name("corpus", name, known, CorpusError)
    return known[name]


def match(corpus: Official, row: Utterance) -> re.Match[str] | None:
    """Find the corpus's own naming in an utterance's id or path."""
    return corpus.pattern.search(row.id) or corpus.pattern.search(row.path)


def recognise(rows: Sequence[Utterance]) -> Official | None:
    """The corpus that nine in ten utterances are named like; of its parts the one nearest in number."""
    known, fitting = corpora(), dict[str, tuple[int, int]]()
    for corpus in known.values():
        if match(corpus, rows[0]) or match(corpus, rows[-1]):
            matches = [found[0] for row in rows if (found := match(corpus, row))]
            if 10 * len(matches) >= 9 * len(rows):
                total = list(corpus.counts.values())[-1]
                fitting[corpus.name] = len(matches), -abs(total - len(set(matches)))
    return known[max(fitting, key=lambda name: fitting[name])] if fitting else None


def count(corpus: Official, rows: Iterable[Utterance]) -> dict[str, int]:
    """What there is of ``corpus.counts``; what is there twice, or in pieces, counts once.

    Where no utterance is named as the corpus names them, the rows' own speakers and recordings count.
    """
    named, own = _Tally(), _Tally()
    seen: set[str] = set()
    for row in rows:
        own.add({"speaker": row.speaker, "recording": row.recording})
        found = match(corpus, row)
        if found and found[0] not in seen:
            seen.add(found[0])
            named.add(found.groupdict())
    there = (named if seen else own).found()
    return {what: there[what] for what in corpus.counts}


@dataclass(slots=True)
class _Tally:
    total: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    speakers: set[str] = field(default_factory=set)
    recordings: set[tuple[str | None, str]] = field(default_factory=set)

    def add(self, names: Mapping[str, str | None]) -> None:
        speaker, recording, kind = (names.get(group) for group in ("speaker", "recording", "kind"))
        self.total += 1
        if kind:
            self.kinds[kind] += 1
        if speaker:
            self.speakers.add(speaker)
        if recording:
            self.recordings.add((speaker, recording))

    def found(self) -> Counter[str]:
        people = {"speakers": len(self.speakers), "recordings": len(self.recordings)}
        return self.kinds + Counter(people | {"utterances": self.total, "files": self.total})
