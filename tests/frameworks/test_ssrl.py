"""A teacher that relabels while the student learns."""

from __future__ import annotations

import pytest
import torch

from idemvox.batch import Batch
from idemvox.errors import IdemvoxError
from idemvox.frameworks.ssrl import SSRL
from idemvox.losses.gate import fit_log_mixture, low_share
from idemvox.losses.margin import aam_softmax

CLASSES, ROWS, ALL = 5, 12, 40


def framework(encoder, **options) -> SSRL:
    made = SSRL(encoder, SSRL.Options(scale=10.0, **options), CLASSES)
    made.expect(ALL)
    return made.train()


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = {name: torch.randn(ROWS, 1, 10, generator=generator) for name in ("anchor", "clean")}
    ids = torch.randperm(ALL, generator=generator)[:ROWS]
    return Batch(ids, views, torch.randint(0, CLASSES, (ROWS,), generator=generator))


def losses(made: SSRL, given: Batch, labels: torch.Tensor) -> torch.Tensor:
    embedding = made.encoder(given.views["anchor"][:, 0])
    return aam_softmax(embedding, made.classes, labels, 10.0, 0.2, reduction="none")


def nearest(made: SSRL, given: Batch) -> torch.Tensor:
    """The class whose vector of the teacher's is the most similar to its embedding of the clean view."""
    clean = made.teacher(given.views["clean"][:, 0])
    return torch.nn.functional.cosine_similarity(clean[:, None], made.teacher_classes[None], dim=2).argmax(1)


def test_given_labels_are_learnt_first_then_the_teachers(encoder):
    made, given = framework(encoder, given_epochs=1), batch()
    made.start_epoch(0)
    first = made(given, None)
    torch.testing.assert_close(first.loss, losses(made, given, given.classes).mean())
    assert first.metrics["changed"].item() == 0
    assert made.queue.labels[given.ids, 0].tolist() == nearest(made, given).tolist()
    made.start_epoch(1)
    made.losses.mixture.fill_(torch.nan)  # no weights yet
    second = made(given, None)
    found = nearest(made, given)
    torch.testing.assert_close(second.loss, losses(made, given, found).mean())
    assert second.metrics["changed"].item() == pytest.approx((found != given.classes).float().mean().item())


def test_unlikely_labels_count_less(encoder):
    made, given = framework(encoder, given_epochs=1), batch()
    generator = torch.Generator().manual_seed(0)
    before = torch.cat(
        [torch.randn(25, generator=generator), torch.randn(15, generator=generator) / 3 + 2]
    ).exp()
    made.losses.observe(torch.arange(ALL), before)
    made.start_epoch(1)
    step = made(given, None)
    rows = losses(made, given, nearest(made, given))
    share = low_share(rows, fit_log_mixture(before))
    assert 0 < share.min() < share.max() < 1
    torch.testing.assert_close(step.loss, (rows * share).sum() / share.sum().clamp_min(1))


def test_the_teacher_follows_and_gets_no_gradient(encoder):
    made, given = framework(encoder, momentum=0.5), batch()
    made.start_epoch(0)
    made(given, None).loss.backward()
    assert made.classes.grad is not None and made.encoder.linear.weight.grad is not None
    assert made.teacher_classes.grad is None and made.teacher.linear.weight.grad is None
    with torch.no_grad():
        made.classes += 2
        made.encoder.linear.weight += 2
    was = made.teacher_classes.clone(), made.teacher.linear.weight.clone()
    made.after_step(0.0)
    torch.testing.assert_close(made.teacher_classes, was[0] + 1)
    torch.testing.assert_close(made.teacher.linear.weight, was[1] + 1)


def test_in_eval_mode_nothing_is_remembered(encoder):
    made, given = framework(encoder, given_epochs=1), batch()
    made.start_epoch(1)
    step = made.eval()(given, None)
    assert (made.queue.labels == -1).all() and made.losses.newest.isnan().all()
    assert step.metrics["changed"].item() == 0


def test_the_next_run_begins_with_an_empty_queue(encoder):
    made, given = framework(encoder), batch()
    made.start_epoch(0)
    made(given, None)
    again = SSRL(encoder, SSRL.Options(), CLASSES)
    again.expect(7)  # of another corpus
    again.begin_as(made.state_dict())
    assert (again.queue.labels == -1).all() and torch.equal(again.classes, made.classes)


@pytest.mark.parametrize("options", [{"history": 0}, {"given_epochs": 0}])
def test_options_that_cannot_be(options):
    with pytest.raises(IdemvoxError, match="1 or more"):
        SSRL.Options(**options)
