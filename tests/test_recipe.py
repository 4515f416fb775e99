"""Recipes: defaults, overrides, and error messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pytest
import yaml

from idemvox.audio.frontend import FrontEndSettings
from idemvox.audio.policies import POLICIES, PolicyName
from idemvox.errors import IdemvoxError
from idemvox.recipe import Augment, Part, Recipe, Training, build_options, load_recipe, parse_recipe
from idemvox.recipes import recipe_names
from idemvox.registry import ENCODERS, FRAMEWORKS, POSITIVES


def test_defaults_are_the_papers():
    r = Recipe()
    assert (r.encoder.name, r.framework.name, r.positives.name) == ("fast_resnet34", "simclr", "same")
    t = r.training
    assert (t.epochs, t.batch, t.lr, t.lr_decay, t.lr_every, t.weight_decay) == (100, 256, 1e-3, 0.95, 5, 0.0)
    assert t.precision == "fp32"
    assert (r.augment.policy, r.augment.babble, r.augment.noise) == ("always", None, None)
    assert POLICIES["always"].babble == (3, 7) and r.augment.speeds == (1.0,) and r.augment.telephone == 0
    assert r.published is None and r.start_from is None and r.data.manifest is None
    simclr = FRAMEWORKS["simclr"].Options()
    assert (simclr.temperature, simclr.symmetric, simclr.seconds) == (0.03, True, 2.0)
    aam = FRAMEWORKS["supervised_aam"].Options()
    assert (aam.scale, aam.margin, aam.seconds) == (30.0, 0.2, 2.0)


@pytest.mark.parametrize("registry", [ENCODERS, FRAMEWORKS, POSITIVES], ids=lambda r: r.kind)
def test_every_part_can_be_built_from_its_defaults(registry):
    for name in registry:
        options = Part(name=name).build(registry[name].Options, "x")
        assert options == registry[name].Options()
        assert all(f.name != "name" for f in fields(options))  # it would hide the name of the thing


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("training.epochs=20", 20),
        ("training.epochs=2e1", 20),
        ("training.lr=1e-3", 1e-3),
        ("training.lr=5.0e-4", 5e-4),
        ("training.weight_decay=0", 0.0),
        ("training.device=cpu", "cpu"),
        ("training.precision=bf16", "bf16"),
        ("augment.babble=[1, 1]", (1, 1)),
        ("augment.noise=some/folder", Path("some/folder")),
        ("augment.noise=null", None),
        ("augment.noise=", None),
        ("data.manifest=a=b.csv", Path("a=b.csv")),
        ("data.manifest=[a.csv, packs/b]", (Path("a.csv"), Path("packs/b"))),
        ("data.manifest=[a.csv,'b,c.csv']", (Path("a.csv"), Path("b,c.csv"))),
        ("data.manifest=[a.csv]", Path("a.csv")),  # a list of one is that one
        ("name=two words", "two words"),
        ("published.eer=9.41", 9.41),
        ("published=null", None),
        ("seed=7", 7),
    ],
)
def test_overrides_set_keys(assignment, expected):
    found = Recipe().override([assignment])
    for key in assignment.partition("=")[0].split("."):
        found = getattr(found, key)
    assert found == expected and type(found) is type(expected)


def test_overriding_keeps_the_other_keys_and_the_original():
    recipe = parse_recipe({"framework": {"name": "simclr", "temperature": 0.1}, "training": {"lr": 0.5}})
    changed = recipe.override(["training.epochs=3", "framework.symmetric=false"])
    assert (changed.training.lr, changed.training.epochs) == (0.5, 3)
    assert changed.framework.model_extra == {"temperature": 0.1, "symmetric": False}
    assert recipe.training.epochs == 100 and recipe.framework.model_extra == {"temperature": 0.1}
    assert recipe.override([]) == recipe


def test_options_of_a_default_part_can_be_set_without_its_name():
    changed = Recipe().override(["framework.temperature=5e-2", "encoder.channels=[4, 8, 8, 8]"])
    assert changed.framework == Part(name="simclr", temperature=0.05)
    assert changed.encoder == Part(name="fast_resnet34", channels=[4, 8, 8, 8])


def test_options_may_be_null():
    ssps = parse_recipe({"positives": {"name": "ssps", "queue": 5}}).override(["positives.queue=null"])
    assert ssps.positives.build(POSITIVES["ssps"].Options, "positives").queue is None


def test_naming_another_part_drops_the_options_of_the_old_one():
    recipe = parse_recipe({"framework": {"name": "simclr", "temperature": 0.1, "seconds": 3.0}})
    assert recipe.override(["framework.name=supervised_aam"]).framework == Part(name="supervised_aam")
    scaled = recipe.override(["framework.name=supervised_aam", "framework.scale=20"])
    assert scaled.framework == Part(name="supervised_aam", scale=20)
    assert recipe.override(["framework.name=simclr"]) == recipe  # the same name is no change
    short = parse_recipe({"framework": "simclr"})
    assert short.override(["framework=supervised_aam"]).framework == Part(name="supervised_aam")
    assert short.override(["framework.temperature=1"]).framework == Part(name="simclr", temperature=1)
    whole = recipe.override(["framework={name: supervised_aam, scale: 20}"])
    assert whole.framework == Part(name="supervised_aam", scale=20)
    assert (
        recipe.override(["name=other"]).framework == recipe.framework
    )  # the name of the run is another matter


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trainin": {}}, "unknown recipe key 'trainin'; did you mean 'training'"),
        ({"training": {"epoch": 3}}, "'training.epoch'; did you mean 'training.epochs'"),
        ({"augment": {"polici": "all"}}, "'augment.polici'; did you mean 'augment.policy'"),
        ({"published": {"err": 3.0}}, "'published.err'; did you mean 'published.eer'"),
        ({"data": {"zzz": 1}}, "'data.zzz'; have: data.manifest"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(tree, message):
    with pytest.raises(IdemvoxError) as caught:
        parse_recipe(tree)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"training": {"epochs": "many"}}, "training.epochs"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"batch": 1}}, "training.batch"),
        ({"training": {"lr": -1}}, "training.lr"),
        ({"training": {"precision": "fp16"}}, "training.precision"),
        ({"training": 5}, "training"),
        ({"augment": {"policy": "some"}}, "augment.policy"),
        ({"augment": {"babble": [1]}}, "augment.babble"),
        ({"framework": {"temperature": 0.1}}, "framework.name"),
        ({"framework": None}, "framework"),
        ({"data": {"manifest": []}}, "data.manifest"),
        ({"data": {"manifest": 3}}, "data.manifest"),
        ({"data": {"manifest": ["a.csv", None]}}, "data.manifest"),
        ({"data": {"manifest": ["a.csv", ["b.csv"]]}}, "data.manifest"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"frontend": 3}, "frontend"),
    ],
    ids=str,
)
def test_a_wrong_value_is_reported(tree, key):
    with pytest.raises(IdemvoxError) as caught:
        parse_recipe(tree)
    assert f"recipe key '{key}" in str(caught.value)


def test_all_wrong_values_are_reported_at_once():
    with pytest.raises(IdemvoxError) as caught:
        parse_recipe({"training": {"epochs": 0, "batch": "x"}, "seed": -1})
    assert [key in str(caught.value) for key in ("training.epochs", "training.batch", "'seed'")] == [True] * 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs", "not KEY=VALUE; an example"),
        ("=3", "not KEY=VALUE"),
        ("training.epochs=[1", "not valid YAML"),
        ("seed.x=3", "cannot set seed.x"),
        ("training.epoch=3", "did you mean 'training.epochs'"),
    ],
)
def test_wrong_overrides_are_refused(assignment, message):
    with pytest.raises(IdemvoxError) as caught:
        parse_recipe({"seed": 2}).override([assignment])
    assert message in str(caught.value)


@dataclass(frozen=True, slots=True)
class Options:
    rate: float = 0.5
    sizes: tuple[int, int] = (1, 2)
    kind: Literal["a", "b"] = "a"


def test_options_of_a_part_are_checked():
    assert Part(name="x").build(Options, "thing") == Options()
    assert Part(name="x", rate="1e-3", sizes=[3, 4], kind="b").build(Options, "thing") == Options(
        1e-3, (3, 4), "b"
    )
    with pytest.raises(
        IdemvoxError, match=r"'thing.rat'; did you mean 'thing.rate'\? have: thing.rate, thing.sizes"
    ):
        Part(name="x", rat=1).build(Options, "thing")
    with pytest.raises(IdemvoxError, match=r"'thing.rate'.*got 'fast'"):
        Part(name="x", rate="fast").build(Options, "thing")
    with pytest.raises(IdemvoxError, match=r"'thing.sizes"):
        Part(name="x", sizes=[1, 2, 3]).build(Options, "thing")
    with pytest.raises(IdemvoxError, match=r"'thing.kind'"):
        Part(name="x", kind="c").build(Options, "thing")
    with pytest.raises(IdemvoxError, match=r"unknown recipe key 'thing.name'"):
        build_options({"name": "x"}, Options, "thing")


def test_a_saved_recipe_is_read_back(tmp_path):
    recipe = parse_recipe(
        {
            "name": "all of it",
            "description": "Ünïcode: yes",
            "published": {"eer": 9.41, "mindcf_001": 0.6378},
            "data": {"manifest": "a/b.csv"},
            "frontend": {"mels": 80},
            "encoder": {"name": "ecapa_tdnn", "dim": 192},
            "positives": {"name": "ssps", "queue": None},
            "augment": {"babble": [1, 1]},
            "training": {"lr": 1e-5},
        }
    )
    recipe.save(tmp_path / "deep" / "recipe.yaml")
    assert load_recipe(tmp_path / "deep" / "recipe.yaml") == recipe


def test_a_saved_recipe_is_plain_and_complete(tmp_path):
    Recipe().save(tmp_path / "r.yaml")
    tree = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert tree["training"] == Training().model_dump() and tree["augment"]["policy"] == Augment().policy
    assert list(tree) == list(Recipe.model_fields)


def test_a_file_only_needs_what_differs_and_names_the_recipe(tmp_path):
    (tmp_path / "small.yaml").write_text("training: {lr: 1e-2}\n")
    recipe = load_recipe(tmp_path / "small.yaml")
    assert (recipe.name, recipe.training.lr, recipe.training.epochs) == ("small", 0.01, 100)
    (tmp_path / "empty.yaml").write_text("")
    assert load_recipe(tmp_path / "empty.yaml") == Recipe(name="empty")


def test_a_missing_file_lists_the_others_in_its_folder(tmp_path):
    for name in ("b.yaml", "a.yaml", "c.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(IdemvoxError, match=r"no recipe .*d\.yaml; .* has: a\.yaml, b\.yaml$"):
        load_recipe(tmp_path / "d.yaml")
    with pytest.raises(IdemvoxError, match=r"no recipe .*d\.yaml$"):
        load_recipe(tmp_path / "nowhere" / "d.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a\n- b\n", "not a recipe"),
        (b"training: {epoch: 3}\n", "did you mean"),
        (b"1: 2\n", "recipe key '1'"),
    ],
)
def test_a_broken_file_is_reported(tmp_path, text, message):
    file = tmp_path / "broken.yaml"
    file.write_bytes(text)
    with pytest.raises(IdemvoxError) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value) and message in str(caught.value)


def test_recipes_are_found_by_name_in_any_folder_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("training: {epochs: 7}\n")
    (tmp_path / "bare").write_text("training: {epochs: 8}\n")
    assert load_recipe("simclr-ssps").positives.name == "ssps" and load_recipe("simclr").name == "simclr"
    assert [load_recipe(path).training.epochs for path in ("mine.yaml", "./bare", "bare")] == [7, 8, 8]
    for wrong, message in (
        ("simcrl", r"unknown recipe 'simcrl'; did you mean 'simclr'\? have: .*dino-ssps.*"),
        ("mine", r"no recipe of idemvox is called mine; did you mean the file mine\.yaml\?"),
        ("recipes/simclr.yaml", r".*for the recipe that comes with idemvox give its name only: simclr"),
    ):
        with pytest.raises(IdemvoxError) as caught:
            load_recipe(wrong)
        assert re.fullmatch(message, str(caught.value)), str(caught.value)


def test_a_recipe_only_needs_what_differs_from_its_base(tmp_path):
    """The base may be named, or a file with a base of its own. A saved recipe is complete."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "mine.yaml").write_text(
        "base: simclr-ssps\ndescription: mine\nframework: {seconds: 3}\npositives: {neighbours: 2}\n"
        "training: {lr: 0.1}\n"
    )
    (tmp_path / "deep" / "wide.yaml").write_text(
        "base: ../mine.yaml\nencoder: {name: fast_resnet34, dim: 64}\npositives: {name: supervised}\n"
        "training: {batch: 8}\n"
    )
    start, mine, wide = map(load_recipe, ("simclr-ssps", tmp_path / "mine.yaml", tmp_path / "deep/wide.yaml"))
    assert (mine.name, mine.description, mine.published) == ("mine", "mine", None)  # never the base's
    assert start.published is not None
    assert mine.framework == Part(name="simclr", temperature=0.03, seconds=3)
    assert mine.positives == Part(name="ssps", clusters=25000, neighbours=2)
    assert mine.training == Training(epochs=20, lr=0.1)
    assert wide.encoder == Part(name="fast_resnet34", dim=64)
    assert wide.positives == Part(name="supervised")  # without the options of ssps
    assert wide.training == Training(epochs=20, lr=0.1, batch=8) and wide.framework == mine.framework
    wide.save(tmp_path / "run" / "recipe.yaml")
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert "base" not in saved and parse_recipe(saved) == load_recipe(tmp_path / "run/recipe.yaml") == wide


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("a.yaml", r"each other's base, .*a\.yaml -> .*a\.yaml: remove 'base' from one"),
        ("b.yaml", r"each other's base, .*a\.yaml -> .*b\.yaml -> .*a\.yaml: remove 'base' from one"),
        ("simcrl", r"the base of .*a\.yaml: unknown recipe 'simcrl'; did you mean 'simclr'"),
        ("c", r"the base of .*a\.yaml: no recipe of idemvox is called c; did you mean the file c\.yaml\?"),
        ("no/d.yaml", r"the base of .*a\.yaml: no recipe .*d\.yaml"),
        ("[simclr, dino]", r"a\.yaml: 'base' should be the name or path of a recipe, not \['simclr'"),
        ("c.yaml", r"a\.yaml based on .*c\.yaml: unknown recipe key 'training\.epoch'"),
    ],
)
def test_impossible_bases_are_refused(tmp_path, base, message):
    (tmp_path / "a.yaml").write_text(f"base: {base}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    (tmp_path / "c.yaml").write_text("training: {epoch: 3}\n")
    with pytest.raises(IdemvoxError, match=message):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_built(name):
    recipe = load_recipe(name)
    build_options(recipe.frontend, FrontEndSettings, "frontend")
    for part, registry in (
        (recipe.encoder, ENCODERS),
        (recipe.framework, FRAMEWORKS),
        (recipe.positives, POSITIVES),
    ):
        part.build(registry[part.name].Options, "part")


def test_policies_in_recipes_are_the_existing_ones():
    assert get_args(PolicyName) == tuple(POLICIES)


@pytest.mark.parametrize("speeds", ["[]", "[1.0, 3.0]", "[1.0, 1.0]", "0.9"])
def test_impossible_speeds_are_refused(speeds):
    with pytest.raises(IdemvoxError, match=r"augment\.speeds"):
        Recipe().override([f"augment.speeds={speeds}"])
    assert Recipe().override(["augment.speeds=[0.9, 1.0, 1.1]"]).augment.speeds == (0.9, 1.0, 1.1)
