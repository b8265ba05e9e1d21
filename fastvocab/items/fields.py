"""What a field of a row says: an id, a moment; and the error where the field is not there."""

from __future__ import annotations

import datetime as dt
import difflib
import math
from collections.abc import Mapping
from typing import Any

from fastvocab.corpus.items import Row, names
from fastvocab.errors import DataError


def absent(row: Row, fields: Mapping[str, str]) -> DataError | None:
    """The error for all of ``fields`` (key of the configuration: name of the field) that ``row`` has not."""
    missing = {key: name for key, name in fields.items() if name not in row.fields}
    if not missing:
        return None
    have = [str(name) for name in row.fields]
    lower = {name.lower(): name for name in have}
    said, fixes = [], []
    for key, name in missing.items():
        near = difflib.get_close_matches(name.lower(), lower, 1)
        said.append(f"no field {name!r}" + (f" (nearest: {lower[near[0]]})" if near else ""))
        fixes.append(f"corpus.items.{key}={lower[near[0]] if near else 'NAME'}")
    return DataError(
        f"{row.source} has {', '.join(said)}", rule=f"it has: {names(have, 40)}", fix=" ".join(fixes)
    )


def identity(value: Any) -> str | None:
    """An id as text; None where there is none.

    The numbers 7 and 7.0 (a column with a gap is one of floats) and the texts "7" and " 7 " are one id.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).strip() or None


def moment(value: Any) -> float | int | None:
    """A time as a number that can be compared: numbers as they are, dates (ISO 8601) in seconds since 1970, UTC.

    Whole numbers stay whole: as floats, nanoseconds since 1970 would differ by 256 at the least. None where it is no
    time.
    """
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC).timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_text(text: str) -> Any:
    for kind in (int, float, dt.datetime.fromisoformat):
        try:
            # "20240131" is a number and a date: as numbers such days are in the same order
            return kind(text)
        except ValueError:
            continue
    return None
