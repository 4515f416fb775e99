"""How much embeddings reveal about the recording."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.corpus.manifest import Utterance
from idemvox.errors import IdemvoxError
from idemvox.verification.channel import channel_information
from idemvox.verification.embed import Embeddings


def made(channel: float, utterances: int = 4, recordings: int = 3, speakers: int = 30) -> tuple:
    """Embeddings that are the sum of a voice, a channel with a weight, and the content."""
    rng = np.random.default_rng(1)
    rows, vectors = [], []
    for s in range(speakers):
        voice = rng.standard_normal(64)
        for r in range(recordings):
            sound = rng.standard_normal(64)
            for u in range(utterances):
                rows.append(Utterance(f"{s}/{r}/{u}", "x.wav", 2.0, speaker=f"s{s}", recording=f"r{r}"))
                vectors.append(voice + channel * sound + 0.5 * rng.standard_normal(64))
    return Embeddings(tuple(u.id for u in rows), np.array(vectors, np.float32)), rows


def test_a_channel_is_detected():
    found = channel_information(*made(1.0))
    assert found.probe > 0.95 and found.chance == pytest.approx(1 / 3) and found.speakers == 30
    assert found.same_recording > found.other_recording + 0.1 > found.other_speaker + 0.2


def test_without_a_channel_the_probe_is_at_chance():
    """With 360 answers, the standard deviation from chance is 0.025."""
    found = channel_information(*made(0.0))
    assert abs(found.probe - 1 / 3) < 0.1
    assert found.same_recording == pytest.approx(found.other_recording, abs=0.02)


def test_cosines_are_means_over_all_pairs():
    embeddings, rows = made(0.7, speakers=4)
    found = channel_information(embeddings, rows)
    x = embeddings.matrix.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    kinds: dict[str, list[float]] = {"same": [], "other": [], "apart": []}
    for a in range(len(rows)):
        for b in range(a):
            one, two = rows[a], rows[b]
            kind = "apart" if one.speaker != two.speaker else "other"
            kind = "same" if (one.speaker, one.recording) == (two.speaker, two.recording) else kind
            kinds[kind].append(float(x[a] @ x[b]))
    assert found.same_recording == pytest.approx(np.mean(kinds["same"]))
    assert found.other_recording == pytest.approx(np.mean(kinds["other"]))
    assert found.other_speaker == pytest.approx(np.mean(kinds["apart"]))


def test_rotation_and_scale_do_not_matter():
    embeddings, rows = made(0.3)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
    other = Embeddings(embeddings.ids, (7 * embeddings.matrix @ turn).astype(np.float32))
    one, two = (channel_information(e, rows) for e in (embeddings, other))
    assert one.probe == two.probe and one.same_recording == pytest.approx(two.same_recording, abs=1e-5)


@pytest.mark.parametrize(("utterances", "recordings"), [(1, 3), (4, 1)])
def test_a_probe_needs_two_recordings_of_two_utterances(utterances, recordings):
    with pytest.raises(IdemvoxError, match="two recordings"):
        channel_information(*made(1.0, utterances, recordings))
