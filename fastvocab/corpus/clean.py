"""What a document must be to be trained on, and the reason why it was dropped.

Cleaning changes only what nobody sees: NFC, line ends, control characters, trailing space. It is idempotent.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fastvocab.corpus import minhash, split
from fastvocab.corpus.seen import Seen
from fastvocab.errors import ConfigError
from fastvocab.unicode import dominant_scripts, language_scripts, letter_scripts

#: Why a document is dropped, in the order in which it is asked.
REASONS = {
    "empty": "nothing but white space",
    "not_text": "lone surrogates, or fewer than one letter in ten visible characters",
    "replacement_characters": "more than one U+FFFD in 200 characters: decoded wrongly before it came here",
    "too_short": "fewer characters than min_chars",
    "wrong_script": "a smaller share of its letters in the target scripts than min_script_share",
    "duplicate": "the same text, after cleaning, came before",
    "near_duplicate": "a text that is kept, and came before, is as similar to it as near_duplicates or more",
}

#: U+FFFD to characters. One in a page is a slip; with more, words are broken everywhere.
REPLACEMENT_SHARE = 1 / 200

#: Letters to visible characters. Ukrainian essays have 0.83 to 1, reference pages full of code 0.47
#: and more (measured on ua-gec and pydoc-topics); tables of numbers and rules of dashes stay below this.
LETTER_SHARE = 0.1

_BREAKS = "\r\x0b\x0c\x85\u2028\u2029"

# Besides those: control characters but tab and line feed; the byte order mark; soft hyphens (invisible, and
# they split words in text from the web); noncharacters (of the first plane: a class with others is 8 times
# slower). Joiners (U+200C, U+200D: Persian, Indic scripts, emoji), zero-width space (Khmer, Thai: the border
# of words) and bidirectional marks stay: they are spelling.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u2028\u2029\ufeff\ufdd0-\ufdef\ufffe\uffff]")

#: Scripts that are written together: where a corpus shows one, the others are no foreign text.
_TOGETHER = {
    "Hira": frozenset({"Hani", "Hira", "Kana"}),
    "Kana": frozenset({"Hani", "Hira", "Kana"}),
    "Hang": frozenset({"Hang", "Hani"}),
}


def clean_text(text: str) -> str:
    """``text`` in NFC with ``\\n`` line ends, without invisible junk, trailing spaces and outer blank lines.

    Any string is accepted, lone surrogates too (they stay).
    """
    text = _ODD.sub(lambda match: "\n" if match[0] in _BREAKS else "", text.replace("\r\n", "\n"))
    text = unicodedata.normalize("NFC", text)
    return "\n".join([line.rstrip() for line in text.split("\n")]).strip("\n")


def target_scripts(language: str | None, letters: Counter[str]) -> frozenset[str]:
    """The scripts (ISO 15924) that text of the corpus should be in.

    Those of the language, by CLDR; without a language, or for one that CLDR does not know, those that hold a
    fifth of ``letters`` (counted in a sample of the corpus), and what is written together with them: kana and
    kanji, hangul and hanja. Empty where there are no letters: then no script is wrong.

    Raises:
        ConfigError: ``language`` is no language tag.
    """
    if language:
        try:
            scripts = language_scripts(language)
        except ValueError as error:
            raise ConfigError(f"corpus.language: {error}") from None
        if scripts:
            return scripts
    scripts = dominant_scripts(letters)
    return scripts.union(*(_TOGETHER.get(script, frozenset()) for script in scripts))


def _add(total: Counter[str], letters: Mapping[str, int]) -> None:
    for script, count in letters.items():  # Counter.update takes three times as long for one or two
        total[script] += count


class Cleaned(NamedTuple):
    """A document after cleaning.

    Attributes:
        text: the cleaned text.
        reason: why it is dropped, a key of `REASONS`; None if it is kept.
        bytes: its length in UTF-8 (0 if it is dropped before that is known).
        key: `split.key` of it (0 likewise).
    """

    text: str
    reason: str | None
    bytes: int = 0
    key: int = 0


class Judged(NamedTuple):
    """What a document says by itself, whatever other documents there are: the work that can be dealt out.

    Attributes:
        text, reason, bytes, key: as in `Cleaned`; ``reason`` may still become one that others give.
        letters: letters by script, if it is text.
        signature: `minhash.Signer`'s, if it was made already.
    """

    text: str
    reason: str | None
    bytes: int = 0
    key: int = 0
    letters: Mapping[str, int] = {}
    signature: minhash.Signature = b""


@dataclass
class Cleaner:
    """Cleans documents one by one, decides on each, and counts.

    `judge` does what one document alone decides, in any process; `settle` the rest, in the order of the corpus.

    Args:
        scripts: target scripts; empty for any.
        min_chars: fewest characters (code points) of a document.
        min_script_share: smallest share, 0 to 1, of its letters in ``scripts``.
        near_duplicates: similarity, 0.5 to 1, from which a document is a near-duplicate of one before it
            (`minhash`); None for keeping them.

    Attributes:
        dropped: documents by reason.
        kept_letters: letters by script of what was kept.
        read_letters: letters by script of everything that is text, kept or not.
    """

    scripts: frozenset[str] = frozenset()
    min_chars: int = 10
    min_script_share: float = 0.5
    near_duplicates: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_script_share <= 1:
            raise ConfigError(f"min_script_share is {self.min_script_share}", rule="a share from 0 to 1")
        if self.min_chars < 0:
            raise ConfigError(f"min_chars is {self.min_chars}", rule="a number of characters, 0 or more")
        minhash.check_threshold(self.near_duplicates)
        self.dropped: Counter[str] = Counter()
        self.kept_letters: Counter[str] = Counter()
        self.read_letters: Counter[str] = Counter()
        self._seen = Seen()
        self._sign, self._near = None, None
        if self.near_duplicates is not None:
            self._sign, self._near = minhash.Signer(), minhash.Near(self.near_duplicates)

    def __call__(self, text: str) -> Cleaned:
        """Clean one document's text and decide on it."""
        return self.settle(self.judge(text))

    def judge(self, text: str) -> Judged:
        """Clean one document's text, and say what is to be known of it without any other."""
        text = clean_text(text)
        if not text or text.isspace():
            return Judged(text, "empty")
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:  # lone surrogates, as from a broken "\ud83d" in JSON
            return Judged(text, "not_text")
        if text.count("\ufffd") > len(text) * REPLACEMENT_SHARE:
            return Judged(text, "replacement_characters")
        if len(text) < self.min_chars:
            return Judged(text, "too_short")
        letters = letter_scripts(text, neutral=True)
        visible = len(text) - text.count(" ") - text.count("\n") - text.count("\t")
        neutral = letters.pop("Zyyy", 0)
        scripted = letters.total()
        if scripted + neutral < visible * LETTER_SHARE:
            return Judged(text, "not_text")
        own = sum(letters[script] for script in self.scripts)
        if self.scripts and own < scripted * self.min_script_share:
            return Judged(text, "wrong_script", letters=letters)
        return Judged(text, None, len(data), split.key(data), letters)

    def signed(self, judged: Judged) -> Judged:
        """``judged`` with its signature, where `settle` will ask for it: most of the work, if there is any."""
        if self._sign is None or judged.reason:
            return judged
        return judged._replace(signature=self._sign(judged.text))

    def settle(self, judged: Judged) -> Cleaned:
        """Decide on the next document of the corpus, by all that came before it, and count it."""
        reason = judged.reason or self._known(judged)
        _add(self.read_letters, judged.letters)
        if reason:
            self.dropped[reason] += 1
        else:
            _add(self.kept_letters, judged.letters)
        return Cleaned(judged.text, reason, judged.bytes, judged.key)

    def _known(self, judged: Judged) -> str | None:
        if not self._seen.add(judged.key):
            return "duplicate"
        if self._near and not self._near.add(judged.signature or self.signed(judged).signature):
            return "near_duplicate"
        return None
