"""Fine-tuning: the inputs of each loss, and the frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.batch import Batch
from idemvox.corpus.balance import Balance
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.frameworks.finetune import FineTune
from idemvox.losses.ge2e import ge2e
from idemvox.losses.margin import aam_softmax, adacos, adacos_start, cosface
from idemvox.losses.prototypical import angular_contrastive, angular_prototypical
from idemvox.model import load_model
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import load_checkpoint

LOSSES = ["a-prot", "a-cont", "ge2e", "cosface", "arcface", "adacos"]
each_loss = pytest.mark.parametrize("loss", LOSSES)


@pytest.fixture
def batch() -> Batch:
    """A batch of three of five speakers, with two utterances each."""
    wave = torch.randn(6, 1, 10, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(6), {"anchor": wave}, torch.tensor([3, 3, 0, 0, 4, 4]))


@each_loss
def test_losses_of_utterances_and_of_classes(batch, loss, encoder):
    framework = FineTune(encoder, FineTune.Options(loss=loss, scale=12.0, margin=0.3), classes=5)
    step = framework(batch, None)
    embedding = framework.encoder(batch.views["anchor"][:, 0])
    pair = embedding[0::2], embedding[1::2]
    expected: dict[str, Any] = {
        "a-prot": lambda: angular_prototypical(*pair, 10.0, -5.0),
        "a-cont": lambda: angular_contrastive(*pair, 10.0, -5.0),
        "ge2e": lambda: ge2e(torch.stack(pair, 1), 10.0, -5.0),
        "cosface": lambda: cosface(embedding, framework.classes, batch.classes, 12.0, 0.3),
        "arcface": lambda: aam_softmax(embedding, framework.classes, batch.classes, 12.0, 0.3),
        "adacos": lambda: adacos(embedding, framework.classes, batch.classes, torch.tensor(adacos_start(5)))[
            0
        ],
    }
    assert float(step.loss.detach()) == pytest.approx(float(expected[loss]().detach()), abs=1e-6)
    step.loss.backward()
    learning = [p for name, p in framework.named_parameters() if not name.endswith("affine.bias")]
    assert all(p.grad.abs().sum() > 0 for p in learning) and len(learning) == 3


@pytest.mark.parametrize("loss", ["a-prot", "a-cont"])
def test_the_first_utterance_is_compared_with_the_mean_of_the_others(batch, loss, encoder):
    framework = FineTune(encoder, FineTune.Options(loss=loss, utterances=3), classes=2)
    found = framework(batch._replace(classes=torch.tensor([0, 0, 0, 1, 1, 1])), None).loss
    embedding = framework.encoder(batch.views["anchor"][:, 0])
    others = (embedding[[1, 4]] + embedding[[2, 5]]) / 2
    match = angular_prototypical if loss == "a-prot" else angular_contrastive
    assert float(found.detach()) == pytest.approx(
        float(match(embedding[[0, 3]], others, 10.0, -5.0).detach()), abs=1e-6
    )


def test_the_scale_of_adacos_is_updated_in_training_only(batch, encoder):
    framework = FineTune(encoder, FineTune.Options(loss="adacos"), classes=5)
    start = adacos_start(5)
    assert float(framework.state_dict()["scale"]) == pytest.approx(start)
    framework.eval()(batch, None)
    assert float(framework.scale) == pytest.approx(start)
    step = framework.train()(batch, None)
    embedding = framework.encoder(batch.views["anchor"][:, 0])
    _, first = adacos(embedding, framework.classes, batch.classes, torch.tensor(start))
    assert framework.scale == step.metrics["scale"] == first != start
    framework(batch, None)
    assert framework.scale == adacos(embedding, framework.classes, batch.classes, first)[1] != first


def test_views_and_balance_follow_the_options(encoder):
    framework = FineTune(encoder, FineTune.Options(), classes=5)
    assert framework.views() == {"anchor": Crop(1, 3.015)} and framework.balance() == Balance(2, 100)
    assert FineTune.supervised and framework.embedder is framework.encoder
    options = FineTune.Options(utterances=5, most_utterances=20, seconds=2.0)
    framework = FineTune(encoder, options, classes=5)
    assert framework.views() == {"anchor": Crop(1, 2.0)} and framework.balance() == Balance(5, 20)


@each_loss
def test_classes_with_enough_utterances_are_required(loss, encoder):
    for classes in (0, 1, 2) if loss == "adacos" else (0, 1):
        with pytest.raises(IdemvoxError, match=r"needs at least [23] classes"):
            FineTune(encoder, FineTune.Options(loss=loss), classes=classes)
    if loss in ("a-prot", "a-cont", "ge2e"):
        with pytest.raises(IdemvoxError, match=rf"{loss} compares .*framework\.utterances to at least 2"):
            FineTune.Options(loss=loss, utterances=1)
    else:
        FineTune.Options(loss=loss, utterances=1)


@each_loss
def test_training_moves_utterances_of_a_speaker_together(loss, encoder):
    """After a few steps on noise around fixed points, the nearest utterance is the speaker's other one."""
    framework = FineTune(encoder, FineTune.Options(loss=loss, scale=5.0), classes=6)
    points, labels = torch.randn(6, 1, 10), torch.arange(6).repeat_interleave(2)

    def near() -> float:
        with torch.no_grad():
            unit = F.normalize(framework.encoder(points[labels] + 0.5 * torch.randn(12, 1, 10))[:, 0], dim=1)
        found = (unit @ unit.T).fill_diagonal_(-1.0).argmax(1)
        return float((labels[found] == labels).float().mean())

    before = sum(near() for _ in range(50)) / 50
    optimizer = torch.optim.Adam(framework.parameters(), 0.05)
    for _ in range(60):
        wave = points[labels] + 0.5 * torch.randn(12, 1, 10)
        loss_now = framework(Batch(torch.arange(12), {"anchor": wave}, labels), None).loss
        optimizer.zero_grad()
        loss_now.backward()
        optimizer.step()
    after = sum(near() for _ in range(50)) / 50
    assert after > before + 0.05, (before, after)


# -- training -----------------------------------------------------------------------------------------


def checkpoint(folder: Path, epoch: int) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_checkpoint(folder / "checkpoints" / f"epoch-{epoch:04d}.ckpt")[
        "framework"
    ]
    return weights


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def pretrained(tiny_recipe, tmp_path_factory) -> Path:
    """A self-supervised run of one epoch."""
    recipe = tiny_recipe("training.epochs=1", framework="cel")
    return train(recipe, tmp_path_factory.mktemp("cel") / "run", progress=False).folder


@pytest.fixture
def finetune(tiny_recipe, tmp_path):
    """Return ``finetune(*assignments)``, which trains two epochs of two steps of 6 speakers x 2."""

    def run(*assignments: str, labelled: bool = True, name: str = "run", resume: bool = False) -> Any:
        quick = ("augment.policy=none", "training.batch=12", "training.keep=9")
        recipe = tiny_recipe(*quick, *assignments, labelled=labelled, framework="finetune")
        return train(recipe, tmp_path / name, resume=resume, progress=False)

    return run


@each_loss
def test_every_loss_trains_from_a_self_supervised_run(finetune, pretrained, loss):
    trained = finetune(f"framework.loss={loss}", f"start_from={pretrained}", "training.lr=1e-5")
    assert trained.epochs == 2 and trained.numbers["loss"] > 0  # the epochs of the start do not count
    start, end = (load_model(f).encoder.state_dict() for f in (pretrained, trained.folder))
    for key in ("conv1.weight", "fc.weight"):  # at this rate it has moved, but not far from where it started
        assert 0 < (end[key] - start[key]).abs().max() < 1e-4


@pytest.mark.parametrize("loss", ["ge2e", "adacos"])
def test_a_frozen_encoder_does_not_change(finetune, pretrained, loss):
    settings = (f"framework.loss={loss}", "framework.frozen_epochs=2", "training.weight_decay=0.1")
    run = finetune(*settings, f"start_from={pretrained}", "training.epochs=3").folder
    start = load_model(pretrained).encoder.state_dict()
    first, second, third = (checkpoint(run, epoch) for epoch in (1, 2, 3))
    for name, value in start.items():
        assert torch.equal(first[f"encoder.{name}"], value) and torch.equal(second[f"encoder.{name}"], value)
    for name in ("conv1.weight", "bn1.running_var", "layer4.0.bn2.bias", "fc.weight"):
        assert not torch.equal(third[f"encoder.{name}"], start[name]), name
    head = "classes" if loss == "adacos" else "affine.weight"
    assert not torch.equal(first[head], second[head])
    finetune(*settings, f"start_from={pretrained}", "training.epochs=1", name="again")
    again = finetune(*settings, f"start_from={pretrained}", "training.epochs=3", name="again", resume=True)
    assert equal(checkpoint(again.folder, 3), third)


def test_starting_from_a_model_folder_equals_starting_from_its_run(finetune, pretrained):
    one = finetune(f"start_from={pretrained}", name="a").folder
    other = finetune(f"start_from={pretrained / 'model'}", name="b").folder
    assert equal(checkpoint(one, 2), checkpoint(other, 2))


def test_starting_from_another_encoder_is_refused(finetune, pretrained):
    for change in ("encoder.dim=8", "encoder={name: ecapa_tdnn, channels: 16, mfa_channels: 24, dim: 16}"):
        with pytest.raises(IdemvoxError, match=r"start_from .*do not fit this recipe's encoder"):
            finetune(f"start_from={pretrained}", change)


def test_labels_are_required(finetune):
    with pytest.raises(IdemvoxError, match=r"finetune with a-prot needs at least 2 classes"):
        finetune(labelled=False)


def test_too_few_speakers_for_a_batch_are_refused(finetune):
    with pytest.raises(
        IdemvoxError, match=r"a batch of 14 utterances cannot have 2 of each.*at most 12, as 6"
    ):
        finetune("training.batch=14")
    with pytest.raises(IdemvoxError, match=r"no class has 5 utterances"):
        finetune("framework.utterances=5")
