"""How many speakers, recordings and utterances the public corpora have, as their makers say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from idemvox.corpus.manifest import Utterance
from idemvox.errors import CorpusError, unknown_name

__all__ = ["CORPORA", "Official", "count", "match", "official", "recognise"]


@dataclass(frozen=True, slots=True)
class Official:
    """A corpus, or a part of one.

    Attributes:
        pattern: finds an utterance by its id or path; its groups are what is counted: ``speaker``,
            ``recording`` and ``kind``.
        counts: what there should be, the total last.
        speech: False for what is only added to speech: may be short, and need not fill a voice's band.
    """

    name: str
    pattern: re.Pattern[str]
    counts: Mapping[str, int]
    speech: bool = True


def _voxceleb(name: str, speaker: str, speakers: int, recordings: int, utterances: int) -> Official:
    """``id10001/1zcIwhmdeo4/00001.wav``, or the same with hyphens."""
    pattern = re.compile(rf"(?P<speaker>{speaker})[/-](?P<recording>[^/]{{11}})[/-]\d{{5}}(?![^.])")
    counts = {"speakers": speakers, "recordings": recordings, "utterances": utterances}
    return Official(name, pattern, counts)


def _musan(name: str, kinds: str, counts: Mapping[str, int]) -> Official:
    """``noise/free-sound/noise-free-sound-0000.wav``."""
    pattern = re.compile(rf"(?:^|/)(?P<kind>{kinds})-[a-z-]+-\d{{4}}(?![^.])")
    return Official(name, pattern, counts, speech=False)


TEST_1 = "0(?:2[789]|30)[0-9]"  # id10270 to id10309: the names that begin with E

ALL = (
    _voxceleb("voxceleb1", r"id1\d{4}", 1_251, 22_496, 153_516),
    _voxceleb("voxceleb1-dev", rf"id1(?!{TEST_1})\d{{4}}", 1_211, 21_819, 148_642),
    _voxceleb("voxceleb1-test", rf"id1{TEST_1}", 40, 677, 4_874),
    _voxceleb("voxceleb2", r"id0\d{4}", 6_112, 150_480, 1_128_246),
    _voxceleb("voxceleb2-dev", r"id0\d{4}", 5_994, 145_569, 1_092_009),
    _voxceleb("voxceleb2-test", r"id0\d{4}", 118, 4_911, 36_237),
    _musan("musan", "music|noise|speech", {"music": 660, "noise": 930, "speech": 426, "files": 2_016}),
    _musan("musan-music", "music", {"files": 660}),
    _musan("musan-noise", "noise", {"files": 930}),
    _musan("musan-speech", "speech", {"files": 426}),
    Official(
        "rirs",  # the simulated ones of RIRS_NOISES
        re.compile(r"(?:small|medium|large)room/Room\d{3}/Room\d{3}-\d{5}(?![^.])"),
        {"files": 60_000},
        speech=False,
    ),
    Official(  # the development set of the challenge of 2019
        "voices-dev",
        re.compile(r"rm\d+-[a-z]+-(?P<speaker>sp\d+)-[^/.]+"),
        {"speakers": 196, "utterances": 15_904},
    ),
)
CORPORA = {corpus.name: corpus for corpus in ALL}


def official(name: str) -> Official:
    """Return the corpus of this name.

    Raises:
        CorpusError: there is none; lists the names.
    """
    if name not in CORPORA:
        raise unknown_name("corpus", name, CORPORA, CorpusError)
    return CORPORA[name]


def match(corpus: Official, row: Utterance) -> re.Match[str] | None:
    """Find the corpus's own naming in an utterance's id or path."""
    return corpus.pattern.search(row.id) or corpus.pattern.search(row.path)


def recognise(rows: Sequence[Utterance]) -> Official | None:
    """The corpus that nine in ten utterances are named like; of its parts the one nearest in number."""
    fitting: dict[str, tuple[int, int]] = {}
    for corpus in ALL:
        if match(corpus, rows[0]) or match(corpus, rows[-1]):
            matches = [found[0] for row in rows if (found := match(corpus, row))]
            if 10 * len(matches) >= 9 * len(rows):
                total = list(corpus.counts.values())[-1]
                fitting[corpus.name] = len(matches), -abs(total - len(set(matches)))
    return CORPORA[max(fitting, key=lambda name: fitting[name])] if fitting else None


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
