"""What stops a run that would waste time, and what a bad step leaves behind: nothing."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from idemvox.batch import Batch
from idemvox.errors import IdemvoxError
from idemvox.frameworks.dino import DINO
from idemvox.frameworks.simclr import SimCLR
from idemvox.positives.queue import EmbeddingQueue
from idemvox.recipe import Training
from idemvox.registry import FRAMEWORKS
from idemvox.training import run as steps
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint
from idemvox.training.watch import safety
from idemvox.training.watch.safety import likeness, memory_named


def log(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == event]


def learn(run: Run, batch: Batch) -> float | None:
    """Take a step; return its loss."""
    return run.step([batch], 0, 0.1).loss


# -- steps that come to nothing ---------------------------------------------------------------


@pytest.mark.parametrize("framework", ["simclr", "dino"])
def test_a_bad_step_leaves_no_trace(tiny_recipe, framework):
    """NaN in one utterance's audio: weights, statistics, centre, optimiser and queues stay as they were."""
    recipe = tiny_recipe("positives.queue=24", framework=framework, positives="ssps")
    run = Run(recipe)
    batches = list(run.batches.epoch(0, run.positives))
    for batch in run.batches.every(0):
        run.positives.observe(batch.ids, run.reference(batch))
    run.positives.start_epoch(0)
    run.framework.train()
    assert learn(run, batches[0]) is not None
    before = {k: v.clone() for k, v in run.framework.state_dict().items()}
    queues = {k: v.clone() for k, v in run.positives.state_dict().items() if k != "step"}  # counts draws
    moments = run.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    views = {name: view.clone() for name, view in batches[1].views.items()}
    for view in views.values():
        view[2] = math.nan
    assert learn(run, Batch(batches[1].ids, views)) is None
    after = run.framework.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert torch.equal(run.optimizer.state_dict()["state"][0]["exp_avg"], moments)
    assert all(p.grad is None for p in run.framework.parameters())
    assert all(torch.equal(run.positives.state_dict()[k], queues[k]) for k in queues)
    assert learn(run, batches[1]) is not None and run.watch.bad == 0 and run.watch.skipped == 1


@pytest.mark.parametrize("when", ["in the bad step", "in the one before"])
def test_a_buffer_that_a_step_replaces_is_taken_back_too(tiny_recipe, monkeypatch, when):
    """By another of the same size, by a longer one, and where there was none."""
    run = Run(tiny_recipe())
    batches = list(run.batches.epoch(0, run.positives))
    run.framework.train()
    run.framework.register_buffer("queue", torch.zeros(2))
    run.framework.register_buffer("longer", torch.zeros(1))
    run.framework.register_buffer("late", None)
    forward = SimCLR.forward

    def replacing(self: SimCLR, batch: Batch, positives: Any) -> Any:
        self.queue = self.queue + 1
        self.longer = torch.cat([self.longer, self.longer + 1])
        self.late = torch.ones(1)
        return forward(self, batch, positives)

    with monkeypatch.context() as patch:
        if when == "in the one before":
            patch.setattr(SimCLR, "forward", replacing)
            assert learn(run, batches[0]) is not None
    before = {k: v.clone() for k, v in run.framework.state_dict().items()}
    bad = batches[1]._replace(views={k: view * math.nan for k, view in batches[1].views.items()})
    monkeypatch.setattr(SimCLR, "forward", replacing)
    assert learn(run, bad) is None
    after = run.framework.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], before[k]) for k in before)
    assert learn(run, batches[2]) is not None and run.framework.queue[0] == before["queue"][0] + 1


def test_a_gradient_that_is_not_finite_is_no_better_than_such_a_loss(tiny_recipe, monkeypatch):
    run = Run(tiny_recipe())
    batch = next(iter(run.batches.epoch(0, run.positives)))

    def not_finite_backwards(query, *_, **__):
        return (query - query).norm(dim=1).sqrt().sum()

    monkeypatch.setattr(run.framework, "loss", not_finite_backwards)
    assert learn(run, batch) is None
    assert all(p.isfinite().all() for p in run.framework.parameters())


def diverging(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> list[torch.Tensor]:
    """Make the loss of some steps NaN; return the ids of the steps, as they come."""
    calls, seen, forward = itertools.count(1), [], SimCLR.forward

    def spy(self: SimCLR, batch: Any, positives: Any) -> Any:
        seen.append(batch.ids)
        step = forward(self, batch, positives)
        return step._replace(loss=step.loss * (math.nan if next(calls) in bad else 1.0))

    monkeypatch.setattr(SimCLR, "forward", spy)
    return seen


def test_a_bad_step_is_skipped_counted_and_logged(tiny_recipe, corpus, tmp_path, monkeypatch):
    """Three steps an epoch: the second and the fifth are bad."""
    seen = diverging(monkeypatch, {2, 5})
    trained = train(tiny_recipe("training.bad_steps=2"), tmp_path, progress=False)
    skipped, names = log(tmp_path, "skipped"), [u.id for u in corpus.manifest]
    assert [e["step"] for e in skipped] == [1, 4]
    assert [e["utterances"] for e in skipped] == [[names[i] for i in seen[n].tolist()] for n in (1, 4)]
    assert [e["step"] for e in log(tmp_path, "step")] == [0, 2, 3, 5]
    epochs = log(tmp_path, "epoch")
    assert [e["skipped"] for e in epochs] == [1, 1] and all(math.isfinite(e["loss"]) for e in epochs)
    assert math.isfinite(trained.numbers["loss"])
    framework = load_checkpoint(last_checkpoint(tmp_path / "checkpoints"))["framework"]
    assert all(v.isfinite().all() for v in framework.values())


def test_bad_steps_in_a_row_stop_the_run_and_name_the_utterances(tiny_recipe, corpus, tmp_path, monkeypatch):
    seen = diverging(monkeypatch, {1, 4, 5, 6})
    with pytest.raises(
        IdemvoxError, match=r"finite for 3 steps in a row, last at epoch 2, step 3 "
    ) as caught:
        train(tiny_recipe("training.bad_steps=3"), tmp_path, progress=False)
    names = [u.id for u in corpus.manifest]
    assert ", ".join(names[i] for i in seen[5].tolist()) in str(caught.value)
    assert "lower training.lr" in str(caught.value) and not (tmp_path / "model").exists()


def test_the_count_goes_on_with_the_run(tiny_recipe, tmp_path, monkeypatch):
    """Killed after two bad steps in a row, the third stops it."""
    recipe = tiny_recipe("training.bad_steps=3", "training.save_steps=1")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        diverging(patch, {1, 2})
        inside = steps.learning_rate
        patch.setattr(steps, "learning_rate", lambda t, e, s, *r: 1 / 0 if s == 2 else inside(t, e, s, *r))
        train(recipe, tmp_path, progress=False)
    diverging(monkeypatch, {1})
    with pytest.raises(IdemvoxError, match="3 steps in a row, last at epoch 1, step 3 "):
        train(recipe, tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("size", [3, 9])
def test_a_queue_takes_what_is_finite_only(size):
    queue = EmbeddingQueue(size, 2, 9)
    queue.push(torch.tensor([1, 2]), torch.ones(2, 2))
    queue.push(torch.tensor([2, 4, 5]), torch.tensor([[math.nan, 0.0], [4.0, 4.0], [math.inf, 1.0]]))
    held = dict(zip(queue.ids[queue.held].tolist(), queue.vectors[queue.held].tolist(), strict=True))
    expected = {1: [1.0, 1.0], 2: [1.0, 1.0], 4: [4.0, 4.0]}
    if size == 3:  # its second slot was next: each takes the one it would have had
        del expected[1]
    assert held == expected


# -- embeddings all alike ---------------------------------------------------------------------


def test_likeness_is_the_root_mean_square_cosine():
    x = torch.randn(7, 5, dtype=torch.float64)
    cosines = [float(F.cosine_similarity(x[i], x[j], dim=0)) for i in range(7) for j in range(7) if i != j]
    assert float(likeness(x)) == pytest.approx(
        math.sqrt(sum(c * c for c in cosines) / len(cosines)), rel=1e-5
    )
    line = torch.randn(6, 1) * torch.randn(1, 5)  # one direction, and its opposite
    assert float(likeness(line)) == pytest.approx(1, abs=1e-5)
    assert float(likeness(torch.eye(4))) == 0


def collapsed(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Give every utterance about the same embedding in some steps, counted from 1."""
    from idemvox.encoders.fast_resnet34 import FastResNet34

    inside, calls = FastResNet34.encode, itertools.count(2)  # two calls a step

    def encode(self: Any, *args: Any) -> torch.Tensor:
        out = inside(self, *args)
        return 1.0 + 1e-3 * out if next(calls) // 2 in steps else out

    monkeypatch.setattr(FastResNet34, "encode", encode)


def test_a_collapsed_run_stops_and_says_what_to_try(tiny_recipe, tmp_path, monkeypatch):
    collapsed(monkeypatch, {1, 2, 4, 5, 6})
    with pytest.raises(
        IdemvoxError,
        match=r"simclr has collapsed: .* for 3 steps, last at epoch 2, step 3 .*larger training\.batch",
    ):
        train(tiny_recipe("training.collapse_steps=3"), tmp_path / "a", progress=False)


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_advice_against_a_collapse_names_keys_that_exist(name):
    framework = FRAMEWORKS[name]
    known = {
        "framework": {field.name for field in fields(framework.Options)},
        "training": set(Training.model_fields),
    }
    keys = re.findall(r"\b(framework|training)\.(\w+)", framework.against_collapse)
    assert keys and all(key in known[part] for part, key in keys)


def test_alike_for_a_while_is_no_collapse(tiny_recipe, tmp_path, monkeypatch):
    collapsed(monkeypatch, {1, 2, 4, 5})
    train(tiny_recipe("training.collapse_steps=3"), tmp_path / "a", progress=False)
    collapsed(monkeypatch, set(range(9)))
    train(tiny_recipe("training.collapse_steps=null"), tmp_path / "b", progress=False)


@pytest.mark.parametrize("encoder", ["fast_resnet34", "ecapa_tdnn"])
def test_untrained_encoders_do_not_look_collapsed(encoder, corpus):
    from idemvox.audio.read import read
    from idemvox.model import build_encoder
    from idemvox.recipe import Part

    torch.manual_seed(0)
    full = build_encoder(Part(name=encoder), {}).train()
    waves = torch.stack([torch.from_numpy(read(corpus.manifest.path(u), 0, 16_000)) for u in corpus.manifest])
    with torch.no_grad():
        assert float(likeness(full(waves[::2]))) < 0.995 < safety.ALIKE


def test_references_are_not_looked_at(tiny_recipe):
    run = Run(tiny_recipe(positives="ssps"))
    run.reference(next(iter(run.batches.every(0))))
    assert run.watch._embeddings is None


# -- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...\nand more"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_full_memory_names_the_keys_to_lower(tiny_recipe, tmp_path, monkeypatch, error):
    def full(self: Any, *args: Any) -> None:
        raise error

    monkeypatch.setattr(DINO, "forward", full)
    recipe = tiny_recipe(framework="dino", positives="ssps")
    with pytest.raises(IdemvoxError) as caught:
        train(recipe, tmp_path, progress=False)
    said = str(caught.value)
    assert said.startswith("out of memory") and "and more" not in said
    for key in (
        "training.batch (now 8)",
        "framework.global_seconds (now 0.3)",
        "framework.local_crops (now 4)",
        "positives.clusters (now 6)",
        "positives.seconds (now 0.3)",
    ):
        assert key in said


def test_memory_that_really_is_not_there(tiny_recipe):
    with (
        pytest.raises(
            IdemvoxError, match=r"out of memory .*training\.batch \(now 8\), framework\.seconds"
        ) as said,
        memory_named(tiny_recipe()),
    ):
        torch.empty(1 << 50)
    assert str(said.value).endswith("; or set training.recompute=true")
    with pytest.raises(IdemvoxError) as said, memory_named(tiny_recipe("training.recompute=true")):
        torch.empty(1 << 50)
    assert "recompute" not in str(said.value)


def test_other_errors_are_left_alone(tiny_recipe):
    with pytest.raises(RuntimeError, match="shapes"), memory_named(tiny_recipe()):
        raise RuntimeError("shapes do not fit")
