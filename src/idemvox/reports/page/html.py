"""Pieces of HTML that sections of the page share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from idemvox.reports.charts import LINES

__all__ = ["Html", "key", "note", "ranged", "section", "table", "text"]


class Html(str):
    """Text that is HTML already, so that :func:`text` leaves it alone."""

    __slots__ = ()


def text(cell: Any) -> str:
    """Return anything as HTML, escaped unless it is :class:`Html`."""
    return cell if isinstance(cell, Html) else escape(str(cell))


def ranged(words: str) -> Html:
    """Return a number with its interval, ``8.8 (4.5 to 13.7)``, so that a line can break between the two."""
    number, bracket, rest = words.partition(" (")
    return Html(escape(number) + (f' <span class="range">({escape(rest)}</span>' if bracket else ""))


def note(words: str) -> str:
    """Return a paragraph of smaller print, or nothing without words."""
    return f'<p class="note">{escape(words)}</p>' if words else ""


def section(name: str, title: str, body: str) -> str:
    """Return a part of the page with its heading; ``name`` is its id, for links."""
    heading = f'<h2 id="{name}-h">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-h">{heading}{body}</section>'


def table(
    kind: str, label: str, heading: Sequence[str], rows: Iterable[Sequence[Any]], words: str = ""
) -> str:
    """Return a table that scrolls sideways where it is too wide; the first cell of a row is its heading.

    On a phone each row is a list of names and values. The roles keep it a table for screen readers there.

    Args:
        kind: its class in the style sheet.
        label: what it shows, for screen readers.
        heading: of each column.
        rows: cells, escaped unless they are :class:`Html`.
        words: a note below it.
    """
    head = "".join(f'<th scope="col" role="columnheader">{escape(name)}</th>' for name in heading)
    body = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{text(row[0])}</th>'
        + "".join(
            f'<td role="cell" data-name="{escape(name)}">{text(cell)}</td>'
            for name, cell in zip(heading[1:], row[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide {kind}" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<table role="table"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>{note(words)}'
    )


def key(names: Sequence[str]) -> str:
    """Return the names of lines, each beside its colour and dashes."""
    lines = "".join(
        f'<li><svg viewBox="0 0 40 10" class="line-{n % LINES}" aria-hidden="true">'
        f'<path class="curve" d="M0 5H40"/></svg> {escape(name)}</li>'
        for n, name in enumerate(names)
    )
    return f'<ul class="key">{lines}</ul>'
