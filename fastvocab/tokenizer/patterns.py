"""Give a pre-tokenizer's regex more letters: the marks and joiners of one script, and nothing else.

The regexes are Oniguruma's, as the tokenizers library has it; what is put in are literal characters and
ranges of them, which every engine reads alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import regex

from fastvocab.unicode import script_ranges

#: A step of a pattern: an escape, a class, a quantifier, or anything else, character by character.
_STEP = regex.compile(
    r"(?P<class>\[\^?\]?(?:\\p\{[^}]*\}|\\P\{[^}]*\}|\\x\{[^}]*\}|\\.|\[:\^?\w+:\]|[^\]\\])*\])"
    r"|(?P<property>\\[pP]\{[^}]*\})"
    r"|(?P<other>\\x\{[^}]*\}|\\.|.)",
    regex.DOTALL,
)
_REPEATED = regex.compile(r"[+*]")
_SPECIAL = frozenset("\\]^-[&")


@dataclass(frozen=True)
class Signs:
    """Characters that go on with a word of the target scripts.

    Attributes:
        scripts: ISO 15924 codes; all their combining marks count as letters.
        shared_marks: combining marks of no one script (accents, harakat): letters behind a target letter.
        between: signs that go on with a word between two letters of ``joined_scripts``.
        behind: signs that go on with a word behind such a letter.
        joined_scripts: scripts whose letters signs may join.
    """

    scripts: frozenset[str]
    shared_marks: str = ""
    between: str = ""
    behind: str = ""
    joined_scripts: frozenset[str] = frozenset()


def extend(pattern: str, signs: Signs) -> str | None:
    """``pattern`` with the signs taken for letters; None where nothing changes or it cannot be read.

    A class that matches the scripts' letters but not their marks gets the marks; one that matches the marks
    but not the letters loses them. Behind a repeated letter class, joiners and shared marks go on with it:
    they are tried after the letters, so other words pay one failed comparison.
    """
    letters, marks = _letters(signs.scripts), _marks(signs.scripts)
    go_on = _continuations(signs)
    if not letters or not (marks or go_on):
        return None
    out: list[str] = []
    letter = ""
    place = 0
    while place < len(pattern):
        step = _STEP.match(pattern, place)
        if step is None:
            return None
        text = step.group()
        place = step.end()
        if step["other"]:
            out.append(text)
            continue
        hit = _matches(text, letters)
        if hit is None:
            return None  # a class that only Oniguruma reads
        hit_marks = bool(marks) and bool(_matches(text, marks))
        if hit and marks and not hit_marks:
            text = _with(text, ranges(marks))
        elif hit_marks and not hit:
            text = _without(text, ranges(marks))
        if hit:
            letter = letter or text
        if hit and go_on and (repeated := _REPEATED.match(pattern, place)):
            place = repeated.end()
            if pattern.startswith("?", place):
                return None  # as few letters as possible: what would go on with them cannot be said
            many = _run(text, go_on)
            text = many if repeated.group() == "+" else f"(?:{many})?"
        out.append(text)
    result = "".join(out)
    return None if result == pattern else _leading(signs, letter, go_on) + result


_LETTER = "\x00"


def _run(letter: str, go_on: list[str]) -> str:
    """A word: letters, and what goes on with them."""
    return f"{letter}+(?:{'|'.join(part.replace(_LETTER, letter) for part in go_on)})*"


def _leading(signs: Signs, letter: str, go_on: list[str]) -> str:
    """An alternative for a text that begins inside a word: with a mark or joiner before a target letter.

    Only pieces of words, on their own, are such texts. Without it a piece such as "َت" or "‌ها", which fires
    inside words, would be cut when it stands alone, and could not be proven to be one token.
    """
    lead = signs.shared_marks + signs.behind
    if not lead or not letter:
        return ""
    return f"(?<![\\s\\S])[{ranges(lead)}]+(?=[{ranges(_letters(signs.scripts))}]){_run(letter, go_on)}|"


def _continuations(signs: Signs) -> list[str]:
    """What may follow a run of letters, with ``_LETTER`` for the letter class."""
    parts = []
    if signs.shared_marks:
        shared = f"[{ranges(signs.shared_marks)}]"
        before = ranges(_letters(signs.scripts) + _marks(signs.scripts))
        parts.append(f"{shared}(?<=[{before}]{shared}){shared}*{_LETTER}*")
    letters = _letters(signs.joined_scripts)
    before = ranges(letters + _marks(signs.joined_scripts) + signs.shared_marks)
    if signs.behind and letters:
        behind = f"[{ranges(signs.behind)}]"
        parts.append(f"{behind}(?<=[{before}]{behind}){_LETTER}*")
    if signs.between and letters:
        between = f"[{ranges(signs.between)}]"
        parts.append(f"{between}(?<=[{before}]{between})(?=[{ranges(letters)}]){_LETTER}+")
    return parts


def _matches(atom: str, chars: str) -> bool | None:
    """Does a class match any of ``chars``? None where Python's regex cannot read it."""
    try:
        return regex.search(atom, chars) is not None
    except regex.error:
        return None


def _with(atom: str, more: str) -> str:
    if atom.startswith("[^"):
        return f"(?:{atom}|[{more}])"
    return f"{atom[:-1]}{more}]" if atom.startswith("[") else f"[{atom}{more}]"


def _without(atom: str, less: str) -> str:
    return f"{atom[:-1]}{less}]" if atom.startswith("[^") else f"(?:(?![{less}]){atom})"


def ranges(chars: Iterable[str]) -> str:
    """Characters as the inside of a class: neighbours as a range, specials escaped."""
    codes = sorted({ord(char) for char in chars})
    out = []
    start = 0
    for place, code in enumerate(codes):
        if place + 1 < len(codes) and codes[place + 1] == code + 1:
            continue
        first = codes[start]
        out.append(_literal(first) if first == code else f"{_literal(first)}-{_literal(code)}")
        start = place + 1
    return "".join(out)


def _literal(code: int) -> str:
    char = chr(code)
    return f"\\{char}" if char in _SPECIAL else char


@lru_cache(maxsize=32)
def _letters(scripts: frozenset[str]) -> str:
    return _of_category(scripts, "L")


@lru_cache(maxsize=32)
def _marks(scripts: frozenset[str]) -> str:
    return _of_category(scripts, "M")


def _of_category(scripts: frozenset[str], category: str) -> str:
    """All assigned characters of the scripts in a general category."""
    chars = (chr(code) for first, last in script_ranges(scripts) for code in range(first, last + 1))
    return "".join(char for char in chars if unicodedata.category(char)[0] == category)
