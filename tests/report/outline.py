"""Reads a page as a browser's parser would, for tests of several files."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "hr", "input"}
#: Attributes by which a browser fetches something.
FETCHING = {"src", "srcset", "data", "poster", "background", "action", "xlink:href"}


class Outline(HTMLParser):
    """Checks nesting while reading, and keeps elements, ids and the text of each element's subtree."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    def headings(self) -> set[str]:
        return {str(attrs["id"]) for tag, attrs in self.elements if tag == "h2"}

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())
