"""What flows between the modules of this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Called with the number of bytes read since the last call (compressed bytes of compressed files).
Display = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Document:
    """One text, and where it came from.

    Attributes:
        text: the text as it was read, neither normalised nor stripped.
        source: file and line or row, for messages: ``data/a.txt:12``, ``b.json#3``, ``package:ua-gec/0000``.
    """

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a structured file: a mapping, or a bare string where the file holds strings.

    Attributes:
        fields: the row; anything else than a dict or a string is for the consumer to refuse.
        source: file and line or row, as in `Document`.
    """

    fields: Any
    source: str


def names(found: object, most: int = 12) -> str:
    """Names for a message, bounded: ``a, b, c and 9 more``."""
    listed = (
        [str(name) for name in found]
        if isinstance(found, (list, tuple, set, frozenset, dict))
        else [str(found)]
    )
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more or "none"
