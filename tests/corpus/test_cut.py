"""Cutting long files into utterances."""

from __future__ import annotations

from pathlib import Path

import pytest

from idemvox.corpus.cut import cut_long
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import CorpusError


def test_equal_pieces_that_cover_the_utterance_and_know_their_recording():
    whole = Manifest(
        [
            Utterance("a", "a.wav", 25.0, speaker="s", recording="monday"),
            Utterance("b", "b.wav", 10.0),
            Utterance("c", "c.wav", 12.0, start=3.0),
        ],
        Path("root"),
    )
    cut = cut_long(whole, 10.0)
    assert [u.id for u in cut] == ["a#0", "a#1", "a#2", "b", "c#0", "c#1"]
    assert [u.seconds for u in cut] == pytest.approx([25 / 3] * 3 + [10, 6, 6])
    assert [u.start for u in cut] == [0.0, pytest.approx(25 / 3), pytest.approx(50 / 3), None, 3.0, 9.0]
    assert [u.recording for u in cut] == ["monday"] * 3 + ["b", "c", "c"]
    assert [u.speaker for u in cut] == ["s"] * 3 + [None] * 3
    assert cut.root == whole.root


def test_what_cannot_be_cut():
    twice = Manifest([Utterance("a", "a.wav", 20.0), Utterance("a#0", "b.wav", 5.0)], Path())
    with pytest.raises(CorpusError, match="same id"):
        cut_long(twice, 10)
    with pytest.raises(CorpusError, match="more than 0 seconds"):
        cut_long(twice, 0)
