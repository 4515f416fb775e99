"""How many 2-second crops per second are augmented on the device, by policy, and how exact the result is.

    python benchmarks/augment.py [--device cpu] [--rounds 5] [--batch 512] [--quick]

Noise and music are real (from IDEMVOX_CORPORA), babble is made of real speech, and there are 500 simulated
rooms with reverberation times of up to 0.8 s. ``scipy, one by one`` applies ``always`` with the same banks in
memory, in a loop over the samples and with scipy's convolution. ``FFTs alone`` is a lower bound for
``always``: one forward and one inverse transform for each crop, and nothing else. On a CPU, one thread is
used. All variants take turns for several rounds, and ratios are taken within a round.

Writes docs/results/augment.{md,json}.
"""

from __future__ import annotations

import statistics
from typing import get_args

import numpy as np
import torch
from rich.console import Console
from scipy import signal
from torch import Tensor

from common import corpora, in_turn, measuring, publish, times
from idemvox.audio.augment import Augmenter
from idemvox.audio.banks import Bank, load_bank, trim_room
from idemvox.audio.policies import PolicyName
from idemvox.audio.rooms import room_bank
from idemvox.audio.speed import change_speed
from idemvox.audio.telephone import through_telephone
from idemvox.corpus.crops import samples_before
from idemvox.draws import mix

SAMPLES = 32_000
PHONE, SPEED = "telephone alone", "speed 1.1 alone"
ONE_BY_ONE, FLOOR = "scipy, one by one", "FFTs alone"


def one_by_one(augmenter: Augmenter, wave: Tensor, rooms: list[np.ndarray]) -> Tensor:
    """Augment sample by sample, with the same random draws as the batched augmenter."""
    draws = augmenter.draw(mix(0, np.arange(len(wave))), SAMPLES)
    out = np.empty(wave.shape, np.float32)
    for n, row in enumerate(wave.numpy()):
        room = rooms[draws.room[n]]
        heard = signal.convolve(row, room / np.sqrt(np.sum(room**2)))[:SAMPLES]
        bank, count = augmenter.noises[augmenter.kinds[draws.kind[n]]], draws.count[n]
        noise = bank.take(draws.piece[n, :count], draws.offset[n, :count], SAMPLES).sum(0).numpy()
        ratio = np.mean(heard**2) / np.mean(noise**2) / 10 ** (draws.snr_db[n] / 10)
        out[n] = heard + np.sqrt(ratio) * noise
    return torch.from_numpy(out)


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, rounds=5, quick="a small batch; writes nothing")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=512)
    args = parser.parse_args()
    device, batch = torch.device(args.device), 64 if args.quick else args.batch
    torch.set_num_threads(1)
    rooms = [trim_room(room.astype(np.float32)) for room in room_bank(500, seed=0, rt60=(0.2, 0.8))]
    folder = corpora()
    banks = {
        "noise": Bank(load_bank(folder / "noise")),
        "music": Bank(load_bank(folder / "music")),
        "speech": Bank(load_bank(folder / "speech", 4.0, max_hours=0.4)),
    }
    speech = banks["speech"]
    rows = np.flatnonzero(speech.sizes >= SAMPLES).repeat(batch)[:batch]
    wave = speech.take(rows, np.zeros_like(rows), SAMPLES).to(device)
    longer = torch.nn.functional.pad(wave, (0, samples_before(SAMPLES, 1.1) - SAMPLES))
    seeds = mix(0, np.arange(batch))
    augmenters = {
        name: Augmenter(name, banks, Bank(rooms)).to(device)
        for name in get_args(PolicyName)
        if name != "none"
    }
    always = augmenters["always"]
    draws = always.draw(seeds, SAMPLES)
    sizes = always.reverb.transform_lengths(SAMPLES, draws.room).tolist()

    def ffts() -> None:
        for size in set(sizes):
            step = min(32, sizes.count(size)) if device.type == "cpu" else sizes.count(size)
            padded = torch.zeros(step, size, device=device)
            for _ in range(sizes.count(size) // step):
                torch.fft.irfft(torch.fft.rfft(padded), size)

    def finished(run: object) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    ways = {name: (lambda a=a: finished(a(wave, seeds)), batch) for name, a in augmenters.items()}
    ways[PHONE] = (lambda: finished(through_telephone(wave)), batch)
    ways[SPEED] = (lambda: finished(change_speed(longer, 1.1, SAMPLES)), batch)
    ways[FLOOR] = (lambda: finished(ffts()), batch)
    if device.type == "cpu":
        ways[ONE_BY_ONE] = (lambda: one_by_one(always, wave, rooms), batch)
    rates = in_turn(ways, args.rounds)
    base = ONE_BY_ONE if device.type == "cpu" else FLOOR
    ratio = "times_one_by_one" if base == ONE_BY_ONE else "times_FFTs"
    results = [
        {
            "system": name,
            "crops_per_second": rates[name],
            "median": statistics.median(rates[name]),
            ratio: times(rates, name, base),
        }
        for name in ways
    ]
    exact = exactness(always, wave, rooms) if device.type == "cpu" else {}
    console = Console()
    for row in results:
        console.print(
            f"{row['system']:<20} {row['median']:>9.0f} crops/s   {list(row.values())[-1]:.2f} x {base}"
        )
    console.print(exact)
    if not args.quick:
        publish(
            args.out,
            "augment" if device.type == "cpu" else f"augment-{device.type}",
            f"Augmentation: 2-second crops per second ({device.type})",
            __doc__ or "",
            results,
            "".join(f"\n\n{name.replace('_', ' ')}: {value:.2g}" for name, value in exact.items()),
            per="round",
            extra={"exactness": exact},
        )


def exactness(augmenter: Augmenter, wave: Tensor, rooms: list[np.ndarray]) -> dict[str, float]:
    """Compare with samples augmented one by one and in another batch, and the SNRs with those drawn."""
    wave, seeds = wave[:64], mix(0, np.arange(64))
    found = augmenter(wave, seeds)
    alone = torch.cat([augmenter(wave[n : n + 1], seeds[n : n + 1]) for n in range(64)])
    loud = wave.abs().amax(1, keepdim=True)
    reverberated = Augmenter("reverb", {}, augmenter.reverb.rooms)(wave, seeds)
    noise = (found - reverberated).double()
    snr = 10 * torch.log10(reverberated.double().square().mean(1) / noise.square().mean(1))
    drawn = torch.from_numpy(augmenter.draw(seeds, SAMPLES).snr_db)
    return {
        "largest_difference_to_one_by_one": float(
            ((found - one_by_one(augmenter, wave, rooms)) / loud).abs().max()
        ),
        "largest_difference_to_another_batch": float(((found - alone) / loud).abs().max()),
        "largest_error_of_the_ratio_in_dB": float((snr - drawn).abs().max()),
    }


if __name__ == "__main__":
    main()
