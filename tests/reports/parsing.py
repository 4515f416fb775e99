"""Reads a page as a browser would, strictly."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "rect", "circle"}


class Page(HTMLParser):
    """Checks that tags nest, and collects text, ids, links and references."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.ids, self.references, self.words = [], [], [], []
        self.tags = set()
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open += [] if tag in VOID else [tag]
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.references += [value] if name in ("href", "src") else []
            self.references += [f"#{part}" for part in value.split()] if name == "aria-labelledby" else []
            self.references += [f"#{value}"] if name == "data-clip" else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)
