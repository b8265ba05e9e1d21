"""Running text of many languages, from packages as they are installed; none of it is committed:

- ``plone.app.locales`` (GPL-2.0; 12 MB, needs nothing): catalogues of Plone
- ``django`` (BSD-3-Clause; 8 MB, needs asgiref and sqlparse): catalogues of Django
- ``kolibri`` (MIT; 104 MB, needs nothing): catalogues of Kolibri, for Khmer, Burmese and Yoruba
- ``chatterbot-corpus`` (BSD; in the ``demo`` extra): questions and answers

A text is that of all its packages or it is skipped, so that it is the same wherever a test runs.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

_PLONE, _DJANGO, _KOLIBRI, _CHAT = "plone.app.locales", "django", "kolibri", "chatterbot-corpus"

#: The packages of each language, each with the folder that it has there. Plone's Burmese is not in Unicode.
SOURCES: dict[str, dict[str, str]] = {
    "am": {_DJANGO: "am"},
    "ar": {_PLONE: "ar", _DJANGO: "ar"},
    "bn": {_PLONE: "bn", _DJANGO: "bn", _CHAT: "bengali"},
    "he": {_PLONE: "he", _DJANGO: "he", _CHAT: "hebrew"},
    "hi": {_PLONE: "hi", _DJANGO: "hi", _CHAT: "hindi"},
    "ja": {_PLONE: "ja", _DJANGO: "ja", _CHAT: "japanese"},
    "ka": {_PLONE: "ka", _DJANGO: "ka"},
    "km": {_KOLIBRI: "km"},
    "ko": {_PLONE: "ko", _DJANGO: "ko", _CHAT: "korean"},
    "ml": {_DJANGO: "ml"},
    "my": {_KOLIBRI: "my"},
    "pl": {_PLONE: "pl", _DJANGO: "pl"},
    "ta": {_PLONE: "ta", _DJANGO: "ta", _CHAT: "tamil"},
    "th": {_PLONE: "th", _DJANGO: "th", _CHAT: "thai"},
    "vi": {_PLONE: "vi", _DJANGO: "vi"},
    "yo": {_KOLIBRI: "yo"},
    "zh": {_PLONE: "zh_CN", _DJANGO: "zh_Hans", _CHAT: "chinese"},
}

_SCRIPT = {
    "am": "\u1200-\u139f",
    "ar": "\u0600-\u06ff",
    "bn": "\u0980-\u09ff",
    "he": "\u0590-\u05ff",
    "hi": "\u0900-\u097f",
    "ja": "\u3041-\u30ff\u4e00-\u9fff",
    "ka": "\u10a0-\u10ff",
    "km": "\u1780-\u17ff",
    "ko": "\uac00-\ud7a3",
    "ml": "\u0d00-\u0d7f",
    "my": "\u1000-\u109f",
    "ta": "\u0b80-\u0bff",
    "th": "\u0e01-\u0e5b",
    "zh": "\u4e00-\u9fff",
    "latin": "A-Za-z\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff",
}
_LETTER = re.compile(r"[^\W\d_]|[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u109f\u1780-\u17ff]")
#: Latin alone does not tell a translation from the English it may have been left in; nor do Han characters.
_OWN = {
    "ja": re.compile("[\u3041-\u30ff]"),
    "pl": re.compile("[ąćęłńóśźż]", re.I),
    "vi": re.compile("[ăâđêôơưàáảãạèéẻẽẹìíỉĩịòóỏõọùúủũụỳýỷỹỵ\u1ea0-\u1ef9]", re.I),
    "yo": re.compile("[ẹọṣàáèéìíòóùú\u0300\u0301\u0323]", re.I),
}
_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\$?\{[^{}]*\}|%(?:\(\w+\))?[-#0+]*\d*(?:\.\d+)?[sdrifgxc%]|\$\w+|&#?\w+;|https?://\S+|[{}`]"
)
_FORMS = re.compile(r"\s*\{\s*\w+,\s*(?:plural|select\w*),(.*)\}\s*", re.S)
_ANSWER = re.compile(r"^\s*-\s*(?:-\s*)?[\"']?([^-\s\"'].*?)[\"']?\s*$", re.M)


def _catalogue(data: bytes) -> Iterator[str]:
    """The translations of a compiled gettext catalogue, each plural form by itself."""
    count, translations = struct.unpack_from("<8xI4xI", data)
    for row in range(1, count):  # row 0 is the header
        size, start = struct.unpack_from("<2I", data, translations + 8 * row)
        yield from data[start : start + size].decode().split("\0")


def _messages(package: str, folder: str) -> Iterator[str]:
    top, name = package.partition(".")[0].replace("-", "_"), package.replace("-", "_")
    found = find_spec(name) if find_spec(top) else None
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed")
    pattern = f"data/{folder}/*.yml" if package == _CHAT else f"**/locale*/{folder}/LC_MESSAGES/*"
    for path in sorted(Path(found.submodule_search_locations[0]).glob(pattern)):
        if path.suffix == ".mo":
            yield from _catalogue(path.read_bytes())
        elif path.suffix == ".json":
            for text in json.loads(path.read_text("utf-8")).values():
                forms = _FORMS.fullmatch(text)  # {n, plural, one {...} other {...}}
                yield from re.findall(r"\{((?:[^{}]|\{[^{}]*\})*)\}", forms[1]) if forms else [text]
        elif path.suffix == ".yml":
            yield from _ANSWER.findall(path.read_text("utf-8"))


@cache
def _lines(language: str) -> tuple[str, ...]:
    own, script = _OWN.get(language), re.compile(f"[{_SCRIPT.get(language) or _SCRIPT['latin']}]")
    kept: dict[str, None] = {}
    for package, folder in SOURCES[language].items():
        for message in _messages(package, folder):
            for part in _PLACEHOLDER.sub(" ", message).splitlines():
                line = " ".join(part.split()).strip("-*•| ")
                letters = len(_LETTER.findall(line))
                if letters >= 4 and 2 * len(script.findall(line)) > letters and (not own or own.search(line)):
                    kept[line] = None
    return tuple(kept)


def lines(language: str) -> list[str]:
    """Lines of ``language`` (``hi``, ``th``, ...), no two alike, always the same and in the same order."""
    return list(_lines(language))
