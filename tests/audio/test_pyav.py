"""Files that PyAV reads behave like other formats; PyAV itself writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from idemvox.audio import opus, pyav
from idemvox.audio.decoders import SUFFIXES, open_audio
from idemvox.audio.read import SAMPLE_RATE, probe, read, read_pcm
from idemvox.corpus.checks.problems import judge
from idemvox.corpus.checks.scan import examine, find_audio
from idemvox.errors import IdemvoxError

# name, container, codec, rate, seconds by which its length may be off (padding), of the codecs of each kind
KINDS = [
    ("a.webm", "webm", "libopus", 48000, 0.002),
    ("a.mkv", "matroska", "aac", 44100, 0.03),
    ("a.mka", "matroska", "flac", 44100, 0.002),
    ("a.3gp", "3gp", "libopencore_amrnb", 8000, 0.03),
    ("a.amr", "amr", "libopencore_amrnb", 8000, 0.03),
    ("a.oga", "ogg", "flac", 16000, 0.0),
    ("g722.wav", "wav", "g722", 16000, 0.01),
    ("g726.wav", "wav", "g726", 8000, 0.01),
    ("a.ac3", "ac3", "ac3", 48000, 0.04),
    ("a.wma", "asf", "wmav2", 44100, 0.1),
    ("a.m4a", "mp4", "aac", 16000, 0.07),
    ("B.MP4", "mp4", "aac", 8000, 0.14),
    ("a.aac", "adts", "aac", 16000, 0.13),
    ("a.tta", "tta", "tta", 16000, 0.0),
]
STEADY = {
    "libopus",
    "flac",
    "libopencore_amrnb",
    "g722",
    "g726",
    "aac",
}  # soon after a seek, the samples are the same


def write(
    path: Path, wave: np.ndarray, rate: int, codec: str = "aac", kind: str = "", **options: str
) -> Path:
    """Encode (T,) or (channels, T); skips the test where this build of PyAV lacks the encoder."""
    wave = np.atleast_2d(wave).astype(np.float32)
    layout = "mono" if len(wave) == 1 else "stereo"
    try:
        sample_format = av.codec.Codec(codec, "w").audio_formats[0].name
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV cannot encode {codec}")
    kind = kind or {".aac": "adts"}.get(path.suffix, "mp4")
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, format=sample_format)
        stream.bit_rate = {"libopencore_amrnb": 12_200}.get(codec, 64_000)
        stream.codec_context.open()
        cut = av.AudioResampler(
            sample_format, layout, rate, frame_size=stream.codec_context.frame_size or 512
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for part in (*cut.resample(frame), *cut.resample(None), None):
            for packet in stream.encode(part):
                container.mux(packet)
    return path


def sweep(seconds: float, rate: int) -> np.ndarray:
    """A swept tone with a little noise: every moment differs from every other."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(7).standard_normal(len(t))
    return 0.3 * np.sin(2 * np.pi * (150 + 80 * (t % 9)) * t) + 0.02 * noise


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget the files of the test before."""
    yield
    for remembered in (pyav._length, pyav._seconds, opus._adds_up):
        remembered.cache_clear()


@pytest.mark.parametrize(("name", "kind", "codec", "rate", "slack"), KINDS)
def test_any_part_equals_that_part_of_the_whole(
    tmp_path: Path, name: str, kind: str, codec: str, rate: int, slack: float
) -> None:
    path = write(tmp_path / name, sweep(3.6, rate), rate, codec, kind)
    whole = read(path)
    assert whole.dtype == np.float32 and whole.ndim == 1
    assert len(whole) == pytest.approx(3.6 * SAMPLE_RATE, abs=slack * SAMPLE_RATE + 1)
    facts = examine(path)
    assert (facts.fault, facts.decoder) == ("", "PyAV") and facts.promised / facts.rate < facts.seconds + 0.1
    assert probe(path).seconds == pytest.approx(len(whole) / SAMPLE_RATE, abs=0.1)
    for start in (0, 1599, 23457, len(whole) - 1600):
        crop = read(path, start, 1600)
        np.testing.assert_allclose(crop, whole[start : start + 1600], atol=1e-5)
    assert (
        len(read(path, len(whole), 5)) == 0 and len(read(path, len(whole) - 5, 9999)) <= 5 + SAMPLE_RATE // 10
    )
    np.testing.assert_allclose(read_pcm(path, 100, 50) / 32768, whole[100:150], atol=2e-5)


@pytest.mark.parametrize(("name", "kind", "codec", "rate", "slack"), KINDS)
def test_parts_far_into_a_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, codec: str, rate: int, slack: float
) -> None:
    """Bit for bit; and where the decoder allows it, by a seek."""
    monkeypatch.setattr(pyav, "NEAR", 3)
    path = write(tmp_path / name, sweep(16, rate), rate, codec, kind)
    with open_audio(path) as file:
        whole = file.read(file.frames)
        starts = restarts(monkeypatch)
        for second in (13.217, 11.3, 14.9):
            start = round(second * rate)
            file.seek(start)
            np.testing.assert_array_equal(file.read(999), whole[start : start + 999])
    if codec in STEADY and name != "a.oga":
        assert not starts


def restarts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record whenever a file is decoded from its start."""
    starts: list[int] = []
    plain = pyav.AvFile._from_start

    def noted(self: pyav.AvFile) -> object:
        starts.append(self._position)
        return plain(self)

    monkeypatch.setattr(pyav.AvFile, "_from_start", noted)
    return starts


def test_noise_added_by_the_decoder_equals_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AAC with noise in its second half alone: a seek to before it comes out right at first, then not."""
    monkeypatch.setattr(pyav, "NEAR", 3)
    wave = sweep(16, 44100)
    wave[9 * 44100 :] = 0.3 * np.random.default_rng(0).standard_normal(7 * 44100)
    path = write(tmp_path / "a.m4a", wave, 44100)
    with open_audio(path) as file:
        whole = file.read(file.frames)
        file.seek(6 * 44100)
        np.testing.assert_array_equal(file.read(4410), whole[6 * 44100 :][:4410])
        np.testing.assert_array_equal(file.read(10 * 44100), whole[6 * 44100 + 4410 :])


def test_seeking_starts_near_the_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is decoded whole once; after that a crop costs a few seconds of decoding, wherever it lies."""
    path = write(tmp_path / "a.m4a", sweep(60, 16000), 16000)
    read(path, 45 * SAMPLE_RATE, 100)
    monkeypatch.setattr(pyav.AvFile, "_waves", counted(waves := []))
    read(path, 50 * SAMPLE_RATE, SAMPLE_RATE)
    assert SAMPLE_RATE <= sum(waves) < 5 * SAMPLE_RATE


def counted(waves: list[int]) -> object:
    plain = pyav.AvFile._waves

    def count(self: pyav.AvFile, frames: object) -> Iterator[np.ndarray]:
        for block in plain(self, frames):
            waves.append(len(block))
            yield block

    return count


def write_opus(path: Path, seconds: float, moved: dict[int, int]) -> Path:
    """Write Ogg Opus whose time stamps are moved by so many samples from a given packet on."""
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        cut = av.AudioResampler("flt", "mono", 48000, frame_size=960)
        frame = av.AudioFrame.from_ndarray(sweep(seconds, 48000)[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        packets = [
            p for part in (*cut.resample(frame), *cut.resample(None), None) for p in stream.encode(part)
        ]
        for number, samples in moved.items():
            for packet in packets[number:]:
                packet.pts += samples
                packet.dts = packet.pts
        container.mux(packets)
    return path


def test_opus_that_libsndfile_calls_malformed_is_read_completely(tmp_path: Path) -> None:
    """A page counts half a packet less than it has, as some encoders write it."""
    path = write_opus(tmp_path / "a.opus", 8, {150: -480})
    with pytest.raises(soundfile.LibsndfileError, match="malformed"):
        soundfile.read(path)
    whole = read(path)
    assert len(whole) == pytest.approx(8 * SAMPLE_RATE, abs=320)
    np.testing.assert_allclose(read(path, 16_000, 8000), whole[16_000:24_000], atol=1e-5)  # before the spot
    facts = examine(path)
    assert (facts.fault, facts.decoder) == ("", "PyAV") and facts.seconds == pytest.approx(8, abs=0.02)
    soundfile.write(tmp_path / "b.opus", sweep(8, 48000), 48000, format="OGG", subtype="OPUS")
    assert examine(tmp_path / "b.opus").decoder == "libsndfile"


def test_opus_with_part_of_a_packet_too_many_is_complete(tmp_path: Path) -> None:
    path = write_opus(tmp_path / "a.opus", 3, {-1: 960})
    facts = examine(path)
    assert facts.decoder == "libsndfile" and facts.promised > facts.frames
    assert judge("a.opus", facts, 2.0) is None


def test_a_flac_of_unknown_length_is_read(tmp_path: Path) -> None:
    """As written to a pipe; libsndfile assumes the longest possible length."""
    wave = (sweep(3, 16000) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", wave, 16000)
    flac = bytearray((tmp_path / "a.flac").read_bytes())
    flac[21] &= 0xF0  # 36 bits of STREAMINFO that say how many samples there are
    flac[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(flac)
    np.testing.assert_array_equal(read_pcm(tmp_path / "a.flac"), wave)
    facts = examine(tmp_path / "a.flac")
    assert (facts.fault, facts.frames, facts.promised, facts.decoder) == ("", 48_000, 48_000, "PyAV")


def test_the_content_of_a_file_counts_more_than_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", sweep(2, 16000), 16000)
    whole = read(path)
    for name in ("a.mp3", "a.wav", "a.webm"):
        np.testing.assert_array_equal(read(path.rename(tmp_path / name)), whole)
        path = tmp_path / name


def test_a_jump_in_the_time_stamps_moves_no_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that lost packets; what was recorded is read without the gap, crops as well."""
    monkeypatch.setattr(pyav, "NEAR", 3)
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono", format="s16")
        wave = (sweep(20, 16000) * 32768).astype(np.int16)
        for number, block in enumerate(wave.reshape(-1, 500)):
            frame = av.AudioFrame.from_ndarray(block[None], "s16", "mono")
            frame.sample_rate, frame.pts = 16000, 500 * number + (7777 if number > 200 else 0)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    for start in (16_000, 150_000, 250_000):
        np.testing.assert_array_equal(read_pcm(path, start, 4000), wave[start : start + 4000])


def test_the_tone_is_where_it_was_written_and_channels_are_averaged(tmp_path: Path) -> None:
    t = np.arange(96_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t) * (t > 1)
    for path in (
        write(tmp_path / "a.m4a", np.stack([tone, 0 * tone]), 48_000),
        write(tmp_path / "a.webm", np.stack([tone, 0 * tone]), 48_000, "libopus", "webm"),
    ):
        wave = read(path, 20_000, 8_000)
        time = (20_000 + np.arange(8_000)) / SAMPLE_RATE
        phase = np.angle(np.sum(wave * np.exp(-2j * np.pi * 440 * time))) + np.pi / 2
        assert abs((phase + np.pi) % (2 * np.pi) - np.pi) / (2 * np.pi * 440) < 0.25e-3
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.03)


def test_integer_samples_are_exact(tmp_path: Path) -> None:
    """ALAC, which MP4 files may also hold, is lossless: an oracle."""
    wave = np.round(sweep(1, 16000) * 32768) / 32768
    write(tmp_path / "a.m4a", wave, 16000, "alac")
    np.testing.assert_array_equal(read(tmp_path / "a.m4a"), wave.astype(np.float32))


def test_blocks_join_to_the_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", sweep(2, 16000), 16000)
    with open_audio(path) as file:
        blocks = [file.read(5001) for _ in range(8)]
        assert file.read(10).shape == (0,) and file.channels == 1
    np.testing.assert_array_equal(np.concatenate(blocks), read(path))


def test_a_scan_tells_good_from_broken(tmp_path: Path) -> None:
    good = write(tmp_path / "a.m4a", sweep(3, 16000), 16000)
    facts = examine(good)
    assert facts.fault == "" and facts.seconds == pytest.approx(3, abs=0.07) and 0.2 < facts.peak < 0.6
    front = write(tmp_path / "b.m4a", sweep(6, 16000), 16000, movflags="+faststart")  # its header comes first
    front.write_bytes(front.read_bytes()[: front.stat().st_size * 6 // 10])
    facts = examine(front)
    assert facts.promised == pytest.approx(96_000, abs=1100) and facts.seconds < 4
    (tmp_path / "c.m4a").write_bytes(good.read_bytes()[:3000])
    assert "invalid data" in examine(tmp_path / "c.m4a").fault
    assert find_audio(tmp_path).files == ["a.m4a", "b.m4a", "c.m4a"]


@pytest.mark.parametrize(
    ("name", "kind", "codec", "rate"), [k[:4] for k in KINDS if "wav" in k or "webm" in k]
)
def test_a_file_cut_off_in_the_middle_is_reported(
    tmp_path: Path, name: str, kind: str, codec: str, rate: int
) -> None:
    path = write(tmp_path / name, sweep(6, rate), rate, codec, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    facts = examine(path)
    assert facts.promised / facts.rate == pytest.approx(6, abs=0.02) and 3 < facts.seconds < 4


def test_for_any_damage_the_error_names_the_file(tmp_path: Path) -> None:
    """Headers damaged with a fixed seed. Errors other than ours would end a whole scan."""
    whole = write(tmp_path / "a.m4a", sweep(1, 16000), 16000).read_bytes()
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(60):
        spoilt = bytearray(whole)
        for at in rng.integers(len(whole) - 900, len(whole), 20):
            spoilt[at] = rng.integers(256)
        (tmp_path / "b.m4a").write_bytes(spoilt)
        try:
            read(tmp_path / "b.m4a")
        except IdemvoxError as error:
            assert str(tmp_path / "b.m4a") in str(error)
            failed += 1
    assert failed > 10


def test_a_disguised_playlist_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "secret.aac", sweep(1, 16000), 16000)
    monkeypatch.chdir(tmp_path)
    for name in ("a.m4a", "a.wav"):
        Path(name).write_text("ffconcat version 1.0\nfile 'secret.aac'\n")
        with pytest.raises(IdemvoxError, match=rf"cannot read {name}: (invalid argument|not audio)"):
            read(name)


def test_every_suffix_is_listed_once_and_in_lower_case() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
