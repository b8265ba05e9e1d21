"""The arms beside each other: sentences, table and curves."""

from __future__ import annotations

from typing import Any

from fastvocab import outcome
from fastvocab.facts import Records
from fastvocab.numbers import joined
from fastvocab.report import plots
from fastvocab.report.svg import drawn


def section(records: Records) -> dict[str, Any] | None:
    """What the extension gained over the same training without it; None where there was no control."""
    columns, rows = outcome.table(records)
    if not columns:
        return None
    curves = [plots.Line(label, points) for label, points in outcome.curves(records).items()]
    ends = joined(f"{line.label} {line.points[-1][1]:.3f}" for line in curves)
    return {
        "sentences": outcome.sentences(records),
        "columns": columns,
        "rows": rows,
        "drawing": drawn(
            plots.lines("control", curves, xlabel="minutes", marked=True),
            f"Bits per byte over time, preparation counted in; at the end: {ends}",
            "Measured on held-out text that training does not read and the final figures leave out, where there is "
            "enough of it.",
        )
        if curves
        else None,
    }
