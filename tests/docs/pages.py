"""Runs the commands and the Python of a Markdown page, in order, in this process.

A page is tested as it is read: every block of `sh` and `python` runs. HTML comments, which readers do not
see, say what differs in a test:

    <!-- test: train KEY=VALUE ... -->   added to every `idemvox train`; `adapt` likewise
    <!-- test: each -q -->               added to every command that has this option
    <!-- test: parse all -->             commands of this page are only parsed, and recipes validated
    <!-- test: parse -->                 the same for the next block alone
    <!-- test: file NAME -->             the next block is written to NAME
    <!-- test: python CODE -->           runs between two blocks
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.recipe import load_recipe
from idemvox.recipes import recipe_names
from idemvox.studies.sweep import read_grid

__all__ = ["Page", "blocks", "commands", "parse"]

_PART = re.compile(
    r"<!-- test: (?P<note>.*?) -->|^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$", re.S | re.M
)
_STATUS = {"verify": {0, 3, 4}, "adapt": {0, 3}}  # statuses that are answers


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the notes for the test (as ``"test"``) and the blocks of code of a page, in order."""
    return [
        ("test", m["note"]) if m["note"] is not None else (m["language"], m["code"])
        for m in _PART.finditer(text)
    ]


def commands(code: str) -> list[list[str]]:
    """Return the words of each command of a block; a backslash continues a line."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def parse(words: list[str]) -> None:
    """Parse a command as the shell would give it, without running it, and validate its recipe.

    Raises:
        click.UsageError: no such command or option, or a wrong value.
        RecipeError: no such recipe or key.
    """
    assert words[0] == "idemvox", words
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="idemvox")
    words = words[1:]
    while hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, words)
        context = typer.Context(command, parent=context, info_name=command.name)
    values = command.make_context(command.name, list(words)).params
    if command.name in ("train", "sweep") and values["recipe"] in recipe_names():
        plain, grid = read_grid(values["overrides"]) if command.name == "sweep" else (values["overrides"], {})
        load_recipe(values["recipe"]).override([*(plain or ()), *(f"{k}={v[0]}" for k, v in grid.items())])


@dataclass
class Page:
    """A page that is being run in the current folder.

    Attributes:
        added: words to add to a command, by its name.
        ran: number of commands and blocks of Python that ran.
        parsed: number of commands that were only parsed.
    """

    text: str
    added: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    ran: int = 0
    parsed: int = 0
    output: str = ""

    def run(self) -> None:
        """Run all blocks."""
        only_parse, file, page_parses = False, "", False
        for language, code in blocks(self.text):
            if language == "test":
                word, _, rest = code.partition(" ")
                if word == "parse":
                    only_parse, page_parses = True, page_parses or rest == "all"
                elif word == "file":
                    file = rest
                elif word == "python":
                    self._python(rest)
                else:
                    assert word in ("train", "adapt", "each"), f"unknown note for the test: {code}"
                    self.added[word] = shlex.split(rest)
                continue
            if file:
                Path(file).write_text(code, encoding="utf-8")
            elif language == "python":
                self._python(code)
            elif language == "sh":
                for words in commands(code):
                    if only_parse or page_parses:
                        parse(words)
                        self.parsed += 1
                    else:
                        self._command(words)
            else:
                assert language in ("text", "yaml"), f"unknown kind of block: {language}"
            only_parse, file = False, ""

    def _python(self, code: str) -> None:
        self.ran += 1
        exec(compile(code, "<page>", "exec"), self.names)

    def _command(self, words: list[str]) -> None:
        """Run a command with the words that the page's notes add to it."""
        assert words[0] == "idemvox", f"not a command of idemvox: {words}"
        name = words[1]
        extra = self.added.get(name, [])
        each = self.added.get("each", [])
        words = [*words[1:], *extra]
        if each and self._takes(words, each):
            words += each
        result = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
        assert result.exit_code in _STATUS.get(name, {0}), (words, result.output, result.exception)
        self.output += result.output
        self.ran += 1

    def _takes(self, words: list[str], each: list[str]) -> bool:
        try:
            parse(["idemvox", *words, *each])
        except Exception as error:
            if "such option" not in str(error).lower():
                raise
            return False
        return True
