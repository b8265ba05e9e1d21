"""Figures as inline SVG that belong to the page: its font, its colours in light and dark, its text as text.

Matplotlib draws with stand-in colours, which are exchanged for ``currentColor`` and CSS variables afterwards.
It is imported inside the functions (about a second).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from fastvocab import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEXT, _GRID, _FIRST, _SECOND, _THIRD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
#: Stand-in colours and what the page calls them. ``var()`` works in style attributes, as matplotlib writes.
_COLOURS = {
    _TEXT: "currentColor",
    _GRID: "var(--line)",
    _FIRST: "var(--series-1)",
    _SECOND: "var(--series-2)",
    _THIRD: "var(--series-3)",
}
#: Width in inches: at 72 points each it fills a phone's screen with text that is still readable.
_WIDTH = 5.0
#: A longer log is averaged into so many points: more than a screen has pixels for, and megabytes of SVG.
_MOST_POINTS = 300

_SETTINGS: Any = {  # matplotlib's stubs spell out every key
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with $ in it is a name
    "font.size": 10,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _TEXT,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _TEXT,
    "ytick.labelcolor": _TEXT,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}


class Line(NamedTuple):
    """A curve: its name, and its points."""

    label: str
    points: list[tuple[float, float]]


def lines(
    name: str,
    curves: Sequence[Line],
    *,
    xlabel: str,
    marked: bool = False,
    smooth: bool = False,
    scientific: bool = False,
) -> str:
    """Up to three curves over a common axis, told apart by dashes as well as by colour.

    Args:
        name: unique on the page; makes ids unique and repeatable.
        curves: non-empty curves.
        marked: draw each point, where there are few.
        smooth: draw the points thin and a running mean of a tenth of them over it.
        scientific: label the vertical axis as 2e-4 rather than 0.0002.

    Returns:
        An ``<svg>`` element.
    """
    with console.quiet():  # the first import builds a font cache and says so
        from matplotlib import rc_context
        from matplotlib.ticker import FuncFormatter, MaxNLocator

    with rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure, axes = _axes(2.4)
        for curve, colour, style in zip(curves, (_FIRST, _SECOND, _THIRD), ("-", "--", ":")):
            x, y = zip(*_thinned(curve.points))
            many = smooth and len(y) >= 20
            marker = "o" if len(y) == 1 or marked else None
            axes.plot(x, y, color=colour, linestyle=style, linewidth=0.9 if many else 1.8, label=curve.label,
                      marker=marker, markersize=4 if marked else None, alpha=0.55 if many else 1.0)  # fmt: skip
            if many:
                axes.plot(
                    x,
                    _running_mean(y, max(3, len(y) // 10)),
                    color=colour,
                    linewidth=2.0,
                    label="running mean",
                )
        axes.set_xlabel(xlabel)
        axes.margins(x=0.02, y=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=not marked))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if scientific:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _scientific(value)))
        if len(axes.lines) > 1:
            # above the axes, where no curve can run through it
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(axes.lines), borderaxespad=0.2,
                        columnspacing=1.2, handlelength=1.6)  # fmt: skip
        return _svg(figure, name)


def bars(name: str, groups: Sequence[tuple[str, float, float]]) -> str:
    """Pairs of horizontal bars, before and after, each with its value written at its end.

    Args:
        name: unique on the page.
        groups: (label, before, after), topmost first.

    Returns:
        An ``<svg>`` element.
    """
    with console.quiet():
        from matplotlib import rc_context

    with rc_context({**_SETTINGS, "svg.hashsalt": name, "axes.grid": False}):
        figure, axes = _axes(0.5 + 0.75 * len(groups))
        ticks, labels = [], []
        for index, (label, before, after) in enumerate(groups):
            for offset, value, when, colour in (
                (0.0, before, "before", _SECOND),
                (0.9, after, "after", _FIRST),
            ):
                place = index * 2.6 + offset
                axes.barh(place, value, height=0.8, color=colour)
                axes.annotate(
                    f"{value:.2f}", (value, place), xytext=(4, 0), textcoords="offset points", va="center"
                )
                ticks.append(place)
                labels.append(f"{label}, {when}" if label else when)
        axes.set_yticks(ticks, labels)
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(max(before, after) for _, before, after in groups))
        return _svg(figure, name)


def _axes(height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    # without pyplot: no window system is asked for, and nothing global keeps the figure alive
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return "0" if value == 0 else f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= _MOST_POINTS:
        return points
    edges = [i * len(points) // _MOST_POINTS for i in range(_MOST_POINTS + 1)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean over a centred window, smaller at the ends so that the curve begins and ends where the data do."""
    half = width // 2
    out = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        out.append(sum(window) / len(window))
    return out


def _svg(figure: Figure, name: str) -> str:
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
    return svg.strip()
