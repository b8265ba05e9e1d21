"""Tokens that were added by name, and the codes of items."""

from __future__ import annotations

from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import count

#: Named tokens that are shown one by one.
_NAMED = 40


def section(records: Records) -> dict[str, Any] | None:
    """Tokens that were added by name, the first of them, and what was proved of them."""
    tokens = facts.named(records)
    if not tokens:
        return None
    init = facts.figures(records, "extend").get("init")
    rows = [
        {
            "token": str(one["token"]),
            "id": count(one["id"]),
            "before": count(one["pieces_before"]),
            "kind": "was there" if one.get("was_there") else "special" if one.get("special") else "plain",
            "init": "" if one.get("was_there") else str(one.get("init") or init or ""),
            "replaces": str(one.get("replaces") or ""),
        }
        for one in tokens[:_NAMED]
    ]
    known = facts.items(records)
    return {
        "rows": rows,
        "more": len(tokens) - len(rows),
        "proofs": facts.proofs(records) if facts.recipe(records) != "new_language" else [],
        "codes": [
            {**{key: count(level[key]) for key in ("used", "of")}, "commonest": f"{level['commonest']:.1%}"}
            for level in known.get("usage") or ()
        ],
    }
