"""The kinds of figures that a page has: curves, bars, a histogram, and clouds of points.

Whatever is told apart by colour is told apart by dashes or by the shape of marks as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, pairwise
from typing import Any, NamedTuple

from fastvocab.report.svg import FIRST, GRID, SECOND, TEXT, THIRD, axes, drawing, svg_of

#: A longer log is averaged into so many points: more than a screen has pixels for, and megabytes of SVG.
_MOST_POINTS = 300
_COLOURS = (FIRST, SECOND, THIRD)
#: (dashes, mark) of each curve; with more curves than these the looks come round again.
_STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ("-", "v"), ("--", "P"))
#: Names of curves in a row above the figure, by characters.
_LEGEND = 58

#: Place of a mark on a figure and what is written beside it.
Mark = tuple[float, float, str]
Places = Sequence[Sequence[float]]


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
    from_zero: bool = False,
    chosen: Mark | None = None,
) -> str:
    """Curves over a common axis.

    Args:
        name: unique on the page.
        curves: non-empty curves.
        marked: draw each point, where there are few.
        smooth: draw the points thin and a running mean of a tenth of them over it.
        scientific: label the vertical axis as 2e-4 rather than 0.0002.
        from_zero: begin the vertical axis at 0.
        chosen: a point to be pointed out.

    Returns:
        An ``<svg>`` element.
    """
    with drawing(name):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        figure, ax = axes(2.4)
        for curve, colour, (dashes, mark) in zip(curves, cycle(_COLOURS), cycle(_STYLES)):
            x, y = zip(*_thinned(curve.points))
            many = smooth and len(y) >= 20
            ax.plot(x, y, color=colour, linestyle=dashes, linewidth=0.9 if many else 1.8, label=curve.label,
                    marker=mark if len(y) == 1 or marked else None, markersize=4 if marked else None,
                    alpha=0.75 if many else 1.0)  # fmt: skip
            if many:
                mean = _running_mean(y, max(3, len(y) // 10))
                ax.plot(x, mean, color=colour, linewidth=2.0, label="running mean")
        if chosen is not None:
            _point_out(ax, chosen)
        ax.set_xlabel(xlabel)
        ax.margins(x=0.02, y=0.08)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=not marked))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        if scientific or from_zero:
            ax.set_ylim(0, 1.08 * ax.dataLim.y1 or 1.0)
        if scientific:
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _scientific(value)))
        else:
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        labels = [line.get_label() for line in ax.lines if not str(line.get_label()).startswith("_")]
        if len(labels) > 1:
            # above the axes, where no curve can run through it
            columns = max(1, min(len(labels), _LEGEND // (max(map(len, map(str, labels))) + 6)))
            ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2,
                      columnspacing=1.2, handlelength=1.6)  # fmt: skip
        return svg_of(figure, name)


def bars(name: str, groups: Sequence[tuple[str, float, float]]) -> str:
    """Pairs of horizontal bars, before and after, each with its value written at its end.

    Args:
        name: unique on the page.
        groups: (label, before, after), topmost first.

    Returns:
        An ``<svg>`` element.
    """
    with drawing(name, **{"axes.grid": False}):
        figure, ax = axes(0.5 + 0.75 * len(groups))
        ticks, labels = [], []
        for index, (label, before, after) in enumerate(groups):
            for offset, value, when, colour in (
                (0.0, before, "before", SECOND),
                (0.9, after, "after", FIRST),
            ):
                place = index * 2.6 + offset
                ax.barh(place, value, height=0.8, color=colour)
                ax.annotate(
                    f"{value:.2f}", (value, place), xytext=(4, 0), textcoords="offset points", va="center"
                )
                ticks.append(place)
                labels.append(f"{label}, {when}" if label else when)
        ax.set_yticks(ticks, labels)
        ax.tick_params(left=False, bottom=False, labelbottom=False)
        ax.spines["bottom"].set_visible(False)
        ax.invert_yaxis()
        ax.set_xlim(0, 1.15 * max(max(before, after) for _, before, after in groups))
        return svg_of(figure, name)


def histogram(name: str, columns: Sequence[tuple[str, int]], *, xlabel: str) -> str:
    """Columns beside each other, each with its number over it, rounded from a thousand on.

    Args:
        name: unique on the page.
        columns: (label, number), leftmost first.

    Returns:
        An ``<svg>`` element.
    """
    with drawing(name, **{"axes.grid": False}):
        figure, ax = axes(2.4)
        places = range(len(columns))
        ax.bar(places, [number for _, number in columns], width=0.8, color=FIRST)
        for place, (_, number) in zip(places, columns):
            ax.annotate(_short(number), (place, number), xytext=(0, 3), textcoords="offset points", ha="center",
                        fontsize=9)  # fmt: skip
        ax.set_xticks(places, [label for label, _ in columns])
        ax.set_xlabel(xlabel)
        ax.tick_params(left=False, bottom=False, labelleft=False)
        ax.spines["left"].set_visible(False)
        ax.margins(y=0.12)
        return svg_of(figure, name)


def clouds(name: str, old: Places, new: Places, *, limits: tuple[float, float, float, float]) -> str:
    """Two clouds of points over each other: old ones as dots, new ones as crosses.

    Args:
        name: unique on the page.
        old, new: (x, y) of each point.
        limits: left, right, bottom, top of the axes; what lies outside is cut off.

    Returns:
        An ``<svg>`` element.
    """
    left, right, bottom, top = limits
    with drawing(name):
        figure, ax = axes(3.4)
        for places, colour, mark, size, label in (
            (old, SECOND, "o", 2.2, "old rows"),
            (new, FIRST, "x", 4.0, "new rows"),
        ):
            inside = [(x, y) for x, y in places if left <= x <= right and bottom <= y <= top]
            if inside:
                x, y = zip(*inside)
                ax.plot(
                    x, y, mark, color=colour, markersize=size, markeredgewidth=0.9, label=label, alpha=0.75
                )
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)
        ax.set_xlabel("first axis")
        ax.set_ylabel("second axis")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handletextpad=0.2)
        return svg_of(figure, name)


def _point_out(ax: Any, chosen: Mark) -> None:
    x, y, text = chosen
    ax.axvline(x, color=GRID, linewidth=1.2, label="_chosen")
    ax.plot([x], [y], "o", color=TEXT, markersize=8, fillstyle="none", markeredgewidth=1.8, label="_chosen")
    left, right = ax.get_xlim()
    side = "right" if x > (left + right) / 2 else "left"
    ax.annotate(text, (x, y), xytext=(-8 if side == "right" else 8, 10), textcoords="offset points", ha=side)


def _short(number: int) -> str:
    """At most four characters, which have room over a column: 853, 1.9k, 19k."""
    if number < 1000:
        return str(number)
    return f"{number / 1000:.1f}k" if number < 9950 else f"{number / 1000:.0f}k"


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
