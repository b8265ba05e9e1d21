"""Which merges may be added: only those that cannot fire outside text of the target scripts.

A merge fires wherever the bytes of its result occur. UTF-8 is self-synchronising, so a result that holds a
whole target-script character occurs only in text with that character. A result that ends in the first bytes
of a character occurs in the text of every script that shares these bytes; it is allowed if that is the target
script (Georgian E1 83), refused if others would change (E1 82 is Georgian and Myanmar).

ASCII letters are never "target" characters: pieces re-spelt with the all-ASCII ones dropped changed 0% of
English lines, those learnt from words with a non-ASCII character somewhere changed 18%.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import regex

from fastvocab.tokenizer.bpe import to_text
from fastvocab.unicode import NEUTRAL, script_of, script_ranges

#: Loan words that ordinary English spells with diacritics; a Latin-script target must leave them as they are.
ENGLISH_LOANS = (
    "à la carte café cafés canapé Chloé Zoë Zoé naïve naïvely naïveté façade façades fiancé fiancée cliché "
    "clichés clichéd résumé "
    "résumés exposé attaché protégé sauté soufflé purée entrée décor déjà vu crème brûlée crêpe "
    "éclair élite ménage à trois piñata jalapeño señor señora El Niño São Paulo Málaga Bogotá México "
    "Québec Montréal Côte d’Ivoire Curaçao Zürich Köln München Düsseldorf Göttingen Malmö Ångström "
    "ångström über Über doppelgänger Führer Müller Schrödinger Gödel Erdős Poincaré Möbius Böhm "
    "coöperate coöperation reëlect Brontë Beyoncé Pokémon Björk Motörhead Häagen-Dazs Nestlé smörgåsbord "
    "vis-à-vis voilà touché passé blasé rosé pâté papier-mâché tête-à-tête raison d’être coup d’état "
    "maître d’ matinée née soirée señorita mañana Dvořák Søren Kierkegaard Æsop æther œuvre hors d’œuvre"
)

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_EDGES = regex.compile(r"^[^\p{L}\p{M}]+|[^\p{L}\p{M}]+$")


@lru_cache(maxsize=4096)
def _scripts_of_prefix(prefix: bytes) -> tuple[Counter[str], bool]:
    """Scripts of all assigned characters whose UTF-8 begins with ``prefix``; and whether all are marks."""
    lead = prefix[0]
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    low = prefix + b"\x80" * (length - len(prefix))
    high = prefix + b"\xbf" * (length - len(prefix))

    def point(raw: bytes) -> int:
        value = raw[0] & (0x7F >> length)
        for byte in raw[1:]:
            value = value << 6 | byte & 0x3F
        return value

    counts: Counter[str] = Counter()
    marks = True
    for code in range(max(point(low), 0x80), min(point(high), sys.maxunicode) + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if category in ("Cn", "Cs", "Co"):
            continue
        counts[script_of(char)] += 1
        marks = marks and category[0] == "M"
    return counts, marks and bool(counts)


@lru_cache(maxsize=64)
def _target(scripts: frozenset[str]) -> regex.Pattern[str]:
    """Matches a non-ASCII character of the scripts: one search is 10 times a look at each character."""
    spans = [
        f"\\U{max(first, 0x80):08x}-\\U{last:08x}" for first, last in script_ranges(scripts) if last > 0x7F
    ]
    return regex.compile(f"[{''.join(spans)}]" if spans else r"(?!)")


class Guard:
    """Decides on merge results for a set of target scripts.

    Args:
        scripts: ISO 15924 codes of the target scripts.
        protected: text of the base's own languages. With a Latin target, a merge whose letters occur in it is
            refused (English "café" against a French or Vietnamese target).
        added: contents of the base's added tokens. They are found in a text before anything is merged, so no
            token that holds one could be reached.
        frequent: characters of the training text with their counts; tells whether a script can be served
            without touching a prefix that it shares.
    """

    def __init__(
        self,
        scripts: frozenset[str],
        protected: Iterable[str] = (),
        frequent: Counter[str] | None = None,
        added: Iterable[str] = (),
    ) -> None:
        self.scripts = scripts
        self._target = _target(scripts)
        self._protected = ""
        self._protected_chars: frozenset[str] = frozenset()
        if "Latn" in scripts:
            words = {word for text in (*protected, ENGLISH_LOANS) for word in _LETTERS.findall(text)}
            words |= {word.capitalize() for word in words}
            foreign = sorted(word for word in words if not word.isascii())
            self._protected = "\n".join(f" {word}" for word in foreign)
            self._protected_chars = frozenset(self._protected) - {"\n", " "}
        contents = sorted({content for content in added if self.has_target(content)})
        self._added = regex.compile("|".join(map(regex.escape, contents))) if contents else None
        self._needed = _needed_prefixes(frequent or Counter(), scripts)
        self._verdicts: dict[bytes, bool] = {}

    def is_target(self, char: str) -> bool:
        """True for a non-ASCII character of a target script."""
        return char > "\x7f" and script_of(char) in self.scripts

    def has_target(self, text: str) -> bool:
        """True if ``text`` can be recognised as target-script text: it holds a non-ASCII target character,
        or an ASCII letter of a target script with a combining mark on it."""
        if text.isascii():
            return False
        if self._target.search(text):
            return True
        return "Latn" in self.scripts and any(
            a.isascii() and a.isalpha() and unicodedata.category(b)[0] == "M" for a, b in pairwise(text)
        )

    def allows_text(self, text: str) -> bool:
        """May a token with this text exist?"""
        return self.has_target(text) and not self._in_protected(text) and not self._holds_added(text)

    def _holds_added(self, text: str) -> bool:
        return self._added is not None and self._added.search(text) is not None

    def allows(self, raw: bytes) -> bool:
        """May a merge with this result (UTF-8 bytes, at most cut at both ends) exist?"""
        verdict = self._verdicts.get(raw)
        if verdict is None:
            verdict = self._verdicts[raw] = self._decide(raw)
        return verdict

    def _in_protected(self, text: str) -> bool:
        if not self._protected:
            return False
        text = text.replace("▁", " ")
        # "-à" fires in "vis-à-vis" and "(à" in "(à la carte)": what stands around the letters decides nothing
        return text in self._protected or _EDGES.sub("", text) in self._protected

    def _decide(self, raw: bytes) -> bool:
        body, tail = split_fragment(raw)
        text = to_text(body)
        if text is None:
            return False
        if self.has_target(text):
            # the letters alone decide: the cut bytes at either end only narrow it down
            return not self._in_protected(text) and not self._holds_added(text)
        if not tail:
            return False
        counts, marks = _scripts_of_prefix(tail)
        if marks and "Latn" in self.scripts and text and text[-1].isascii() and text[-1].isalpha():
            return True  # a Latin letter and the first byte of a combining mark (Yoruba ọ̀, Vietnamese NFD)
        if not self.scripts & set(counts):
            return False
        if any(_starts(char, tail) for char in self._protected_chars):
            return False
        # Common characters may share it where letters of another script may not: Thai is E0 B8 and so is ฿
        return not set(counts) - self.scripts - NEUTRAL or tail in self._needed


def protectable(texts: Iterable[str], scripts: frozenset[str]) -> bool:
    """True if the base's own text can be kept as it is word for word although it is in a target script.

    English with a loan word here and there can (under one word in twenty has a non-ASCII target letter);
    text that is itself largely in such letters cannot, and only its other lines are compared.
    """
    guard = Guard(scripts)
    words = [word for text in texts for word in _LETTERS.findall(text)]
    return "Latn" in scripts and sum(map(guard.has_target, words)) * 20 < len(words)


def _starts(char: str, prefix: bytes) -> bool:
    return char.encode("utf-8").startswith(prefix)


def _needed_prefixes(frequent: Counter[str], scripts: frozenset[str]) -> frozenset[bytes]:
    """Prefixes behind which at least a tenth of the target text lies, so that no merge is possible without.

    Scripts beyond the BMP share their first two bytes with others (Adlam F0 9E with Wancho), and Cherokee
    shares E1 8E with the Ethiopic supplement: without these prefixes such a script stays at one token a byte.
    Rare characters are not worth another script's tokens.
    """
    counts: Counter[bytes] = Counter()
    total = 0
    for char, number in frequent.items():
        if char > "\x7f" and script_of(char) in scripts:
            raw = char.encode("utf-8")
            total += number
            for length in range(1, len(raw)):
                counts[raw[:length]] += number
    # one byte alone is never a merge; longer prefixes are
    return frozenset(p for p, n in counts.items() if len(p) > 1 and n * 10 >= total)


def shared_prefix(raw: bytes, scripts: frozenset[str]) -> bytes | None:
    """The incomplete character that a new byte fragment ends in, if others than the target's begin so too.

    Such characters merge one step further than before the extension; they still decode to themselves.
    """
    body, tail = split_fragment(raw)
    if not tail or not body.isascii():
        return None
    behind = set(_scripts_of_prefix(tail)[0])
    return tail if behind & scripts and behind - scripts else None


def split_fragment(raw: bytes) -> tuple[bytes, bytes]:
    """``raw`` without continuation bytes at its start, as (whole characters, incomplete last character)."""
    start = 0
    while start < len(raw) and raw[start] & 0xC0 == 0x80:
        start += 1
    raw = raw[start:]
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return (raw[:-back], raw[-back:]) if length > back else (raw, b"")
    return raw, b""
