"""docs/results: a page says what the benchmark that writes it says."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PUBLISHED = [
    page.stem
    for page in sorted((TOP / "docs" / "results").glob("*.md"))
    if (script := TOP / "benchmarks" / f"{page.stem}.py").is_file() and "publish(" in script.read_text()
]


def test_pages_are_found():
    assert {"kmeans", "train_step"} <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_page_has_the_description_of_its_benchmark(name, monkeypatch):
    monkeypatch.syspath_prepend(str(TOP / "benchmarks"))
    from common import description

    described = description(ast.get_docstring(ast.parse((TOP / "benchmarks" / f"{name}.py").read_text())))
    page = (TOP / "docs" / "results" / f"{name}.md").read_text()
    notes = json.loads((TOP / "docs" / "results" / f"{name}.json").read_text())["notes"]
    assert described in page and described in notes, "change the page and its JSON with the docstring"
