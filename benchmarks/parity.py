"""Parity with other toolkits: imported weights must give the same embeddings as the toolkit's own code.

    python benchmarks/parity.py resemblyzer [--out docs/results]

Run it where the named toolkits are installed; idemvox does not depend on them. The weights are those in the
toolkit's package. If it has none, they are random, with random batch-norm statistics, which tests the same
arithmetic. Each recording is embedded by the toolkit's own front end and network, and by the model folder
that `idemvox import-weights` writes.

"largest difference" is the largest absolute difference between two embeddings, as a share of the largest
absolute number in the toolkit's. "lowest cosine" is the lowest between the two embeddings of one recording.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common import corpora, measuring, publish
from idemvox.audio.read import read
from idemvox.model import import_weights
from idemvox.verification.embed import embed_waves

Wave = NDArray[np.float32]
Theirs = Callable[[Wave], NDArray[Any]]


def live(module: torch.nn.Module) -> torch.nn.Module:
    """Give a random network batch-norm statistics as if trained, and put it into eval mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 1.5)
                if part.affine:
                    part.weight.uniform_(0.5, 1.5)
                    part.bias.uniform_(-0.3, 0.3)
    return module.eval()


def resemblyzer(folder: Path) -> tuple[Path, Theirs, str]:
    """The pretrained weights in the package, with its level normalisation and without its speech detector."""
    import scipy.ndimage

    old = types.ModuleType("scipy.ndimage.morphology")  # a name that newer SciPy no longer has
    old.binary_dilation = scipy.ndimage.binary_dilation  # type: ignore[attr-defined]
    sys.modules.setdefault("scipy.ndimage.morphology", old)
    import resemblyzer as package
    from resemblyzer import audio

    encoder = package.VoiceEncoder("cpu", verbose=False)

    def embed(wave: Wave) -> NDArray[Any]:
        levelled = audio.normalize_volume(wave, audio.audio_norm_target_dBFS, increase_only=True)
        vector: NDArray[Any] = encoder.embed_utterance(levelled)
        return vector

    return Path(package.__file__).parent / "pretrained.pt", embed, "pretrained"


def speechbrain(folder: Path) -> tuple[Path, Theirs, str]:
    """An ECAPA-TDNN of the size of spkrec-ecapa-voxceleb, with SpeechBrain's ``Fbank`` and normalisation."""
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    torch.manual_seed(0)
    network = live(ECAPA_TDNN(80, lin_neurons=192, channels=[1024, 1024, 1024, 1024, 3072]))
    fbank, normalise = Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False)
    torch.save(network.state_dict(), folder / "embedding_model.ckpt")

    def embed(wave: Wave) -> NDArray[Any]:
        features = normalise(fbank(torch.from_numpy(wave)[None]), torch.ones(1))
        vector: NDArray[Any] = network(features).numpy()
        return vector

    return folder / "embedding_model.ckpt", embed, "random"


def sslsv_network(folder: Path, network: Any) -> tuple[Path, Theirs, str]:
    """A checkpoint of one of sslsv's encoders with its own front end, as its trainer writes it."""
    network = live(network)
    state = {f"encoder.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 1, "best_metric": np.float64(9.4), "model": state}, folder / "model_latest.pt")

    def embed(wave: Wave) -> NDArray[Any]:
        vector: NDArray[Any] = network(torch.from_numpy(wave)[None]).numpy()
        return vector

    return folder / "model_latest.pt", embed, "random"


def sslsv_ecapa(folder: Path) -> tuple[Path, Theirs, str]:
    """sslsv's ECAPA-TDNN of the size in the SSPS paper, with 40 mels."""
    from sslsv.encoders.ECAPATDNN import ECAPATDNN, ECAPATDNNConfig

    torch.manual_seed(0)
    sizes = [1024, 1024, 1024, 1024, 3072]
    return sslsv_network(folder, ECAPATDNN(ECAPATDNNConfig(channels=sizes)))


def sslsv_resnet(folder: Path) -> tuple[Path, Theirs, str]:
    """sslsv's Fast ResNet-34, with 40 mels."""
    from sslsv.encoders.ResNet34 import ResNet34, ResNet34Config

    torch.manual_seed(0)
    return sslsv_network(folder, ResNet34(ResNet34Config()))


TOOLKITS = {
    "resemblyzer": [resemblyzer],
    "speechbrain": [speechbrain],
    "sslsv": [sslsv_ecapa, sslsv_resnet],
}
"""Each toolkit's networks."""


def real_waves(recordings: int) -> list[Wave]:
    """Return real recordings of several sources and lengths, then a very short one and a long one."""
    speech = corpora() / "speech"
    found = sorted(p for p in speech.rglob("*") if p.suffix in (".wav", ".opus", ".ogg", ".flac"))
    waves = [read(path) for path in found[:: max(1, len(found) // recordings)][:recordings]]
    return [*waves, waves[0][:9000], np.concatenate(waves[:10])]


def compare(toolkit: str, waves: Sequence[Wave]) -> list[dict[str, Any]]:
    """Return one row for each network of a toolkit."""
    rows = []
    for build in TOOLKITS[toolkit]:
        with tempfile.TemporaryDirectory() as name:
            file, embed, weights = build(Path(name))
            model = import_weights(file, toolkit, Path(name) / "model")
        ours = embed_waves(model.encoder, waves)
        with torch.no_grad():
            theirs = np.array([np.asarray(embed(wave)).ravel() for wave in waves])
        cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        rows.append(
            {
                "system": f"{toolkit} {importlib.metadata.version(toolkit)}",
                "encoder": type(model.encoder).__name__,
                "network": build.__name__,
                "weights": weights,
                "recordings": len(waves),
                "largest difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
                "lowest cosine": float(cosines.min()),
            }
        )
    return rows


def main() -> None:
    """Compare the given toolkits with our imports of their weights."""
    parser = measuring(__doc__, quick="five recordings; writes nothing")
    parser.add_argument("toolkits", nargs="+", choices=sorted(TOOLKITS))
    arguments = parser.parse_args()
    waves = real_waves(5 if arguments.quick else 40)
    rows = [row for toolkit in arguments.toolkits for row in compare(toolkit, waves)]
    for row in rows:
        print(row)
    if not arguments.quick:
        publish(arguments.out, "parity", "Parity with other toolkits", __doc__ or "", rows)


if __name__ == "__main__":
    main()
