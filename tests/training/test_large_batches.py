"""Batches too large for memory: recomputed in parts, or accumulated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count, islice, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idemvox.batch import Batch
from idemvox.encoders.base import Encoder
from idemvox.errors import IdemvoxError
from idemvox.frameworks.simclr import SimCLR
from idemvox.recipe import Recipe
from idemvox.registry import ENCODERS, FRAMEWORKS
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint

LEARNING = [name for name in ENCODERS if ENCODERS[name].fitter == "gradient"]


def begun(recipe: Recipe) -> tuple[Run, list[Batch]]:
    """Return a run before its first step, and the batches of its first epoch."""
    run = Run(recipe)
    run.framework.train()
    return run, list(run.batches.epoch(0, run.positives))


def taken(run: Run, batches: list[Batch]) -> tuple[float, list[Tensor], list[Tensor]]:
    """Return the mean loss of batches, the gradient of all parameters and the buffers afterwards."""
    loss = sum(float(run.differentiate(batch).step.loss) for batch in batches) / len(batches)
    gradients = [p.grad for p in run.framework.parameters() if p.grad is not None]
    return loss, gradients, list(run.framework.buffers())


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Return whether all numbers are the same; NaN, the loss of an utterance not seen yet, equals NaN."""
    return len(one) == len(other) and all(
        torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(one, other, strict=True)
    )


def weights(folder: Path) -> dict[str, Any]:
    state = load_checkpoint(last_checkpoint(folder / "checkpoints"))
    return {k: v for part in ("framework", "positives") for k, v in state[part].items()}


# -- recomputed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framework", "encoder"),
    [(f, e) for f, e in product(FRAMEWORKS, LEARNING) if e == "fast_resnet34" or f in ("simclr", "dino")],
)
def test_recomputing_gives_the_same_bits(tiny_recipe, framework, encoder):
    """Loss, gradients, running statistics, centre and discriminator are those of a plain step."""
    found = []
    for recompute in ("false", "true"):
        recipe = tiny_recipe(
            f"training.recompute={recompute}",
            framework=framework,
            encoder=encoder,
            labelled=FRAMEWORKS[framework].supervised,
        )
        run, batches = begun(recipe)
        assert run.framework.encoder.recompute is (recompute == "true")
        found.append(taken(run, batches[:2]))
    (loss, gradients, buffers), (again, its_gradients, its_buffers) = found
    assert loss == again and gradients and same(gradients, its_gradients) and same(buffers, its_buffers)


def kept(encoder: Encoder, wave: Tensor) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    seen: dict[int, Tensor] = {}

    def pack(value: Tensor) -> Tensor:
        seen[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        encoder(wave)
    return sum(v.untyped_storage().nbytes() for at, v in seen.items() if at not in weights)


@pytest.mark.parametrize("name", LEARNING)
def test_recomputing_keeps_less_than_a_third(name):
    encoder, wave = ENCODERS[name]().train(), torch.randn(2, 8000)
    plain = kept(encoder, wave)
    encoder.recompute = True
    assert kept(encoder, wave) < plain / 3


def test_parts_run_again_only_in_the_backward_pass():
    """Hooks on the encoder itself see each batch once."""
    encoder = ENCODERS["fast_resnet34"]().train()
    encoder.recompute = True
    calls = {"encoder": 0, "block": 0}
    encoder.register_forward_pre_hook(lambda *_: calls.update(encoder=calls["encoder"] + 1))
    encoder.layer1[0].register_forward_pre_hook(lambda *_: calls.update(block=calls["block"] + 1))
    out = encoder(torch.randn(2, 4000))
    assert calls == {"encoder": 1, "block": 1}
    out.sum().backward()
    assert calls == {"encoder": 1, "block": 2}
    assert encoder.layer1[0].bn1.num_batches_tracked == 1
    with torch.no_grad():
        encoder(torch.randn(2, 4000))
    assert calls == {"encoder": 2, "block": 3}


def test_a_run_resumes_with_recomputing(tiny_recipe, tmp_path):
    """It may be switched on when memory runs out, and does not change the weights."""
    train(tiny_recipe(), tmp_path / "plain", progress=False)
    train(tiny_recipe("training.epochs=1"), tmp_path / "changed", progress=False)
    train(tiny_recipe("training.recompute=true"), tmp_path / "changed", resume=True, progress=False)
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "changed")
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


ONE_OF_TWO = """
import sys
import torch
from torch import distributed
from idemvox.ranks import rank, synced
from idemvox.registry import ENCODERS

torch.set_num_threads(1)
store = f"file://{sys.argv[2]}"
distributed.init_process_group("gloo", init_method=store, rank=int(sys.argv[1]), world_size=2)
found = []
for recompute in (False, True):
    torch.manual_seed(0)
    encoder = ENCODERS["fast_resnet34"](ENCODERS["fast_resnet34"].Options(channels=(4, 8, 8, 8), dim=16))
    encoder = synced(encoder, torch.device("cpu")).train()
    encoder.recompute = recompute
    wave = torch.randn(4, 4000)[2 * rank() : 2 * rank() + 2]
    encoder(wave).square().sum().backward()
    found.append([*(p.grad for p in encoder.parameters()), *encoder.buffers()])
assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
assert encoder.bn1.num_batches_tracked == 1
"""


def test_recomputing_works_with_statistics_over_all_ranks(tmp_path):
    command = [sys.executable, "-c", ONE_OF_TWO]
    both = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]


# -- accumulated ---------------------------------------------------------------------------------


@pytest.fixture
def adding(tiny_recipe) -> Callable[..., Recipe]:
    """Two batches of four per step, three steps per epoch."""

    def made(*changes: str, **parts: Any) -> Recipe:
        given = ("training.batch=4", "training.accumulate=2", "training.optimizer=sgd", *changes)
        recipe: Recipe = tiny_recipe(*given, **parts)
        return recipe

    return made


@pytest.mark.usefixtures("float64")
def test_a_step_takes_the_mean_gradient_of_its_batches(adding):
    """Compared with a plain loop over the batches and a first optimiser step by hand."""
    (run, batches), (plain, _) = (begun(adding()) for _ in range(2))
    parameters = list(plain.framework.parameters())
    losses, mean = [], [torch.zeros_like(p) for p in parameters]
    for batch in batches[:2]:
        loss = plain.framework(batch, plain.swap).loss
        losses.append(float(loss.detach()))
        for total, gradient in zip(mean, torch.autograd.grad(loss, parameters), strict=True):
            total += gradient / 2
    expected = [p.detach() - 1e-3 * gradient for p, gradient in zip(parameters, mean, strict=True)]
    result = run.step(islice(iter(batches), 2), 0, 0.1)
    ids, loss = result.ids, result.loss
    assert ids.tolist() == [*batches[0].ids.tolist(), *batches[1].ids.tolist()]
    assert float(loss) == pytest.approx(sum(losses) / 2, rel=1e-9)
    torch.testing.assert_close(list(run.framework.parameters()), expected, rtol=1e-9, atol=1e-9)
    assert same(list(run.framework.buffers()), list(plain.framework.buffers()))
    assert [float(v) for v in run.place.sums["loss"]] == [float(loss)]


def gradients(recipe: Recipe) -> list[Tensor]:
    """Return the gradients of a step, with batch normalisation by running statistics."""
    run, batches = begun(recipe)
    for module in run.framework.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    return taken(run, batches[: recipe.training.accumulate])[1]


@pytest.mark.usefixtures("float64")
def test_accumulation_equals_a_larger_batch_only_for_losses_of_single_utterances(adding):
    def both(framework: str, labelled: bool) -> tuple[list[Tensor], list[Tensor]]:
        parts, whole = (), ("training.batch=8", "training.accumulate=1")
        one, other = (
            gradients(adding("augment.policy=none", *how, framework=framework, labelled=labelled))
            for how in (parts, whole)
        )
        return one, other

    torch.testing.assert_close(*both("supervised_aam", True), rtol=1e-9, atol=1e-9)
    parts, whole = both("simclr", False)
    assert not torch.allclose(parts[0], whole[0], rtol=0.05)


def test_interrupted_between_steps_an_accumulating_run_ends_with_the_same_bits(adding, tmp_path, monkeypatch):
    recipe = adding("training.save_steps=1", "positives.queue=10", positives="ssps")
    train(recipe, tmp_path / "whole", progress=False)
    calls, after, progresses = count(1), SimCLR.after_step, []

    def interrupted(self: SimCLR, progress: float) -> None:
        after(self, progress)
        progresses.append(progress)
        if next(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(SimCLR, "after_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", progress=False)
    state = load_checkpoint(last_checkpoint(tmp_path / "broken" / "checkpoints"))
    assert (state["done"], state["place"]["steps"]) == (1, 1)
    train(recipe, tmp_path / "broken", resume=True, progress=False)
    assert progresses == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 5 / 6, 1])
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_left_over_batches_are_used_in_another_epoch(adding, tmp_path):
    run, batches = begun(adding("training.accumulate=4"))
    assert len(batches) == 6 and run.steps == 1 and run.left()["training"] == 2
    assert train(adding("training.accumulate=4"), tmp_path / "run", progress=False).epochs == 2


def test_more_batches_per_step_than_per_epoch_are_refused(adding, tmp_path):
    with pytest.raises(
        IdemvoxError, match=r"an epoch has 6 batches, fewer than training\.accumulate=7; lower"
    ):
        train(adding("training.accumulate=7"), tmp_path, progress=False)
