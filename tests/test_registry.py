"""Names in recipes become classes; an unknown name gives an error with the nearest and a list of all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from idemvox.errors import IdemvoxError, unknown_name
from idemvox.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Registry:
    """A registry over a package of two modules, each of which registers one class."""
    name = f"shapes_{abs(hash(request.node.nodeid))}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("from idemvox.registry import Registry\n")
    with (tmp_path / name / "__init__.py").open("a") as file:
        file.write(f"SHAPES = Registry('shape', {name!r})\n")
    for shape in ("circle", "square"):
        (tmp_path / name / f"{shape}.py").write_text(
            f"from {name} import SHAPES\n@SHAPES.register({shape!r})\nclass {shape.title()}:\n    pass\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    registry = __import__(name).SHAPES
    assert isinstance(registry, Registry)
    return registry


def test_modules_are_imported_on_first_use(registry: Registry) -> None:
    assert f"{registry.package}.circle" not in sys.modules
    assert registry["circle"].__name__ == "Circle"
    assert list(registry) == ["circle", "square"]
    assert registry["circle"] is registry["circle"]


def test_a_typo_suggests_the_nearest_and_lists_all(registry: Registry) -> None:
    with pytest.raises(IdemvoxError) as caught:
        registry["sqare"]
    assert str(caught.value) == "unknown shape 'sqare'; did you mean 'square'? have: circle, square"


def test_an_unknown_name_only_lists_all() -> None:
    assert str(unknown_name("shape", "zzz", ["b", "a"])) == "unknown shape 'zzz'; have: a, b"


def test_a_taken_name_is_refused(registry: Registry) -> None:
    list(registry)

    class Other: ...

    with pytest.raises(ValueError, match="'circle' is already Circle"):
        registry.register("circle")(Other)
    assert registry["circle"].__name__ == "Circle"


def test_the_decorator_returns_the_class(registry: Registry) -> None:
    class Triangle: ...

    assert registry.register("triangle")(Triangle) is Triangle
    assert registry["triangle"] is Triangle
