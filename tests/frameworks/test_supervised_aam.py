"""The supervised baseline."""

from __future__ import annotations

import pytest
import torch

from idemvox.batch import Batch
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.frameworks.supervised import SupervisedAAM
from idemvox.losses.margin import aam_softmax


def test_the_loss_uses_labels_and_never_calls_the_sampler(encoder):
    framework = SupervisedAAM(encoder, SupervisedAAM.Options(scale=10.0, margin=0.3), classes=3)
    batch = Batch(torch.tensor([7, 2, 5]), {"anchor": torch.randn(3, 1, 10)}, torch.tensor([2, 0, 2]))
    step = framework(batch, None)
    expected = aam_softmax(
        framework.encoder(batch.views["anchor"][:, 0]), framework.classes, batch.classes, 10.0, 0.3
    )
    assert torch.equal(step.loss, expected)
    step.loss.backward()
    assert framework.classes.grad.abs().sum() > 0 and framework.encoder.linear.weight.grad.abs().sum() > 0


def test_it_has_one_view_and_labels(encoder):
    framework = SupervisedAAM(encoder, classes=5)
    assert framework.views() == {"anchor": Crop(1, 2.0)} and SupervisedAAM.supervised
    assert framework.classes.shape == (5, 4) and framework.embedder is framework.encoder


@pytest.mark.parametrize("classes", [0, 1])
def test_classes_are_required(classes, encoder):
    with pytest.raises(IdemvoxError, match=rf"at least 2 classes, but there are {classes}.*speaker column"):
        SupervisedAAM(encoder, classes=classes)


def test_it_has_no_targets_to_store(encoder):
    with pytest.raises(NotImplementedError, match="no positives"):
        SupervisedAAM(encoder, classes=2).target(Batch(torch.tensor([0]), {}))
