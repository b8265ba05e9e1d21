"""What each point wrote to the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.report.sections.texts import POINTS, by_prompt


def section(records: Records) -> dict[str, Any] | None:
    """What each point wrote to each prompt, prompts in the order in which they were given."""
    said = [
        (point, POINTS.get(point, ""), sample["prompt"], str(sample.get("text") or ""))
        for point, found in facts.points(records).items()
        for sample in found.get("samples") or ()
        if isinstance(sample, Mapping) and isinstance(sample.get("prompt"), str)
    ]
    samples = by_prompt(said, facts.language(records))
    return {"samples": samples} if samples else None
