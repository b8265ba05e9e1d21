"""Numbers out of records, and numbers for people: one way of writing counts, times and sizes everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

#: What stands where nothing was measured.
ABSENT = "–"


def is_number(value: Any) -> TypeGuard[float]:
    """True for a finite number (JSON keeps NaN out, but a record may say null)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(node: Any, *keys: str) -> float | None:
    """A finite number deep in nested figures, or None where anything on the way is missing."""
    for key in keys:
        if not isinstance(node, Mapping):
            return None
        node = node.get(key)
    return float(node) if is_number(node) else None


def count(value: float) -> str:
    """1234567 as ``1,234,567``."""
    return f"{round(value):,}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(value: float) -> str:
    """Bytes in decimal units: ``4.7 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def ratio(before: float, after: float) -> str:
    """How many times fewer: ``2.62 times fewer``."""
    return f"{before / after:.2f} times fewer"


def joined(parts: Iterable[str]) -> str:
    """``a, b and c``."""
    *head, last = list(parts) or [""]
    return f"{', '.join(head)} and {last}" if head else last
