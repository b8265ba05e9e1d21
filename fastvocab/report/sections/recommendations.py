"""What was recommended to some users, beside what they took next."""

from __future__ import annotations

from typing import Any

from fastvocab import facts
from fastvocab.facts import Records


def section(records: Records) -> dict[str, Any] | None:
    """The examples that the evaluation keeps."""
    found = facts.figures(records, "evaluate").get("examples") or ()
    examples = [
        {
            "user": str(one.get("user")),
            "history": [str(text) for text in one.get("history") or ()],
            "wanted": str(one.get("wanted")),
            "recommended": [
                (str(item.get("text")), str(item.get("text")) == str(one.get("wanted")))
                for item in one.get("recommended") or ()
                if isinstance(item, dict)
            ],
        }
        for one in found
        if isinstance(one, dict)
    ]
    return {"examples": examples} if examples else None
