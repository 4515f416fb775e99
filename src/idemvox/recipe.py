"""Recipes: one typed description of a run, from YAML and ``key=value`` overrides.

    name: simclr-ssps
    framework: {name: simclr, temperature: 0.03}
    positives: {name: ssps, clusters: 25000, neighbours: 1}
    training: {epochs: 20}

A key that a recipe leaves out has the value of its ``base`` recipe or, without one, the paper's.
An unknown key is an error that suggests the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from idemvox.audio.policies import PolicyName
from idemvox.errors import RecipeError
from idemvox.files import atomic_write
from idemvox.recipes import read_recipe

__all__ = [
    "Augment",
    "Data",
    "GaugeName",
    "Part",
    "Published",
    "Recipe",
    "Training",
    "build_options",
    "load_recipe",
]

GaugeName = Literal[
    "alignment",
    "uniformity",
    "effective_rank",
    "pseudo_eer",
    "channel_pseudo_eer",
    "channel_probe",
    "recording_pseudo_eer",
]
"""The label-free gauges by which epochs can be compared, of :mod:`idemvox.verification.gauges`."""

T = TypeVar("T")
RESUMES = "may change on resuming"
Resumes = Annotated[T, RESUMES]
"""A key that may be changed when a run is resumed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """A registered class by name, with its options beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def build(self, options: type[Any], where: str) -> Any:
        """Validate the extra keys as the dataclass ``options``; ``where`` is the recipe key, for messages."""
        return build_options(self.model_extra or {}, options, where)


def build_options(given: Mapping[str, Any], options: type[Any], where: str) -> Any:
    """Validate plain values as the dataclass ``options``; ``where`` is their recipe key, for messages."""
    known = [f.name for f in fields(options)]
    for key in given:
        if key in getattr(options, "moved", {}):
            raise RecipeError(f"{where}.{key} was removed or renamed: {options.moved[key]}")
        if key not in known:
            raise _unknown_key(f"{where}.{key}", [f"{where}.{k}" for k in known])
    try:
        return TypeAdapter(options).validate_python(dict(given))
    except ValidationError as error:
        raise RecipeError(_explain(error, where)) from error


class Data(_Strict):
    """The training corpus."""

    manifest: Path | tuple[Path, ...] | None = Field(
        None,
        description="output of `idemvox prepare` or, better, of `idemvox pack`; for several corpora a list "
        "such as [vox1.csv, vox2.csv], manifests and packs in any mixture",
    )
    labels: Path | None = Field(
        None,
        description="table of id and class for supervised training; default: the manifest's speakers",
    )
    held_out: Resumes[Path | None] = Field(
        None,
        description="manifest or pack of unlabelled audio that is not trained on: label-free gauges are "
        "measured on it after each epoch",
    )

    @model_validator(mode="after")
    def _apart(self) -> Data:
        if self.held_out is not None and self.manifest is not None and self.held_out in self.corpora:
            raise ValueError("held_out is part of the training corpus: give audio that is not trained on")
        return self

    @field_validator("manifest", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        several = isinstance(value, list | tuple)
        if value is not None and (
            not (several or isinstance(value, str | Path))
            or (several and not (value and all(isinstance(path, str | Path) for path in value)))
        ):
            raise ValueError("give a path, or a list of paths such as [vox1.csv, vox2.csv]")
        return value[0] if several and len(value) == 1 else value

    @property
    def corpora(self) -> tuple[Path, ...]:
        """The manifests and packs to train on, one or several.

        Raises:
            RecipeError: there is none.
        """
        if self.manifest is None:
            raise RecipeError(
                "no training data: set data.manifest=FILE, made by `idemvox prepare folder DIR`"
            )
        return self.manifest if isinstance(self.manifest, tuple) else (self.manifest,)


class Augment(_Strict):
    """How views are augmented; sounds come from folders, manifests or packs, else from built-in banks."""

    policy: PolicyName = "always"
    noise: Path | None = None
    music: Path | None = None
    speech: Path | None = Field(None, description="for babble; default: excerpts of the training corpus")
    rooms: Path | None = Field(None, description="room responses; default: simulated rooms")
    babble: tuple[int, int] | None = Field(
        None, description="voices to sum, lowest and highest number; default: the policy's"
    )
    telephone: float = Field(
        0.0, ge=0, le=1, description="share of views to pass through a simulated telephone"
    )
    speeds: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="speeds to play utterances at, such as [0.9, 1.0, 1.1]"
    )
    simulated_rooms: int = Field(100, ge=1)
    max_hours: float = Field(8.0, gt=0, description="most hours of each kind of noise to keep on the device")

    @field_validator("speeds")
    @classmethod
    def _possible(cls, speeds: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.5 <= speed <= 2 for speed in speeds) or len(set(speeds)) < len(speeds):
            raise ValueError("give different speeds from 0.5 to 2")
        return speeds


class Training(_Strict):
    """Optimiser, schedule, precision, checkpoints; the defaults are SimCLR's in the SSPS paper."""

    epochs: Resumes[int] = Field(100, ge=1)
    schedule_epochs: int | None = Field(
        None,
        ge=1,
        description="epochs that the schedules span, counting those of the run it starts from; "
        "default: the total number of epochs",
    )
    batch: int = Field(256, ge=2)
    optimizer: Literal["adam", "sgd"] = Field("adam", description="sgd uses momentum 0.9")
    schedule: Literal["step", "cosine"] = Field(
        "step",
        description="step: lr times lr_decay every lr_every epochs; cosine: warm-up, then down to min_lr",
    )
    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    lr_decay: float = Field(0.95, gt=0, le=1)
    lr_every: int = Field(5, ge=1, description="epochs between decays")
    warmup_epochs: int = Field(0, ge=0, description="epochs in which a cosine schedule rises from 0 to lr")
    min_lr: float = Field(1e-5, ge=0, description="learning rate at the last step of a cosine schedule")
    weight_decay: float = Field(0.0, ge=0, description="for matrices; biases and normalisation have none")
    clip: float | None = Field(None, gt=0, description="largest gradient norm, for each parameter separately")
    accumulate: int = Field(
        1,
        ge=1,
        description="batches per optimiser step, which uses the mean of their gradients; a loss that "
        "compares utterances, and batch normalisation, see one batch only: to enlarge it use recompute",
    )
    recompute: Resumes[bool] = Field(
        False,
        description="train with a quarter of the memory and the same numbers: activations inside the "
        "encoder's blocks are recomputed in the backward pass; up to 50 % slower",
    )
    compile: bool = Field(
        False,
        description="use torch.compile for the encoders; numbers differ by rounding; not with recompute",
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Resumes[str] = Field("auto", description="auto, cpu, cuda, mps")
    workers: Resumes[int] = Field(2, ge=0, description="threads that read audio ahead; 0 for none")
    keep: Resumes[int] = Field(
        2, ge=1, description="newest checkpoints to keep, and as many newest ones of complete epochs"
    )
    save_minutes: Resumes[float] = Field(
        10.0, gt=0, description="minutes between checkpoints within an epoch"
    )
    save_steps: Resumes[int | None] = Field(
        None, ge=1, description="also save after this many steps of an epoch"
    )
    bad_steps: Resumes[int] = Field(
        10, ge=1, description="stop after this many successive steps with a NaN or infinite loss"
    )
    collapse_steps: Resumes[int | None] = Field(
        500, ge=1, description="stop after this many successive steps with collapsed embeddings; null: never"
    )

    gauge_utterances: Resumes[int] = Field(
        256, ge=16, description="most utterances of data.held_out to measure gauges on"
    )
    keep_best: Resumes[GaugeName | Literal["auto"] | None] = Field(
        None,
        description="also keep the model of the best epoch by this gauge of data.held_out, in best/; auto, "
        "as `idemvox train --keep best` sets: recording_pseudo_eer if recordings are known, else pseudo_eer",
    )

    @model_validator(mode="after")
    def _room_for_warmup(self) -> Training:
        if self.schedule == "cosine" and self.warmup_epochs >= (self.schedule_epochs or self.epochs):
            raise ValueError("warmup_epochs must be fewer than the schedule's epochs")
        return self

    @model_validator(mode="after")
    def _compiled_or_recomputed(self) -> Training:
        if self.compile and self.recompute:
            raise ValueError("compile and recompute do not go together: leave one of them out")
        return self


class Published(_Strict):
    """The paper's results for this recipe, on VoxCeleb1-O (original list)."""

    eer: float
    mindcf_001: float | None = None
    voices_eer: float | None = Field(None, description="on the VOiCES 2019 development trials")
    source: str = "Lepage & Dehak 2025"


class Recipe(_Strict):
    """Everything that defines a training run."""

    name: str = "run"
    description: Resumes[str] = ""
    published: Resumes[Published | None] = None
    seed: int = Field(0, ge=0)
    start_from: Path | None = Field(
        None, description="run or model folder whose weights training starts from"
    )
    data: Data = Data()
    frontend: dict[str, Any] = Field(default_factory=dict, description="mels, window, normalise")
    encoder: Part = Part(name="fast_resnet34")
    framework: Part = Part(name="simclr")
    positives: Part = Part(name="same")
    augment: Augment = Augment()
    training: Training = Training()

    @model_validator(mode="after")
    def _gauged(self) -> Recipe:
        if self.training.keep_best is not None and self.data.held_out is None:
            raise ValueError(
                "training.keep_best compares epochs by a gauge of data.held_out: set data.held_out=FILE to a "
                "manifest of unlabelled audio that is not trained on"
            )
        return self

    def override(self, assignments: Sequence[str]) -> Recipe:
        """Return a copy with ``key.sub=value`` assignments applied; values are read as YAML.

        >>> Recipe().override(["framework.temperature=0.05"]).framework.model_extra
        {'temperature': 0.05}
        """
        tree = self.model_dump(mode="json", exclude_unset=True)
        for part in ("encoder", "framework", "positives"):
            tree.setdefault(part, {"name": getattr(self, part).name})
        # names first: choosing another framework drops the options of the old one
        for assignment in sorted(assignments, key=lambda a: not a.partition("=")[0].endswith(".name")):
            key, equals, text = assignment.partition("=")
            if not equals or not key:
                raise RecipeError(f"{assignment!r} is not KEY=VALUE; an example: training.epochs=10")
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise RecipeError(f"the value of {assignment!r} is not valid YAML: {error}") from error
            _assign(tree, key, _number(value))
        return parse_recipe(tree)

    def differences(self, other: Recipe) -> list[str]:
        """Return the keys, as ``training.lr``, whose values differ.

        >>> Recipe().differences(Recipe().override(["training.lr=0.1", "seed=3"]))
        ['seed', 'training.lr']
        """
        mine, its = (dict(_flat(recipe.model_dump(mode="json"))) for recipe in (self, other))
        return sorted(key for key in mine.keys() | its.keys() if mine.get(key) != its.get(key))

    def save(self, path: Path) -> None:
        """Write all values as YAML, defaults included."""
        with atomic_write(path) as file:
            yaml.safe_dump(self.model_dump(mode="json"), file, sort_keys=False, allow_unicode=True)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(key.sub, value)`` of every leaf."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _number(value: Any) -> Any:
    """Turn text such as 1e-3, which YAML 1.1 does not read as a number, into a float."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        below = tree.setdefault(name, {})
        if isinstance(below, str):  # "framework: simclr" is short for a name
            below = tree[name] = {"name": below}
        if not isinstance(below, dict):
            raise RecipeError(f"cannot set {key}: {name} is a single value")
        tree = below
    # another framework, encoder or sampler: the options of the old one do not apply
    if last == "name" and path and tree.get("name") not in (None, value):
        tree.clear()
    tree[last] = value


def _unknown_key(key: str, known: Sequence[str]) -> RecipeError:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return RecipeError(f"unknown recipe key {key!r}{hint} have: {', '.join(known) or 'none'}")


def _explain(error: ValidationError, where: str = "") -> str:
    lines = []
    for item in error.errors():
        key = ".".join([*([where] if where else []), *(str(part) for part in item["loc"])])
        lines.append(f"recipe key {key!r}: {item['msg']} (got {item.get('input')!r})")
    return "\n".join(lines)


def parse_recipe(tree: Mapping[str, Any]) -> Recipe:
    """Validate a tree of plain values.

    Raises:
        RecipeError: something in it is wrong; the message names every wrong key.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "extra_forbidden":
                *path, last = (str(part) for part in item["loc"])
                model: Any = Recipe
                for part in path:
                    annotation = model.model_fields[part].annotation
                    model = next((a for a in get_args(annotation) if a is not type(None)), annotation)
                prefix = "".join(f"{part}." for part in path)
                raise _unknown_key(prefix + last, [prefix + k for k in model.model_fields]) from error
        raise RecipeError(_explain(error)) from error


def load_recipe(recipe: str | Path) -> Recipe:
    """Load a recipe: one that comes with idemvox by its name, any other by its path.

    >>> load_recipe("simclr-ssps").training.epochs
    20

    Raises:
        RecipeError: it is missing, not YAML, or has a wrong key or value; the message names it.
    """
    tree, files = read_recipe(recipe)
    try:
        return parse_recipe({"name": files[0].stem, **tree})
    except RecipeError as error:
        raise RecipeError(f"{' based on '.join(map(str, files))}: {error}") from error
