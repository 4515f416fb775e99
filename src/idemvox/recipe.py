"""Recipes: one typed description of a run, from YAML and ``key=value`` overrides.

    name: simclr-ssps
    framework: {name: simclr, temperature: 0.03}
    positives: {name: ssps, clusters: 25000, neighbours: 1}
    training: {epochs: 20}

Whatever a recipe leaves out has the paper's value, or that of the recipe that it names as its ``base``.
Unknown keys are errors that suggest the nearest.
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

__all__ = ["Augment", "Data", "Part", "Published", "Recipe", "Training", "build_options", "load_recipe"]


T = TypeVar("T")
RESUMES = "may differ where a run is resumed"
Resumes = Annotated[T, RESUMES]
"""A key that may have another value where a run is resumed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """One thing out of a registry, by name, with its own options beside the name."""

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
        if key not in known:
            raise _unknown_key(f"{where}.{key}", [f"{where}.{k}" for k in known])
    try:
        return TypeAdapter(options).validate_python(dict(given))
    except ValidationError as error:
        raise RecipeError(_explain(error, where)) from error


class Data(_Strict):
    """What to learn from."""

    manifest: Path | tuple[Path, ...] | None = Field(
        None,
        description="what `idemvox prepare` or, better, `idemvox pack` has written; a list such as "
        "[vox1.csv, vox2.csv] for several corpora, manifests and packs in any mixture",
    )
    labels: Path | None = Field(
        None,
        description="table of id and class that supervised training learns; default: the manifest's speakers",
    )

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
        """The manifests and packs to learn from, one or several.

        Raises:
            RecipeError: none is given.
        """
        if self.manifest is None:
            raise RecipeError(
                "no training data: set data.manifest=FILE, made by `idemvox prepare folder DIR`"
            )
        return self.manifest if isinstance(self.manifest, tuple) else (self.manifest,)


class Augment(_Strict):
    """What is done to augmented views; folders, manifests or packs, or built-in banks where none is given."""

    policy: PolicyName = "always"
    noise: Path | None = None
    music: Path | None = None
    speech: Path | None = Field(None, description="for babble; default: excerpts of the training corpus")
    rooms: Path | None = Field(None, description="room responses; default: simulated rooms")
    babble: tuple[int, int] | None = Field(None, description="voices that are summed; default: the policy's")
    telephone: float = Field(0.0, ge=0, le=1, description="share of views that go through a telephone")
    speeds: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="at which an utterance may be played, such as [0.9, 1.0, 1.1]"
    )
    simulated_rooms: int = Field(100, ge=1)
    max_hours: float = Field(8.0, gt=0, description="of each kind of noise that are held on the device")

    @field_validator("speeds")
    @classmethod
    def _possible(cls, speeds: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.5 <= speed <= 2 for speed in speeds) or len(set(speeds)) < len(speeds):
            raise ValueError("give different speeds from 0.5 to 2")
        return speeds


class Training(_Strict):
    """How long and with what; defaults are SimCLR's in the SSPS paper."""

    epochs: Resumes[int] = Field(100, ge=1)
    schedule_epochs: int | None = Field(
        None,
        ge=1,
        description="that the schedules are laid out for, counted from the very beginning; "
        "default: those that there will have been when the run ends",
    )
    batch: int = Field(256, ge=2)
    optimizer: Literal["adam", "sgd"] = Field("adam", description="sgd has a momentum of 0.9")
    schedule: Literal["step", "cosine"] = Field(
        "step", description="step: lr times lr_decay every lr_every epochs; cosine: up, then down to min_lr"
    )
    lr: float = Field(1e-3, gt=0, description="the highest")
    lr_decay: float = Field(0.95, gt=0, le=1)
    lr_every: int = Field(5, ge=1, description="epochs between two decays")
    warmup_epochs: int = Field(0, ge=0, description="in which a cosine schedule climbs from 0 to lr")
    min_lr: float = Field(1e-5, ge=0, description="of the last step of a cosine schedule")
    weight_decay: float = Field(0.0, ge=0, description="of matrices; not of biases and normalisation")
    clip: float | None = Field(
        None, gt=0, description="largest norm of a gradient, of each parameter by itself"
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="batches to an optimiser's step, which takes the mean of their gradients; a loss that "
        "compares utterances sees those of one batch, batch normalisation too: for more of them, recompute",
    )
    recompute: Resumes[bool] = Field(
        False,
        description="a large batch in a quarter of the memory and the same numbers: what happens within the "
        "encoder's blocks is forgotten and computed again going backward; takes up to half as long again",
    )
    compile: bool = Field(
        False, description="the encoders, by torch.compile; numbers differ by rounding; not with recompute"
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Resumes[str] = Field("auto", description="auto, cpu, cuda, mps")
    workers: Resumes[int] = Field(2, ge=0, description="threads that read audio ahead; 0: none")
    keep: Resumes[int] = Field(2, ge=1, description="newest checkpoints kept, and of whole epochs as many")
    save_minutes: Resumes[float] = Field(10.0, gt=0, description="between two checkpoints within an epoch")
    save_steps: Resumes[int | None] = Field(
        None, ge=1, description="also save after so many steps of an epoch"
    )
    bad_steps: Resumes[int] = Field(
        10, ge=1, description="in a row, skipped for a loss that is not finite: then stop"
    )
    collapse_steps: Resumes[int | None] = Field(
        500, ge=1, description="in a row with embeddings all alike: then stop; null: go on"
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
    """What the paper reports for this recipe, on VoxCeleb1-O (original list)."""

    eer: float
    mindcf_001: float | None = None
    voices_eer: float | None = Field(None, description="on the VOiCES 2019 development trials")
    source: str = "Lepage & Dehak 2025"


class Recipe(_Strict):
    """A run."""

    name: str = "run"
    description: Resumes[str] = ""
    published: Resumes[Published | None] = None
    seed: int = Field(0, ge=0)
    start_from: Path | None = Field(None, description="run or model folder whose weights to begin with")
    data: Data = Data()
    frontend: dict[str, Any] = Field(default_factory=dict, description="mels, window, normalise")
    encoder: Part = Part(name="fast_resnet34")
    framework: Part = Part(name="simclr")
    positives: Part = Part(name="same")
    augment: Augment = Augment()
    training: Training = Training()

    def override(self, assignments: Sequence[str]) -> Recipe:
        """Return a copy with ``key.sub=value`` assignments applied; values are read as YAML.

        >>> Recipe().override(["framework.temperature=0.05"]).framework.model_extra
        {'temperature': 0.05}
        """
        tree = self.model_dump(mode="json", exclude_unset=True)
        for part in ("encoder", "framework", "positives"):
            tree.setdefault(part, {"name": getattr(self, part).name})
        # names first: choosing another framework drops the options of the one before
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
        """Write every value, given or default, as YAML."""
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
    """Read 1e-3, which YAML 1.1 takes for text, as the number that it is."""
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
    # naming another framework, encoder or sampler: the options of the old one do not apply to it
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
        RecipeError: naming every wrong key.
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
    """Read a recipe: one that comes with idemvox, by its name, or any other, by its path.

    >>> load_recipe("simclr-ssps").training.epochs
    20

    Raises:
        RecipeError: if it is missing, not YAML, or has a wrong key or value; the message names it.
    """
    tree, files = read_recipe(recipe)
    try:
        return parse_recipe({"name": files[0].stem, **tree})
    except RecipeError as error:
        raise RecipeError(f"{' on the base '.join(map(str, files))}: {error}") from error
