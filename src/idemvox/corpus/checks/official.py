"""Official numbers of speakers, recordings and utterances of public corpora."""

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
    """A corpus, or a part of one, with its official counts.

    Attributes:
        name: its name in commands.
        pattern: matches an utterance's id or path; the groups ``speaker``, ``recording`` and ``kind`` are
            counted.
        counts: the official counts, the total last.
        speech: False for noises and rooms, which may be short and need not have a voice's bandwidth.
        note: an addition to the name in help texts.
    """

    name: str
    pattern: re.Pattern[str]
    counts: Mapping[str, int]
    speech: bool = True
    note: str = ""


def corpora() -> dict[str, Official]:
    """Return the corpora with known counts, and parts of them, by name; importers declare them."""
    return {part.name: part for name in IMPORTERS for part in IMPORTERS[name].official}


def official(name: str) -> Official:
    """Return the corpus with this name.

    Raises:
        CorpusError: there is none; the message lists the names.
    """
    known = corpora()
    if name not in known:
        raise unknown_name("corpus", name, known, CorpusError)
    return known[name]


def match(corpus: Official, row: Utterance) -> re.Match[str] | None:
    """Match an utterance's id or path with the corpus's naming."""
    return corpus.pattern.search(row.id) or corpus.pattern.search(row.path)


def recognise(rows: Sequence[Utterance]) -> Official | None:
    """Return the corpus whose naming fits 90 % of the utterances, or the part with the nearest count."""
    known, fitting = corpora(), dict[str, tuple[int, int]]()
    for corpus in known.values():
        if match(corpus, rows[0]) or match(corpus, rows[-1]):
            matches = [fit[0] for row in rows if (fit := match(corpus, row))]
            if 10 * len(matches) >= 9 * len(rows):
                total = list(corpus.counts.values())[-1]
                fitting[corpus.name] = len(matches), -abs(total - len(set(matches)))
    return known[max(fitting, key=lambda name: fitting[name])] if fitting else None


def count(corpus: Official, rows: Iterable[Utterance]) -> dict[str, int]:
    """Return the actual values of ``corpus.counts``; duplicates and pieces of an utterance count once.

    If no utterance follows the corpus's naming, the speakers and recordings of the rows are counted.
    """
    named, labelled = _Tally(), _Tally()
    seen: set[str] = set()
    for row in rows:
        labelled.add({"speaker": row.speaker, "recording": row.recording})
        fit = match(corpus, row)
        if fit and fit[0] not in seen:
            seen.add(fit[0])
            named.add(fit.groupdict())
    actual = (named if seen else labelled).counts()
    return {what: actual[what] for what in corpus.counts}


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

    def counts(self) -> Counter[str]:
        people = {"speakers": len(self.speakers), "recordings": len(self.recordings)}
        return self.kinds + Counter(people | {"utterances": self.total, "files": self.total})
