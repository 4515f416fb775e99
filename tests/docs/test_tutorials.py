"""Every command and every line of Python of the tutorials runs as printed, on real telephone calls."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from pathlib import Path

import pytest

from idemvox.registry import FRAMEWORKS
from idemvox.studies.demo import BASE

from .pages import Page, blocks, commands, parse

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = sorted(path.stem for path in (DOCS / "tutorials").glob("*.md"))
CORPORA = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[2] / "../shared/corpora"))


def copied(rows, folder: Path, path) -> None:
    for row in rows:
        target = folder / path(row)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CORPORA / row["path"], target)


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> Path:
    """``calls/CALL/PIECE.wav`` of nobody in particular, and ``known/PERSON/CALL/FILE.wav``."""
    if not (CORPORA / "manifest.csv").is_file():
        pytest.skip(
            "the tutorials run on real calls: set IDEMVOX_CORPORA to the folder that holds manifest.csv"
        )
    with (CORPORA / "manifest.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["source"] == "wuw2" and 2.2 < float(r["seconds"]) < 8]
    home = tmp_path_factory.mktemp("calls")
    by_call: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_call.setdefault(row["recording"], []).append(row)
    train = [call for call in by_call.values() if call[0]["split"] == "train"]
    long = [[row for row in call if float(row["seconds"]) > 4.2][:2] for call in train]  # gauges cut 4 s
    for number, call in enumerate([call for call in long if len(call) == 2][:42]):
        copied(call, home / "calls", lambda row, n=number: f"{n:03}/{Path(row['path']).name}")
    people: dict[str, list[list[dict[str, str]]]] = {}
    for call in by_call.values():
        if call[0]["split"] == "dev":
            people.setdefault(call[0]["speaker"], []).append(call)
    people = {name: mine[:2] for name, mine in sorted(people.items()) if len(mine) > 1}
    people = dict(list(people.items())[:12])
    assert len(people) >= 10
    for name, mine in zip(["anna", *sorted(people)[1:]], people.values(), strict=True):
        for day, call in zip(("monday", "friday"), mine, strict=True):
            for number, row in enumerate(sorted(call, key=lambda r: -float(r["seconds"]))[:2], 1):
                copied([row], home / "known" / name / day, lambda row, n=number: f"{n}.wav")
    return home


@pytest.fixture
def here(calls, tmp_path, monkeypatch) -> Path:
    for name in ("calls", "known"):
        (tmp_path / name).symlink_to(calls / name)
    shutil.copytree(BASE, tmp_path / "models" / "base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def page(name: str) -> Page:
    return Page((DOCS / "tutorials" / f"{name}.md").read_text(encoding="utf-8"))


def test_from_calls_to_a_verdict(here):
    run = page("calls")
    run.run()
    assert run.ran >= 15 and not run.parsed
    assert "EER %" in run.output and "calibrated on" in run.output and "Anna" in run.output


def put_model(folder: Path) -> None:
    shutil.copytree(BASE, folder)


def known_trials() -> None:
    """Make the files that the page says you have."""
    setup = Page(
        "```sh\nidemvox prepare folder known/ --out test.csv --speaker-from '{speaker}/*/*' "
        "--recording-from '*/{recording}/*' --min-seconds 1 -q\n```\n"
        "```python\nfrom idemvox import load_manifest\n"
        "from idemvox.verification.drawing import make_trials\n"
        "from idemvox.verification.trials import save_trials\n"
        'save_trials(make_trials(load_manifest("test.csv"), targets=300, impostors=600), "trials.txt")\n```\n'
    )
    setup.run()


def test_comparing_two_systems(here):
    put_model(Path("runs/simclr"))
    put_model(Path("runs/ssps"))
    known_trials()
    run = page("compare")
    run.run()
    assert not run.parsed and run.output.count("every number can be computed again") == 3
    assert "<html" in Path("report.html").read_text(encoding="utf-8")


def test_adapting_a_model(here):
    put_model(Path("models/start"))
    run = page("adapt")
    run.run()
    assert run.ran == 2 and run.parsed == 4  # weights of others are not here, and it may not have helped
    assert "gauge" in run.output


def test_writing_a_framework(here):
    Page("```sh\nidemvox prepare folder calls/ --out calls.csv -q\n```").run()
    try:
        page("framework").run()
    finally:
        sys.modules.pop("triplet", None)
        FRAMEWORKS._classes.pop("triplet", None)
    assert Path("runs/triplet-ssps/model/model.json").is_file()


def test_the_paper_on_voxceleb_is_only_parsed():
    """It needs VoxCeleb and a GPU: here its commands are parsed, and its recipes validated."""
    run = page("voxceleb")
    run.run()
    assert run.parsed >= 12 and not run.ran


def test_every_tutorial_is_tested():
    assert TUTORIALS == ["adapt", "calls", "compare", "framework", "voxceleb"]


@pytest.mark.parametrize("name", sorted(p.stem for p in (DOCS / "how-to").glob("*.md")))
def test_commands_of_the_how_tos_can_be_parsed(name):
    """A how-to starts in the middle of things, so its commands are parsed and its Python compiled."""
    run = Page((DOCS / "how-to" / f"{name}.md").read_text(encoding="utf-8"))
    for language, code in blocks(run.text):
        if language == "python":
            compile(code, name, "exec")
        elif language == "sh":
            for words in commands(code):
                parse(words)
