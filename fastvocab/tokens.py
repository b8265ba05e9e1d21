"""What named tokens came to, in words and in figures: tags of replies, and items that are recommended.

For `fastvocab.table`, and so for the console, the report and the model card.
"""

from __future__ import annotations

from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import ABSENT, count, joined, number

#: What others recommend, as people are told of it.
_OTHERS = {
    "popularity": "the most popular",
    "cooccurrence": "what goes with the last item",
    "sasrec": "SASRec",
}


def sentences(records: Records) -> list[str]:
    """What cloning a row came to, how replies are, and how recommendations are; each where it was measured."""
    return [said for said in (_cloned(records), _replied(records), _recommended(records)) if said]


def rows(records: Records, points: dict[str, Any]) -> list[tuple[str, tuple[str, ...], str]]:
    """Rows of the table, each (label, cells, note); those without a single value are for the caller to leave out."""
    return [*_recommendations(points), *_replies(points), *_tags(points), *_pieces(records, points)]


def _pieces(records: Records, points: dict[str, Any]) -> list[tuple[str, tuple[str, ...], str]]:
    """How many tokens the named ones are, one after the other, and how large the matrices are."""
    tokens, sizes = facts.named(records), facts.figures(records, "extend")
    if not tokens or facts.items(records):
        return []
    before, after = (str(sum(int(one["pieces_before"]) for one in tokens)), str(len(tokens)))
    cells = tuple(before if name in facts.UNEXTENDED else after for name in points)
    out = [("tokens of all named ones", cells, "".join(str(one["token"]) for one in tokens[:6]))]
    if width := number(sizes, "width"):
        shapes = tuple(
            f"{count(sizes['base_rows' if name in facts.UNEXTENDED else 'rows'])} x {width:.0f}"
            for name in points
        )
        out.append(
            ("embedding and head", shapes, "one matrix (tied)" if sizes.get("tied") else "two matrices")
        )
    return out


def _own(points: dict[str, Any]) -> list[Any]:
    return [point for name, point in points.items() if name not in facts.OTHER_WAYS]


def _cells(points: dict[str, Any], form: str, *keys: str) -> tuple[str, ...]:
    values = [number(point, *keys) for point in points.values()]
    return tuple(ABSENT if value is None else f"{value:{form}}" for value in values)


def _recommended(records: Records) -> str | None:
    """Recall of the model beside that of others."""
    measured = facts.points(records)
    own = [point["recommendations"] for point in _own(measured) if point.get("recommendations")]
    if not own:
        return None
    found = facts.figures(records, "evaluate")
    key = f"recall@{found['top']}"
    value = own[-1][key]
    beside = [
        f"{label} {measured[name]['recommendations'][key]['value']:.1%}"
        for name, label in _OTHERS.items()
        if name in measured
    ]
    trained = found.get("sasrec") or {}
    how = (
        f" (SASRec was trained for {trained['seconds'] / 60:.1f} minutes, {trained['epochs']} epochs)"
        if trained
        else ""
    )
    return (
        f"For {count(found['users'])} users the item that they took next is among the {found['top']} recommended, of "
        f"all {count(facts.items(records).get('items', 0))}, in {value['value']:.1%} of cases (95%: "
        f"{value['low']:.1%} to {value['high']:.1%}); {joined(beside)}{how}."
    )


def _recommendations(points: dict[str, Any]) -> list[tuple[str, tuple[str, ...], str]]:
    keys = dict.fromkeys(
        key for point in points.values() for key in point.get("recommendations") or () if "@" in key
    )
    out = []
    for key in keys:
        name, _, top = key.partition("@")
        label = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR"}.get(name, name)
        out.append(
            (f"{label}@{top}", _cells(points, ".3f", "recommendations", key, "value"), _span(points, key))
        )
    return out


def _span(points: dict[str, Any], key: str) -> str:
    own = [point["recommendations"][key] for point in _own(points) if point.get("recommendations")]
    return f"95% of the model's: {own[-1]['low']:.3f} to {own[-1]['high']:.3f}" if own else ""


def made(records: Records, subject: str, rows: dict[str, int]) -> str:
    """What was made where tokens were named."""
    tokens = facts.named(records)
    new = [one for one in tokens if not one.get("was_there")]
    known = facts.items(records)
    if known:
        given = f"{count(len(new))} tokens for {count(known['items'])} items, {known['levels']} to an item"
    else:
        shown = joined(str(one["token"]) for one in tokens[:6]) + (", ..." if len(tokens) > 6 else "")
        given = f"{count(len(new))} tokens ({shown})" if new else f"no new token: it has {shown} already"
    before = sum(int(one.get("pieces_before") or 0) for one in tokens)
    pieces = (
        f" They were {count(before)} tokens before and are {count(len(tokens))} now." if not known else ""
    )
    place = ""
    if rows:
        grown = rows["base_tokens"] != rows["tokens"]
        place = (
            f"; its vocabulary grew from {count(rows['base_tokens'])} to {count(rows['tokens'])} tokens, its matrix "
            f"from {count(rows['base_rows'])} to {count(rows['rows'])} rows"
            if grown
            else f"; its {count(rows['rows'])} rows are as many as before"
        )
    return f"{subject} was given {given}{place}.{pieces}"


def _cloned(records: Records) -> str | None:
    """What cloning a row came to before training: p / (1 + n p) for the token and each of its n clones."""
    for point in facts.points(records).values():
        for found in (point.get("tags") or {}).get("references") or ():
            tags = found.get("tags")
            if tags and point is facts.points(records).get("extend"):
                apart = max(abs(value - found["expected"]) for value in (*tags.values(), found["now"]))
                return (
                    f"Where the token that their rows are clones of had probability {found['before']:.6f}, "
                    f"it and its {len(tags)} clones had {found['expected']:.6f} each before training "
                    f"(p / (1 + {len(tags)} p), {f'to {apart:.0e}' if apart else 'exactly'})."
                )
    return None


def _replied(records: Records) -> str | None:
    """How many replies are laid out as they should be, and how many are right."""
    measured = facts.points(records)
    own = [
        point["replies"]
        for name, point in measured.items()
        if name not in facts.OTHER_WAYS and "replies" in point
    ]
    if not own:
        return None
    last, first = own[-1], own[0]
    text = (
        f"Of {count(last['questions'])} replies to held-out questions {last['well_formed']:.0%} are well-formed"
        + (f" ({first['well_formed']:.0%} before)" if len(own) > 1 else "")
        + f", and {last['right']:.0%} are right (95%: {' to '.join(f'{end:.0%}' for end in last['right_interval'])})"
    )
    if other := (measured.get("control") or {}).get("replies"):
        low, high = other["right_interval"]
        text += f"; after the same training without the tags {other['right']:.0%} ({low:.0%} to {high:.0%})"
    return text + "."


def _replies(points: dict[str, Any]) -> list[tuple[str, tuple[str, ...], str]]:
    shares = (("well_formed", "well-formed replies"), ("right", "right answers"))
    return [(label, _cells(points, ".0%", "replies", key), _share_note(points, key)) for key, label in shares]


def _share_note(points: dict[str, Any], key: str) -> str:
    found = [point["replies"] for point in _own(points) if point.get("replies")]
    if not found:
        return ""
    low, high = found[-1][f"{key}_interval"]
    return f"of {count(found[-1]['questions'])} held-out questions; at the end, 95%: {low:.0%} to {high:.0%}"


def _tags(points: dict[str, Any]) -> list[tuple[str, tuple[str, ...], str]]:
    """Probability of each tag at the start of a reply."""
    named = dict.fromkeys(tag for p in points.values() for tag in (p.get("tags") or {}).get("at_reply") or ())
    return [
        (f"p({tag}) at a reply's start", _cells(points, ".2g", "tags", "at_reply", tag), "")
        for tag in list(named)[:8]
    ]
