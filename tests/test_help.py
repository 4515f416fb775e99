"""`idemvox --help` reads as a path, and every example in every help can be run as it is printed."""

from __future__ import annotations

import shlex
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from idemvox.cli import PATH, app

from .docs.pages import parse


def every(command=None, context=None):
    """Every command that does something, with its name."""
    command = command or typer.main.get_command(app)
    context = context or typer.Context(command, info_name="idemvox")
    if not hasattr(command, "list_commands"):
        return [(context.command_path, command)]
    names = command.list_commands(context)
    below = [(command.get_command(context, name), name) for name in names]
    return [f for c, n in below for f in every(c, typer.Context(c, parent=context, info_name=n))]


COMMANDS = dict(every())


def examples(help_text: str) -> list[list[str]]:
    """The examples of a help: its indented lines; a backslash continues a line."""
    text = help_text.replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("idemvox ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_all_parse(name):
    found = examples(COMMANDS[name].help)
    assert any(" ".join(words).startswith(name) for words in found), f"no example of {name}"
    for words in found:
        parse(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_example_is_broken_by_the_width_of_a_terminal(name):
    """In 80 columns: a line that wraps could not be copied."""
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "80"}).output
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for words in examples(COMMANDS[name].help.replace("\\\n", "\n")):
        assert shlex.join(words).replace("'", "") in [
            line.rstrip("\\").strip().replace("'", "") for line in lines
        ]


def test_commands_are_listed_in_the_order_in_which_they_are_needed():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).output
    places = [shown.index(panel) for panel in PATH]
    assert places == sorted(places)
    for name in ("prepare", "train", "evaluate", "verify"):
        assert f"idemvox {name}" in shown
    assert (
        shown.index("│ prepare")
        < shown.index("│ train")
        < shown.index("│ evaluate")
        < shown.index("│ verify")
    )
    for words in examples(typer.main.get_command(app).help):
        parse(words)


def test_the_version_has_one_source():
    """pyproject.toml has it; the program, the citation and the changelog agree."""
    root = Path(__file__).parents[1]
    number = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert number == version("idemvox")
    assert CliRunner().invoke(app, ["--version"]).output == f"idemvox {number}\n"
    assert f"\nversion: {number}\n" in (root / "CITATION.cff").read_text()
    assert f"## {number}" in (root / "CHANGELOG.md").read_text()
