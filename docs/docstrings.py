"""Docstrings as Markdown: roles of Sphinx become code, examples of doctest become blocks."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|exc):`~?(?:idemvox\.)?([^`]+)`")
EXAMPLE = re.compile(r"^(?:(?P<indent> *)>>> .*\n?(?:(?P=indent)\S.*\n?)*)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(_block, text)


def _block(match: re.Match[str]) -> str:
    indent, text = match["indent"], match[0].rstrip("\n")
    return f"{indent}```pycon\n{text}\n{indent}```\n"
