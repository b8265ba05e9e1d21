"""Matplotlib's figures as inline SVG that belongs to the page: its font, its colours in light and dark, text as text.

Matplotlib draws with stand-in colours, which are exchanged for ``currentColor`` and CSS variables afterwards.
It is imported inside the functions (about a second).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from fastvocab import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT, GRID, FIRST, SECOND, THIRD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
#: Stand-in colours and what the page calls them. ``var()`` works in style attributes, as matplotlib writes.
_COLOURS = {
    TEXT: "currentColor",
    GRID: "var(--line)",
    FIRST: "var(--series-1)",
    SECOND: "var(--series-2)",
    THIRD: "var(--series-3)",
}
_PLACED, _LONG = re.compile(r' (?:x|y|d|transform)="[^"]*"'), re.compile(r"(\d\.\d\d)\d+")
_USE = r'\s*<use href="{}" x="[-\d.]+" y="[-\d.]+" style="{}"/>'
#: Marks of one look one after the other.
_ALIKE = re.compile(_USE.format(r"(#[\w-]+)", r'([^"]*)') + "(?:" + _USE.format(r"\1", r"\2") + ")+")
_STYLE = re.compile(r'(?<=") style="[^"]*"(?=/>)')
#: Width in inches: at 72 points each it fills a phone's screen with text that is still readable.
_WIDTH = 4.4
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with $ in it is a name
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": TEXT,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}


@contextmanager
def drawing(name: str, **settings: Any) -> Iterator[None]:
    """Inside, matplotlib draws for the page.

    Args:
        name: of the figure, unique on the page: makes ids unique and repeatable.
        settings: of matplotlib, beside those of every figure.
    """
    with console.quiet():  # the first import builds a font cache and says so
        from matplotlib import rc_context

    # glyphs that matplotlib's own font lacks: the browser draws the text, with its fonts
    every: Any = {**_SETTINGS, "svg.hashsalt": name, **settings}  # matplotlib's stubs spell out every key
    with rc_context(every), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def axes(height: float) -> tuple[Figure, Any]:
    """An empty figure of so many inches of height, and its axes."""
    from matplotlib.figure import Figure

    # without pyplot: no window system is asked for, and nothing global keeps the figure alive
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def svg_of(figure: Figure, name: str) -> str:
    """The ``<svg>`` element of a finished figure."""
    buffer = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # inline SVG needs no namespaces; its style rule would apply to the whole page (the template has it)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*</defs>", "", svg)
    svg = re.sub(r' font-family: [^;"]*;?', "", svg)
    svg = svg.replace("xlink:href", "href")
    # ids such as axes_1 would come once for each figure of the page: keep those that something points to
    wanted = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in wanted else "", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'aria-hidden="true"', svg, count=1)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    # a hundredth of a point is less than a pixel, and points of one look say it once: two clouds 400 kB, then 130
    svg = _PLACED.sub(lambda m: _LONG.sub(r"\1", m[0]), svg)
    svg = _ALIKE.sub(lambda m: f'\n<g style="{m[2]}">{_STYLE.sub("", m[0])}\n</g>', svg)
    return svg.strip()


class Drawing(NamedTuple):
    """A figure of the page.

    Attributes:
        svg: the element, which the templates do not escape.
        label: what it shows and comes to, in words: its caption, and all of it for those who do not see it.
        note: more, for the caption; may be empty.
    """

    svg: Markup
    label: str
    note: str = ""


def drawn(svg: str, label: str, note: str = "") -> Drawing:
    """Our own SVG with its words."""
    return Drawing(Markup(svg), label, note)
