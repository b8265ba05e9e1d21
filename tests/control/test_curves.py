"""Where curves meet: cases drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvocab.control import curves
from fastvocab.control.curves import Mark


def _curve(*points: tuple[float, float], speed: float = 100.0) -> list[Mark]:
    """(seconds, bits per byte), with ``speed`` bytes a second from the first mark on."""
    return [Mark(s, speed * (s - points[0][0]), int(s), b) for s, b in points]


def test_the_crossover_lies_on_both_lines() -> None:
    ours, other = _curve((20, 2.0), (60, 1.0)), _curve((0, 1.8), (60, 1.2))
    # 2.0 - (t - 20) / 40 = 1.8 - t / 100  =>  t = 700 / 1.5 / 10
    assert curves.crossover(ours, other) == pytest.approx(140 / 3)
    place = curves.crossover(ours, other)
    assert place is not None and curves.at(ours, place) == pytest.approx(curves.at(other, place))


def test_ahead_from_the_first_moment_and_never_ahead() -> None:
    assert curves.crossover(_curve((20, 1.0), (60, 0.9)), _curve((0, 1.8), (60, 1.2))) == 20
    assert curves.crossover(_curve((20, 2.0), (60, 1.5)), _curve((0, 1.8), (60, 1.2))) is None
    assert curves.crossover([], _curve((0, 1.0))) is None
    assert curves.crossover(_curve((50, 1.0), (60, 0.5)), _curve((0, 2.0), (40, 1.0))) is None, (
        "no time in common"
    )


def test_a_lead_that_is_lost_again_was_a_crossover() -> None:
    ours, other = _curve((0, 2.0), (10, 1.0), (20, 1.0)), _curve((0, 1.5), (20, 0.5))
    assert curves.crossover(ours, other) == pytest.approx(10.0)  # 2 - t/10 = 1.5 - t/20


def test_reaching_a_value() -> None:
    falling = _curve((10, 2.0), (20, 1.0), (30, 0.5))
    assert curves.reaches(falling, 1.5) == 15 and curves.reaches(falling, 0.75) == 25
    assert curves.reaches(falling, 2.5) == 10 and curves.reaches(falling, 0.4) is None
    assert curves.reaches(_curve((0, 1.0), (5, 1.2), (10, 0.8)), 0.9) == pytest.approx(8.75)


def test_side_by_side_at_the_marks_of_the_first() -> None:
    ours, other = _curve((20, 2.0), (40, 1.5), (60, 1.0), speed=300), _curve((0, 1.8), (50, 1.3))
    by_time = curves.beside({"extended": ours, "control": other}, "seconds")
    assert [row["seconds"] for row in by_time] == [20, 40, 50, 60]
    assert [row["extended"] for row in by_time] == pytest.approx([2.0, 1.5, 1.25, 1.0])
    assert [row["control"] for row in by_time[:3]] == pytest.approx([1.6, 1.4, 1.3])
    assert by_time[3]["control"] is None, "nothing is said where nothing was measured"
    by_bytes = curves.beside({"extended": ours, "control": other}, "bytes")
    assert [row["bytes"] for row in by_bytes] == [0, 5000, 6000, 12000]
    assert by_bytes[1]["extended"] == pytest.approx(2.0 - 0.5 * 5000 / 6000)
    assert [row["control"] for row in by_bytes] == [1.8, pytest.approx(1.3), None, None]
    assert curves.beside({"extended": [], "control": other}, "seconds") == []


@given(
    st.lists(st.floats(0.5, 3), min_size=2, max_size=8), st.lists(st.floats(0.5, 3), min_size=2, max_size=8)
)
def test_before_the_crossover_the_other_is_ahead(mine: list[float], its: list[float]) -> None:
    ours = _curve(*((7.0 * i, y) for i, y in enumerate(mine)))
    other = _curve(*((5.0 * i, y) for i, y in enumerate(its)))
    end = min(ours[-1].seconds, other[-1].seconds)
    place = curves.crossover(ours, other)
    x = np.linspace(0, end, 400)
    apart = np.interp(x, [m.seconds for m in ours], mine) - np.interp(x, [m.seconds for m in other], its)
    if place is None:
        assert (apart > -1e-9).all()
    else:
        assert (apart[x < place - 1e-9] > -1e-9).all() and 0 <= place <= end
