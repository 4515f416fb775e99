"""Loss gates and label correction: options of the classifier."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from idemvox.batch import Batch
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.frameworks.parts.losses import EpochLosses
from idemvox.frameworks.supervised import SupervisedAAM
from idemvox.losses.gate import crossing, fit_log_mixture
from idemvox.losses.margin import aam_softmax
from idemvox.registry import FRAMEWORKS
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint

CLASSES, ROWS = 5, 12


def classifier(encoder, **options) -> SupervisedAAM:
    framework = SupervisedAAM(encoder, SupervisedAAM.Options(scale=10.0, **options), CLASSES)
    framework.expect(40)
    return framework.train()


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = {name: torch.randn(ROWS, 1, 10, generator=generator) for name in ("anchor", "clean")}
    ids = torch.randperm(40, generator=generator)[:ROWS]
    return Batch(ids, views, torch.randint(0, CLASSES, (ROWS,), generator=generator))


def each(framework: SupervisedAAM, given: Batch, labels: torch.Tensor) -> torch.Tensor:
    embedding = framework.encoder(given.views["anchor"][:, 0])
    return aam_softmax(embedding, framework.classes, labels, 10.0, 0.2, reduction="none")


def test_a_fixed_gate_keeps_low_losses_from_its_epoch_on(encoder):
    framework, given = classifier(encoder, gate="fixed", threshold=4.0, gate_after=2), batch()
    losses = each(framework, given, given.classes)
    kept = losses[losses <= 4.0]
    assert 0 < len(kept) < ROWS
    for epoch, expected in ((0, losses.mean()), (1, losses.mean()), (2, kept.mean()), (3, kept.mean())):
        framework.start_epoch(epoch)
        step = framework(given, None)
        torch.testing.assert_close(step.loss, expected)
        assert step.metrics["kept"].item() == pytest.approx(len(kept) / ROWS if epoch > 1 else 1)


def test_a_gate_below_every_loss_trains_nothing_and_breaks_nothing(encoder):
    """Trap 34."""
    framework = classifier(encoder, gate="fixed", threshold=1e-9, gate_after=0)
    framework.start_epoch(0)
    step = framework(batch(), None)
    step.loss.backward()
    assert step.loss.item() == 0 and step.metrics["kept"].item() == 0
    assert framework.classes.grad.abs().sum() == 0 and framework.encoder.linear.weight.grad.abs().sum() == 0


def test_a_loss_that_is_not_a_number_is_not_hidden_by_the_gate(encoder):
    framework, given = classifier(encoder, gate="fixed", gate_after=0), batch()
    framework.start_epoch(0)
    given.views["anchor"][3] = math.nan
    assert framework(given, None).loss.isnan()


def two_kinds(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [torch.randn(25, generator=generator) - 3, torch.randn(15, generator=generator) / 3 + 2]
    ).exp()


def test_the_gate_of_a_mixture_is_refitted_each_epoch(encoder):
    framework = classifier(encoder, gate="mixture", gate_after=1)
    framework.start_epoch(0)
    assert framework.limit == math.inf
    for epoch in (1, 2):
        losses = two_kinds(epoch)
        framework.losses.observe(torch.arange(40).flip(0), losses)
        framework.start_epoch(epoch)
        expected = math.exp(crossing(fit_log_mixture(losses)))
        assert framework.limit == pytest.approx(expected, rel=1e-5)
        assert framework.losses.newest.isnan().all()


@pytest.mark.parametrize("losses", [torch.ones(40), torch.full((40,), math.nan), two_kinds(1)])
def test_without_a_mixture_or_a_crossing_the_gate_stays(monkeypatch, losses):
    """Trap 35."""
    kept = EpochLosses(40)
    kept.observe(torch.arange(40), two_kinds())
    kept.fit(1)
    before = kept.limit.clone()
    kept.observe(torch.arange(40), losses)
    monkeypatch.setattr("idemvox.frameworks.parts.losses.crossing", lambda mixture: None)
    kept.fit(2)
    assert math.isfinite(before) and torch.equal(kept.limit, before)
    assert kept.fitted() is not None and EpochLosses(40).fitted() is None


def test_a_resumed_epoch_is_not_fitted_again():
    kept = EpochLosses(40)
    kept.observe(torch.arange(40), two_kinds(0))
    kept.fit(3)
    kept.observe(torch.arange(20), two_kinds(1)[:20])
    again = EpochLosses(40)
    again.load_state_dict(kept.state_dict())
    again.fit(3)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(again.state_dict().values(), kept.state_dict().values(), strict=True)
    )


def test_losses_are_stored_by_utterance_and_only_in_training(encoder):
    framework, given = classifier(encoder, gate="mixture"), batch()
    framework.start_epoch(0)
    framework.eval()(given, None)
    assert framework.losses.newest.isnan().all()
    framework.train()(given, None)
    torch.testing.assert_close(
        framework.losses.newest[given.ids], each(framework, given, given.classes).detach()
    )
    assert framework.losses.newest.isnan().sum() == 40 - ROWS


def test_labels_outside_the_gate_are_corrected_where_the_clean_view_is_sure(encoder):
    framework = classifier(
        encoder, gate="fixed", threshold=4.0, gate_after=0, correct_after=1, confidence=0.95, temperature=0.2
    )
    given = batch(3)
    framework.start_epoch(0)
    assert "corrected" not in framework(given, None).metrics
    framework.start_epoch(1)
    step = framework(given, None)
    losses, total, corrected = each(framework, given, given.classes), 0.0, 0
    clean = torch.nn.functional.normalize(framework.encoder(given.views["clean"][:, 0]), dim=1)
    cosine = clean @ torch.nn.functional.normalize(framework.classes, dim=1).T
    for n in range(ROWS):
        odds = [math.exp(float(c.detach()) / 0.2) for c in cosine[n]]
        best = max(range(CLASSES), key=odds.__getitem__)
        if losses[n] <= 4.0:
            total += losses[n].item()
        elif odds[best] / sum(odds) > 0.95:
            total += each(framework, given, torch.full((ROWS,), best))[n].item()
            corrected += 1
    assert 0 < corrected < ROWS - (losses <= 4.0).sum()
    assert step.loss.item() == pytest.approx(total / ROWS, rel=1e-5)
    assert step.metrics["corrected"].item() == pytest.approx(corrected / ROWS)


def test_a_clean_view_of_the_same_crop_is_read_only_for_correction(encoder):
    assert classifier(encoder, gate="fixed").views() == {"anchor": Crop(1, 2.0)}
    views = classifier(encoder, gate="fixed", correct_after=8).views()
    assert views["clean"] == Crop(1, 2.0, augment=False, cut_as="anchor")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"correct_after": 3}, r"set framework\.gate"),
        ({"gate": "mixture", "gate_after": 0}, r"framework\.gate_after to 1"),
    ],
)
def test_options_that_do_not_fit(options, says):
    with pytest.raises(IdemvoxError, match=says):
        SupervisedAAM.Options(**options)


GATED = {
    "lgl": ("gate=fixed", "gate_after=1", "threshold=30"),
    "dlg": ("gate=mixture", "gate_after=1"),
    "dlg-lc": ("gate=mixture", "gate_after=1", "correct_after=1", "confidence=0.2"),
}


def state(folder):
    found = load_checkpoint(last_checkpoint(folder / "checkpoints"))
    return {**found["framework"], "place": found["place"], "loss": found["numbers"]["loss"]}


@pytest.mark.parametrize("name", GATED)
def test_an_interrupted_run_ends_with_the_same_bits(tiny_recipe, tmp_path, monkeypatch, name):
    """Stopped within the third epoch, when the gate is that of the second's losses."""
    options = [f"framework.{value}" for value in GATED[name]]
    recipe = tiny_recipe(
        *options, "training.epochs=3", "training.save_steps=1", labelled=True, framework="supervised_aam"
    )
    whole = train(recipe, tmp_path / "whole", progress=False)
    assert "kept" in whole.numbers and ("corrected" in whole.numbers) == (name == "dlg-lc")
    after, calls = FRAMEWORKS["supervised_aam"].after_step, itertools.count(1)

    def interrupted(self, progress):
        after(self, progress)
        if next(calls) == 8:  # the second of three steps
            raise KeyboardInterrupt

    monkeypatch.setattr(FRAMEWORKS["supervised_aam"], "after_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "part", progress=False)
    assert load_checkpoint(last_checkpoint(tmp_path / "part" / "checkpoints"))["place"]["steps"] == 1
    train(recipe, tmp_path / "part", resume=True, progress=False)
    one, other = state(tmp_path / "part"), state(whole.folder)
    assert one["place"] == other["place"] and one["loss"] == other["loss"]
    tensors = [key for key, value in one.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(one[key].nan_to_num(), other[key].nan_to_num()) for key in tensors)
    assert ("losses.mixture" in one) == (name != "lgl")


def test_the_next_run_may_have_another_gate(tiny_recipe, tmp_path):
    """As a last round with a large margin: the losses of a run are its own, its class vectors are not."""
    gated = [f"framework.{value}" for value in GATED["dlg"]]
    first = train(
        tiny_recipe(*gated, labelled=True, framework="supervised_aam"), tmp_path / "a", progress=False
    )
    more = ("framework.margin=0.5", "training.epochs=1", "training.lr=1e-30")
    for name, options in (("plain", ()), ("gated", gated)):
        recipe = tiny_recipe(
            f"start_from={first.folder}", *more, *options, labelled=True, framework="supervised_aam"
        )
        run = train(recipe, tmp_path / name, progress=False)
        assert torch.equal(state(run.folder)["classes"], state(first.folder)["classes"])
