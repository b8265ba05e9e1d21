"""A tokenizer as a GGUF file has it: tokens with their kinds, merges or scores, and what stands around a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvocab.errors import ModelError
from fastvocab.export.gguf import chat
from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer import folder as folders
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.bpe import META_SPACE
from fastvocab.tokenizer.kinds import Kind
from fastvocab.tokenizer.sentencepiece_file import parse_proto

#: Values of ``tokenizer.ggml.token_type`` (`gguf.TokenType`): those of SentencePiece.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

#: Special tokens that have a key of their own, as transformers and as GGUF name them.
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


@dataclass(frozen=True)
class Vocabulary:
    """What the keys ``tokenizer.*`` say.

    Attributes:
        model: ``gpt2`` for byte-level BPE, ``llama`` for SentencePiece.
        pre: name of the pre-tokenizer (`pretokenizers`); ``default`` where there is none.
        tokens: by id, one for each row of the embedding matrix.
        types: of the tokens.
        merges: pairs, the first goes first. llama.cpp reads them for ``gpt2`` alone; for ``llama`` they spare
            transformers from working them out of the scores (minutes for 32,000 tokens).
        scores: of the tokens, for ``llama`` alone.
        special: id by the GGUF name of a special token: ``bos``, ``eos``, ``eot``, ``unknown``, ``padding``.
        add_bos, add_eos: whether they are put around a text.
        space_prefix: whether a text gets a space in front.
        template: the chat template, or several by name; None where there is none.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[tuple[str, str]]
    scores: list[float] | None = None
    special: dict[str, int] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False
    space_prefix: bool = False
    template: str | dict[str, str] | None = None


def read(folder: Path, *, rows: int | None = None) -> tuple[Base, Vocabulary, list[str]]:
    """The tokenizer of a model folder, its pre-tokenizer not yet found (``pre`` is empty for byte-level BPE).

    Returns:
        The tokenizer, what a file says of it, and conversations as its chat template renders them (`chat.rendered`).

    Args:
        rows: of the embedding matrix; None for as many as there are tokens.

    Raises:
        ModelError: no tokenizer of a kind that GGUF has, or more tokens than rows.
    """
    base = bases.read(folder)
    loaded = folders.load_auto(folder)
    count = base.next_id if rows is None else rows
    if base.next_id > count:
        raise ModelError(
            f"{folder}: the tokenizer has ids up to {base.next_id - 1:,}, the model {count:,} rows",
            rule="each token has a row",
            fix="export the checkpoint again with the tokenizer that it was trained with",
        )
    byte_level = base.kind is Kind.BYTE_LEVEL
    tokens, types = _tokens(base, count)
    special = {
        name: int(index)
        for key, name in SPECIAL.items()
        if (index := getattr(loaded, f"{key}_token_id", None)) is not None
    }
    if (turn := _end_of_turn(folder, special.get("eos"))) is not None:
        special["eot"] = turn
    around = loaded("a")["input_ids"]
    vocabulary = Vocabulary(
        "gpt2" if byte_level else "llama",
        "" if byte_level else "default",
        tokens,
        types,
        _merges(base),
        None if byte_level else _scores(base, tokens),
        special,
        add_bos=loaded.bos_token_id is not None and around[:1] == [loaded.bos_token_id],
        add_eos=loaded.eos_token_id is not None and around[-1:] == [loaded.eos_token_id],
        space_prefix=not byte_level and puts_space(base),
        template=loaded.chat_template or None,
    )
    return base, vocabulary, chat.rendered(loaded)


def puts_space(base: Base) -> bool:
    """Whether a text gets a space in front (SentencePiece's dummy prefix)."""
    return base.tokenizer.encode("a", add_special_tokens=False).tokens[0] != "a"


def _tokens(base: Base, count: int) -> tuple[list[str], list[int]]:
    """Tokens and their types by id; rows without a token are named and unused."""
    spelt: list[str | None] = [None] * count
    types = [UNUSED] * count
    for token, index in base.vocab.items():
        spelt[index], types[index] = token, NORMAL
    if base.kind is not Kind.BYTE_LEVEL:
        types = [
            BYTE if token and re.fullmatch("<0x[0-9A-F]{2}>", token) else t for token, t in zip(spelt, types)
        ]
    if base.proto is not None:
        for index, piece in enumerate(parse_proto(base.proto).pieces):
            types[index] = piece.type
    for added in base.spec.get("added_tokens") or ():
        content, index = added["content"], added["id"]
        # runs of spaces that are no special tokens (Gemma, Mistral): where their ▁ is looked for in the text itself
        # a space never matches, and the merges make them; where it is looked for in the normalised text, as spaces
        meta = META_SPACE in content and base.kind is not Kind.BYTE_LEVEL
        if meta and not added["special"] and not added["normalized"] and content in base.vocab:
            continue
        spelt[index] = content.replace(META_SPACE, " ") if meta and added["normalized"] else content
        types[index] = CONTROL if added["special"] else USER_DEFINED
    unknown = base.spec["model"].get("unk_token")
    if unknown in base.vocab and base.kind is not Kind.BYTE_LEVEL:
        types[base.vocab[unknown]] = UNKNOWN
    taken = {token for token in spelt if token is not None}
    return [_padding(index, taken) if token is None else token for index, token in enumerate(spelt)], types


def _padding(index: int, taken: set[str]) -> str:
    """The name of a row without a token. llama.cpp ends at once where two tokens have one name."""
    name = f"[PAD{index}]"
    while name in taken:
        name = f"[{name}]"
    return name


def _merges(base: Base) -> list[tuple[str, str]]:
    # of two equal ones the last counts in tokenizers, the first in llama.cpp
    places = {pair: place for place, pair in enumerate(base.merges)}
    return sorted(places, key=places.__getitem__)


def _scores(base: Base, tokens: Sequence[str]) -> list[float]:
    """Scores of a SentencePiece base: its file's, or the order of its merges where there is no such file.

    llama.cpp joins any two neighbours whose join is a token, best score first: with the place of its first merge as a
    token's score it is the order of tokenizer.json. A 32-bit float is exact up to 16,777,216 merges.
    """
    scores = [0.0] * len(tokens)
    if base.proto is not None:
        for index, piece in enumerate(parse_proto(base.proto).pieces):
            scores[index] = piece.score
        return scores
    for place, (left, right) in enumerate(base.merges):
        made = base.vocab.get(left + right)
        if made is not None and not scores[made]:
            scores[made] = -float(place + 1)
    lowest = -float(len(base.merges) + 1)
    return [score or lowest for score in scores]


def _end_of_turn(folder: Path, eos: int | None) -> int | None:
    """The other token that ends a reply, where generation_config.json has a list of them (Gemma, Llama-3)."""
    ids = folders.read_config(folder / "generation_config.json").get("eos_token_id")
    others = [index for index in ids if index != eos] if isinstance(ids, list) else []
    return int(others[0]) if others else None


def put(writer: Any, vocabulary: Vocabulary) -> None:
    """Write the keys into a `gguf.GGUFWriter`."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.space_prefix)
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    for name, index in vocabulary.special.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", index)
    # said even where false: the default of llama.cpp depends on the pre-tokenizer
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    if isinstance(vocabulary.template, str):
        writer.add_chat_template(vocabulary.template)
    elif vocabulary.template:
        named = [{"name": name, "template": text} for name, text in vocabulary.template.items()]
        writer.add_chat_template(named)
