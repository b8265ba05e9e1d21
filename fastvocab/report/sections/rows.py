"""The new rows of the embedding matrix among the old ones, before training and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import ABSENT, count, is_number, number
from fastvocab.report import plots
from fastvocab.report.svg import drawn

#: Share of the points at either end of an axis that do not decide how far it reaches.
_OUTSIDE = 0.005


def section(records: Records) -> dict[str, Any] | None:
    """Both clouds and what they come to; None where the evaluation left no view."""
    found = facts.figures(records, "evaluate").get("rows_view")
    if not isinstance(found, Mapping):
        return None
    places = {
        (who, when): _places(found.get(who), when) for who in ("old", "new") for when in ("before", "after")
    }
    if not places["old", "before"] or not places["new", "before"]:
        return None
    # old rows that did not change are where they were
    places["old", "after"] = places["old", "after"] or places["old", "before"]
    limits = _limits([place for some in places.values() for place in some])
    moments = [("before", "before training")]
    if places["new", "after"]:
        moments.append(("after", f"after {found.get('last') or 'training'}"))
    matrix = "Input embeddings, which are the head as well" if found.get("tied") else (
        "Input embeddings; the head has a matrix of its own, which is not shown"
    )  # fmt: skip
    drawings = []
    for index, (when, words) in enumerate(moments):
        old, new = places["old", when], places["new", when]
        outside = sum(not _inside(place, limits) for place in (*old, *new))
        note = f"{count(outside)} of them lie outside of the axes." if outside else ""
        drawings.append(
            drawn(
                plots.clouds(f"rows-{when}", old, new, limits=limits),
                f"{_of(new, found, 'new')} new rows among {_of(old, found, 'old')} old ones, {words}"
                f"{_held(found, index)}",
                note,
            )
        )
    return {"matrix": matrix, "width": number(found, "width"), "drawings": drawings, "rows": _rows(found),
            "columns": [words for _, words in moments]}  # fmt: skip


def _places(group: Any, when: str) -> list[tuple[float, float]]:
    pairs = group.get(when) if isinstance(group, Mapping) else None
    return [
        (pair[0], pair[1])
        for pair in pairs or ()
        if isinstance(pair, Sequence) and len(pair) == 2 and all(map(is_number, pair))
    ]


def _of(places: Sequence[Any], found: Mapping[str, Any], who: str) -> str:
    """How many are drawn, and of how many."""
    every = number(found.get(who), "rows") or 0
    return count(len(places)) + (f" of {count(every)}" if every > len(places) else "")


def _held(found: Mapping[str, Any], index: int) -> str:
    """The share of the variance that both axes hold."""
    shares = []
    for who in ("old", "new"):
        known = (found.get(who) or {}).get("variance") or []
        share = known[min(index, len(known) - 1)] if known else None
        if is_number(share):
            shares.append(f"{share:.0%} of the variance of the {who} ones")
    return f"; both axes together hold {' and '.join(shares)}" if shares else ""


def _rows(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Lengths before and after, and how far rows turned."""
    out = []
    for who in ("old", "new"):
        group = found.get(who) or {}
        norms = [f"{value:#.3g}" if is_number(value) else ABSENT for value in group.get("norm") or ()]
        if norms:
            out.append((f"mean length of all {count(number(group, 'rows') or 0)} {who} rows", norms))
    for who in ("old", "new"):
        group = found.get(who) or {}
        changed, cosine = number(group, "changed"), number(group, "cosine")
        if changed is not None:
            out.append((f"{who} rows that training changed", ["", count(changed)]))
        if changed and cosine is not None:
            out.append((f"mean cosine of the {who} rows with themselves before", ["", f"{cosine:.4g}"]))
    return out


def _limits(places: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    ends = []
    for values in zip(*places):
        ordered = sorted(values)
        cut = int(_OUTSIDE * len(ordered))
        low, high = ordered[cut], ordered[-1 - cut]
        margin = 0.05 * (high - low) or 1.0
        ends += [low - margin, high + margin]
    left, right, bottom, top = ends
    return left, right, bottom, top


def _inside(place: tuple[float, float], limits: tuple[float, float, float, float]) -> bool:
    left, right, bottom, top = limits
    return left <= place[0] <= right and bottom <= place[1] <= top
