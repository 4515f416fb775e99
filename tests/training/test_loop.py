"""The training loop: starting, resuming, refusing, stopping."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from idemvox.audio.frontend import LogMel
from idemvox.corpus.crops import Cropper, FileSource
from idemvox.corpus.manifest import load_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.errors import IdemvoxError
from idemvox.frameworks.simclr import SimCLR
from idemvox.model import build_encoder, load_model, save_model
from idemvox.modules import evaluating
from idemvox.positives.ssps import SSPS
from idemvox.recipe import Part, Published, Recipe
from idemvox.training import assembly
from idemvox.training.fitters.base import Hooks
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.schedules import warmup_cosine
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint


def quiet(recipe: Recipe, folder: Path, resume: bool = False) -> Any:
    return train(recipe, folder, resume=resume, progress=False)


def state(folder: Path) -> dict[str, Any]:
    return load_checkpoint(last_checkpoint(folder / "checkpoints"))


def log(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == event]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def base(tiny_recipe, tmp_path_factory) -> Path:
    """A finished SimCLR run of one epoch."""
    return quiet(tiny_recipe("training.epochs=1"), tmp_path_factory.mktemp("base") / "run").folder


@pytest.fixture(scope="module")
def whole(tiny_recipe, tmp_path_factory) -> Path:
    """The same run without interruption for two epochs; its learning rate decays each epoch."""
    return quiet(tiny_recipe("training.lr_every=1"), tmp_path_factory.mktemp("whole") / "run").folder


# -- what a run writes -----------------------------------------------------------------------------


def test_a_run_folder_has_all_its_files(base):
    assert sorted(p.name for p in base.iterdir()) == [
        "checkpoints",
        "curves.csv",
        "log.jsonl",
        "model",
        "recipe.yaml",
        "tensorboard",
    ]
    assert [p.name for p in (base / "checkpoints").iterdir()] == ["epoch-0001.ckpt"]
    epochs = log(base, "epoch")
    assert len(epochs) == 1 and epochs[0]["lr"] == 1e-3 and epochs[0]["utterances_per_second"] > 0


def test_provenance_is_recorded(base):
    provenance = load_model(base).provenance
    expected = {"recipe": "tiny", "seed": 3, "epochs": 1, "utterances": 24, "torch": torch.__version__}
    assert {key: provenance[key] for key in expected} == expected
    assert provenance["framework"] == {"name": "simclr", "seconds": 0.2} and provenance["positives"] == {
        "name": "same"
    }
    assert {"finished", "idemvox", "command"} <= provenance.keys()


def test_the_model_is_the_encoder_of_the_last_checkpoint(base):
    weights = {
        k.removeprefix("encoder."): v for k, v in state(base)["framework"].items() if k.startswith("encoder.")
    }
    assert equal(load_model(base).encoder.state_dict(), weights)


def test_the_learning_rate_follows_the_schedule(whole):
    assert [e["lr"] for e in log(whole, "epoch")] == pytest.approx([1e-3, 0.95e-3])


def test_another_seed_gives_another_model(tiny_recipe, base, tmp_path):
    other = quiet(tiny_recipe("training.epochs=1", "seed=4", "training.keep=1"), tmp_path)
    assert not equal(load_model(other.model).encoder.state_dict(), load_model(base).encoder.state_dict())


def test_workers_and_a_progress_bar_change_nothing(tiny_recipe, base, tmp_path):
    train(tiny_recipe("training.epochs=1", "training.workers=2"), tmp_path, progress=True)
    assert equal(load_model(tmp_path).encoder.state_dict(), load_model(base).encoder.state_dict())


# -- resuming ---------------------------------------------------------------------------------


def test_an_existing_run_is_not_overwritten(tiny_recipe, base):
    before = sorted((p, p.stat().st_mtime_ns) for p in base.rglob("*"))
    with pytest.raises(IdemvoxError, match=r"already holds a run: add --resume .* or choose another --out"):
        quiet(tiny_recipe("training.epochs=1"), base)
    assert sorted((p, p.stat().st_mtime_ns) for p in base.rglob("*")) == before


def test_a_finished_run_is_not_changed(tiny_recipe, base):
    (base / "model" / "report.json").write_text("{}")
    before = [(p, p.stat().st_mtime_ns) for p in sorted(base.glob("*/*"))]
    again = quiet(tiny_recipe("training.epochs=1"), base, resume=True)
    assert [(p, p.stat().st_mtime_ns) for p in sorted(base.glob("*/*"))] == before
    assert again.epochs == 1 and again.numbers == state(base)["numbers"]
    (base / "model" / "report.json").unlink()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["training.lr=0.01"], "training.lr"),
        (["framework.temperature=0.1"], "framework.temperature"),
        (["positives={name: ssps, clusters: 6}"], "positives.clusters, positives.name"),
        (["seed=4"], "seed"),
        (["encoder.dim=8", "augment.policy=none"], "augment.policy, encoder.dim"),
        (["frontend.mels=40"], "frontend.mels"),
        (["data.manifest=other.csv"], "data.manifest"),
        (["training.batch=5"], "training.batch"),
    ],
    ids=str,
)
def test_resuming_with_another_recipe_names_the_difference(tiny_recipe, base, changes, named):
    before = (base / "recipe.yaml").read_text()
    with pytest.raises(IdemvoxError, match=rf"the recipe differs in {named}; give the same"):
        quiet(tiny_recipe("training.epochs=1", *changes), base, resume=True)
    assert (base / "recipe.yaml").read_text() == before


def test_settings_that_change_no_number_may_differ(tiny_recipe, base):
    recipe = tiny_recipe("training.epochs=1", "training.keep=5", "description=again", "training.device=auto")
    recipe = recipe.model_copy(update={"published": Published(eer=9.41)})
    before = (base / "recipe.yaml").read_text()
    assert quiet(recipe, base, resume=True).epochs == 1
    assert quiet(recipe.model_copy(update={"published": None}), base, resume=True).epochs == 1
    (base / "recipe.yaml").write_text(before)


def test_a_tuple_equals_the_list_that_is_saved_for_it(tiny_recipe, base):
    encoder = Part(name="fast_resnet34", channels=(4, 8, 8, 8), blocks=(1, 1, 1, 1), dim=16)
    recipe = tiny_recipe("training.epochs=1").model_copy(update={"encoder": encoder})
    assert quiet(recipe, base, resume=True).epochs == 1


def test_a_run_resumes_with_more_epochs(tiny_recipe, whole, tmp_path):
    quiet(tiny_recipe("training.lr_every=1", "training.epochs=1"), tmp_path)
    longer = quiet(tiny_recipe("training.lr_every=1", "training.keep=1"), tmp_path, resume=True)
    assert longer.epochs == 2 and equal(state(tmp_path)["framework"], state(whole)["framework"])
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["epoch-0002.ckpt"]
    assert load_model(tmp_path).provenance["epochs"] == 2


def test_resuming_without_a_run_starts_one(tiny_recipe, base, tmp_path):
    quiet(tiny_recipe("training.epochs=1"), tmp_path, resume=True)
    assert equal(state(tmp_path)["framework"], state(base)["framework"])


def test_a_lost_model_folder_is_written_again(tiny_recipe, base):
    weights = load_model(base).encoder.state_dict()
    for file in (base / "model").iterdir():
        file.unlink()
    quiet(tiny_recipe("training.epochs=1"), base, resume=True)
    assert equal(load_model(base).encoder.state_dict(), weights)


def test_interrupted_before_the_first_checkpoint_it_starts_over(tiny_recipe, base, tmp_path, monkeypatch):
    calls = itertools.count(1)

    def interrupted(self: SimCLR, progress: float) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "after_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quiet(tiny_recipe("training.epochs=1"), tmp_path)
    assert last_checkpoint(tmp_path / "checkpoints") is None
    quiet(tiny_recipe("training.epochs=1"), tmp_path, resume=True)
    assert equal(state(tmp_path)["framework"], state(base)["framework"])


# -- starting from another run ---------------------------------------------------------------


def test_the_same_framework_continues_with_its_whole_state(tiny_recipe, whole, tmp_path):
    """One epoch and another that starts from it equal two: weights, optimiser, position in the schedule."""
    quiet(tiny_recipe("training.lr_every=1", "training.epochs=1"), tmp_path / "a")
    more = tiny_recipe(
        "training.lr_every=1", "training.epochs=1", f"start_from={tmp_path / 'a'}", "name=more"
    )
    trained = quiet(more, tmp_path / "b")
    assert trained.epochs == 2 and load_model(trained.model).provenance["epochs"] == 2
    mine, theirs = state(tmp_path / "b"), state(whole)
    assert equal(mine["framework"], theirs["framework"])
    for a, b in zip(mine["optimizer"]["state"].values(), theirs["optimizer"]["state"].values(), strict=True):
        assert equal(a, b)
    assert (mine["first"], mine["done"]) == (1, 1) and log(tmp_path / "b", "epoch")[0]["lr"] == pytest.approx(
        0.95e-3
    )
    resumed = quiet(more, tmp_path / "b", resume=True)  # from its own checkpoint, not from the start again
    assert resumed.epochs == 2


def begun(recipe: Recipe, source: Path) -> Run:
    run = Run(recipe)
    run.start_from(source)
    return run


def test_the_same_framework_continues_with_other_positives_too(tiny_recipe, base):
    run = begun(tiny_recipe(positives="ssps"), base)
    assert run.first == 1 and not run.filled and equal(run.framework.state_dict(), state(base)["framework"])
    assert run.optimizer.state_dict()["state"]


def test_epochs_are_counted_from_the_start_of_the_base(tiny_recipe, base, tmp_path, monkeypatch):
    """Sampler, framework and log get epoch 2 of 2, not epoch 1 of 1."""
    seen = []
    monkeypatch.setattr(SimCLR, "after_step", lambda self, progress: seen.append(progress))
    recipe = tiny_recipe("training.epochs=1", f"start_from={base}", positives="ssps")
    assert quiet(recipe, tmp_path).epochs == 2
    assert seen == pytest.approx([4 / 6, 5 / 6, 1.0])
    assert int(state(tmp_path)["positives"]["epoch"]) == 1
    assert [e["epoch"] if "epoch" in e else e["at"] for e in log(tmp_path, "epoch")] == [2]


def test_weight_decay_is_that_of_the_new_recipe(tiny_recipe, base):
    run = begun(tiny_recipe("training.weight_decay=0.25"), base)
    assert run.optimizer.state_dict()["param_groups"][0]["weight_decay"] == 0.25


def test_another_optimiser_starts_afresh(tiny_recipe, base):
    run = begun(tiny_recipe("training.optimizer=sgd"), base)
    assert run.first == 1 and not run.optimizer.state_dict()["state"]


def test_a_teacher_starts_as_a_copy_of_its_student(tiny_recipe, base):
    run = begun(tiny_recipe(framework="dino"), base / "model")
    weights = load_model(base).encoder.state_dict()
    assert equal(run.framework.encoder.state_dict(), weights)
    assert equal(run.framework.teacher.state_dict(), weights)


def test_schedules_cover_the_number_of_epochs_in_the_recipe(tiny_recipe, tmp_path, monkeypatch):
    """Two of four epochs, then one more that starts from them: rates and progress continue seamlessly."""
    seen = []
    monkeypatch.setattr(SimCLR, "after_step", lambda self, progress: seen.append(progress))
    cosine = ("training.schedule=cosine", "training.warmup_epochs=1", "training.schedule_epochs=4")
    quiet(tiny_recipe(*cosine), tmp_path / "a")
    quiet(tiny_recipe(*cosine, "training.epochs=1", f"start_from={tmp_path / 'a'}"), tmp_path / "b")
    assert seen == pytest.approx([n / 12 for n in range(1, 10)])
    rates = [e["lr"] for folder in "ab" for e in log(tmp_path / folder, "step")]
    assert rates == pytest.approx([warmup_cosine(s, 12, 3, 1e-3, 1e-5) for s in range(9)])


def test_a_cosine_schedule_is_not_stretched_by_resuming(tiny_recipe, tmp_path):
    quiet(tiny_recipe("training.schedule=cosine", "training.epochs=1"), tmp_path)
    with pytest.raises(IdemvoxError, match=r"spans 1 epochs, because it has no training\.schedule_epochs"):
        quiet(tiny_recipe("training.schedule=cosine"), tmp_path, resume=True)


def test_gradients_are_clipped_if_the_recipe_says_so(tiny_recipe, tmp_path, monkeypatch):
    largest = []
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        norms = [float(p.grad.norm()) for g in self.param_groups for p in g["params"] if p.grad is not None]
        largest.append(max(norms))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    quiet(tiny_recipe("training.epochs=1"), tmp_path / "free")
    free, largest[:] = max(largest), []
    quiet(tiny_recipe("training.epochs=1", "training.clip=1e-3"), tmp_path / "clipped")
    assert free > 0.01 and len(largest) == 3 and max(largest) <= 1.0001e-3


def test_a_model_folder_only_gives_the_encoder(tiny_recipe, base):
    run = begun(tiny_recipe(), base / "model")
    assert equal(run.framework.encoder.state_dict(), load_model(base).encoder.state_dict())
    assert run.first == 0 and not run.optimizer.state_dict()["state"]


def test_another_framework_only_takes_the_encoder(tiny_recipe, base):
    recipe = tiny_recipe(framework="supervised_aam", labelled=True)
    fresh, run = Run(recipe), begun(recipe, base)
    assert equal(run.framework.encoder.state_dict(), load_model(base).encoder.state_dict())
    assert not equal(fresh.framework.encoder.state_dict(), run.framework.encoder.state_dict())
    assert torch.equal(run.framework.classes, fresh.framework.classes)
    assert run.first == 0 and not run.optimizer.state_dict()["state"]


@pytest.mark.parametrize("part", ["", "model"])
def test_an_encoder_that_does_not_fit_is_refused(tiny_recipe, base, part):
    for change in ("encoder.dim=8", "encoder={name: ecapa_tdnn, channels: 16, mfa_channels: 24, dim: 16}"):
        with pytest.raises(IdemvoxError, match=r"start_from .*do not fit this recipe's encoder") as caught:
            begun(tiny_recipe(change), base / part)
        assert len(str(caught.value)) < 600 + len(str(base)) and "set the same `encoder`" in str(caught.value)


def test_an_encoder_with_another_front_end_is_refused(tiny_recipe, base):
    """Its weights would fit any number of mels."""
    recipe = tiny_recipe("frontend.window=hann", framework="finetune", labelled=True)
    with pytest.raises(IdemvoxError, match=r"start_from .*'hamming'.*this recipe has .*'hann'.*same `front"):
        begun(recipe, base)


def test_a_missing_start_is_refused(tiny_recipe, tmp_path):
    with pytest.raises(IdemvoxError, match=r"nowhere is not a model folder"):
        quiet(tiny_recipe(f"start_from={tmp_path / 'nowhere'}"), tmp_path / "run")


# -- refusing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.batch=25"], "24 utterances, fewer than one batch of 25; lower training.batch"),
        (["data.manifest=null"], "set data.manifest=FILE"),
        (["data.manifest=/nowhere.csv"], "no manifest /nowhere.csv"),
        (["training.device=gpu"], "training.device must be auto, cpu, cuda or mps, not 'gpu'"),
        (["framework.name=simcrl"], "unknown framework 'simcrl'; did you mean 'simclr'"),
        (["positives.name=spss"], "unknown positive sampler 'spss'; did you mean 'ssps'"),
        (["encoder.name=fast_resnet43"], "unknown encoder 'fast_resnet43'; did you mean 'fast_resnet34'"),
        (["framework.temprature=1"], "'framework.temprature'; did you mean 'framework.temperature'"),
        (["positives.clusters=3"], "unknown recipe key 'positives.clusters'; have: none"),
        (["frontend.windw=hann"], "did you mean 'frontend.window'"),
        (["augment.noise=/nowhere"], "/nowhere does not exist"),
        (["positives={name: ssps, clusters: 1}"], "positives.clusters must be at least 2"),
        (
            ["training.schedule=cosine", "training.warmup_epochs=2"],
            "warmup_epochs must be fewer than the schedule's epochs",
        ),
        (["framework={name: dino, store: all}"], "store"),
    ],
    ids=str,
)
def test_impossible_recipes_are_refused_before_anything_is_written(tiny_recipe, tmp_path, changes, message):
    with pytest.raises(IdemvoxError) as caught:
        quiet(tiny_recipe(*changes), tmp_path / "run")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported(tiny_recipe, tmp_path):
    with pytest.raises(IdemvoxError, match=r"torch sees no GPU; use training\.device=cpu"):
        quiet(tiny_recipe("training.device=cuda"), tmp_path)


def test_classification_needs_a_speaker_for_every_utterance(tiny_recipe, corpus, tmp_path):
    lines = corpus.labelled.read_text().splitlines()
    lines[5] = lines[5].replace(",s1,", ",,")
    partly = corpus.labelled.parent / "partly.csv"
    partly.write_text("\n".join(lines) + "\n")
    recipe = tiny_recipe(f"data.manifest={partly}", framework="supervised_aam")
    with pytest.raises(IdemvoxError, match=r"needs a class for every.*the speaker column has none for 1 "):
        quiet(recipe, tmp_path)
    Run(
        tiny_recipe(f"data.manifest={partly}", positives="supervised")
    )  # the single utterance keeps its positive


# -- hooks -------------------------------------------------------------------------------


def test_hooks_see_every_step_and_epoch_and_change_nothing(tiny_recipe, whole, tmp_path):
    steps, epochs = [], []
    hooks = Hooks(
        on_step=lambda run, result: steps.append((run.place.steps, run.done, result.loss)),
        on_epoch=lambda run: epochs.append((run.done, run.numbers["loss"])),
    )
    train(tiny_recipe("training.lr_every=1"), tmp_path, progress=False, hooks=hooks)
    assert [(step, done) for step, done, _ in steps] == [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1)]
    assert [e["loss"] for e in log(tmp_path, "step")] == [loss for *_, loss in steps]
    assert epochs == [(1, log(tmp_path, "epoch")[0]["loss"]), (2, log(tmp_path, "epoch")[1]["loss"])]
    assert equal(state(tmp_path)["framework"], state(whole)["framework"])


def test_an_exception_in_a_hook_ends_the_run_which_can_be_resumed(tiny_recipe, whole, tmp_path):
    recipe = tiny_recipe("training.lr_every=1", "training.save_steps=1")
    with pytest.raises(ZeroDivisionError):
        train(recipe, tmp_path, progress=False, hooks=Hooks(on_step=lambda run, result: 1 / (run.done - 1)))
    assert (state(tmp_path)["done"], state(tmp_path)["place"]["steps"]) == (1, 0)
    quiet(recipe, tmp_path, resume=True)
    assert equal(state(tmp_path)["framework"], state(whole)["framework"])


def test_an_epoch_may_be_left_and_continued(tiny_recipe, whole):
    """Without a folder: two steps, then the third one and another epoch."""
    run = Run(tiny_recipe("training.lr_every=1"))
    run.prepare()
    losses = [result.loss for result in itertools.islice(run.epoch(), 2)]
    assert (run.done, run.place.steps, len(losses)) == (0, 2, 2)
    assert len(list(run.epoch())) == 1 and run.done == 1 and run.numbers["loss"] > 0
    run.prepare()
    assert len(list(run.epoch())) == 3 and run.left()["training"] == 0
    assert equal(run.framework.state_dict(), state(whole)["framework"])


# -- references -------------------------------------------------------------------------------


def test_only_supervised_parts_are_given_labels(tiny_recipe, monkeypatch):
    sources = []

    def batches(source: Any, *rest: Any, **more: Any) -> SimpleNamespace:
        sources.append((source, more["classes"]))
        return SimpleNamespace(steps=1)

    monkeypatch.setattr(assembly, "Batches", batches)
    ours = Run(tiny_recipe(positives="ssps", labelled=True))
    theirs = Run(tiny_recipe(positives="supervised", labelled=True))
    Run(tiny_recipe(framework="supervised_aam", labelled=True))
    assert ours.positives.setting.classes is None
    assert theirs.positives.setting.classes.tolist() == [n // 4 for n in range(24)]
    assert all(type(source) is FileSource for source, _ in sources)  # a manifest without labels
    assert sources[0][1] is None and sources[1][1] is None
    assert sources[2][1].tolist() == [n // 4 for n in range(24)]


def test_a_voice_at_another_speed_is_another_class(tiny_recipe, tmp_path):
    recipe = tiny_recipe(
        "augment.speeds=[0.9, 1.0, 1.1]", "training.epochs=1", framework="supervised_aam", labelled=True
    )
    run = Run(recipe)
    classes = 3 * (run.batches.voices)
    assert len(run.framework.classes) == classes
    labels = [b.classes for epoch in range(6) for b in run.batches.epoch(epoch, run.positives)]
    assert set(torch.cat(labels).tolist()) == set(range(classes))
    train(recipe, tmp_path / "run", progress=False)


def test_ssps_refuses_augmentation_by_speed(tiny_recipe):
    with pytest.raises(
        IdemvoxError, match=r"augment\.speeds changes voices.*'ssps'.*leave out augment\.speeds"
    ):
        Run(tiny_recipe("augment.speeds=[0.9, 1.0]", positives="ssps"))


@pytest.mark.parametrize("packed", [False, True])
def test_training_that_waits_for_audio_reports_it(tiny_recipe, tmp_path, corpus, monkeypatch, capsys, packed):
    read = Cropper.read
    monkeypatch.setattr(Cropper, "read", lambda *a, **k: (time.sleep(0.3), read(*a, **k)))
    where = corpus.unlabelled
    if packed:
        pack(where, where := tmp_path / "pack", progress=False)
    train(tiny_recipe(f"data.manifest={where}", "training.epochs=1"), tmp_path / "run", progress=False)
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "of the time was spent waiting for audio" in printed and "training.workers" in printed
    assert ("idemvox pack" in printed) != packed
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert 0.1 < events[-1]["waiting_for_audio"] <= 1


def test_a_pack_trains_to_the_same_bits_as_its_files(tiny_recipe, tmp_path, corpus):
    pack(corpus.labelled, tmp_path / "pack", progress=False)
    models = []
    for name, where in (("files", corpus.labelled), ("packed", tmp_path / "pack")):
        recipe = tiny_recipe(f"data.manifest={where}", "training.epochs=1", positives="supervised")
        models.append(train(recipe, tmp_path / name, progress=False).model / "model.safetensors")
    assert models[0].read_bytes() == models[1].read_bytes()


def test_references_do_not_change_the_encoders_statistics(tiny_recipe):
    run = Run(tiny_recipe(positives="ssps"))
    run.framework.train()
    batch = next(iter(run.batches.epoch(0, run.positives)))
    before = {k: v.clone() for k, v in run.framework.state_dict().items()}
    reference = run.reference(batch)
    assert equal(run.framework.state_dict(), before)
    assert not reference.requires_grad and all(m.training for m in run.framework.modules())
    run.framework.encoder.eval()
    assert torch.equal(reference, run.framework.encoder(batch.views["reference"][:, 0]).detach())
    run.framework.train()
    run.framework.encoder(batch.views["reference"][:, 0])  # what would happen otherwise
    assert not equal(run.framework.state_dict(), before)


def test_the_fill_pass_reads_all_and_changes_no_weight(tiny_recipe):
    run = Run(tiny_recipe("positives.queue=24", positives="ssps"))
    before = {k: v.clone() for k, v in run.framework.state_dict().items()}
    assert len(list(run.fill())) == 3 and run.filled
    assert equal(run.framework.state_dict(), before) and run.framework.training
    assert run.positives.seen.all() and run.positives.queue.filled == 1.0
    with evaluating(run.framework):
        for batch in run.batches.every(0):
            torch.testing.assert_close(run.positives.queue.vectors[batch.ids], run.framework.target(batch))
            torch.testing.assert_close(run.positives.reference[batch.ids], run.reference(batch))


def test_a_frozen_batch_normalisation_stays_in_eval_mode_after_the_references(tiny_recipe):
    run = Run(tiny_recipe(positives="ssps"))
    run.framework.train()
    frozen = run.framework.encoder.bn1.eval()
    batch = next(iter(run.batches.epoch(0, run.positives)))
    mean = frozen.running_mean.clone()
    run.step([batch], 0, 0.1)
    assert not frozen.training and torch.equal(frozen.running_mean, mean)
    assert all(part.training for part in run.framework.modules() if part is not frozen)


def test_ssps_is_logged(tiny_recipe, tmp_path, monkeypatch):
    """The gauge's values of an epoch; references come from the encoder as it is at the time."""
    seen, observe = [], SSPS.observe

    def spy(self: SSPS, ids: torch.Tensor, reference: torch.Tensor) -> None:
        seen.append((ids, reference))
        observe(self, ids, reference)

    monkeypatch.setattr(SSPS, "observe", spy)
    quiet(tiny_recipe("positives.queue=24", positives="ssps", labelled=True), tmp_path)
    passes = [
        dict(zip(torch.cat([i for i, _ in part]).tolist(), torch.cat([r for _, r in part]), strict=True))
        for part in (seen[:3], seen[3:6], seen[6:])
    ]
    assert [sorted(p) for p in passes] == [list(range(24))] * 3  # the fill pass and two epochs
    assert all(not torch.equal(passes[1][i], passes[2][i]) for i in range(24))
    for epoch in log(tmp_path, "epoch"):
        assert (
            1 <= epoch["clusters"] <= 6 and epoch["queue_filled"] == 1.0 and 0 < epoch["cluster_cosine"] <= 1
        )
        assert (
            0.5 < epoch["coverage"] <= 1.0
        )  # all except those that are alone in every cluster they may draw from
        assert 0 <= epoch["recording_accuracy"] <= epoch["speaker_accuracy"] <= 1


@pytest.mark.parametrize("variant", ["ssps_centroid", "nearest_neighbour", "ssps"])
def test_samplers_of_embeddings_train(tiny_recipe, tmp_path, variant):
    masked = () if variant == "nearest_neighbour" else ("positives.mask_cluster=true",)
    recipe = tiny_recipe("positives.queue=24", *masked, positives=variant, labelled=True)
    trained = quiet(recipe, tmp_path)
    for epoch in log(tmp_path, "epoch"):
        assert 0.5 < epoch["coverage"] <= 1.0 and epoch["queue_filled"] == 1.0
        assert ("speaker_accuracy" in epoch) == ("centroid" not in variant)
        assert ("clusters" in epoch) == ("neighbour" not in variant)
    assert torch.isfinite(torch.tensor(trained.numbers["loss"]))


# -- precision --------------------------------------------------------------------------------


def test_half_precision_keeps_waveforms_and_features_in_single_precision(tiny_recipe, tmp_path, monkeypatch):
    """bf16 has 8 bits; rounding a recording to it adds noise 50 dB below the signal."""
    heard, forward = [], LogMel.forward
    exact, inside = [], SimCLR.forward

    def spy(self: LogMel, wave: torch.Tensor, lengths: torch.Tensor | None = None) -> Any:
        heard.append(wave)
        out = forward(self, wave, lengths)
        assert out[0].dtype == torch.float32
        return out

    def step(self: SimCLR, batch: Any, positives: Any) -> Any:
        assert torch.is_autocast_enabled("cpu")
        assert all(view.dtype == torch.float32 for view in batch.views.values())
        exact.append(batch.views["anchor"])
        return inside(self, batch, positives)

    monkeypatch.setattr(LogMel, "forward", spy)
    monkeypatch.setattr(SimCLR, "forward", step)
    trained = quiet(tiny_recipe("training.precision=bf16", "training.epochs=1", positives="ssps"), tmp_path)
    assert exact and all((wave != wave.bfloat16().float()).any() for wave in heard)
    weights = state(tmp_path)["framework"]
    assert all(v.dtype in (torch.float32, torch.int64) for v in weights.values())
    assert torch.isfinite(torch.tensor(trained.numbers["loss"]))


def test_an_untrained_encoder_can_be_the_start(tiny_recipe, tmp_path):
    recipe = tiny_recipe()
    encoder = build_encoder(recipe.encoder, recipe.frontend)
    save_model(tmp_path / "m", encoder, recipe.encoder, recipe.frontend, {}, scoring="cosine")
    run = begun(recipe, tmp_path / "m")
    assert equal(run.framework.encoder.state_dict(), encoder.state_dict())


@pytest.mark.parametrize(("refresh", "passes"), [("false", 1), ("true", 2)])
def test_the_fill_pass_runs_once_or_before_every_epoch(tiny_recipe, tmp_path, monkeypatch, refresh, passes):
    made, seen = [], []
    fill, observe = Run.fill, SSPS.observe
    monkeypatch.setattr(Run, "fill", lambda self: made.append(self.done) or fill(self))
    monkeypatch.setattr(
        SSPS, "observe", lambda self, ids, x: seen.extend(ids.tolist()) or observe(self, ids, x)
    )
    recipe = tiny_recipe(f"positives.refresh={refresh}", positives="ssps")
    quiet(recipe, tmp_path)
    assert made == list(range(passes))
    size, batch = len(load_manifest(recipe.data.manifest)), recipe.training.batch
    steps = (
        0 if refresh == "true" else 2 * (size // batch) * batch
    )  # with refresh, its references would not be used
    assert len(seen) == passes * size + steps
