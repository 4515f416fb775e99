"""How many utterances per second one core prepares for the device, compared with per-file loading.

    python benchmarks/loader.py [--rounds 5] [--quick]

An utterance means the crops of it that SimCLR with SSPS takes in a step: two 2-second crops and a 4-second
reference. All variants read the same 4-second WAV files of real speech (IDEMVOX_CORPORA) from the page cache,
in one process with one thread. They take turns for several rounds, and ratios are taken within a round.

* per file: what the public toolkits do: decode the whole file, crop it, and for each augmented view read one
  noise file and one room file from disk, convolve with scipy, and mix; float32 batches.
* delivered: 16-bit batches from a pack, ready to go to the device, which does the augmentation.
* augmented: the same, with the policy ``always`` applied on that one core too.
* unpacked: as augmented, but from the WAV files instead of the pack.

Writes docs/results/loader.{md,json}.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from rich.console import Console
from scipy import signal

from common import corpora, in_turn, measuring, publish, times
from idemvox.audio.augment import Augmenter
from idemvox.audio.banks import Bank, load_bank, load_rooms
from idemvox.audio.policies import SNR
from idemvox.audio.read import SAMPLE_RATE, read, write_wav
from idemvox.audio.rooms import room_bank
from idemvox.corpus.crops import AudioSource, Crop, FileSource
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.packs.packed import PackedSource
from idemvox.positives.base import Setting
from idemvox.positives.same import Same
from idemvox.training.data import Batches

BATCH = 256
VIEWS = {
    "anchor": Crop(1, 2.0),
    "positive": Crop(1, 2.0),
    "reference": Crop(1, 4.0, augment=False),
}
Wave = npt.NDArray[np.float32]


def make_corpus(folder: Path, utterances: int, noises: int, rooms: int) -> Path:
    """Write 4-second WAV files of real speech, real noise and simulated rooms; return the manifest's path."""
    rng = np.random.default_rng(0)
    listed = [u for u in load_table(corpora() / "manifest.csv") if u.seconds > 2]
    rows, joined, n = [], np.zeros(0, np.float32), 0
    while len(rows) < utterances:
        while len(joined) < 4 * SAMPLE_RATE:
            joined = np.concatenate([joined, read(corpora() / listed[n].path)])
            n += 1
        name = f"speech/{len(rows):05}.wav"
        write_wav(folder / name, joined[: 4 * SAMPLE_RATE])
        rows.append(Utterance(name, name, 4.0))
        joined = joined[4 * SAMPLE_RATE :]
    pieces = [p for kind in ("noise", "music") for p in load_bank(corpora() / kind)]
    for number in range(noises):
        write_wav(folder / "noise" / f"{number}.wav", pieces[rng.integers(len(pieces))] / 32768)
    for number, room in enumerate(room_bank(rooms, seed=0, rt60=(0.2, 0.8))):
        write_wav(folder / "rooms" / f"{number}.wav", room / np.abs(room).max() * 0.9)
    save_manifest(Manifest(rows, folder), folder / "manifest.csv")
    return folder / "manifest.csv"


def load_table(file: Path) -> Manifest:
    """Read the corpora's own table, whose rows have no rate."""
    lines = file.read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    fields = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]
    good = [f for f in fields if f["source"] == "speechocean762"]
    return Manifest((Utterance(f["path"], f["path"], float(f["seconds"])) for f in good), file.parent)


class PerFile:
    """A map-style dataset like those of the public toolkits: it reads everything from disk every time."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.files = [str(manifest.path(u)) for u in manifest]
        self.noises = sorted(str(p) for p in (folder / "noise").glob("*.wav"))
        self.rooms = sorted(str(p) for p in (folder / "rooms").glob("*.wav"))
        self.rng = np.random.default_rng(0)

    def crop(self, wave: Wave, seconds: float) -> Wave:
        samples = round(seconds * SAMPLE_RATE)
        start = self.rng.integers(0, max(len(wave) - samples, 0) + 1)
        return wave[start : start + samples]

    def augment(self, wave: Wave) -> Wave:
        room, _ = soundfile.read(self.rooms[self.rng.integers(len(self.rooms))], dtype="float32")
        room = room / np.sqrt(np.sum(room**2))
        wave = signal.convolve(wave, room, mode="full")[: len(wave)]
        noise, _ = soundfile.read(self.noises[self.rng.integers(len(self.noises))], dtype="float32")
        noise = np.resize(noise, len(wave)) if len(noise) < len(wave) else self.crop(noise, len(wave) / 16000)
        snr = self.rng.uniform(*SNR["noise"])
        clean_db, noise_db = (10 * np.log10(np.mean(x**2) + 1e-4) for x in (wave, noise))
        return np.asarray(wave + np.sqrt(10 ** ((clean_db - noise_db - snr) / 10)) * noise, np.float32)

    def __getitem__(self, index: int) -> dict[str, Wave]:
        wave, _ = soundfile.read(self.files[index], dtype="float32")
        return {
            name: self.augment(self.crop(wave, c.seconds)) if c.augment else self.crop(wave, c.seconds)
            for name, c in VIEWS.items()
        }


def per_file(data: PerFile, utterances: int) -> None:
    """Load float32 batches of shuffled utterances."""
    order = np.random.default_rng(1).permutation(len(data.files))[:utterances]
    for ids in np.split(order, range(BATCH, utterances, BATCH)):
        items = [data[i] for i in ids.tolist()]
        for name in VIEWS:
            torch.from_numpy(np.stack([item[name] for item in items]))


def ffts(augmenter: Augmenter, utterances: int) -> None:
    """Only do the transforms of ``augmented``: one forward and one inverse for each view."""
    draws = augmenter.draw(range(2 * utterances), 2 * SAMPLE_RATE)
    sizes = augmenter.reverb.transform_lengths(2 * SAMPLE_RATE, draws.room).tolist()
    for size in set(sizes):
        wave = torch.randn(32, size)
        for _ in range(sizes.count(size) // len(wave)):
            torch.fft.irfft(torch.fft.rfft(wave), size)


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, rounds=5, quick="a tenth of the work; writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    share = 10 if args.quick else 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = make_corpus(folder, 2560 // share, 500 // share, 500 // share)
        pack(file, folder / "pack", progress=False)
        manifest = load_manifest(file)
        augmenter = Augmenter(
            "always", {"noise": Bank(load_bank(folder / "noise"))}, Bank(load_rooms(folder / "rooms"))
        )
        data = PerFile(folder, manifest)
        same = Same(Same.Options(), Setting(len(manifest), 1, 1, 0))

        def batches(source: AudioSource, policy: Augmenter) -> Batches:
            return Batches(
                source, VIEWS, policy, batch=BATCH // share, seed=0, device=torch.device("cpu"), workers=0
            )

        packed = batches(PackedSource(folder / "pack"), augmenter)
        files = batches(FileSource(manifest), augmenter)
        count = packed.steps * packed.batch

        def deliver() -> None:
            order = np.random.default_rng(2).permutation(len(manifest))[:count]
            for _ in packed.read_ahead(np.split(order, packed.steps), 0, list(VIEWS)):
                pass

        ways: dict[str, tuple[Callable[[], None], int]] = {
            "per file": (lambda: per_file(data, count // 4), count // 4),
            "delivered": (deliver, count),
            "augmented": (lambda: [None for _ in packed.epoch(0, same)] and None, count),
            "unpacked": (lambda: [None for _ in files.epoch(0, same)] and None, count),
            "FFTs of augmented alone": (lambda: ffts(augmenter, count), count),
        }
        rates = in_turn(ways, args.rounds)
    ratios = {name: times(rates, name, "per file") for name in ways}
    rows = [
        {
            "system": name,
            "utterances_per_second_and_core": rates[name],
            "median": statistics.median(rates[name]),
            "times_per_file": ratios[name],
        }
        for name in ways
    ]
    console = Console()
    for row in rows:
        console.print(
            f"{row['system']:<26} {row['median']:>9.0f} utterances/s   {row['times_per_file']:.1f} x"
        )
    if not args.quick:
        publish(
            args.out,
            "loader",
            "Loading: utterances per second and core",
            __doc__ or "",
            rows,
            per="round",
            extra={"ratios": {name: ratios[name] for name in ("delivered", "augmented", "unpacked")}},
        )


if __name__ == "__main__":
    main()
