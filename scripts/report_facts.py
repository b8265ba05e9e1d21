"""Facts of a report page, measured in a browser: size, requests, contrast, overflow, structure, time until it is ready.

python scripts/report_facts.py runs/NAME|FILE.html

A run's page is made anew in a temporary folder; the run is only read. Needs chromium and the dev group.
Exits with 1 if something is not as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import report_checks

#: A page that is sent by mail and opened on a phone.
MOST_BYTES = 2_000_000
#: What each check's findings are called.
_WORDS = {
    "loading": "requests to others, errors and warnings",
    "cut_off": f"cut off or overlapping, {', '.join(map(str, report_checks.WIDTHS))} px wide",
    "cut_on_paper": "cut off or overlapping, printed on A4",
    "faint": "texts and curves of too little contrast",
    "told_by_colour": "told by colour alone",
    "without_glyph": "characters without a glyph here",
    "misdirected": "texts in the wrong direction",
    "unstructured": "without a name, or out of order",
    "unfocused": "keyboard focus that is not seen",
}


class Fact(NamedTuple):
    """A line of the answer: what, how much, and whether it is as it should be."""

    name: str
    value: str
    good: bool = True


def page_of(given: Path, folder: Path) -> Path:
    """The page itself, or that of a run folder, written into ``folder``."""
    if given.is_file():
        return given
    from fastvocab.report import page
    from fastvocab.run import read_records

    config = given / "config.yaml"
    text = config.read_text(encoding="utf-8") if config.is_file() else None
    written = folder / page.NAME
    written.write_text(page.html(read_records(given), given.resolve().name, config=text), encoding="utf-8")
    return written


def facts(path: Path, browser: Any) -> Iterator[Fact]:
    """All facts of a page."""
    page = report_checks.Page(browser, path)
    built = page.ask("structure")
    yield Fact("bytes", f"{path.stat().st_size:,}", path.stat().st_size < MOST_BYTES)
    yield Fact("elements", f"{built['elements']:,}")
    yield Fact("ready after", f"{built['ready']:.0f} ms")
    yield Fact("language and title", f"{built['lang']}, {built['title']}")
    yield Fact("headings", str(len(built["headings"])))
    for scheme in report_checks.SCHEMES:
        page.show(scheme=scheme)
        worst = min(page.ask("contrast"), key=lambda text: text["ratio"] / text["needed"])
        said = f"{worst['ratio']:.2f}, {worst['needed']} is needed ({worst['text']})"
        yield Fact(f"lowest contrast of a text, {scheme}", said, worst["ratio"] >= worst["needed"])
        series = [one["contrast"] for figure in page.ask("figures") for one in figure]
        if series:
            yield Fact(f"lowest contrast of a curve, {scheme}", f"{min(series):.2f}", min(series) >= 3)
    narrow = min(report_checks.WIDTHS)
    page.show(width=narrow)
    smallest = min(page.ask("contrast"), key=lambda text: text["size"])
    yield Fact(f"smallest text, {narrow} px wide", f"{smallest['size']:.1f} px ({smallest['text']})")
    yield Fact("characters tried", str(page.ask("glyphs")["tried"]))
    for name, check in report_checks.CHECKS.items():
        found = check(page)
        yield Fact(_WORDS[name], f"{len(found)}" + (f": {'; '.join(found[:3])}" if found else ""), not found)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("given", type=Path, help="a run folder or an HTML file")
    given = parser.parse_args().given
    if (reason := report_checks.missing()) is not None:
        parser.error(reason)
    with tempfile.TemporaryDirectory() as folder, report_checks.browser() as browser:
        found = list(facts(page_of(given, Path(folder)), browser))
    width = max(len(fact.name) for fact in found)
    for fact in found:
        print(f"{' ' if fact.good else '!'} {fact.name:<{width}}  {fact.value}")
    return 0 if all(fact.good for fact in found) else 1


if __name__ == "__main__":
    sys.exit(main())
