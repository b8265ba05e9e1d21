"""JSON records that carry a digest of themselves: a field that was changed is found, not only a changed file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def seal(record: dict[str, Any], name: str) -> dict[str, Any]:
    """``record`` with the sha256 of its canonical JSON under ``name``."""
    return {**record, name: _digest(record, name)}


def faults(record: Any, name: str, kinds: Mapping[str, Any], file: str) -> list[str]:
    """What is wrong with a sealed record: no object, fields missing or of another kind, changed since it was sealed.

    Args:
        name: of the digest's field.
        kinds: type (or types) by field.
        file: whose content it is, for the messages.
    """
    if not isinstance(record, dict):
        return [f"{file} is no JSON object"]
    wrong = [
        f"{file} has no {field}" if field not in record else f"{file}: {field} is {record[field]!r:.60}"
        for field, kind in kinds.items()
        if not isinstance(record.get(field), kind)
    ]
    if not wrong and record.get(name) != _digest(record, name):
        wrong.append(f"{file} has changed since it was written ({name} differs)")
    return wrong


def _digest(record: dict[str, Any], name: str) -> str:
    fields = {field: value for field, value in record.items() if field != name}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
