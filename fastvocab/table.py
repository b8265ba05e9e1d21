"""What a run came to, for people: the sentences and the table before and after.

The same for the end of a run, the report and the model card.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastvocab import facts, outcome, tokens
from fastvocab.facts import Records
from fastvocab.numbers import ABSENT, count, duration, is_number, joined, number, ratio


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
    """What was made, in two or three sentences, and one of how it compares where there was a control."""
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
    out += tokens.sentences(records)
    if compared := outcome.verdict(records):
        out.append(compared)
    return out


def _made(records: Records) -> str:
    model, code, rows = facts.base(records), facts.language(records), facts.vocabulary(records)
    subject = model.title if model else "A model"
    if facts.recipe(records) != "new_language":
        return tokens.made(records, subject, rows)
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
    if (chat := facts.chat_vector(records)) is not None:
        parts.append(f"what sets {chat.title} apart from the base added to it")
    measured = list(facts.line(records).values())
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
    """The figures at each point of the line: base, extend, pretrain, instruct, then those of other ways.

    Before the evaluation, what tokenizer and extend stage know is shown for ``base`` and ``extend``.

    Args:
        records: finished stages by name.

    Returns:
        (columns, rows). Columns are points and leave the labels' own column out; rows without a single value
        are left out; both are empty where nothing has been measured. Notes are of the run's own line.
    """
    points = facts.points(records)
    columns = list(points) or ["base", "extend"]
    language = facts.language(records) or "new language"
    rows = [
        _fertility(records, points, columns, language),
        _bits(points, f"bits per byte, {language}", "target", "lower is better; the same bytes for each"),
        _interval(points, f"95% interval, {language}", "target"),
        _bits(points, "bits per byte, original language", "original", _spelling(points)),
        _forgetting(points),
        _steps(points, f"decode steps, {language}"),
        _decode_time(points, f"decode time, {language}"),
        _used(points, f"new tokens that occur, {language}"),
        _generated(points),
        *(Row(*row) for row in tokens.rows(records, points)),
        *_vocabulary(records, columns),
        *_tasks(records, columns),
    ]
    rows = [row for row in rows if any(cell != ABSENT for cell in row.cells)]
    return (columns, rows) if rows else ([], [])


def _cells(values: list[float | None], form: Callable[[float], str]) -> tuple[str, ...]:
    return tuple(ABSENT if value is None else form(value) for value in values)


def _own(points: dict[str, Any]) -> list[Any]:
    """The points of the run's own line."""
    return [point for name, point in points.items() if name not in facts.OTHER_WAYS]


def _ends(points: dict[str, Any], *keys: str) -> tuple[float, float] | None:
    """First and last value of the run's own line, where the first point has one and a later one too."""
    first, *later = [number(point, *keys) for point in _own(points)] or [None]
    found = [value for value in later if value is not None]
    return (first, found[-1]) if first is not None and found else None


def _fewer(ends: tuple[float, float] | None) -> str:
    if ends is None or not ends[1]:
        return ""
    first, last = ends
    if last == first:
        return "unchanged"
    return ratio(first, last) if last < first else f"{last / max(first, 1e-9):.2f} times as many"


def _fertility(records: Records, points: dict[str, Any], columns: list[str], language: str) -> Row:
    gain = facts.fertility(records)
    key = f"tokens_per_{gain.unit if gain else 'word'}"
    values = [number(p, "target", key) for p in points.values()]
    ends = _ends(points, "target", key)
    if gain is not None and not any(values):
        # measured on the tokenizers alone: a point has the one or the other
        values = [gain.before if column in facts.UNEXTENDED else gain.after for column in columns]
        ends = (gain.before, gain.after)
    return Row(
        f"tokens per {gain.unit if gain else 'word'}, {language}",
        _cells(values, "{:.2f}".format),
        _fewer(ends),
    )


def _bits(points: dict[str, Any], label: str, part: str, hint: str) -> Row:
    values = [number(p, part, "bits_per_byte") for p in points.values()]
    notes = [hint] if hint else []
    if ends := _ends(points, part, "bits_per_byte"):
        first, last = ends
        notes.insert(0, f"{(last - first) / first:+.1%}" if first else "")
    return Row(label, _cells(values, "{:.3f}".format), "; ".join(filter(None, notes)))


def _interval(points: dict[str, Any], label: str, part: str) -> Row:
    """Where bits per byte lie with other documents of the same kind."""
    cells = []
    for point in points.values():
        ends = (point.get(part) or {}).get("interval")
        cells.append(f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ABSENT)
    return Row(label, tuple(cells), _documents(points, part))


def _documents(points: dict[str, Any], part: str) -> str:
    """From how many documents, and whether they are enough."""
    found: Any = next((p.get(part) for p in points.values() if p.get(part)), None) or {}
    documents = number(found, "documents")
    if documents is None:
        return ""
    return f"over {count(documents)} documents" + (
        ": too few to be trusted" if found.get("too_few_documents") else ""
    )


def _forgetting(points: dict[str, Any]) -> Row:
    values = [number(p, "forgetting_percent", "percent") for p in points.values()]
    last: Any = next(
        (p["forgetting_percent"] for p in reversed(_own(points)) if p.get("forgetting_percent")), {}
    )
    low, high = number(last, "low"), number(last, "high")
    notes = [f"at the end, 95%: {low:+.1f}% to {high:+.1f}%"] if low is not None and high is not None else []
    return Row(
        "change of the original language",
        _cells(values, "{:+.1f}%".format),
        ", ".join(filter(None, [*notes, _documents(points, "original")])) if any(values) else "",
    )


def _decode_time(points: dict[str, Any], label: str) -> Row:
    values = [number(p, "decoding", "seconds") for p in points.values()]
    ends = _ends(points, "decoding", "seconds")
    faster = f"{ends[0] / ends[1]:.2f} times as fast; " if ends and ends[1] else ""
    return Row(label, _cells(values, duration), f"{faster}a measured step times the steps")


def _used(points: dict[str, Any], label: str) -> Row:
    values = [number(p, "target", "new_tokens", "used_share") for p in points.values()]
    shares = [number(p, "target", "new_tokens", "share_of_tokens") for p in _own(points)]
    last = next((share for share in reversed(shares) if share is not None), None)
    return Row(
        label,
        _cells(values, "{:.0%}".format),
        f"they are {last:.0%} of its tokens" if last is not None else "",
    )


def _generated(points: dict[str, Any]) -> Row:
    values = [number(p, "generation", "new_share") for p in points.values()]
    return Row("new tokens in the samples", _cells(values, "{:.0%}".format), "of all tokens that it wrote")


def _spelling(points: dict[str, Any]) -> str:
    """Whether the original language is still spelled in as many tokens as before."""
    ends = _ends(points, "original", "tokens")
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
    fewer = _fewer(_ends(points, "target", "tokens"))
    return Row(label, _cells(values, count), "; ".join(filter(None, (fewer, text))))


def _vocabulary(records: Records, columns: list[str]) -> list[Row]:
    known = facts.vocabulary(records)
    plain = number(facts.figures(records, "evaluate"), "control", "arms", "plain", "added_tokens")

    def row(label: str, before: str, after: str, note: str) -> Row:
        names = [before if column in facts.UNEXTENDED else after for column in columns]
        values: list[float | None] = [
            None if column in facts.NO_MODELS else known.get(name) for column, name in zip(columns, names)
        ]
        if "plain" in columns:  # what could be added as text, each with a row
            base = known.get(before)
            values[columns.index("plain")] = base + plain if base is not None and plain is not None else None
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


def _tasks(records: Records, columns: list[str]) -> list[Row]:
    """A row for each metric of each lm-eval task."""
    measured: dict[str, Any] = facts.figures(records, "evaluate").get("tasks") or {}
    names = dict.fromkeys(
        (t, m) for found in measured.values() for t, metrics in found.items() for m in metrics
    )
    rows = []
    for task, metric in names:
        if "_stderr" in metric:
            continue
        values = [number(measured, column, task, metric) for column in columns]
        errors = [number(measured, column, task, f"{metric}_stderr") for column in columns]
        note = ", ".join(f"± {e:.3f}" for e in errors if e is not None)
        rows.append(
            Row(
                f"{task}, {metric}", _cells(values, "{:.3f}".format), f"standard error {note}" if note else ""
            )
        )
    return rows
