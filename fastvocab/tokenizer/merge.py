"""Merge trained pieces into a base tokenizer: one call for every kind of base."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from fastvocab.tokenizer import byte_level, sentencepiece_base
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.words import Cut, default_cut

#: Characters go first, most frequent first, until they cover this much of the target text; rarer ones go
#: last. In scripts of thousands of characters a common character saves more than a rare pair.
CHARACTERS_FIRST = 0.98


@dataclass(frozen=True)
class NewToken:
    """A row that the model gets.

    Attributes:
        id: its id.
        token: its spelling in the vocabulary.
        text: what it decodes to; None for a byte fragment.
        base_ids: ids of the same bytes under the base's own merges: what the model read in this place before.
    """

    id: int
    token: str
    text: str | None
    base_ids: list[int]


@dataclass(frozen=True)
class Merged:
    """An extended tokenizer as data: tokenizer.json, the SentencePiece file if there is one, new tokens."""

    spec: dict[str, Any]
    proto: bytes | None
    tokens: list[NewToken]
    grown: Grown


def cutter(base: Base) -> Cut:
    """How words are cut before merging: as the base does, or letters apart from the rest where it does not."""
    if base.kind is Kind.BYTE_LEVEL:
        return byte_level.cutter(base)
    return lambda text: default_cut(sentencepiece_base.normalised(base, text))


def candidates(pieces: list[str], chars: Counter[str], guard: Guard) -> tuple[list[str], int]:
    """Wanted texts (spaces as spaces) in order, without pieces that hold no target character.

    Returns:
        the texts, and how many pieces were dropped for lack of a target character.
    """
    total = sum(chars.values())
    early: list[str] = []
    late: list[str] = []
    covered = 0
    for char, number in chars.most_common():
        (early if covered < CHARACTERS_FIRST * total else late).append(char)
        covered += number
    kept = [text for text in pieces if guard.has_target(text)]
    return list(dict.fromkeys([*early, *kept, *late])), len(pieces) - len(kept)


def grow(base: Base, wanted: list[str], *, limit: int, guard: Guard) -> Grown:
    """New tokens and merges for ``wanted`` texts, at most ``limit`` tokens.

    Args:
        base: the base tokenizer, with the pre-tokenizer that the extended one will have.
        wanted: texts that should become tokens, the most useful first; more than ``limit`` of them, since
            some exist, are cut by the pre-tokenizer, or could fire in other text.
        limit: fewer are given if the candidates run out.
        guard: decides which merges may be added.
    """
    module = byte_level if base.kind is Kind.BYTE_LEVEL else sentencepiece_base
    return module.grow(base, wanted, limit=limit, guard=guard)


def assemble(source: Base, base: Base, grown: Grown) -> Merged:
    """The files of an extended tokenizer.

    Args:
        source: the base tokenizer as it was.
        base: the same with the pre-tokenizer that the extended one has.
        grown: its new tokens.
    """
    module = byte_level if base.kind is Kind.BYTE_LEVEL else sentencepiece_base
    described = module.describe(source, grown.tokens)
    proto = sentencepiece_base.write_proto(base, grown.tokens) if base.proto is not None else None
    tokens = [
        NewToken(base.next_id + place, token, text, base_ids)
        for place, (token, (text, base_ids)) in enumerate(zip(grown.tokens, described))
    ]
    return Merged(extend_spec(base, grown), proto, tokens, grown)


def extend_spec(base: Base, grown: Grown) -> dict[str, Any]:
    """tokenizer.json with the new tokens and merges; everything else as it was.

    Tokens that lie only in ``added_tokens`` (the special tokens of Llama-3 and Qwen) enter the model
    vocabulary at their own ids. Without that a reload numbers them anew from the grown vocabulary on:
    ``<|begin_of_text|>`` moved from 128000 to 136000.
    """
    vocab = dict(base.vocab)
    for content, token_id in base.added.items():
        vocab.setdefault(content, token_id)
    vocab.update({token: base.next_id + place for place, token in enumerate(grown.tokens)})
    old = base.spec["model"]["merges"]
    as_strings = bool(old) and isinstance(old[0], str)
    new = [f"{a} {b}" if as_strings else [a, b] for a, b in grown.merges]
    model = base.spec["model"] | {"vocab": vocab, "merges": [*old, *new]}
    return base.spec | {"model": model}
