"""Documents and rows of any mixture of sources, streamed in constant memory.

`documents` is for running text, `rows` for structured data of any use (chat); both open files alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar, get_args

from fastvocab.corpus import packages, streams
from fastvocab.corpus.formats import file_rows, missing_key
from fastvocab.corpus.items import Display, Document, Row, names
from fastvocab.corpus.sources import Source, resolve, total_bytes
from fastvocab.errors import ConfigError, DataError

__all__ = ["Document", "Row", "Unit", "documents", "rows", "total_bytes"]

_Item = TypeVar("_Item")

#: What one document is in plain text.
Unit = Literal["auto", "line", "blank_line", "file"]

#: `unit="auto"` looks at this many characters of a file.
HEAD = 1 << 20

#: Blank lines that are rarer than one in this many separate nothing; they are slips in a file of lines.
LINES_PER_BLANK = 100


def documents(
    sources: str | Sequence[str],
    *,
    text_key: str = "text",
    unit: Unit = "auto",
    display: Display | None = None,
) -> Iterator[Document]:
    """The documents of ``sources``, in order, as they are read.

    Plain text longer than `streams.MAX_CHARACTERS` comes in several documents (``a.txt:1``, ``a.txt:1/2``).
    A row whose text is null, or absent although earlier rows of the file had it, is an empty document: it
    will be counted in cleaning.

    Args:
        sources: as for `sources.resolve`: paths, globs, folders, ``hf:...``, ``package:...``.
        text_key: the field that holds the text, in jsonl, json, csv, parquet and ``datasets``.
        unit: what a document is in plain text: ``line``; ``blank_line``, a block of lines between blank
            lines; ``file``; ``auto`` decides for each file by its first `HEAD` characters: ``blank_line`` if
            at least one in `LINES_PER_BLANK` of its lines is a blank one between others, else ``line``.
        display: called with the number of bytes read since its last call.

    Raises:
        DataError: what is missing or misspelt, at once; what is damaged, not UTF-8, not JSON or without
            ``text_key``, when it is reached; and at the end if there was no document at all.
        DependencyError: a package source that is not installed.
        ConfigError: no such ``unit``.
    """
    check_unit(unit)
    return documents_of(resolve(sources), text_key, unit, display)


def check_unit(unit: str) -> None:
    """Refuse a unit that is none, with a `ConfigError`."""
    if unit not in get_args(Unit):
        raise ConfigError(f"unit is {unit!r}", rule="one of " + names(get_args(Unit)))


def documents_of(
    found: list[Source], text_key: str, unit: Unit, display: Display | None
) -> Iterator[Document]:
    """`documents` of sources that are resolved already."""
    return some(
        itertools.chain.from_iterable(source_documents(s, text_key, unit, display) for s in found), found
    )


def source_documents(
    source: Source, text_key: str, unit: Unit, display: Display | None
) -> Iterator[Document]:
    """The documents of one source; there may be none."""
    if source.kind == "package":
        return packages.package_documents(source.name, display)
    if source.kind == "file" and source.format in ("text", None):
        return _plain(source, unit, display)
    return _from_rows(source, text_key, display)


def some(stream: Iterator[_Item], found: list[Source]) -> Iterator[_Item]:
    """``stream``, which is what was read from ``found``; a `DataError` at its end if that was nothing."""
    empty = True
    for item in stream:
        empty = False
        yield item
    if empty:
        raise DataError(
            f"there is no document in {names([s.name for s in found], 5)}", fix="check that it holds text"
        )


def rows(sources: str | Sequence[str], *, display: Display | None = None) -> Iterator[Row]:
    """The rows of ``sources``, in order: jsonl, json, csv, parquet, ChatterBot YAML, ``datasets``, packages.

    Args:
        sources, display: as in `documents`.

    Raises:
        DataError, DependencyError: as in `documents`; plain text has no rows.
    """
    return _rows(resolve(sources), display)


def _rows(found: list[Source], display: Display | None) -> Iterator[Row]:
    empty = True
    for source in found:
        package = source.kind == "package"
        for row in (
            packages.package_rows(source.name, display) if package else file_rows(source, None, display)
        ):
            empty = False
            yield row
    if empty:
        raise DataError(
            f"there is no row in {names([s.name for s in found], 5)}", fix="check that it holds data"
        )


def _from_rows(source: Source, key: str, display: Display | None) -> Iterator[Document]:
    seen = False
    for row in file_rows(source, (key,), display):
        fields = row.fields
        if isinstance(fields, str):
            value: object = fields
        elif isinstance(fields, dict):
            if key not in fields and not seen:
                texts = {name: len(value) for name, value in fields.items() if isinstance(value, str)}
                raise missing_key(row.source, key, fields, max(texts, key=texts.__getitem__, default=None))
            seen = True
            value = fields.get(key)
        else:
            raise DataError(
                f"{row.source} is {_kind(fields)}",
                rule="a row is an object with the text in a field, or a string",
            )
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"{row.source}: the field {key!r} holds {_kind(value)}: {str(value)[:60]}",
                rule="the text is a string",
                fix="chat rows belong into instruct.train; else choose another field: corpus.text_key=NAME",
            )
        yield from _cut(value or "", row.source)


def _kind(value: object) -> str:
    return {"list": "a list", "dict": "an object", "NoneType": "null"}.get(
        type(value).__name__, type(value).__name__
    )


def _cut(text: str, where: str) -> Iterator[Document]:
    for number, piece in enumerate(streams.pieces(text, streams.MAX_CHARACTERS), 1):
        yield Document(piece, f"{where}/{number}" if number > 1 else where)


def _plain(source: Source, unit: Unit, display: Display | None) -> Iterator[Document]:
    parts = streams.text(source, display)
    if unit == "auto":
        head, size = [], 0
        for part in parts:
            head.append(part)
            size += len(part)
            if size >= HEAD:
                break
        unit = _decide("".join(head)[:HEAD])
        parts = itertools.chain(head, parts)
    if unit == "file":
        return _whole(source.name, parts)
    split = streams.lines(parts, streams.MAX_CHARACTERS)
    return _blocks(source.name, split) if unit == "blank_line" else _single_lines(source.name, split)


def _decide(head: str) -> Unit:
    """``blank_line`` or ``line``, by how often blank lines come between others in the head of a file."""
    seen = [not line.strip() for line in head.strip().split("\n")]
    breaks = sum(blank and not before for before, blank in itertools.pairwise(seen))
    return "blank_line" if breaks * LINES_PER_BLANK >= len(seen) else "line"


def _single_lines(name: str, split: Iterator[tuple[int, str]]) -> Iterator[Document]:
    last, part = 0, 1
    for number, line in split:
        part = part + 1 if number == last else 1
        last = number
        if line and not line.isspace():  # a blank line is no document, not an empty one
            yield Document(line, f"{name}:{number}/{part}" if part > 1 else f"{name}:{number}")


def _blocks(name: str, split: Iterator[tuple[int, str]]) -> Iterator[Document]:
    block, size, start = list[str](), 0, 0
    for number, line in split:
        blank = not line or line.isspace()
        if block and (blank or size + len(line) > streams.MAX_CHARACTERS):
            yield Document("\n".join(block), f"{name}:{start}")
            block, size = [], 0
        if not blank:
            start = start if block else number
            block.append(line)
            size += len(line)
    if block:
        yield Document("\n".join(block), f"{name}:{start}")


def _whole(name: str, parts: Iterator[str]) -> Iterator[Document]:
    held, number = "", 1
    for part in parts:
        *ready, held = streams.pieces(held + part, streams.MAX_CHARACTERS)
        for piece in ready:
            yield Document(piece, f"{name}/{number}" if number > 1 else name)
            number += 1
    if held:
        yield Document(held, f"{name}/{number}" if number > 1 else name)
