"""Lines of JSON out of a run folder, of which some may be damaged: a kill cuts the last one short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Bytes that are read to find a whole line at some place of a file.
_MOST = 1 << 20


def every(path: Path) -> list[dict[str, Any]]:
    """The lines that are JSON objects; none where there is no such file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")  # U+2028 in a text ends no line
    return [found for line in lines if (found := _parsed(line)) is not None]


def spread(path: Path, count: int) -> list[dict[str, Any]]:
    """The first line and those after even parts of the file, at most ``count``, without reading the rest of it."""
    if not path.is_file():
        return []
    size, out, end = path.stat().st_size, [], 0
    with path.open("rb") as file:
        for place in range(count):
            file.seek(max(end, place * size // count))
            if place and file.tell() > end:
                file.readline(_MOST)  # the rest of the line that it fell into
            line = file.readline(_MOST)
            end = file.tell()
            if (found := _parsed(line.decode("utf-8", "replace"))) is not None:
                out.append(found)
    return out


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
