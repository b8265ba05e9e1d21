"""The catalogue: what each item is called, written from the fields of its row by a template."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastvocab.corpus.items import Row, names
from fastvocab.errors import ConfigError, DataError
from fastvocab.items.fields import absent, identity

#: What an empty field leaves behind: brackets around nothing, and separators with nothing on one side.
_HOLLOW = re.compile(r"\(\s*\)|\[\s*\]|\{\s*\}|\"\s*\"|«\s*»|“\s*”")
_BEFORE = re.compile(r"\s+(?=[,;:.])")
_DOUBLED = re.compile(r"([,;:|/–—-])(?:\s*[,;:|/–—-])+")
_EDGES = " ,;:|/–—-"


@dataclass(frozen=True)
class Template:
    """A text with fields of a row in braces: ``{movie_title} ({release_year}): {class}``.

    Attributes:
        text: as a person wrote it; a brace of its own is doubled, as in `str.format`.

    Raises:
        ConfigError: braces that do not match, no field at all, or more in the braces than a name.
    """

    text: str

    def __post_init__(self) -> None:
        rule = "names of fields in braces, such as '{title} ({year})'; a brace of its own is doubled"
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise ConfigError(
                f"corpus.items.text is {self.text!r}: {error}", rule=rule, fix="mend the braces"
            ) from None
        odd = [
            name
            for _, name, spec, conversion in parts
            if name is not None and (spec or conversion or not name)
        ]
        if odd:
            raise ConfigError(
                f"corpus.items.text is {self.text!r}: there is no name, or more than a name, in the braces",
                rule=rule,
            )
        if not self.fields:
            raise ConfigError(f"corpus.items.text is {self.text!r}: every item would be called so", rule=rule)

    @property
    def fields(self) -> list[str]:
        """The names in braces."""
        return [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]

    def fill(self, row: Mapping[str, Any]) -> str:
        """The text of one item, on one line. Where a field is empty, brackets and separators around it go as well."""
        out, hollow = [], False
        for literal, name, _, _ in string.Formatter().parse(self.text):
            out.append(literal)
            if name is not None:
                value = _written(row.get(name))
                hollow |= not value
                out.append(value)
        text = " ".join("".join(out).split())
        if hollow:
            text = _DOUBLED.sub(r"\1", _BEFORE.sub("", _HOLLOW.sub("", text)))
            text = " ".join(text.split()).strip(_EDGES)
        # a lone surrogate of a JSON escape is no text that a tokenizer takes
        return text.encode("utf-8", "replace").decode("utf-8")


def _written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(_written, value)))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # a column of years with a gap is one of floats
        value = int(value)
    return str(value).strip()


@dataclass
class Catalogue:
    """The items, in the order of their rows.

    Attributes:
        texts: text of each item by its id.
        dropped: rows that gave no item, by reason: ``no_item`` (no id), ``same_row`` (there already, word for word).
        without_text: items whose text is empty; their id stands for it.
    """

    texts: dict[str, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    without_text: int = 0

    def figures(self) -> dict[str, Any]:
        """What is worth knowing of it: a language model cannot tell items of the same text apart by their text."""
        return {
            "catalogue_dropped": dict(self.dropped.most_common()),
            "items_without_text": self.without_text,
            "items_of_the_same_text": len(self.texts) - len(set(self.texts.values())),
        }


def read(rows: Iterable[Row], *, item: str, text: str) -> Catalogue:
    """The items of ``rows``.

    Args:
        rows: at least one.
        item: field with the id.
        text: template of an item's text (`Template`).

    Raises:
        ConfigError: a template that is none.
        DataError: no field ``item``, a field in the template that no row has, or one id with two texts.
    """
    template, found = Template(text), Catalogue()
    places: dict[str, str] = {}
    known: dict[str, None] = {}
    twice: list[str] = []
    for row in rows:
        if not isinstance(row.fields, dict):
            raise DataError(
                f"{row.source} is no object with fields", rule="a row of the catalogue is one item"
            )
        if not known and (missing := absent(row, {"item": item})):
            raise missing
        known.update(dict.fromkeys(map(str, row.fields)))
        key = identity(row.fields.get(item))
        if key is None:
            found.dropped["no_item"] += 1
            continue
        written = template.fill(row.fields)
        filled = written or key
        if key not in places:
            places[key], found.texts[key] = row.source, filled
            found.without_text += not written
        elif found.texts[key] == filled:
            found.dropped["same_row"] += 1
        else:
            twice.append(
                f"{key} in {places[key]} ({found.texts[key][:40]!r}) and {row.source} ({filled[:40]!r})"
            )
    _check_fields(template, known)
    if twice:
        raise DataError(
            f"{len(twice)} ids of the catalogue have two texts: " + names(twice, 3),
            rule="one row for each item",
            fix="remove one of them, or name the field that tells items apart: corpus.items.item=NAME",
        )
    if not found.texts:
        raise DataError(
            f"no row of the catalogue has an id in {item!r}",
            fix="name the field of the id: corpus.items.item=NAME",
        )
    return found


def _check_fields(template: Template, known: Mapping[str, None]) -> None:
    import difflib

    unknown = [name for name in dict.fromkeys(template.fields) if name not in known]
    if not unknown:
        return
    near = {name: difflib.get_close_matches(name, known, 1) for name in unknown}
    listed = [f"{name!r}" + (f" (nearest: {near[name][0]})" if near[name] else "") for name in unknown]
    raise DataError(
        f"corpus.items.text names fields that the catalogue has not: {', '.join(listed)}",
        rule=f"it has: {names(known, 40)}",
        fix="write them into braces: corpus.items.text='{NAME} ({NAME})'",
    )
