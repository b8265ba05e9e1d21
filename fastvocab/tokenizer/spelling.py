"""Texts as a base spells them, and what its merges alone make of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.bpe import META_SPACE, from_alphabet, to_alphabet
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.words import Cut

_BATCH = 4096


def spell(kind: Kind, text: str) -> str:
    """``text`` (a space is a space) in the symbols of a base: bytes in the byte alphabet, or ``▁`` for a space."""
    return to_alphabet(text) if kind is Kind.BYTE_LEVEL else text.replace(" ", META_SPACE)


def token_bytes(kind: Kind, token: str) -> bytes:
    """The bytes that a token of the model vocabulary stands for; none for a special token."""
    if kind is Kind.BYTE_LEVEL:
        return from_alphabet(token) or b""
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace(META_SPACE, " ").encode("utf-8")


def merge_all(base: Base, texts: Iterable[str], grown: Grown | None = None) -> Iterator[list[int]]:
    """Ids of each text (a space is a space) by the merges of ``base`` alone, or with new ones; it is not cut."""
    merging = base.merging_with(grown.tokens, grown.merges) if grown else base.merging
    spelt = [spell(base.kind, text) for text in texts]
    for start in range(0, len(spelt), _BATCH):
        for encoding in merging.encode_batch_fast(spelt[start : start + _BATCH], add_special_tokens=False):
            yield encoding.ids


def count_parts(words: Counter[str], cut: Cut, guard: Guard) -> Counter[str]:
    """The parts, with a target character in them, into which words are cut."""
    parts: Counter[str] = Counter()
    for word, number in words.items():
        for part in cut(word):
            parts[part] += number
    return Counter({part: number for part, number in parts.items() if guard.has_target(part)})
