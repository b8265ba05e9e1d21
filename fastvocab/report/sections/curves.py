"""Bits per byte of several runs over the time of their training, in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastvocab.numbers import joined
from fastvocab.report import jsonl, plots
from fastvocab.report.sections.compared import Compared
from fastvocab.report.sections.training import BITS, curve
from fastvocab.report.svg import drawn


def section(runs: Sequence[Compared]) -> dict[str, Any] | None:
    """A figure for each language that was measured on the way; None where none was."""
    logs = {
        run.short: jsonl.every(run.records["pretrain"].folder / "log.jsonl")
        for run in runs
        if "pretrain" in run.records
    }
    drawings = []
    for key, language in BITS.items():
        lines = [
            line
            for name, log in logs.items()
            if (line := curve(log, key, name, x="seconds", scale=60.0)).points
        ]
        if lines:
            ends = joined(f"{line.points[-1][1]:.3f} ({line.label})" for line in lines)
            label = f"Bits per byte of the {language} over the time of pretraining; at the end: {ends}"
            svg = plots.lines(f"runs-{key.partition('_')[0]}", lines, xlabel="minutes", marked=True)
            drawings.append(drawn(svg, label))
    return {"drawings": drawings} if drawings else None
