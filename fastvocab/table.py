"""What a run came to, for people: the sentences and the table before and after.

The same for the end of a run, the report and the model card.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import count, duration, is_number, joined, number, ratio

#: What stands where nothing was measured.
ABSENT = "–"


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        label: what was measured.
        cells: a value for each column, `ABSENT` where there is none.
        note: how to read it, and the change from first to last; may be empty.
    """

    label: str
    cells: tuple[str, ...]
    note: str


def sentences(records: Records) -> list[str]:
    """What was made, in two or three sentences."""
    out = [_made(records)]
    if gain := facts.fertility(records):
        unit, before, after = gain
        values = f"({before:.2f} a {unit} before, {after:.2f} after)"
        out.append(
            f"The same held-out text takes {ratio(before, after)} tokens {values}: as many times fewer "
            "decode steps, and that much more text in the context."
            if after < before
            else f"The same held-out text takes no fewer tokens than before {values}."
        )
    if trained := _trained(records):
        out.append(trained)
    return out


def _made(records: Records) -> str:
    model, code, rows = facts.base(records), facts.language(records), facts.vocabulary(records)
    subject = model.title if model else "A model"
    wanted = f"the language {code}" if code else "a new language"
    if not rows.get("tokens") or not rows.get("base_tokens"):
        return f"{subject} is to be given new tokens for {wanted}."
    added = rows["tokens"] - rows["base_tokens"]
    return (
        f"{subject} was given {count(added)} new tokens for {wanted}; "
        f"its vocabulary grew from {count(rows['base_tokens'])} to {count(rows['tokens'])} tokens."
    )


def _trained(records: Records) -> str | None:
    parts = []
    for stage, purpose in (("pretrain", "continual pretraining"), ("instruct", "instruction tuning")):
        found = facts.figures(records, stage)
        if is_number(found.get("steps")):
            tokens, seconds = number(found, "tokens"), number(found, "seconds_training")
            details = [f"{count(tokens)} tokens"] if tokens else []
            details += [duration(seconds)] if seconds is not None else []
            spent = f" ({', '.join(details)})" if details else ""
            parts.append(f"{count(found['steps'])} steps of {purpose}{spent}")
    measured = list(facts.points(records).values())
    if not parts:
        return None
    text = "It then had " + joined(parts)
    if len(measured) > 1:
        changes = [
            f"in {where} went from {first:.3f} to {last:.3f}"
            for where, part in (("the new language", "target"), ("the original one", "original"))
            if (first := number(measured[0], part, "bits_per_byte")) is not None
            and (last := number(measured[-1], part, "bits_per_byte")) is not None
        ]
        if changes:
            text += "; bits per byte (lower is better) " + joined(changes)
    return text + "."


def table(records: Records) -> tuple[list[str], list[Row]]:
    """The figures at each point of the line: base, extend, pretrain, instruct, and any other measured.

    Before the evaluation, what tokenizer and extend stage know is shown for ``base`` and ``extend``.

    Args:
        records: finished stages by name.

    Returns:
        (columns, rows). Columns are points and leave the labels' own column out; rows without a single value
        are left out; both are empty where nothing has been measured.
    """
    points = facts.points(records)
    columns = list(points) or ["base", "extend"]
    language = facts.language(records) or "new language"
    rows = [
        _fertility(records, points, columns, language),
        _bits(points, f"bits per byte, {language}", "target", "lower is better; the same bytes for each"),
        _bits(points, "bits per byte, original language", "original", _spelling(points)),
        _steps(points, f"decode steps, {language}"),
        *_vocabulary(records, columns),
    ]
    rows = [row for row in rows if any(cell != ABSENT for cell in row.cells)]
    return (columns, rows) if rows else ([], [])


def _cells(values: list[float | None], form: Callable[[float], str]) -> tuple[str, ...]:
    return tuple(ABSENT if value is None else form(value) for value in values)


def _ends(values: list[float | None]) -> tuple[float, float] | None:
    """First and last value, where the first column has one and a later one too."""
    later = [value for value in values[1:] if value is not None]
    return (values[0], later[-1]) if values and values[0] is not None and later else None


def _fewer(values: list[float | None]) -> str:
    ends = _ends(values)
    if ends is None or not ends[1]:
        return ""
    first, last = ends
    if last == first:
        return "unchanged"
    return ratio(first, last) if last < first else f"{last / max(first, 1e-9):.2f} times as many"


def _fertility(records: Records, points: dict[str, Any], columns: list[str], language: str) -> Row:
    gain = facts.fertility(records)
    unit = gain.unit if gain else "word"
    values = [number(p, "target", f"tokens_per_{unit}") for p in points.values()]
    if gain is not None and not any(values):
        # measured on the tokenizers alone: a point has the one or the other
        values = [gain.before if column in facts.UNEXTENDED else gain.after for column in columns]
    return Row(f"tokens per {unit}, {language}", _cells(values, "{:.2f}".format), _fewer(values))


def _bits(points: dict[str, Any], label: str, part: str, hint: str) -> Row:
    values = [number(p, part, "bits_per_byte") for p in points.values()]
    notes = [hint] if hint else []
    if ends := _ends(values):
        first, last = ends
        notes.insert(0, f"{(last - first) / first:+.1%}" if first else "")
    return Row(label, _cells(values, "{:.3f}".format), "; ".join(filter(None, notes)))


def _spelling(points: dict[str, Any]) -> str:
    """Whether the original language is still spelled in as many tokens as before."""
    ends = _ends([number(p, "original", "tokens") for p in points.values()])
    if ends is None:
        return ""
    first, last = ends
    return (
        f"in the same {count(first)} tokens" if first == last else f"{count(first)} tokens, now {count(last)}"
    )


def _steps(points: dict[str, Any], label: str) -> Row:
    values = [number(p, "target", "tokens") for p in points.values()]
    sizes = {number(p, "target", "bytes") for p in points.values()} - {None}
    text = f"for the same {count(max(size for size in sizes if size))} bytes" if len(sizes) == 1 else ""
    return Row(label, _cells(values, count), "; ".join(filter(None, (_fewer(values), text))))


def _vocabulary(records: Records, columns: list[str]) -> list[Row]:
    known = facts.vocabulary(records)

    def row(label: str, before: str, after: str, note: str) -> Row:
        names = [before if column in facts.UNEXTENDED else after for column in columns]
        values: list[float | None] = [known.get(name) for name in names]
        return Row(label, _cells(values, count), note)

    added = known["tokens"] - known["base_tokens"] if {"tokens", "base_tokens"} <= known.keys() else None
    rows = [
        row(
            "vocabulary, tokens",
            "base_tokens",
            "tokens",
            f"{count(added)} added" if added is not None else "",
        )
    ]
    if (known.get("base_rows"), known.get("rows")) != (known.get("base_tokens"), known.get("tokens")):
        rows.append(row("rows of the embedding matrix", "base_rows", "rows", "with padding"))
    return rows
