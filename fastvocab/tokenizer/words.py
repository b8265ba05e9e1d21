"""The words that tokens are learnt from: a bounded sample of any corpus, counted.

Both methods see words with their counts, not sentences. No piece crosses a space, so for BPE that is
equivalent; it makes training independent of the length of the text, and no line is too long to be read
(SentencePiece's `max_sentence_length` silently drops lines over 4,192 bytes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import regex

from fastvocab.errors import DataError
from fastvocab.sampling import sample
from fastvocab.tokenizer.bpe import META_SPACE
from fastvocab.tokenizer.guard import Guard
from fastvocab.unicode import UNSPACED, script_of

#: Separates the parts of a word that no piece may cross. A control character that cleaned text never holds.
CUT = "\x1f"
_FORBIDDEN = {CUT, "\x00", META_SPACE}

#: Signs inside words: between two letters ...
BETWEEN = "'’‘׳״\"՚"
#: ... and behind a letter, whatever follows: joiners, the tsheg of Tibetan, and the space of no width that
#: parts words in Khmer, Thai, Lao and Burmese text.
BEHIND = "\u200c\u200d\u0f0b\u0f0c\u200b"

#: A word with its space: letters, marks and the signs inside; or a run of anything else.
_PARTS = regex.compile(rf" ?\p{{L}}(?:[\p{{L}}\p{{M}}{BEHIND}]|[{BETWEEN}](?=\p{{L}}))*| ?[^\s\p{{L}}]+|\s+")

#: Longest piece in characters, with its space: whole words where spaces tell them apart, a word or two where
#: nothing does, two or three ideographs or a few kana.
_LONGEST, _LONGEST_UNSPACED, _LONGEST_IDEOGRAPHIC = 24, 14, 6
_IDEOGRAPHIC = frozenset({"Hani", "Hira", "Kana"})

#: What is between white space, with the one space before it.
_WORD = regex.compile(r" ?\S+")

#: Words are counted up to this many characters; longer runs (unspaced scripts) are taken in parts.
_LONGEST_WORD = 500

#: Splits a word, with the space before it, where no piece can go across.
Cut = Callable[[str], list[str]]


@dataclass(frozen=True)
class Words:
    """Target-script words of a sample.

    Attributes:
        counts: words that hold target-script characters, with how often they occur. A word that follows a
            space has it in front: the first word of a line is another one for a tokenizer.
        others: all other words of the sample.
        chars: their non-ASCII target characters with their counts, most frequent first.
        scripts: ISO 15924 codes of the target scripts.
        documents: documents in the corpus; bytes: size of the sample, UTF-8; total_bytes: of the corpus.
    """

    counts: Counter[str]
    others: Counter[str]
    chars: Counter[str]
    scripts: frozenset[str]
    documents: int
    bytes: int
    total_bytes: int

    @property
    def unit(self) -> str:
        """What tokens are counted by: ``word``, or ``character`` in scripts without spaces."""
        return "character" if self._share(UNSPACED) > 0.5 else "word"

    def _share(self, scripts: frozenset[str]) -> float:
        inside = sum(number for char, number in self.chars.items() if script_of(char) in scripts)
        return inside / max(1, sum(self.chars.values()))

    def units(self, counts: Counter[str]) -> int:
        """How many units counted words are."""
        if self.unit == "word":
            return sum(counts.values())
        return sum(len(word.lstrip()) * number for word, number in counts.items())

    @property
    def longest(self) -> int:
        """The longest piece, in characters, that the scripts call for."""
        if self._share(_IDEOGRAPHIC) > 0.5:
            return _LONGEST_IDEOGRAPHIC
        return _LONGEST_UNSPACED if self.unit == "character" else _LONGEST


def default_cut(word: str) -> list[str]:
    """Letters apart from the rest: for bases that do not cut words themselves (SentencePiece)."""
    return _PARTS.findall(word)


def draw(documents: Iterable[str], *, scripts: frozenset[str], max_bytes: int, seed: int) -> Words:
    """Count the target-script words of a sample of ``documents``, read once.

    Raises:
        DataError: if the text has no words in the target scripts.
    """
    texts, seen, total = sample(documents, max_bytes, seed)
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    guard = Guard(scripts)
    every: Counter[str] = Counter()
    while texts:
        every.update(_WORD.findall(texts.pop()))
    counts = target_words(every, guard)
    others = Counter({word: number for word, number in every.items() if word not in counts})
    del every
    if not counts:
        names = ", ".join(sorted(scripts)) or "none"
        raise DataError(
            f"the training text has no words to learn from: {seen:,} documents, {size:,} bytes, "
            f"0 words with non-ASCII characters of the target scripts ({names})",
            rule="new tokens are learnt from words in the target script; ASCII text is left as it is",
            fix="check that the corpus is in the language meant, or set its language or script",
        )
    every = Counter()
    for word, number in counts.items():
        for char in word:
            every[char] += number
    chars = Counter({char: number for char, number in every.most_common() if guard.is_target(char)})
    return Words(counts, others, chars, scripts, seen, size, total)


def count_target_words(texts: Iterable[str], guard: Guard) -> Counter[str]:
    """Words of ``texts`` that hold target-script characters, as in `Words.counts`."""
    return target_words(Counter(word for text in texts for word in _WORD.findall(text)), guard)


def target_words(counts: Counter[str], guard: Guard) -> Counter[str]:
    """The counted words that hold target-script characters; very long ones in parts."""
    words: Counter[str] = Counter()
    for word, number in counts.items():
        if guard.has_target(word) and not _FORBIDDEN & set(word):
            for start in range(0, len(word), _LONGEST_WORD):
                words[word[start : start + _LONGEST_WORD]] += number
    return words
