"""tokenizer.json from a SentencePiece BPE file, with equal ids.

transformers' own conversion takes the vocabulary over, but not all of what SentencePiece does with it: for
Mistral v3 it differs on 534 of 1,783 probe lines, because a leading space is not doubled and because runs of
spaces break otherwise (their 15 pieces all have the score -1e9). Here the merges, the normaliser and the
decoder are made from the file itself; what transformers says about special tokens is kept.

Where the two forms must differ: the text of a control piece (``<s>``) is the control token in tokenizer.json
(chat templates need it) and ordinary characters in SentencePiece, and before a user-defined piece at the
very start of a text (``[REF] a``) SentencePiece puts a ``▁``, for which an added token leaves no room.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from fastvocab.tokenizer.bpe import META_SPACE, Rank, encode
from fastvocab.tokenizer.kinds import refusal
from fastvocab.tokenizer.sentencepiece_file import NORMAL, USER_DEFINED, parse_proto


def convert(spec: dict[str, Any], raw: bytes, folder: Path) -> dict[str, Any]:
    """A tokenizer.json that gives the ids of a SentencePiece file.

    Args:
        spec: tokenizer.json as transformers converts the file: vocabulary, added tokens, post-processor.
        raw: the file.
        folder: where it lies, for errors.

    Raises:
        ModelError: if the file asks for something that tokenizer.json cannot say.
    """
    proto = parse_proto(raw)
    rules = proto.normalizer_spec
    if not rules.escape_whitespaces:
        raise refusal(folder, "a SentencePiece model that does not spell a space as ▁ (escape_whitespaces)")
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise refusal(folder, "a SentencePiece model with spaces at the end of words")
    vocab = spec["model"]["vocab"]
    unknown = proto.trainer_spec.unk_id
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": next((token for token, index in vocab.items() if index == unknown), None),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": proto.trainer_spec.byte_fallback,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": [list(pair) for pair in merges(proto) if all(part in vocab for part in pair)],
    }
    return spec | {
        "added_tokens": _added(spec.get("added_tokens") or [], proto),
        "normalizer": _normalizer(rules),
        "pre_tokenizer": _pre_tokenizer(rules.add_dummy_prefix),
        "decoder": _decoder(rules.add_dummy_prefix),
        "model": model,
    }


def merges(proto: Any) -> list[tuple[str, str]]:
    """One merge for each piece that can form, in order of priority.

    SentencePiece merges any two neighbours whose join is a piece, best score first, leftmost first among
    equals. As long as no merge crosses a piece's edges, its inside goes the same way as when it stands alone,
    so the last step of that way is the only split that can ever occur, and one merge says it: 28,446 for
    Mistral, where listing all splits gives 58,980. Pieces of equal score are ordered longest first, since a
    run of spaces grows from its left end (▁▁ ▁ before ▁ ▁).
    """
    scores = {piece.piece: -piece.score for piece in proto.pieces if piece.type == NORMAL}
    rows: list[tuple[tuple[float, int], tuple[str, str]]] = []
    for piece, score in scores.items():
        pair = last_merge(piece, lambda a, b: scores.get(a + b)) if len(piece) > 1 else None
        if pair is not None:
            rows.append(((score, -len(piece)), pair))
    rows.sort(key=lambda row: row[0])
    return [pair for _, pair in rows]


def last_merge(piece: str, rank: Rank) -> tuple[str, str] | None:
    """The merge that completes ``piece`` when it stands alone; None if it does not become one token."""
    parts = encode(piece, lambda a, b: None if len(a) + len(b) == len(piece) else rank(a, b))
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _added(tokens: list[dict[str, Any]], proto: Any) -> list[dict[str, Any]]:
    """Added tokens as transformers gives them; a user-defined piece with ``▁`` is matched after spaces are ▁."""
    spaced = {p.piece for p in proto.pieces if p.type == USER_DEFINED and META_SPACE in p.piece}
    return [token | {"normalized": True} if token["content"] in spaced else token for token in tokens]


def _normalizer(rules: Any) -> dict[str, Any]:
    """What SentencePiece does to a text before it is cut, but for the space that it puts in front."""
    parts: list[dict[str, Any]] = []
    if rules.precompiled_charsmap:
        charsmap = base64.b64encode(rules.precompiled_charsmap).decode("ascii")
        parts.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    pattern: dict[str, str] = {"String": " "}
    if rules.remove_extra_whitespaces:
        # at the end ▁ is taken for a space, at the start it is not: normalizer.cc strips after escaping
        parts += [_replace(r"[ ▁]+\z", ""), _replace(" {2,}", " ")]
        if rules.add_dummy_prefix:
            pattern = {"Regex": r"(?!\A) "}  # a space in front stays one: it is the prefix (`_pre_tokenizer`)
        else:
            parts.append(_replace(r"\A ", ""))
    parts.append({"type": "Replace", "pattern": pattern, "content": META_SPACE})
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "normalizers": parts}


def _replace(regex: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": regex}, "content": content}


def _pre_tokenizer(prefix: bool) -> dict[str, Any] | None:
    """The dummy prefix: a ``▁`` before the whole text, also before one that begins with a space.

    The `Prepend` normaliser would put it after every special token too, and `Metaspace` leaves it out before
    a space. So a Metaspace that knows a blank as its sign puts one in front (the text has none left there: the
    normaliser has made them ▁), and a second one turns it into ▁.
    """
    if not prefix:
        return None
    first = {"type": "Metaspace", "replacement": " ", "prepend_scheme": "first", "split": False}
    second = {"type": "Metaspace", "replacement": META_SPACE, "prepend_scheme": "never", "split": False}
    return {"type": "Sequence", "pretokenizers": [first, second]}


def _decoder(prefix: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": META_SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}
