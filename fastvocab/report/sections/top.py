"""What was made: at most three sentences, and the table before and after."""

from __future__ import annotations

from typing import Any

from fastvocab import facts, outcome, table
from fastvocab.facts import Records
from fastvocab.report.sections.texts import POINTS

_SENTENCES = 3


def section(records: Records, name: str) -> dict[str, Any]:
    """The head of the page."""
    columns, rows = table.table(records)
    first, rest = sentences(records)
    return {
        "name": name,
        "sentences": first,
        "more": rest,
        "unfinished": facts.unfinished(records),
        "columns": [(column, POINTS.get(column, "")) for column in columns],
        "own": sum(column not in facts.OTHER_WAYS for column in columns),
        "rows": rows,
    }


def sentences(records: Records) -> tuple[list[str], list[str]]:
    """The three sentences that say most, and the others.

    The last is what it came to: the comparison with a control, replies or recommendations; it counts for more than
    how long the training was. What a verdict adds, such as when one came below the other, follows with the rest.
    """
    said, verdict = table.sentences(records), outcome.verdict(records)
    rest: list[str] = []
    if verdict is not None and said[-1] == verdict:
        compared, _, detail = verdict.partition(". ")
        said[-1] = f"{compared.rstrip('.')}."
        rest = [detail] if detail else []
    if len(said) <= _SENTENCES:
        return said, rest
    return [*said[: _SENTENCES - 1], said[-1]], [*said[_SENTENCES - 1 : -1], *rest]
