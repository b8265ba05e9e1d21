"""Extend a byte-level BPE base (GPT-2, Llama-3, Qwen, SmolLM2) with real merges.

Texts are spelt as UTF-8 bytes in the byte alphabet. The base's own pre-tokenizer stays as it is, so a text
that it cuts can never be one token and is passed over.
"""

from __future__ import annotations

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.bpe import encode, from_alphabet, to_alphabet, to_text
from fastvocab.tokenizer.grow import CUT, EXISTS, NORMALISED, OUTSIDE, Grower, Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.words import Cut


def cutter(base: Base) -> Cut:
    """A function that splits a text where the base's normaliser and pre-tokenizer split it."""
    normalizer, pre_tokenizer = base.cutting.normalizer, base.cutting.pre_tokenizer

    def cut(text: str) -> list[str]:
        if normalizer is not None:
            text = normalizer.normalize_str(text)
        # by the offsets: decoding the parts from the byte alphabet takes as long as cutting
        return [
            text[start:end] for _, (start, end) in pre_tokenizer.pre_tokenize_str(text) if end > start
        ] or [text]

    return cut


def _ranks(base: Base) -> dict[tuple[str, str], float]:
    # the library, too, lets the last of two equal merges win
    return {pair: place for place, pair in enumerate(base.merges)}


def grow(base: Base, wanted: list[str], *, limit: int, guard: Guard) -> Grown:
    """New tokens and merges for ``wanted`` texts, at most ``limit`` tokens."""
    ranks = _ranks(base)
    cut = cutter(base)
    first = len(ranks)
    verdicts: dict[str, bool] = {}

    def allows(spelling: str) -> bool:
        if spelling not in verdicts:
            raw = from_alphabet(spelling)
            verdicts[spelling] = raw is not None and guard.allows(raw) and _whole(raw)
        return verdicts[spelling]

    def _whole(raw: bytes) -> bool:
        # an intermediate that is text must itself survive the pre-tokenizer, or it could not be proven
        text = to_text(raw)
        return text is None or len(cut(text)) == 1

    grower = Grower(
        vocab=[*base.vocab, *base.added],
        rank_of=lambda a, b: ranks.get((a, b)),
        learn=lambda a, b: ranks.__setitem__((a, b), first + len(ranks)),
        forget=lambda a, b: ranks.__delitem__((a, b)),
        allows=allows,
        limit=limit,
        whole=lambda spelling: to_text(from_alphabet(spelling) or b"\xff") is not None,
    )
    places = {to_alphabet(text): place for place, text in enumerate(wanted)}
    for text in wanted:
        if grower.room == 0:
            break
        reason = _add(text, grower, base, cut, guard, places)
        if reason:
            grower.grown.rejected[reason] += 1
    return grower.grown


def _add(text: str, grower: Grower, base: Base, cut: Cut, guard: Guard, places: dict[str, int]) -> str | None:
    spelling = to_alphabet(text)
    if grower.has(spelling):
        # an earlier piece may have asked for it as a step on its way, which is no rejection
        return EXISTS if spelling in base.vocab else None
    normalizer = base.cutting.normalizer
    if normalizer is not None and normalizer.normalize_str(text) != text:
        return NORMALISED
    if len(cut(text)) != 1:
        return CUT
    if not guard.allows_text(text) or any(symbol not in base.vocab for symbol in spelling):
        return OUTSIDE
    return grower.add(spelling, places)


def describe(base: Base, tokens: list[str]) -> list[tuple[str | None, list[int]]]:
    """Text (None for a byte fragment) and base ids of each new spelling.

    A spelling outside the byte alphabet (a token that another tool added) is its own text, with no base ids.
    """
    ranks = _ranks(base)
    cut = cutter(base)
    rows: list[tuple[str | None, list[int]]] = []
    for token in tokens:
        raw = from_alphabet(token)
        text = None if raw is None else to_text(raw)
        if raw is None or any(symbol not in base.vocab for symbol in token):
            rows.append((token if raw is None else text, []))
            continue
        # the base itself may cut what a repaired pre-tokenizer leaves whole
        parts = [token] if text is None else [to_alphabet(part) for part in cut(text)]
        merged = (encode(part, lambda a, b: ranks.get((a, b))) for part in parts)
        rows.append((text, [base.vocab[symbol] for symbols in merged for symbol in symbols]))
    return rows
