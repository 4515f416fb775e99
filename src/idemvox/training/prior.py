"""A frozen embedding of a training corpus, for a positive sampler that is guided by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idemvox.arrays import Wave
from idemvox.audio.read import FULL_SCALE, SAMPLE_RATE
from idemvox.corpus.corpus import Corpus
from idemvox.encoders.base import Encoder
from idemvox.errors import CorpusError
from idemvox.model import load_model
from idemvox.modules import evaluating
from idemvox.progress import task_bar
from idemvox.ranks import collect, is_first, rank, world
from idemvox.verification.embedding.files import is_folder, load_embeddings

__all__ = ["load_prior"]

SECONDS = 10.0
"""How much of an utterance a model embeds."""

_BATCH = 16


def load_prior(path: Path, corpus: Corpus, device: torch.device) -> npt.NDArray[np.float32]:
    """Return (N, D) the embedding of each utterance of a corpus.

    Args:
        path: a model or run folder, whose encoder embeds the first 10 s of each utterance; a folder or
            ``.npz`` from `idemvox embed`, by id; or ``.npy`` (N, D) in the order of the corpus.
        corpus: N utterances.
        device: for the encoder.

    Raises:
        CorpusError: the file has not one finite row for each utterance.
        ModelError: the folder holds no model.
    """
    if path.is_dir() and not is_folder(path):
        return _embed(load_model(path).network.to(device), corpus, device)
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:
            given = load_embeddings(path)
            matrix = given.matrix[[given.rows[name] for name in corpus.ids]]
    except KeyError as error:
        raise CorpusError(
            f"{path} has no embedding of {error}: make it of this corpus, by `idemvox embed`"
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise CorpusError(f"cannot read embeddings from {path}: {error}") from error
    if matrix.ndim != 2 or len(matrix) != len(corpus):
        raise CorpusError(
            f"{path} has the shape {matrix.shape}, but there are {len(corpus)} utterances: "
            "give one row for each, in the order of the manifest"
        )
    if not np.isfinite(matrix).all():
        raise CorpusError(f"{path} holds numbers that are NaN or infinite: embed again")
    return np.asarray(matrix, np.float32)


def _embed(encoder: Encoder, corpus: Corpus, device: torch.device) -> npt.NDArray[np.float32]:
    """Embed the first seconds of each utterance, each rank a part of the corpus."""
    lengths = np.minimum(corpus.source.lengths, round(SECONDS * SAMPLE_RATE))
    order = lengths.argsort(kind="stable")[rank() :: world()]  # alike in length, so that little is padded
    batches = np.array_split(order, max(1, -(-len(order) // _BATCH)))
    parts: list[Tensor] = []
    with evaluating(encoder), task_bar("embedding for positives", len(batches), is_first()) as bar:
        for ids in batches:
            waves = torch.zeros(len(ids), int(lengths[ids].max()))
            for row, number in zip(waves, ids, strict=True):
                row[: lengths[number]] = torch.from_numpy(_read(corpus, int(number), int(lengths[number])))
            valid = torch.from_numpy(lengths[ids])
            parts.append(encoder(waves.to(device), valid.to(device)).float())
            bar.advance(bar.task_ids[0])
    whose = collect(torch.from_numpy(order).to(device))
    matrix: npt.NDArray[np.float32] = collect(torch.cat(parts))[whose.argsort()].cpu().numpy()
    return matrix


def _read(corpus: Corpus, number: int, samples: int) -> Wave:
    pcm = np.zeros(samples, np.int16)
    corpus.source.read_into(number, 0, pcm)
    wave: Wave = pcm.astype(np.float32) / np.float32(FULL_SCALE)
    return wave
