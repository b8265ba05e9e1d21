"""Which settings of several runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastvocab.report.sections.compared import Compared

#: What differs by itself: where a run lies and what it is called.
_OWN = frozenset({"name", "runs"})
_MISSING = object()


def section(runs: Sequence[Compared]) -> dict[str, Any]:
    """The keys that have different values, each with the value of each run."""
    flat = [_flat(_of(run)) for run in runs]
    keys = sorted({key for one in flat for key in one} - _OWN)
    rows = []
    for key in keys:
        values = [one.get(key, _MISSING) for one in flat]
        if any(value != values[0] for value in values):
            rows.append((key, [_said(value) for value in values]))
    return {"runs": runs, "rows": rows}


def _of(run: Compared) -> Mapping[str, Any]:
    """The resolved configuration; of a run without its config.yaml what the records of its stages keep."""
    return run.config or {stage: record.data.get("config") or {} for stage, record in run.records.items()}


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        place = f"{path}.{key}" if path else str(key)
        out |= _flat(value, place) if isinstance(value, Mapping) and value else {place: value}
    return out


def _said(value: Any) -> str:
    if value is _MISSING:
        return "not there"
    if isinstance(value, str):
        return value
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str)
