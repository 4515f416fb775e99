"""Every layout that can be imported, with small random weights and an independent implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import librosa
import torch

from . import wespeaker
from .ecapa import ecapa_network, ecapa_state
from .features import Vector, Wave, speechbrain_features, torchaudio_features
from .lstm import resemblyzer_embedding, resemblyzer_state
from .random_weights import State
from .resnet import resnet_network, resnet_state


@dataclass(frozen=True, slots=True)
class Layout:
    """A toolkit's small weights, and its embedding of a wave computed independently of our code."""

    peer: str
    encoder: str
    make: Callable[[], State]
    embed: Callable[[State, Wave], Vector]


def stripped(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def torchaudio_buffers(prefix: str, window: torch.Tensor) -> State:
    """The buffers of a MelSpectrogram with 20 mels."""
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=20, htk=True, norm=None)
    return {
        f"{prefix}spectrogram.window": window,
        f"{prefix}mel_scale.fb": torch.from_numpy(filters.T.copy()),
    }


def speechbrain_embedding(state: State, wave: Wave) -> Vector:
    return ecapa_network(state, speechbrain_features(wave))


# sslsv: everything of a method in one dictionary; the encoder also holds its front end

SSLSV_NAMES = ("conv", "bn", "block", "pooling.")


def sslsv_checkpoint(name: str, **parts: State) -> State:
    """A checkpoint with parts that must be left out; the encoder called ``name`` has a Hann window."""
    parts["projector"] = {"0.weight": torch.zeros(2, 10)}
    state = {f"model.{part}.{key}": t for part, of_part in parts.items() for key, t in of_part.items()}
    extractor = f"model.{name}.features_extractor.0."
    return state | torchaudio_buffers(extractor, torch.hann_window(400)) | {"optimizer.0": torch.zeros(3)}


def sslsv_dino() -> State:
    """The teacher, the student (other weights) and both heads."""
    student = {key: tensor + 1 for key, tensor in ecapa_state(wrapped=False).items()}
    head = {"mlp.0.weight": torch.zeros(3, 10)}
    teacher = ecapa_state(wrapped=False)
    parts = {"encoder": student, "encoder_momentum": teacher, "head": head, "head_momentum": head}
    return sslsv_checkpoint("encoder_momentum", **parts)


def sslsv_resnet(state: State, wave: Wave) -> Vector:
    encoder = stripped(state, "model.encoder.")
    return resnet_network(encoder, torchaudio_features(wave, "hann"), *SSLSV_NAMES)


def sslsv_ecapa(state: State, wave: Wave) -> Vector:
    return ecapa_network(stripped(state, "model.encoder_momentum."), torchaudio_features(wave, "hann"))


# voxceleb_trainer: the network is __S__, the loss __L__

TRAINER_NAMES = ("conv1", "bn1", "layer", "")


def trainer_state(prefix: str = "", *, emphasised: bool = False, alone: bool = False) -> State:
    """A file of ResNetSE34L; ``alone`` without a front end, as in voxceleb_unsupervised."""
    network = {f"__S__.{name}": tensor for name, tensor in resnet_state(*TRAINER_NAMES).items()}
    if not alone:
        buffers = f"__S__.torchfb.{'1.' if emphasised else ''}"
        network |= torchaudio_buffers(buffers, torch.hamming_window(400))
    if emphasised:
        network["__S__.torchfb.0.flipped_filter"] = torch.tensor([[[-0.97, 1.0]]])
    network["__L__.w"] = torch.tensor(10.0)
    return {prefix + name: tensor for name, tensor in network.items()}


def trainer_embedding(state: State, wave: Wave) -> Vector:
    state = {name.removeprefix("model_state_dict.").removeprefix("__S__."): t for name, t in state.items()}
    if "torchfb.0.flipped_filter" in state:
        features = torchaudio_features(wave, "hamming", pre_emphasis=0.97)
    elif "torchfb.mel_scale.fb" in state:
        features = torchaudio_features(wave, "hamming")
    else:
        features = torchaudio_features(wave * 2**15, "hann", mels=40)
    return resnet_network(state, features, *TRAINER_NAMES)


LAYOUTS = {
    "resemblyzer": Layout("resemblyzer", "ge2e_lstm", resemblyzer_state, resemblyzer_embedding),
    "speechbrain": Layout(
        "speechbrain", "ecapa_tdnn", lambda: ecapa_state(wrapped=True), speechbrain_embedding
    ),
    "sslsv, DINO": Layout("sslsv", "ecapa_tdnn", sslsv_dino, sslsv_ecapa),
    "sslsv, SimCLR": Layout(
        "sslsv",
        "fast_resnet34",
        lambda: sslsv_checkpoint("encoder", encoder=resnet_state(*SSLSV_NAMES)),
        sslsv_resnet,
    ),
    "voxceleb_trainer": Layout("voxceleb_trainer", "fast_resnet34", trainer_state, trainer_embedding),
    "voxceleb_trainer, pre-emphasis": Layout(
        "voxceleb_trainer",
        "fast_resnet34",
        lambda: trainer_state("model_state_dict.", emphasised=True),
        trainer_embedding,
    ),
    "voxceleb_unsupervised": Layout(
        "voxceleb_trainer", "fast_resnet34", lambda: trainer_state(alone=True), trainer_embedding
    ),
    "wespeaker, ResNet": Layout("wespeaker", "resnet34", wespeaker.resnet_state, wespeaker.resnet_embedding),
    "wespeaker, ECAPA": Layout(
        "wespeaker", "ecapa_tdnn", lambda: wespeaker.ecapa_state(False), wespeaker.ecapa_embedding
    ),
    "wespeaker, ECAPA with context": Layout(
        "wespeaker", "ecapa_tdnn", lambda: wespeaker.ecapa_state(True), wespeaker.ecapa_embedding
    ),
}
