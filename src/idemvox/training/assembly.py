"""Assembling the parts of a run from a recipe."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer

from idemvox.corpus.classes import Classes, find_classes
from idemvox.corpus.corpus import Corpus, open_corpus
from idemvox.devices import device_named
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Framework
from idemvox.model import build_encoder
from idemvox.positives.base import Positives, Setting
from idemvox.ranks import rank, synced, world
from idemvox.recipe import Recipe
from idemvox.registry import FRAMEWORKS, POSITIVES
from idemvox.training.compilation import compile_encoders
from idemvox.training.data import Batches, build_augmenter
from idemvox.training.optimizer import build_optimizer
from idemvox.training.prior import load_prior
from idemvox.training.watch.gauges import PositiveGauge

__all__ = ["Assembly", "assemble"]


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of a run, on the recipe's device.

    Attributes:
        names: (N,) names of the utterances.
        corpora: number of utterances of each corpus, by its name.
        classes: classes of the utterances; ``None`` if no part is supervised.
    """

    fabric: Fabric
    framework: Framework
    positives: Positives
    optimizer: Optimizer
    batches: Batches
    gauge: PositiveGauge
    names: Sequence[str]
    corpora: Mapping[str, int]
    classes: Classes | None


def assemble(recipe: Recipe) -> Assembly:
    """Build the parts that a recipe describes.

    Raises:
        IdemvoxError: the parts do not fit each other or the corpus.
    """
    framework_class, positives_class = FRAMEWORKS[recipe.framework.name], POSITIVES[recipe.positives.name]
    framework_options = recipe.framework.build(framework_class.Options, "framework")
    positives_options = recipe.positives.build(positives_class.Options, "positives")
    if recipe.positives.name != "same" and framework_class.target is Framework.target:
        raise RecipeError(f"{recipe.framework.name} does not use positives: set positives.name=same")
    corpus = open_corpus(recipe.data.corpora)
    classes = _classes(recipe, corpus)
    training = recipe.training
    if training.batch % world():
        raise RecipeError(
            f"training.batch={training.batch} is for all {world()} processes: make it a multiple of {world()}"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would log its precision
    fabric = Fabric(
        accelerator=device_named(training.device).type,
        devices=[int(os.environ["LOCAL_RANK"])] if world() > 1 and torch.cuda.is_available() else 1,
        precision="bf16-mixed" if training.precision == "bf16" else "32-true",
    )
    torch.manual_seed(recipe.seed)

    encoder = build_encoder(recipe.encoder, recipe.frontend)
    encoder.recompute = training.recompute
    speeds = recipe.augment.speeds
    if positives_class.needs_fill and speeds != (1.0,):
        raise RecipeError(
            f"augment.speeds changes voices from epoch to epoch, so positives {recipe.positives.name!r}, "
            "which stores embeddings, cannot be used with it; leave out augment.speeds"
        )
    count = classes.count * len(speeds) if classes and framework_class.supervised else 0
    framework: Framework = synced(framework_class(encoder, framework_options, count), fabric.device)
    framework.expect(len(corpus))
    prior = positives_class.prior(positives_options)
    setting = Setting(
        len(corpus),
        framework.embedder.dim,
        framework.embedding_dim,
        recipe.seed,
        classes.numbers if classes and positives_class.supervised else None,
        corpus.recordings_alone() if positives_class.needs_recordings(positives_options) else None,
        load_prior(Path(prior), corpus, fabric.device) if prior else None,
    )
    positives: Positives = positives_class(positives_options, setting)
    _, optimizer = fabric.setup(framework, build_optimizer(framework, training))
    positives.to(fabric.device)
    if training.compile:
        compile_encoders(framework, fabric.device)

    gauge = PositiveGauge(corpus.true_speakers(), corpus.recordings)  # no other part sees speakers
    source = corpus.source
    views = {**framework.views(), **positives.views()}
    if classes and framework_class.supervised and not framework_class.partly:
        classes.require_all(recipe.framework.name, corpus.ids)
    batches = Batches(
        source,
        views,
        build_augmenter(recipe.augment, source, recipe.seed).to(fabric.device),
        batch=training.batch // world(),
        seed=recipe.seed,
        device=fabric.device,
        workers=training.workers,
        classes=torch.from_numpy(classes.numbers) if classes and framework_class.supervised else None,
        speeds=speeds,
        partnered=framework_class.partnered,
        balance=framework.balance(),
        rank=rank(),
        world=world(),
    )
    return Assembly(
        fabric, framework, positives, optimizer, batches, gauge, corpus.ids, corpus.parts, classes
    )


def _classes(recipe: Recipe, corpus: Corpus) -> Classes | None:
    """Return the classes for a recipe's supervised parts; ``None`` if it has none."""
    framework, positives = recipe.framework.name, recipe.positives.name
    if FRAMEWORKS[framework].supervised or POSITIVES[positives].supervised:
        return find_classes(corpus, recipe.data.labels)
    if recipe.data.labels is not None:
        raise RecipeError(
            f"neither framework {framework} nor positives {positives} uses classes: leave out data.labels, "
            "or choose a supervised one, such as framework.name=supervised_aam"
        )
    return None
