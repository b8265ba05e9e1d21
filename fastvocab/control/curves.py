"""Curves of bits per byte against time and text, and where they meet. Straight lines between the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

Axis = Literal["seconds", "bytes"]


@dataclass(frozen=True)
class Mark:
    """One measurement during a training.

    Attributes:
        seconds: since the arm began, its preparation counted in, measuring itself left out.
        bytes: of new-language text that it was trained on, repetitions counted.
        tokens: that it was trained on, replay included.
        target, original: bits per byte; ``original`` None where there is no such text.
    """

    seconds: float
    bytes: float
    tokens: int
    target: float
    original: float | None = None


Curve = Sequence[Mark]


def at(curve: Curve, place: float, axis: Axis = "seconds") -> float | None:
    """Bits per byte of the new language at a time or an amount of text; None outside the curve."""
    points = _points(curve, axis)
    if not points or not points[0][0] <= place <= points[-1][0]:
        return None
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= place <= x1:
            return y1 if x1 == x0 else y0 + (y1 - y0) * (place - x0) / (x1 - x0)
    return points[0][1]


def crossover(ours: Curve, other: Curve) -> float | None:
    """The first second at which ``ours`` is at or below ``other``, of those that both have; None if there is none."""
    if not ours or not other:
        return None
    first = max(ours[0].seconds, other[0].seconds)
    last = min(ours[-1].seconds, other[-1].seconds)
    places = sorted({first, last, *(m.seconds for m in (*ours, *other) if first <= m.seconds <= last)})
    before: tuple[float, float] | None = None
    for place in places:
        mine, its = at(ours, place), at(other, place)
        if mine is None or its is None:
            return None
        apart = mine - its
        if apart <= 0:
            if before is None:
                return place
            x, y = before
            return x + (place - x) * y / (y - apart)
        before = (place, apart)
    return None


def reaches(curve: Curve, value: float) -> float | None:
    """The first second at which a curve is at or below ``value`` bits per byte; None if it never is."""
    before: Mark | None = None
    for mark in curve:
        if mark.target <= value:
            if before is None or before.target == mark.target:
                return mark.seconds
            share = (before.target - value) / (before.target - mark.target)
            return before.seconds + share * (mark.seconds - before.seconds)
        before = mark
    return None


def beside(curves: Mapping[str, Curve], axis: Axis) -> list[dict[str, Any]]:
    """All curves at the marks of the first of them, and where others end before it does.

    Returns:
        ``{axis: place, name: bits per byte...}``, in order; None where a curve does not reach.
    """
    spans = [[x for x, _ in _points(curve, axis)] for curve in curves.values()]
    if not spans or not spans[0]:
        return []
    first, last = spans[0][0], spans[0][-1]
    places = sorted({*spans[0], *(span[-1] for span in spans if span and first <= span[-1] <= last)})
    return [
        {axis: place, **{name: at(curve, place, axis) for name, curve in curves.items()}} for place in places
    ]


def _points(curve: Curve, axis: Axis) -> list[tuple[float, float]]:
    return [(getattr(mark, axis), mark.target) for mark in curve]
