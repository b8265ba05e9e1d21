"""Byte-pair encoding on symbols, and the two ways in which bases spell text as symbols.

The merging needs to ask "what would this piece be, with the merges so far?" tens of thousands of times while
the merges grow. The tokenizers library compiles its merges once, so the question is answered here, in plain
Python; `verify` then checks the outcome against the library itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

#: SentencePiece's spelling of a space.
META_SPACE = "▁"

#: Gives the priority of merging two neighbours (the lowest goes first), or None where they do not merge.
Rank = Callable[[str, str], float | None]
_NEVER = float("inf")


@cache
def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for shift, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + shift)
    return table


@cache
def _tables() -> tuple[dict[int, str], dict[int, int]]:
    """For `str.translate`: Latin-1 characters (bytes) to the alphabet, and back; what is not in the alphabet
    goes where Latin-1 cannot encode it."""
    there = dict(byte_alphabet().items())
    back = {ord(char): byte for byte, char in there.items()}
    return there, {code: 0x10FFFF for code in range(256) if code not in back} | back


def to_alphabet(text: str) -> str:
    """``text`` as UTF-8 bytes in the byte alphabet: " я" becomes "ĠÑı"."""
    return text.encode("utf-8").decode("latin-1").translate(_tables()[0])


def from_alphabet(spelling: str) -> bytes | None:
    """The bytes of a byte-level token; None for a token outside the byte alphabet (a special token)."""
    try:
        return spelling.translate(_tables()[1]).encode("latin-1")
    except UnicodeEncodeError:
        return None


def to_text(raw: bytes) -> str | None:
    """Bytes as text, None where they are not whole UTF-8 characters (a byte fragment)."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def encode(symbols: Sequence[str], rank: Rank) -> list[str]:
    """Merge the best-ranked neighbours, leftmost first, until none are left.

    This is the order of both the tokenizers library's BPE and SentencePiece's BPE. Pieces are short (tens of
    symbols), so looking over all neighbours each time beats a heap.
    """
    tokens = list(symbols)

    def value(place: int) -> float:
        found = rank(tokens[place], tokens[place + 1])
        return _NEVER if found is None else found

    ranks = list(map(value, range(len(tokens) - 1)))
    while ranks:
        lowest = min(ranks)
        if lowest == _NEVER:
            break
        best = ranks.index(lowest)
        tokens[best : best + 2] = [tokens[best] + tokens[best + 1]]
        del ranks[best]
        if best > 0:
            ranks[best - 1] = value(best - 1)
        if best < len(ranks):
            ranks[best] = value(best)
    return tokens
