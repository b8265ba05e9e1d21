"""Two forms of one tokenizer, tokenizer.json and a SentencePiece file: the same vocabulary, the same ids?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer import probes, samples
from fastvocab.tokenizer.sentencepiece_file import BYTE, CONTROL, NORMAL, USER_DEFINED, parse_proto

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FIX = "copy both from the same revision of the base model, or remove the one that is stale"
_BATCH = 1024


@dataclass(frozen=True)
class Disagreement:
    """Where tokenizer.json and the SentencePiece file of one base part.

    Attributes:
        lines: probe lines compared.
        unequal: how many of them have different ids.
        example: the shortest of these.
        json: its tokens by tokenizer.json, from the first one that differs.
        sentencepiece: its tokens by the SentencePiece file, likewise.
    """

    lines: int
    unequal: int
    example: str
    json: list[str]
    sentencepiece: list[str]

    def __str__(self) -> str:
        return (
            f"tokenizer.json and tokenizer.model give different ids on {self.unequal:,} of {self.lines:,} "
            f"probe lines, such as {self.example[:40]!r}: {' '.join(self.json[:8]) or 'nothing'} in one, "
            f"{' '.join(self.sentencepiece[:8]) or 'nothing'} in the other"
        )


def require_same_vocabulary(folder: Path, vocab: dict[str, int], added: dict[str, int], raw: bytes) -> None:
    """Refuse two forms that give the same id to different pieces.

    Raises:
        ModelError: with the first of the ids.
    """
    proto = parse_proto(raw)
    by_id = {token_id: token for token, token_id in (vocab | added).items()}
    beyond = set(added.values())
    wrong = [
        (index, piece.piece, by_id.get(index))
        for index, piece in enumerate(proto.pieces)
        # control, unused and user-defined pieces are renamed by finetunes; ordinary ones are the vocabulary
        if piece.type in (NORMAL, BYTE) and by_id.get(index) != piece.piece and index not in beyond
    ]
    if wrong:
        index, ours, other = wrong[0]
        raise ModelError(
            f"{folder}: tokenizer.json and tokenizer.model disagree on {len(wrong)} ids "
            f"(id {index} is {other!r} in one, {ours!r} in the other)",
            rule="both files hold the same vocabulary",
            fix=_FIX,
        )
    extra = sorted(i for i in vocab.values() if i >= len(proto.pieces) and i not in beyond)
    if extra:
        raise ModelError(
            f"{folder}: tokenizer.json has {len(extra)} tokens that tokenizer.model lacks (first: id "
            f"{extra[0]}, {by_id[extra[0]]!r})",
            rule="both files hold the same vocabulary",
            fix=_FIX,
        )


def compare(tokenizer: Tokenizer, raw: bytes, lines: Iterable[str] | None = None) -> Disagreement | None:
    """The ids of the two forms on ``lines`` (by default on built-in text); None where all are equal.

    Lines that name a control piece, or begin with a user-defined one, are left out: there the two must differ
    (see `convert`).
    """
    from sentencepiece import SentencePieceProcessor

    other = SentencePieceProcessor(model_proto=raw)
    proto = parse_proto(raw)
    texts = comparable(built_in(proto) if lines is None else lines, tokenizer, proto)
    wrong: list[tuple[str, list[int], list[int]]] = []
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        for text, encoding in zip(batch, tokenizer.encode_batch_fast(batch, add_special_tokens=False)):
            ids = other.encode(text)
            if encoding.ids != ids:
                wrong.append((text, encoding.ids, ids))
    if not wrong:
        return None
    text, ours, theirs = min(wrong, key=lambda row: len(row[0]))
    first = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    spelt = [tokenizer.id_to_token(i) or f"id {i}" for i in ours[first:]]
    return Disagreement(len(texts), len(wrong), text, spelt, [other.id_to_piece(i) for i in theirs[first:]])


def built_in(proto: Any) -> list[str]:
    """Lines that find a difference between the two forms: the pieces themselves, spaces, all scripts."""
    normal = [piece.piece for piece in proto.pieces if piece.type == NORMAL]
    return [
        *samples.built_in(),
        *samples.other_scripts(frozenset()),
        *probes.spaces(),
        *probes.random_unicode(),
        *(f"x{p.piece} y {p.piece}{p.piece}z" for p in proto.pieces if p.type == USER_DEFINED),
        *probes.every(normal),
    ]


def comparable(lines: Iterable[str], tokenizer: Tokenizer, proto: Any) -> list[str]:
    """The lines on which the two forms can be equal."""
    own = {piece.piece for piece in proto.pieces if piece.type == USER_DEFINED}
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    names = {piece.piece for piece in proto.pieces if piece.type == CONTROL} | (added - own)
    first = tuple(own) if proto.normalizer_spec.add_dummy_prefix else ()
    initials = {name[0] for name in names if name}
    pattern = re.compile("|".join(map(re.escape, sorted(names))) or r"(?!)")
    return [
        line
        for line in lines
        if not line.startswith(first) and (initials.isdisjoint(line) or not pattern.search(line))
    ]
