"""The corpus: what was kept, what was dropped and why, and how some of it reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import count, is_number, joined, number
from fastvocab.report import jsonl
from fastvocab.report.sections.texts import lang, opening

#: Documents that are shown of each split, and of each reason for dropping some.
_SHOWN = {"train": 4, "replay": 2}
_DROPPED, _OF_A_REASON = 6, 2
_PARTS = {"train": "new language", "replay": "original language"}


def section(records: Records) -> dict[str, Any] | None:
    """What the run learnt from; None before there is a corpus."""
    if "corpus" not in records:
        return None
    found, folder, language = records["corpus"].figures, records["corpus"].folder, facts.language(records)
    if is_number(found.get("users")):
        return {
            "title": "The interactions",
            "unit": "rows",
            "facts": _interactions(found),
            "letters": "",
            "splits": [],
            "dropped": _left_out(found),
            "samples": [],
            "dropped_samples": [],
        }
    splits, dropped = facts.splits(records), facts.dropped(records)
    if not splits and not dropped:
        return None
    return {
        "title": f"The language: {language}" if language else "The language",
        "unit": "documents",
        "facts": [],
        "letters": _letters(found.get("scripts")),
        "splits": splits,
        "dropped": dropped,
        "samples": _samples(folder, language),
        "dropped_samples": _dropped(folder, language),
    }


def _letters(scripts: Any) -> str:
    """The new language's letters by script (ISO 15924)."""
    shares = scripts.items() if isinstance(scripts, dict) else ()
    return joined(f"{share:.1%} {name}" for name, share in shares if is_number(share) and share >= 0.001)


def _interactions(found: dict[str, Any]) -> list[tuple[str, str]]:
    shown = {
        "users": "users",
        "items": "items",
        "interactions": "interactions",
        "items_without_interactions": "items that nobody took",
        "items_without_text": "items without a text",
    }
    out = [(label, count(value)) for key, label in shown.items() if (value := number(found, key)) is not None]
    if (median := number(found, "lengths", "median")) is not None:
        out.append(("items of a history, median", f"{median:g}"))
    return out


def _left_out(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [
        (part, str(reason).replace("_", " "), int(number_of))
        for key, part in (("dropped", "interactions"), ("catalogue_dropped", "catalogue"))
        for reason, number_of in (found.get(key) or {}).items()
        if is_number(number_of) and number_of
    ]


def _samples(folder: Path, language: str | None) -> list[dict[str, Any]]:
    """Openings of documents, spread over each split."""
    return [
        {"from": _PARTS[name], "text": text, "lang": lang(text, language) if name == "train" else None}
        for name, most in _SHOWN.items()
        for text in _openings(jsonl.spread(folder / f"{name}.jsonl", most))
    ]


def _dropped(folder: Path, language: str | None) -> list[dict[str, Any]]:
    """The first dropped documents of each reason, with the reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in jsonl.every(folder / "dropped.jsonl"):
        if isinstance(row.get("text"), str):
            reasons.setdefault((str(row.get("part")), str(row.get("reason"))), []).append(row["text"])
    out = [
        {
            "from": f"{_PARTS.get(part, part)}: {facts.reason(reason)}",
            "text": opening(text) or "(empty)",
            "lang": lang(text, language) if part == "train" else None,
        }
        for (part, reason), texts in reasons.items()
        for text in texts[:_OF_A_REASON]
    ]
    return out[:_DROPPED]


def _openings(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [opening(row["text"]) for row in rows if isinstance(row.get("text"), str) and row["text"].strip()]
