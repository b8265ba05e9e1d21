"""Reading the text files that the corpus stage leaves: jsonl with ``{"text": ...}`` on each line."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastvocab.errors import DataError


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without Python's cyclic garbage collector.

    Vocabularies and counted words are millions of objects in no cycle, and each full collection goes over all:
    8,000 tokens from 10 MB took 30 s with it and 23 s without (SmolLM2), 48 and 41 s (Llama-3).
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def read_texts(path: Path) -> Iterator[str]:
    """The ``text`` of each line, one after another.

    Raises:
        DataError: if the file is missing, not UTF-8, or a line has no text, with the line's number.
    """
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _text(line, path, number)
    except FileNotFoundError:
        raise DataError(
            f"{path} is not there", fix="run the corpus stage first, or give another file"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 after line {number}: {error.reason} at byte {error.start} of its block",
            rule="text files are UTF-8",
            fix="convert the file to UTF-8",
        ) from None


def _text(line: str, path: Path, number: int) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}, is not JSON: {error}", rule='each line is an object {"text": ...}'
        ) from None
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        keys = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
        raise DataError(
            f"{path}, line {number}, has no text (found: {keys})",
            rule='each line is an object {"text": ...} with a string',
            fix="rename the key that holds the text to text",
        )
    return require_unicode(text, f"{path}, line {number},")


def require_unicode(text: str, where: str) -> str:
    """``text`` itself.

    Raises:
        DataError: if it holds a lone surrogate, which the tokenizers library refuses with a bare TypeError.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds a lone surrogate (character {error.start})",
            rule="text is valid Unicode",
            fix="clean the text with the corpus stage",
        ) from None
    return text
