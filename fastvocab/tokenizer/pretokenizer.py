"""The pre-tokenizer floor: where a base cuts words however many merges it gets, and its repair.

The regexes of GPT-2, Llama-3 and Qwen take `\\p{L}+` for a word, which ends at each combining mark: a Hindi
word falls into two to four parts, no merge joins them, and most learnt pieces can never form (3,383 of 4,000
in one measurement, 3.49 tokens a word instead of 1.37).

The repair changes what counts as a letter, for characters of the target script alone: its combining marks
join the letter classes of the regex; joiners and apostrophes go on with a word where they stand behind a
letter of that script. A text without such characters is matched exactly as before. What it costs: programs
that know a pre-tokenizer by name and not by its regex (llama.cpp, by a hash of its output) must be told.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import regex

from fastvocab.tokenizer import patterns
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.byte_level import cutter
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.words import BEHIND, BETWEEN, Cut, Words
from fastvocab.unicode import NEUTRAL, script_of

#: GPT-2's regex, which `ByteLevel(use_regex=True)` of the tokenizers library has built in.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

#: A word with all that may stand inside it; digits too, where letters are beside them.
_WORD = regex.compile(
    rf"[\p{{L}}\p{{M}}\p{{N}}]+(?:[{BETWEEN}{BEHIND}]+[\p{{L}}\p{{M}}\p{{N}}]+)*[{BEHIND}]?"
)

_SIGNS = frozenset(BETWEEN + BEHIND)

_NO_REGEX = "no regex of the pre-tokenizer cuts words of this script"

#: Distinct words that the floor is measured on.
_MOST_WORDS = 20_000

#: A sign that stands in fewer of the words than this is a slip of the pen (слово"слово), not a letter.
_LEAST_SHARE = 1e-4

#: By default a regex is repaired where that takes off at least this share of the floor. Ukrainian loses 1% to
#: apostrophes, which is not worth a pre-tokenizer that other programs do not know; Hindi loses half.
WORTH = 0.02


@dataclass(frozen=True)
class Floor:
    """How many tokens a word needs at least, since the pre-tokenizer cuts it.

    Attributes:
        unit: "word", or "character" in scripts without spaces.
        tokens: parts for each unit (1 is no cut for words).
        causes: cuts inside words for each 1,000 words, by what stands at the cut.
    """

    unit: str
    tokens: float
    causes: dict[str, float]


@dataclass(frozen=True)
class Repair:
    """What became of a base's pre-tokenizer.

    Attributes:
        base: the base to extend: with the repaired regex, or as it was.
        before, after: the floor; the same object where nothing was changed.
        changed: True if the regex was repaired.
        reason: why it was or was not.
    """

    base: Base
    before: Floor
    after: Floor
    changed: bool
    reason: str


def floor(words: Words, cut: Cut) -> tuple[Floor, Counter[str]]:
    """The floor of a pre-tokenizer on a sample of words, and the signs and marks that stand in them.

    Those at the cuts are not enough: of two marks in a row, or a virama with a joiner, the cut is at the first.
    """
    spaced = words.unit == "word"
    guard = Guard(words.scripts)
    causes: Counter[str] = Counter()
    signs: Counter[str] = Counter()
    parts_in_all = units = word_count = 0
    for word, number in _some(words):
        ends = set()
        place = 0
        parts = cut(word)
        word = "".join(parts)  # normalised, as the base does
        for part in parts:
            place += len(part)
            ends.add(place)
        for match in _WORD.finditer(word):
            if not guard.has_target(match.group()):
                continue
            inner = [end for end in ends if match.start() < end < match.end()]
            if match.start() == 1 and word[0] == " " and 1 in ends:
                inner.append(1)
            for end in inner:
                causes[_cause(word, end)] += number
            for char in match.group():
                if char in _SIGNS or unicodedata.category(char)[0] == "M":
                    signs[char] += number
            parts_in_all += number * (1 + len(inner))
            units += number * (1 if spaced else len(match.group()))
            word_count += number
    per_thousand = {name: round(1000 * n / max(word_count, 1), 2) for name, n in causes.most_common()}
    common = Counter({sign: n for sign, n in signs.items() if n >= _LEAST_SHARE * word_count})
    tokens = round(parts_in_all / max(units, 1), 4)
    return Floor("word" if spaced else "character", tokens, per_thousand), common


def _some(words: Words) -> Iterable[tuple[str, int]]:
    """Every n-th of the distinct words, so that frequent and rare ones keep their shares."""
    ordered = sorted(words.counts.items())
    return ordered[:: max(1, len(ordered) // _MOST_WORDS)]


def _cause(word: str, end: int) -> str:
    """Why a word is cut before ``end``."""
    if word[end - 1] == " ":
        return "space apart from the word"
    for char in (word[end], word[end - 1]):
        if char in BETWEEN:
            return "apostrophe"
        if char in BEHIND:
            return "joiner"
        if unicodedata.category(char)[0] == "M":
            return "combining mark"
    return (
        "digit" if "N" in (unicodedata.category(char)[0] for char in word[end - 1 : end + 1]) else "letters"
    )


def repair(base: Base, words: Words, mode: str = "auto") -> Repair:
    """Stop a base's pre-tokenizer from cutting words of the target script.

    Args:
        base: the base tokenizer.
        words: the sample.
        mode: ``auto`` repairs where it takes off at least 2% of the floor, ``repair`` wherever it takes off
            anything, ``keep`` never.
    """
    if base.kind is not Kind.BYTE_LEVEL:
        none = Floor(words.unit, 1.0 if words.unit == "word" else 0.0, {})
        return Repair(base, none, none, False, "the base does not cut words before merging")
    before, found = floor(words, cutter(base))
    if mode == "keep":
        return Repair(base, before, before, False, "kept, as asked")
    least = WORTH if mode == "auto" else 1e-9
    most = 1 - 1 / before.tokens if before.unit == "word" else 1.0  # if no word were cut any more
    if most < least:
        reason = f"no repair could lower the floor by more than {most:.1%} (worth it from {least:.0%})"
        return Repair(base, before, before, False, reason)
    spec, obstacle = _repaired(base.spec.get("pre_tokenizer"), _signs(words.scripts, found))
    if spec is None:
        return Repair(base, before, before, False, obstacle)
    repaired = replace(base, spec=base.spec | {"pre_tokenizer": spec})
    after, _ = floor(words, cutter(repaired))
    gain = 1 - after.tokens / before.tokens if before.tokens else 0.0
    if gain < least:
        reason = f"a repair would lower the floor by {gain:.1%} only (worth it from {least:.0%})"
        return Repair(base, before, before, False, reason)
    return Repair(repaired, before, after, True, f"the repair lowers the floor by {gain:.1%}")


def _signs(scripts: frozenset[str], found: Counter[str]) -> patterns.Signs:
    """Which characters go on with a word, by what stands in words."""
    plain = scripts - {"Latn"}  # Latin letters are everybody's: don't, d'état and l'été stay as they are
    shared = {char for char in found if unicodedata.category(char)[0] == "M" and script_of(char) in NEUTRAL}
    return patterns.Signs(
        scripts=scripts,
        shared_marks="".join(sorted(shared)),
        between="".join(sorted(char for char in found if char in BETWEEN)) if plain else "",
        behind="".join(sorted(char for char in found if char in BEHIND)) if plain else "",
        joined_scripts=plain,
    )


def _repaired(step: Any, signs: patterns.Signs) -> tuple[dict[str, Any] | None, str]:
    """A pre-tokenizer with its regexes repaired; None and the reason where that is not possible."""
    if not isinstance(step, dict):
        return None, "the base has no pre-tokenizer"
    if step["type"] == "Sequence":
        tried = [_repaired(part, signs) for part in step["pretokenizers"]]
        if not any(spec for spec, _ in tried):
            return None, next((why for _, why in tried if why != _NO_REGEX), _NO_REGEX)
        parts = [spec or part for (spec, _), part in zip(tried, step["pretokenizers"])]
        flat = [inner for part in parts for inner in (part["pretokenizers"] if _is_pair(part) else [part])]
        return step | {"pretokenizers": flat}, ""
    if step["type"] == "Split" and "Regex" in step.get("pattern", {}):
        pattern = patterns.extend(step["pattern"]["Regex"], signs)
        if pattern is None:
            return None, "the pre-tokenizer's regex is not one that can be repaired"
        return step | {"pattern": {"Regex": pattern}}, ""
    if step["type"] == "ByteLevel" and step.get("use_regex", True):
        if step.get("add_prefix_space"):
            return None, "the base puts a space before each text inside the step that would be repaired"
        pattern = patterns.extend(GPT2, signs)
        if pattern is None:
            return None, _NO_REGEX
        split = {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        return {"type": "Sequence", "pretokenizers": [split, step | {"use_regex": False}]}, ""
    return None, _NO_REGEX


def _is_pair(step: dict[str, Any]) -> bool:
    return step["type"] == "Sequence"
