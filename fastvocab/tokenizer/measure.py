"""What a tokenizer makes of held-out text: tokens per word, bytes and characters per token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import regex

from fastvocab.tokenizer.bpe import META_SPACE
from fastvocab.unicode import UNSPACED, dominant_scripts, letter_scripts

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from tokenizers import Tokenizer

#: A word: a maximal run of letters and marks (UAX #29 goes further; this is the same in every script).
WORD = regex.compile(r"[\p{L}\p{M}]+")

_BATCH = 1024


def lines_of(texts: Iterable[str]) -> list[str]:
    """The lines of ``texts`` that hold anything."""
    return [line for text in texts for line in text.splitlines() if line.strip()]


def encode_all(tokenizer: Tokenizer | SentencePieceProcessor, texts: list[str]) -> Iterator[list[int]]:
    """Ids of each text without special tokens, encoded in batches on all cores."""
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        if hasattr(tokenizer, "encode_batch_fast"):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield encoding.ids
        else:
            yield from tokenizer.encode(batch)


def measure(
    tokenizer: Tokenizer | SentencePieceProcessor, texts: list[str], *, new_ids: frozenset[int] = frozenset()
) -> dict[str, Any]:
    """Figures of ``tokenizer`` on ``texts``.

    Returns:
        ``tokens``, ``bytes`` (UTF-8), ``characters``, ``words``; ``bytes_per_token``,
        ``characters_per_token``; ``tokens_per_word`` (all tokens of the text, punctuation included, for
        each word) and ``tokens_per_word_alone`` (tokens of the words themselves, each with the space before
        it). In scripts written without spaces a word cannot be told without a dictionary: these are None,
        ``unit`` is ``character``, and ``tokens_per_character`` is the figure to read. With ``new_ids`` also
        ``new_tokens_used``, the share of them that occur.
    """
    lines = lines_of(texts)
    tokens = 0
    used: set[int] = set()
    for ids in encode_all(tokenizer, lines):
        tokens += len(ids)
        used.update(ids)
    characters = sum(map(len, lines))
    size = sum(len(line.encode("utf-8", "replace")) for line in lines)
    scripts = dominant_scripts(sum((letter_scripts(line) for line in lines[:2000]), letter_scripts("")))
    spaced = not scripts & UNSPACED
    words = [word for line in lines for word in WORD.findall(line)] if spaced else []
    figures: dict[str, Any] = {
        "unit": "word" if spaced else "character",
        "lines": len(lines),
        "tokens": tokens,
        "bytes": size,
        "characters": characters,
        "words": len(words) if spaced else None,
        "tokens_per_word": _ratio(tokens, len(words)),
        "tokens_per_word_alone": _ratio(_alone(tokenizer, words), len(words)),
        "tokens_per_character": _ratio(tokens, characters),
        "bytes_per_token": _ratio(size, tokens),
        "characters_per_token": _ratio(characters, tokens),
    }
    if new_ids:
        figures["new_tokens_seen"] = len(used & new_ids)
        figures["new_tokens_used"] = _ratio(len(used & new_ids), len(new_ids))
    return figures


def _alone(tokenizer: Tokenizer | SentencePieceProcessor, words: list[str]) -> int:
    counts = Counter(words)
    # a space in front of each word, unless the tokenizer puts one there itself
    own = _first_token(tokenizer).startswith(META_SPACE)
    texts = list(counts) if own else [f" {word}" for word in counts]
    return sum(len(ids) * number for number, ids in zip(counts.values(), encode_all(tokenizer, texts)))


def _first_token(tokenizer: Tokenizer | SentencePieceProcessor) -> str:
    first = next(encode_all(tokenizer, ["a"]))[0]
    name = tokenizer.id_to_token if hasattr(tokenizer, "id_to_token") else tokenizer.id_to_piece
    return str(name(first))


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
