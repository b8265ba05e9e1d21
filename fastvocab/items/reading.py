"""Reading interactions row by row: which are left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastvocab import console
from fastvocab.corpus.items import Row
from fastvocab.errors import DataError
from fastvocab.items.catalogue import Catalogue
from fastvocab.items.fields import absent, identity, moment

#: Why an interaction is left out.
REASONS = {
    "no_user": "there is no user in it",
    "no_item": "there is no item in it",
    "no_time": "there is no time in it that can be understood",
    "unknown_item": "the item is not in the catalogue",
    "at_once_again": "the same item as the one before it, of the same user",
    "short_history": "the user has fewer interactions than corpus.items.min_history",
}


@dataclass
class Reading:
    """What is read so far.

    Attributes:
        by_user: ``(time, row of the catalogue)`` of each user, in the order of the rows.
        dropped: interactions left out, by reason (`REASONS`).
        examples: the first of each reason: the value, and where it is.
        read: rows read.
    """

    by_user: dict[str, list[tuple[float | int, int]]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    read: int = 0

    def drop(self, reason: str, row: Row, value: object) -> None:
        """Leave out ``row``, for ``value``."""
        self.dropped[reason] += 1
        self.examples.setdefault(reason, f"{str(value)[:40]!r} in {row.source}")


def take(source: Iterable[Row], fields: Mapping[str, str], listed: Catalogue, *, closed: bool) -> Reading:
    """Read interactions; where the catalogue is not ``closed``, their items go into it.

    Args:
        source: rows.
        fields: names of the fields ``user``, ``item`` and ``time``.
        listed: the catalogue.
        closed: are items that are not in it left out?

    Raises:
        DataError: a row without fields, or a field that the first row has not.
    """
    reading = Reading()
    numbers = {key: number for number, key in enumerate(listed.texts)}
    for row in source:
        if not isinstance(row.fields, dict):
            raise DataError(
                f"{row.source} is no object with fields", rule="a row is one user, one item, one time"
            )
        if not reading.read and (missing := absent(row, fields)):
            raise missing
        reading.read += 1
        values = {key: row.fields.get(name) for key, name in fields.items()}
        who, what, when = identity(values["user"]), identity(values["item"]), moment(values["time"])
        if who is None:
            reading.drop("no_user", row, values["user"])
        elif what is None:
            reading.drop("no_item", row, values["item"])
        elif when is None:
            reading.drop("no_time", row, values["time"])
        elif closed and what not in numbers:
            reading.drop("unknown_item", row, what)
        else:
            if what not in numbers:
                numbers[what] = len(numbers)
                listed.texts[what] = what
            reading.by_user.setdefault(who, []).append((when, numbers[what]))
    return reading


def check_known(reading: Reading, listed: Catalogue) -> None:
    """Refuse interactions of which no item is in the catalogue; warn where a fifth is not."""
    unknown = reading.dropped["unknown_item"]
    if unknown and not reading.by_user:
        raise DataError(
            f"none of {unknown:,} interactions has an item of the catalogue: {reading.examples['unknown_item']},"
            f" while the catalogue has {next(iter(listed.texts))!r}",
            rule="both name items by the same ids, in the field corpus.items.item",
            fix="give the field of the id that both have, or leave corpus.items.catalogue out",
        )
    if unknown > reading.read / 5:
        console.warn(
            f"{unknown:,} of {reading.read:,} interactions are left out: their item is not in the catalogue"
            f" (such as {reading.examples['unknown_item']})"
        )


def nothing_left(reading: Reading) -> DataError:
    """The error for interactions of which no history is left, with the counts by reason."""
    lines = [
        f"\n  {count:>9,} {reason}: {REASONS[reason]}"
        + (f", such as {reading.examples[reason]}" if reason in reading.examples else "")
        for reason, count in reading.dropped.most_common()
    ]
    return DataError(
        f"no history is left of {reading.read:,} interactions:{''.join(lines)}",
        fix="check corpus.items.user, .item and .time, or give users with longer histories",
    )
