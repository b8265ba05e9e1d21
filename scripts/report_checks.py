"""A page in a real browser, and what can be asked of it there: ``report_facts.py`` and the tests share this.

The browser is Debian's chromium or whatever is installed under one of its names; nothing is downloaded.
The questions are in ``report_checks.js``, which is evaluated from outside: the page itself has no script.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unicodedata import bidirectional

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: A phone, a tablet and a laptop, in CSS pixels.
WIDTHS = (360, 768, 1280)
#: What is left of A4 between the margins that style.css sets: 210 less 2 x 14 mm, at 96 pixels an inch.
PAPER = 688
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")  # fmt: skip
_QUESTIONS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def missing() -> str | None:
    """Why no browser can be driven here, if so."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return None if executable() else f"none of {', '.join(BROWSERS)} is on the PATH"


def executable() -> str | None:
    """Path of the browser."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Page:
    """A file opened in a tab, and what the browser said about it.

    Attributes:
        tab: playwright's page, for what is not asked here.
        requests: addresses that it asked for, its own among them.
        complaints: messages of the console from warnings on, and errors of scripts.
    """

    def __init__(self, browser: Any, path: Path) -> None:
        self.address = path.resolve().as_uri()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab = browser.new_page(viewport={"width": WIDTHS[-1], "height": 900})
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", self._hear)
        self.tab.goto(self.address)

    def _hear(self, message: Any) -> None:
        if message.type in ("warning", "error"):
            self.complaints.append(f"{message.type}: {message.text}")

    def ask(self, question: str) -> Any:
        """The answer to a function of ``report_checks.js``."""
        return self.tab.evaluate(f"{_QUESTIONS}.{question}()")

    def show(self, *, width: int = WIDTHS[-1], scheme: str = "light", media: str = "screen") -> None:
        """Change the window; lasts until the next call."""
        self.tab.set_viewport_size({"width": width, "height": 900})
        self.tab.emulate_media(color_scheme=scheme, media=media)

    def without_colour(self, wanted: bool = True) -> None:
        """See the page as somebody does who sees no colour."""
        kind = "achromatopsia" if wanted else "none"
        session = self.tab.context.new_cdp_session(self.tab)
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": kind})


@contextmanager
def browser() -> Iterator[Any]:
    """A browser without a window; see `missing` first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable(), args=list(_FLAGS))
        try:
            yield found
        finally:
            found.close()


def loading(page: Page) -> list[str]:
    """Requests beside the page itself, and what the console or a script complained of, in light and dark."""
    for scheme in SCHEMES:
        page.show(scheme=scheme)
        page.tab.reload()
    return [url for url in page.requests if url != page.address] + page.complaints


def cut_off(page: Page) -> list[str]:
    """What sticks out of windows of all widths, is cut off, or overlaps."""
    found = []
    for width in WIDTHS:
        page.show(width=width)
        found += [f"{width} px: {what}" for what in page.ask("cut")]
    return found


def cut_on_paper(page: Page) -> list[str]:
    """The same of the printed page, where nothing can be scrolled or unfolded."""
    page.show(width=PAPER, media="print")
    return page.ask("cut")


def faint(page: Page) -> list[str]:
    """Texts and curves whose contrast is below what WCAG 2.2 AA asks: 4.5, of large text and of curves 3."""
    found = []
    for scheme in SCHEMES:
        page.show(scheme=scheme)
        things = [(text["text"], text["ratio"], text["needed"]) for text in page.ask("contrast")]
        things += [(one["id"], one["contrast"], 3) for figure in page.ask("figures") for one in figure]
        found += [
            f"{scheme}: {what}, {ratio:.2f} of {needed}" for what, ratio, needed in things if ratio < needed
        ]
    return found


def told_by_colour(page: Page) -> list[str]:
    """Series, tokens of the sentence and links that only colour tells apart."""
    page.show()
    return page.ask("colourless")


def without_glyph(page: Page) -> list[str]:
    """Characters that this machine has no font for."""
    page.show()
    return page.ask("glyphs")["missing"]


def misdirected(page: Page) -> list[str]:
    """Texts that do not run in the direction of their first letter, or do not begin at that side."""
    page.show()
    found = []
    for text in page.ask("directions"):
        strong = next((kind for kind in map(bidirectional, text["text"]) if kind in ("L", "R", "AL")), "L")
        wanted, gap = ("ltr", text["left"]) if strong == "L" else ("rtl", text["right"])
        if text["direction"] != wanted or abs(gap) > 2:
            found.append(f"{text['text']}: {text['direction']}, begins {gap:.0f} px from the edge")
    return found


def unstructured(page: Page) -> list[str]:
    """What a screen reader would miss: the language, a title, one h1, headings in order, names of figures."""
    built = page.ask("structure")
    found = [f"without a name: {what}" for what in built["unnamed"]]
    found += [f"no {what}" for what in ("lang", "title") if not built[what]]
    levels = [level for level, _ in built["headings"]]
    if levels.count(1) != 1:
        found.append(f"{levels.count(1)} headings of the first level")
    found += [
        f"h{level} after h{before}: {text}"
        for before, (level, text) in zip([0, *levels], built["headings"])
        if level > before + 1
    ]
    return found


def unfocused(page: Page) -> list[str]:
    """What can be reached with the keyboard without a sign of it."""
    page.show()
    return page.ask("unfocused")


#: Each gives what is wrong with a page, so that nothing is well.
CHECKS: dict[str, Callable[[Page], list[str]]] = {
    "loading": loading,
    "cut_off": cut_off,
    "cut_on_paper": cut_on_paper,
    "faint": faint,
    "told_by_colour": told_by_colour,
    "without_glyph": without_glyph,
    "misdirected": misdirected,
    "unstructured": unstructured,
    "unfocused": unfocused,
}
