"""Ids, spellings and special tokens: the base's as they were, the new ones each reachable."""

from __future__ import annotations

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.measure import encode_all
from fastvocab.tokenizer.proofs.common import EXAMPLES, Proof, described, differences, new_ids

#: What may stand before a token when its reachability is tried: nothing, or something it cannot merge with.
_BEFORE = ("", "\n", "1", "(", "\u00a0", "a")


def old_ids(base: Base, extended: Base) -> Proof:
    """Each token of the base has its id and spelling; new ids follow without a gap."""
    before, after = base.vocab | base.added, extended.vocab | extended.added
    moved = [(token, i, after.get(token)) for token, i in before.items() if after.get(token) != i]
    ids = list(new_ids(base, extended).values())
    contiguous = ids == list(range(base.next_id, base.next_id + len(ids)))
    merges_kept = extended.merges[: len(base.merges)] == base.merges
    return Proof(
        "old_ids_identical",
        not moved and contiguous and merges_kept,
        {
            "tokens": len(before),
            "moved": len(moved),
            "examples": moved[:EXAMPLES],
            "new_ids_contiguous": contiguous,
            "old_merges_first": merges_kept,
        },
    )


def special_tokens(base: Base, extended: Base) -> Proof:
    """Each added token of the base is found in running text at its old id, and none were added."""
    texts = [f"x {content} y{content}{content}z" for content in base.added]
    wrong = differences(base, extended, texts)
    same_list = base.spec.get("added_tokens") == extended.spec.get("added_tokens")
    detail = {
        "tokens": len(base.added),
        "changed": len(wrong),
        "examples": wrong[:EXAMPLES],
        "same_list": same_list,
    }
    return Proof("special_tokens_identical", not wrong and same_list, detail)


def reachable(base: Base, extended: Base) -> Proof:
    """The text of each new token encodes to it alone; byte fragments are only steps and are listed."""
    added = new_ids(base, extended)
    texts = {token: text for token, (text, _) in zip(added, described(base, list(added)))}
    fragments = [token for token, text in texts.items() if text is None]
    left = {token: text for token, text in texts.items() if text is not None}
    tokenizer = extended.tokenizer
    for before in _BEFORE:
        if not left:
            break
        lead = tokenizer.encode(before, add_special_tokens=False).ids
        encoded = encode_all(tokenizer, [before + text for text in left.values()])
        left = {
            token: text
            for (token, text), ids in zip(list(left.items()), encoded)
            if ids != [*lead, added[token]]
        }
    detail = {
        "new_tokens": len(added),
        "unreachable": len(left),
        "examples": list(left.values())[:EXAMPLES],
        "byte_fragments": fragments,
    }
    return Proof("new_tokens_reachable", not left and len(texts) == len(added), detail)
