"""Running text of a translated manual, for the benchmarks: the paragraphs of a folder of HTML pages as jsonl.

    apt-get download libreoffice-help-el && dpkg-deb -x libreoffice-help-el_*.deb manual
    python scripts/manual_text.py manual/usr/share/libreoffice/help/el el el.jsonl
    python scripts/bench_training.py --text el=el.jsonl

The packages' catalogues hold at most 0.4 MB of a language, which a few minutes of training read more than once;
this manual has 4.3 MB in Khmer and 6.5 MB in Greek. A page is a document. Each paragraph is taken once (pages
repeat each other's), and only where most of its letters are of the language's scripts, since what nobody has
translated stays English.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from bench_harness import progress

from fastvocab import files
from fastvocab.unicode import language_scripts, letter_scripts

#: Elements that begin and end a paragraph, and those whose text is none.
_BLOCKS = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "dt", "dd", "td", "th", "div", "pre", "br"]
)
_SILENT = frozenset(["script", "style", "head", "header", "nav", "aside", "footer"])


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        self._border(tag)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT
        self._border(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append(data)

    def close(self) -> None:
        super().close()
        self._border("p")

    def _border(self, tag: str) -> None:
        if tag in _BLOCKS:
            if text := " ".join("".join(self._parts).split()):
                self.paragraphs.append(text)
            self._parts.clear()


def pages(folder: Path, language: str) -> Iterator[str]:
    """The pages under ``folder`` in the order of their names, each with its paragraphs that no page before had."""
    scripts, seen = language_scripts(language), set[str]()
    for path in sorted(folder.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        kept = []
        for text in page.paragraphs:
            letters = letter_scripts(text)
            if text not in seen and 2 * sum(letters[script] for script in scripts) > letters.total():
                seen.add(text)
                kept.append(text)
        if kept:
            yield "\n".join(kept)


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with the pages, looked for at any depth")
    parser.add_argument("language", help="code such as el")
    parser.add_argument("out", type=Path, help="file to write, *.jsonl")
    options = parser.parse_args()
    try:
        documents = list(pages(options.folder, options.language))
    except ValueError as error:  # no such language; a page that is no UTF-8
        parser.error(str(error))
    if not documents:
        parser.error(f"no page under {options.folder} has text in {options.language}")
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
    files.write_text(options.out, lines)
    size = sum(len(text.encode()) for text in documents)
    progress(f"{options.out}: {len(documents):,} documents, {size:,} bytes")


if __name__ == "__main__":
    main()
