"""Extend a SentencePiece-style base (Llama-2, Mistral, Gemma): symbols are characters, a space is ``▁``.

SentencePiece merges any two neighbours whose joined spelling is a piece, best score first; tokenizer.json
lists the pairs. New pieces get scores below the base's lowest (with score 0 they fire first and change 9.8%
of English lines), and one pair each in tokenizer.json: the last step of their own path, since no other can
occur.
"""

from __future__ import annotations

from collections.abc import Callable

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.bpe import META_SPACE, Rank, encode
from fastvocab.tokenizer.grow import COSTLY, EXISTS, NORMALISED, OUTSIDE, Grower, Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.sentencepiece_file import CONTROL, NORMAL, UNUSED, USER_DEFINED, parse_proto


def _ranking(base: Base) -> tuple[Rank, Callable[[str, str], None], Callable[[str, str], None]]:
    """The base's merge priorities as (rank of, learn, forget)."""
    if base.proto is None:
        pairs: dict[tuple[str, str], float] = {pair: place for place, pair in enumerate(base.merges)}
        first = len(pairs)
        return (
            lambda a, b: pairs.get((a, b)),
            lambda a, b: pairs.__setitem__((a, b), first + len(pairs)),
            lambda a, b: pairs.__delitem__((a, b)),
        )
    pieces: dict[str, float] = {
        piece.piece: -piece.score for piece in parse_proto(base.proto).pieces if piece.type == NORMAL
    }
    lowest = max(pieces.values()) + 1
    return (
        lambda a, b: pieces.get(a + b),
        lambda a, b: pieces.__setitem__(a + b, lowest + len(pieces)),
        lambda a, b: pieces.__delitem__(a + b),
    )


def normalised(base: Base, text: str) -> str:
    """``text`` (a space is a space) as the base's normaliser makes it, without what that puts in front."""
    normalizer = base.cutting.normalizer
    if normalizer is None:
        return text
    done: str = normalizer.normalize_str("x" + text).replace(META_SPACE, " ")
    return done[done.index("x") + 1 :]


def _as_it_is(base: Base, text: str) -> bool:
    return normalised(base, text) == text


def grow(base: Base, wanted: list[str], *, limit: int, guard: Guard) -> Grown:
    """New tokens and merges for ``wanted`` texts, at most ``limit`` tokens.

    tokenizer.json turns a character that is no token into bytes at once, so every character of a piece is
    made a token first.
    """
    rank_of, learn, forget = _ranking(base)
    vocab = base.vocab
    grower = Grower(
        vocab=[*vocab, *base.added],
        rank_of=rank_of,
        learn=learn,
        forget=forget,
        allows=lambda spelling: guard.allows_text(spelling.replace(META_SPACE, " ")),
        limit=limit,
    )
    places = {text.replace(" ", META_SPACE): place for place, text in enumerate(wanted)}
    for text in wanted:
        if grower.room == 0:
            break
        spelling = text.replace(" ", META_SPACE)
        if not _as_it_is(base, text):
            grower.grown.rejected[NORMALISED] += 1
            continue
        reason: str | None = None
        missing = sorted({char for char in spelling if not grower.has(char)})
        if grower.has(spelling):
            reason = EXISTS if spelling in vocab else None
        elif not guard.allows_text(text) or any(
            not (guard.is_target(char) and guard.allows_text(char)) for char in missing
        ):
            reason = OUTSIDE
        elif len(missing) + (len(spelling) > 1) > grower.room:
            reason = COSTLY
        else:
            for char in missing:
                grower.add_symbol(char)
            if len(spelling) > 1:
                reason = grower.add(spelling, places)
        if reason:
            grower.grown.rejected[reason] += 1
    return grower.grown


def describe(base: Base, tokens: list[str]) -> list[tuple[str | None, list[int]]]:
    """Text and base ids of each new spelling; characters that the base lacks are bytes in it."""
    rank_of, _, _ = _ranking(base)
    vocab = base.vocab
    rows: list[tuple[str | None, list[int]]] = []
    for token in tokens:
        ids: list[int] = []
        for part in encode(token, rank_of):
            if part in vocab:
                ids.append(vocab[part])
            else:
                ids += [vocab[f"<0x{byte:02X}>"] for byte in part.encode("utf-8")]
        rows.append((token.replace(META_SPACE, " "), ids))
    return rows


def write_proto(base: Base, tokens: list[str]) -> bytes:
    """The base's SentencePiece model with the new pieces at its end; all else (normaliser, byte fallback,
    dummy prefix, old pieces) as it was.

    A piece's id is its place, so tokens that the base had added beyond its SentencePiece file
    (``<|im_start|>`` at 32000) take their places as control or user-defined pieces.
    """
    import numpy

    assert base.proto is not None, "only a SentencePiece base has a model file"
    proto = parse_proto(base.proto)
    added = {token["id"]: token for token in base.spec.get("added_tokens") or ()}
    for index in range(len(proto.pieces), base.next_id):
        token = added.get(index)
        kind = UNUSED if token is None else CONTROL if token["special"] else USER_DEFINED
        proto.pieces.add(piece=token["content"] if token else f"<unused_{index}>", score=0.0, type=kind)
    # Scores are 32-bit: at -1e9, where Mistral keeps its runs of spaces, neighbouring values lie 64 apart
    score = numpy.float32(min(piece.score for piece in proto.pieces))
    for token in tokens:
        score = min(score - numpy.float32(1), numpy.nextafter(score, numpy.float32(-numpy.inf)))
        proto.pieces.add(piece=token, score=float(score), type=NORMAL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    return proto.SerializeToString()
