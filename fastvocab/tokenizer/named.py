"""Tokens that are named rather than learnt: tags, markers, the codes of items.

They are added tokens: found in running text before anything is cut or merged, whatever stands around them. That is
right for them, and wrong for words (`fastvocab.tokenizer.merge`). Each gets its id in the model vocabulary as well, so
that no reload numbers it anew.

A byte-level decoder reads a token's characters as bytes where it can, which makes garbage of a tag such as
``<réfléchir>`` (the library falls back to the text itself only where a character is no byte's). Each tag that is not
its own spelling in the byte alphabet is therefore put into it on the way to the decoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastvocab.config.models import NamedToken
from fastvocab.errors import ModelError
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.bpe import to_alphabet
from fastvocab.tokenizer.folder import read_config

#: What makers of tokenizers call tokens that they keep for others: Llama 3, Gemma, Mistral v3 and tekken, Phi, Falcon.
_RESERVED = re.compile(
    r"[<\[|>]+(reserved|unused|dummy|extra|special|control|placeholder)[a-z_]*[ _]?\d+[|>\]<]+", re.IGNORECASE
)
#: What a tag is tried between.
_AROUND = (("", ""), ("a", "b"), ("a ", " b"), ("\n", "\n"), ("1", "."), ("я", "の"), ("(", ")"))


@dataclass(frozen=True)
class Tag:
    """A named token that has an id of its own now.

    Attributes:
        id: new, or that of the reserved token that it took the place of.
        token: its text, which is its spelling too.
        base_ids: what the base reads in its place.
        init: how its row starts, where that was said.
        special: whether ``skip_special_tokens`` hides it.
        replaces: the reserved token whose place it took.
    """

    id: int
    token: str
    base_ids: list[int]
    init: str | None
    special: bool
    replaces: str | None

    def row(self) -> dict[str, Any]:
        """As ``new_tokens.jsonl`` has it."""
        return asdict(self) | {"text": self.token}


@dataclass(frozen=True)
class Named:
    """A tokenizer with named tokens.

    Attributes:
        spec: its tokenizer.json.
        tags: what was added, in id order, without a gap.
        known: tokens that were there already, with their ids.
        reserved: how many reserved tokens the base has in its longest row of them.
    """

    spec: dict[str, Any]
    tags: list[Tag]
    known: dict[str, int]
    reserved: int


def add(source: Base, base: Base, tokens: Sequence[NamedToken], *, reuse: bool = False) -> Named:
    """Add named tokens to a tokenizer.

    Args:
        source: the base as it was, which says what it reads in their place.
        base: what they are added to: the same, or with tokens that were learnt.
        tokens: texts that are no beginnings of one another (as the configuration has checked).
        reuse: put them in the place of reserved tokens, where there are enough in a row.

    Raises:
        ModelError: a token is the beginning of one of the base's added tokens, or the other way round; or ``reuse``,
            and the base has too few reserved tokens.
    """
    vocab, added = base.vocab, base.added
    known = {one.token: i for one in tokens if (i := _is_there(base, one.token)) is not None}
    wanted = [one for one in tokens if one.token not in known]
    _check_beginnings(base, [one.token for one in wanted])
    spec = base.spec | {"added_tokens": [dict(entry) for entry in base.spec.get("added_tokens") or ()]}
    for one in tokens:
        if one.token in known and one.special is not None:
            for entry in spec["added_tokens"]:
                if entry["content"] == one.token:
                    entry["special"] = one.special
    rows = _reserved_rows(base, _in_use(source.folder))
    longest = max(rows, key=len, default=[])
    replaced: list[str | None] = [None] * len(wanted)
    first = base.next_id
    if reuse and wanted:
        if len(longest) < len(wanted):
            raise ModelError(
                f"tokenizer.reuse_reserved: the base has {len(longest)} reserved tokens in a row, and {len(wanted)} "
                "tokens are to take their place",
                rule="named tokens have ids that follow one another",
                fix="leave tokenizer.reuse_reserved out: they get rows of their own",
            )
        taken = longest[: len(wanted)]
        replaced, first = [name for name, _ in taken], taken[0][1]
    tags = [
        Tag(first + place, one.token, source.tokenizer.encode(one.token, add_special_tokens=False).ids, one.init,
            bool(one.special), old)
        for place, (one, old) in enumerate(zip(wanted, replaced))
    ]  # fmt: skip
    gone = {tag.replaces for tag in tags}
    spec["added_tokens"] = [e for e in spec["added_tokens"] if e["content"] not in gone] + [
        _entry(t) for t in tags
    ]
    spec["added_tokens"].sort(key=lambda entry: entry["id"])
    kept = {token: i for token, i in vocab.items() if token not in gone}
    if tags:  # else nothing is touched, and added tokens alone keep their ids as they are
        kept = {token: i for token, i in added.items() if token not in gone} | kept
    spec["model"] = base.spec["model"] | {"vocab": kept | {tag.token: tag.id for tag in tags}}
    if base.kind is Kind.BYTE_LEVEL:
        spec["decoder"] = _decoder(base.spec.get("decoder"), [tag.token for tag in tags])
    return Named(spec, tags, known, len(longest))


def _entry(tag: Tag) -> dict[str, Any]:
    return {
        "id": tag.id, "content": tag.token, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": tag.special,
    }  # fmt: skip


def _is_there(base: Base, token: str) -> int | None:
    """The id of a token that is one of the base's already, added or ordinary; None where there is none."""
    if token in base.added:
        return base.added[token]
    ids = base.tokenizer.encode(token, add_special_tokens=False).ids
    if len(ids) == 1 and base.tokenizer.decode(ids, skip_special_tokens=False).strip() == token:
        return int(ids[0])
    return base.vocab.get(token) if base.kind is not Kind.BYTE_LEVEL else None


def nearest(base: Base, token: str) -> list[str] | None:
    """None where the base has ``token``, spelled so or as text that is one token; else tokens that are like it."""
    every = base.vocab | base.added
    if token in every or len(base.tokenizer.encode(token, add_special_tokens=False).ids) == 1:
        return None
    return get_close_matches(token, base.added, 3, 0.5) or get_close_matches(token, base.vocab, 3, 0.6)


def _check_beginnings(base: Base, tokens: list[str]) -> None:
    wrong = [
        f"{a!r} is the beginning of {b!r}"
        for token in tokens
        for own in base.added
        for a, b in ((token, own), (own, token))
        if a and b.startswith(a)
    ]
    if wrong:
        raise ModelError(
            f"tokenizer.tokens: {'; '.join(wrong[:5])}",
            rule="where one token begins another, text that had the one may get the other",
            fix="choose another text for it",
        )


def _in_use(folder: Path) -> str:
    """What a tokenizer's settings and chat template say, but for their lists of all added tokens."""
    said = []
    for path in sorted([*folder.glob("tokenizer_config.json"), *folder.glob("special_tokens_map.json")]):
        config = read_config(path)
        lists = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")
        said.append(json.dumps({k: v for k, v in config.items() if k not in lists}, ensure_ascii=False))
    said += [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.jinja"))]
    return "\n".join(said)


def _reserved_rows(base: Base, used: str) -> list[list[tuple[str, int]]]:
    """Reserved tokens whose ids follow one another, each row as (token, id); not those in use (a padding token)."""
    every = base.vocab | base.added
    found = sorted(
        (i, token) for token, i in every.items() if _RESERVED.fullmatch(token) and token not in used
    )
    rows: list[list[tuple[str, int]]] = []
    for (before, _), (i, token) in pairwise([(-2, ""), *found]):
        if i != before + 1 or not rows:
            rows.append([])
        rows[-1].append((token, i))
    return rows


def _decoder(decoder: dict[str, Any] | None, tokens: list[str]) -> dict[str, Any] | None:
    """A decoder that reads tags as what they are (module docstring)."""
    spelt = [(token, to_alphabet(token)) for token in tokens]
    put = [
        {"type": "Replace", "pattern": {"String": token}, "content": inside}
        for token, inside in spelt
        if token != inside
    ]
    if not put or decoder is None:
        return decoder
    own = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return {"type": "Sequence", "decoders": [*put, *own]}


def faults(source: Base, extended: Base, tags: Sequence[Tag]) -> list[str]:
    """What does not hold of named tokens in a written tokenizer: each is found wherever it stands, as itself alone,
    and comes back as it was.

    Around a tag the base may put white space of its own, as around its own special tokens; that is no fault.
    """
    tokenizer, wrong = extended.tokenizer, []
    for tag, following in zip(tags, [*tags[1:], *tags[:1]]):
        for before, after in (*_AROUND, (following.token, ""), ("", following.token)):
            line = f"{before}{tag.token}{after}"
            encoding = tokenizer.encode(line, add_special_tokens=False)
            if encoding.ids.count(tag.id) != line.count(tag.token):
                wrong.append(f"{tag.token!r} in {line!r} is read as {' '.join(map(repr, encoding.tokens))}")
                break
            decoded = tokenizer.decode(encoding.ids, skip_special_tokens=False)
            # what stands around it comes back as it does in the base, which may lack a byte of it
            shown = [_plain(source, part) for part in (before, after) if part not in (t.token for t in tags)]
            if tag.token not in decoded or any(part and part not in decoded for part in shown):
                wrong.append(f"{line!r} decodes to {decoded!r}")
                break
        hidden = tokenizer.decode([tag.id], skip_special_tokens=True)
        if (hidden.strip() == "") is not tag.special:
            wrong.append(f"{tag.token!r} decodes to {hidden!r} with skip_special_tokens")
    return wrong


def _plain(source: Base, text: str) -> str:
    ids = source.tokenizer.encode(text, add_special_tokens=False).ids
    return source.tokenizer.decode(ids, skip_special_tokens=False).strip()
