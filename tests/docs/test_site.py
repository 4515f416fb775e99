"""The site builds without a warning, offline, with every page and link; what a reader sees of it is right."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import idemvox
from idemvox.recipes import recipe_names
from idemvox.registry import ENCODERS, FRAMEWORKS, POSITIVES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Links(HTMLParser):
    """What a page points to, and the places in it that can be pointed to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.places.add(values["id"])
        for key in ("src", "href", "srcset", "data"):
            if values.get(key):
                (self.linked if tag == "a" else self.loaded).append(values[key])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the site; ``strict`` in its settings makes a warning, such as a broken link, an error."""
    build = pytest.importorskip(
        "mkdocs.commands.build", reason="the site needs the extra: pip install '.[docs]'"
    )
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
    assert config.strict
    config.plugins.on_startup(command="build", dirty=False)
    build.build(config)
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Links]:
    return {page: Links(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}


def test_every_link_leads_somewhere(site, pages):
    broken = []
    for page, links in pages.items():
        for address in [*links.linked, *links.loaded]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            place = unquote(parts.fragment)
            if not target.is_file() or (place and target in pages and place not in pages[target].places):
                broken.append(f"{page.relative_to(site)}: {address}")
    assert not broken


def test_nothing_is_fetched_from_other_sites(pages):
    """No script, style sheet, font or picture of another site; links that a reader may follow are fine."""
    foreign = {a for links in pages.values() for a in links.loaded if urlsplit(a).netloc}
    assert not foreign


def test_every_result_recipe_command_and_name_has_its_place(site, pages):
    results = {page.stem for page in (ROOT / "docs" / "results").glob("*.md")}
    index = (site / "results" / "index.html").read_text(encoding="utf-8")
    assert not [name for name in results - {"index"} if f'href="{name}.html"' not in index]
    at = {
        name: pages[site / "reference" / f"{name}.html"].places for name in ("recipes", "commands", "python")
    }
    assert set(recipe_names()) <= at["recipes"]
    assert {"idemvox-train", "idemvox-prepare-folder", "idemvox-prepare-voxceleb1"} <= at["commands"]
    assert all(
        any(p.split(".")[-1] == name.lower() or p.endswith(f".{name}") for p in at["python"])
        for name in idemvox.__all__
    )
    for page, registry in (("frameworks", FRAMEWORKS), ("positives", POSITIVES), ("encoders", ENCODERS)):
        places = pages[site / "reference" / f"{page}.html"].places
        assert all(f"{registry[name].__module__}.{registry[name].__name__}" in places for name in registry)


def test_no_page_shows_the_source_of_its_markup(site):
    """Roles of docstrings are resolved, and commands show their examples as code."""
    for page in (site / "reference").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r":(func|class|meth|attr|mod):", text), page.name
    shown = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "\b" not in shown and "<p>idemvox " not in shown


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_files_beside_the_code(name):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]
